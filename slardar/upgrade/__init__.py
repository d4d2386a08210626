"""The upgrade in place: a new process takes over sockets, store and requests.

The words used here: a *generation* is a process (with its workers) that serves; the
*successor* is the one that a running generation starts, which is its *predecessor*.
"""
