"""How many bytes it takes to fill the kernel's buffers between two programs and a proxy."""

from pathlib import Path

__all__ = ["MORE_THAN_BUFFERS"]

_SETTINGS = Path("/proc/sys/net/ipv4")


def _largest(buffer: str) -> int:
    """The bytes up to which the kernel lets one buffer of a connection grow."""
    return int((_SETTINGS / buffer).read_text().split()[2])


#: More bytes than the kernel keeps on their way through a proxy: two connections, each with a
#: buffer of its sender and one of its receiver, as large as this machine's settings let them
#: become. So who sends this many to somebody who does not read must wait in the end. It is 80 MB
#: with the settings of most systems, 33 MB of them for each receiver.
MORE_THAN_BUFFERS = 2 * (_largest("tcp_rmem") + _largest("tcp_wmem")) + 5_000_000
