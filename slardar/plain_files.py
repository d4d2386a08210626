"""Reads files of users: a pipe or a device in the place of one keeps nobody waiting."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["check_regular", "read_regular"]


def read_regular(path: str, most: int) -> tuple[bytes, os.stat_result]:
    """The first ``most`` bytes of a file, and what the system says about it.

    Raises OSError, whose ``strerror`` says why, also if it is no regular file.  Blocks as long as
    the disk does, and no longer.
    """
    file = _open(path)
    try:
        about = os.fstat(file)
        _check(path, about)
        # Some file systems say 0 of what is made when it is read.
        return os.read(file, min(about.st_size or most, most)), about
    finally:
        os.close(file)


def check_regular(path: str) -> None:
    """Raises OSError if a file cannot be read, or is no regular file.

    For files that a library opens itself.
    """
    file = _open(path)
    try:
        _check(path, os.fstat(file))
    finally:
        os.close(file)


def _open(path: str) -> int:
    # First a look: to open a device may do something.
    _check(path, os.stat(path))
    # It may have become a pipe since, and without this flag a pipe has to have a writer.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def _check(path: str, about: os.stat_result) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", path)
