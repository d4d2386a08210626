"""The director and its workers: processes that serve requests, one a core.

The director (the twistd process) opens the listening sockets, starts the workers and
tells them what to serve; each worker is a :class:`slardar.dataplane.proxy.DataPlane`
with a reactor of its own.  They speak AMP over a socket pair.
"""
