"""Sockets, deadlines and pools: everything that moves the bytes of ``http1``.

All sockets of the data plane sit on private epolls, which are ONE reader for the
reactor.  A Twisted transport pays for each write with a registration, another
turn of the loop and copies; here ``recv`` and ``send`` are called directly, which
was measured at a sixth of the cost.
"""
