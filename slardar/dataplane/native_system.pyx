# cython: language_level=3
"""The system's calls for sockets and epoll, with nothing around them.

:mod:`slardar.dataplane.system` says what each of these is for, and has them in Python.

A socket of Python's ``socket`` module is an object in Python around one in C.  To make it asks
the kernel two questions, each call of it gives up Python's lock and takes it again, and what is
read gets a new buffer.  None of this is needed by a data plane with one thread, whose sockets
never block: a connection with one request costs 20,000 instructions less without it.

No call here gives up Python's lock.  None blocks, whatever the mode of a socket.

How memory is kept safe: the kernel is given a pointer with the number of bytes behind it, which
is the length of the buffer that Python has told, or less; the buffer is held as long.
"""

import errno
import os
import socket

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, errno as error_number

from slardar.model.networks import UNIX

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <sys/epoll.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <termios.h>
    #include <unistd.h>

    typedef union {
        struct sockaddr base;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
        struct sockaddr_storage all;
    } slardar_address;

    static int slardar_accept(int fd, slardar_address *address) {
        socklen_t size = sizeof *address;
        return accept4(fd, &address->base, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }

    /* The four bytes of an IPv4 address, also of one that an IPv6 socket shows; or NULL. */
    static const unsigned char *slardar_four(const slardar_address *address) {
        if (address->base.sa_family == AF_INET)
            return (const unsigned char *) &address->four.sin_addr;
        if (address->base.sa_family == AF_INET6
            && IN6_IS_ADDR_V4MAPPED(&address->six.sin6_addr))
            return (const unsigned char *) &address->six.sin6_addr + 12;
        return NULL;
    }

    /* An IPv6 address as text, in INET6_ADDRSTRLEN bytes; NULL for another kind. */
    static const char *slardar_six(const slardar_address *address, char *text) {
        if (address->base.sa_family != AF_INET6)
            return NULL;
        return inet_ntop(AF_INET6, &address->six.sin6_addr, text, INET6_ADDRSTRLEN);
    }

    static ssize_t slardar_send_two(int fd, void *one, size_t one_size, void *two,
                                    size_t two_size) {
        struct iovec parts[2] = {{one, one_size}, {two, two_size}};
        struct msghdr message = {0};
        message.msg_iov = parts;
        message.msg_iovlen = 2;
        return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    static int slardar_get_option(int fd, int level, int name, int *value) {
        socklen_t size = sizeof *value;
        return getsockopt(fd, level, name, value, &size);
    }
    """
    ctypedef union slardar_address:
        pass
    int slardar_accept(int fd, slardar_address* address) nogil
    const unsigned char* slardar_four(const slardar_address* address) nogil
    const char* slardar_six(const slardar_address* address, char* text) nogil
    Py_ssize_t slardar_send_two(int fd, void* one, size_t size, void* two, size_t more) nogil
    int slardar_get_option(int fd, int level, int name, int* value) nogil
    enum: INET6_ADDRSTRLEN
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL
    enum: MSG_PEEK
    enum: SHUT_WR
    enum: TIOCOUTQ
    Py_ssize_t c_recv "recv"(int fd, void* data, size_t size, int flags) nogil
    Py_ssize_t c_send "send"(int fd, const void* data, size_t size, int flags) nogil
    int c_shutdown "shutdown"(int fd, int how) nogil
    int c_setsockopt "setsockopt"(int fd, int level, int name, const void* v, unsigned int n) nogil
    int c_ioctl "ioctl"(int fd, unsigned long request, int* value) nogil
    int c_close "close"(int fd) nogil

cdef extern from "<sys/epoll.h>":
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data_t data
    enum: EPOLL_CLOEXEC
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_DEL
    enum: EPOLL_CTL_MOD
    int epoll_create1(int flags) nogil
    int epoll_ctl(int epoll, int what, int fd, epoll_event* event) nogil
    int epoll_wait(int epoll, epoll_event* events, int most, int timeout) nogil

cdef enum:
    ROOM = 65536
    # Events that are told at once; a poller asks for fewer.
    MOST_EVENTS = 256

# What is read comes here, and is copied as soon as its size is known: a few hundred bytes, mostly.
# A new buffer for each read would be 64 KiB that the processor's cache does not have.  Nobody else
# reads between, because this module never gives up Python's lock.
cdef char _room[ROOM]
cdef epoll_event _events[MOST_EVENTS]


cdef class NativeSocket:
    """A connected socket, or one that is being connected, that owns the descriptor ``fd``.

    Its methods do what those of ``socket.socket`` do, and raise the same errors.
    """

    cdef int _fd

    def __cinit__(self, int fd):
        self._fd = fd

    def __dealloc__(self):
        if self._fd >= 0:
            c_close(self._fd)

    def __repr__(self):
        return f"<NativeSocket {self._fd}>"

    def fileno(self):
        return self._fd

    def recv(self, Py_ssize_t size, int flags=0):
        cdef Py_ssize_t got
        cdef bytes data
        if size < 0:
            raise ValueError("negative buffersize in recv")
        if size <= ROOM:
            got = c_recv(self._fd, _room, size, flags | MSG_DONTWAIT)
            if got < 0:
                PyErr_SetFromErrno(OSError)
            return PyBytes_FromStringAndSize(_room, got)
        data = PyBytes_FromStringAndSize(NULL, size)
        got = c_recv(self._fd, PyBytes_AS_STRING(data), size, flags | MSG_DONTWAIT)
        if got < 0:
            PyErr_SetFromErrno(OSError)
        return data if got == size else data[:got]

    def recv_into(self, buffer, Py_ssize_t size=0):
        cdef Py_buffer view
        cdef Py_ssize_t got
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            if size < 0 or size > view.len:
                raise ValueError("buffer too small for requested bytes")
            got = c_recv(self._fd, view.buf, size or view.len, MSG_DONTWAIT)
            if got < 0:
                PyErr_SetFromErrno(OSError)
        finally:
            PyBuffer_Release(&view)
        return got

    def send(self, data, int flags=0):
        cdef Py_buffer view
        cdef Py_ssize_t sent
        flags |= MSG_DONTWAIT | MSG_NOSIGNAL
        if PyBytes_CheckExact(data):
            sent = c_send(self._fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), flags)
            if sent < 0:
                PyErr_SetFromErrno(OSError)
            return sent
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            sent = c_send(self._fd, view.buf, view.len, flags)
            if sent < 0:
                PyErr_SetFromErrno(OSError)
        finally:
            PyBuffer_Release(&view)
        return sent

    def sendmsg(self, tuple parts):
        cdef Py_buffer one, two
        cdef Py_ssize_t sent
        first, second = parts
        PyObject_GetBuffer(first, &one, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(second, &two, PyBUF_SIMPLE)
            try:
                sent = slardar_send_two(self._fd, one.buf, one.len, two.buf, two.len)
                if sent < 0:
                    PyErr_SetFromErrno(OSError)
            finally:
                PyBuffer_Release(&two)
        finally:
            PyBuffer_Release(&one)
        return sent

    def shutdown(self, int how):
        if c_shutdown(self._fd, how) < 0:
            PyErr_SetFromErrno(OSError)

    def getsockopt(self, int level, int name):
        cdef int value = 0
        if slardar_get_option(self._fd, level, name, &value) < 0:
            PyErr_SetFromErrno(OSError)
        return value

    def setsockopt(self, int level, int name, value):
        cdef int number
        cdef int done
        if PyBytes_CheckExact(value):
            done = c_setsockopt(
                self._fd, level, name, PyBytes_AS_STRING(value), <unsigned int> len(value)
            )
        else:
            number = value
            done = c_setsockopt(self._fd, level, name, &number, sizeof(number))
        if done < 0:
            PyErr_SetFromErrno(OSError)

    def close(self):
        cdef int fd = self._fd
        self._fd = -1
        if fd >= 0:
            # Linux has closed it even where it tells an error, which is of no use to anybody.
            c_close(fd)

    # What is seldom asked for.

    def getpeername(self):
        return self._ask(socket.socket.getpeername)

    def getsockname(self):
        return self._ask(socket.socket.getsockname)

    @property
    def family(self):
        return self._ask(_family_of)

    cdef object _ask(self, question):
        """Ask a socket of Python's that has the descriptor as long."""
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        asked = socket.socket(fileno=self._fd)
        try:
            return question(asked)
        finally:
            asked.detach()


def _family_of(asked):
    return asked.family


def accept(listening, int fd):
    """See :mod:`slardar.dataplane.system`."""
    cdef slardar_address address
    cdef char text[INET6_ADDRSTRLEN]
    cdef const unsigned char* four
    cdef const char* six
    cdef int taken = slardar_accept(fd, &address)
    if taken < 0:
        if error_number == EAGAIN:
            return None
        PyErr_SetFromErrno(OSError)
    sock = NativeSocket.__new__(NativeSocket, taken)
    four = slardar_four(&address)
    if four is not NULL:
        return sock, _dotted(four)
    six = slardar_six(&address, text)
    return sock, UNIX if six is NULL else <bytes> six


cdef bytes _dotted(const unsigned char* four):
    """An IPv4 address as text."""
    cdef char text[15]
    cdef int size = 0, part
    cdef unsigned char number
    for part in range(4):
        number = four[part]
        if part:
            text[size] = 46
            size += 1
        if number >= 100:
            text[size] = 48 + number // 100
            size += 1
        if number >= 10:
            text[size] = 48 + number // 10 % 10
            size += 1
        text[size] = 48 + number % 10
        size += 1
    return PyBytes_FromStringAndSize(text, size)


def connected_socket(sock):
    """See :mod:`slardar.dataplane.system`."""
    return NativeSocket.__new__(NativeSocket, sock.detach())


def end_side(sock, bint leaves):
    """See :mod:`slardar.dataplane.system`."""
    cdef int fd = (<NativeSocket> sock)._fd if isinstance(sock, NativeSocket) else sock.fileno()
    cdef int unacknowledged = 1
    cdef Py_ssize_t got
    cdef char byte
    if leaves:
        got = c_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
        if got == 0 or (got < 0 and error_number != EAGAIN):
            return True
        if c_ioctl(fd, TIOCOUTQ, &unacknowledged) < 0:
            unacknowledged = 1
    # Before the look for bytes: a peer that sends some after the look knows of our end.
    c_shutdown(fd, SHUT_WR)
    # No bytes are an error or the peer's end.
    return leaves and not unacknowledged and c_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0


cdef class Epoll:
    """Does what ``select.epoll`` does; events are told by :func:`take_events`."""

    cdef int _fd

    def __cinit__(self):
        self._fd = epoll_create1(EPOLL_CLOEXEC)
        if self._fd < 0:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self._fd >= 0:
            c_close(self._fd)

    @property
    def closed(self):
        return self._fd < 0

    def fileno(self):
        if self._fd < 0:
            raise ValueError("I/O operation on closed epoll object")
        return self._fd

    def close(self):
        cdef int fd = self._fd
        self._fd = -1
        if fd >= 0:
            c_close(fd)

    def register(self, int fd, unsigned int events):
        self._change(EPOLL_CTL_ADD, fd, events)

    def modify(self, int fd, unsigned int events):
        self._change(EPOLL_CTL_MOD, fd, events)

    def unregister(self, int fd):
        self._change(EPOLL_CTL_DEL, fd, 0)

    cdef int _change(self, int what, int fd, unsigned int events) except -1:
        cdef epoll_event event
        event.events = events
        event.data.fd = fd
        if epoll_ctl(self._fd, what, fd, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return 0


def take_events(Epoll epoll not None, list watched not None, int most):
    """See :mod:`slardar.dataplane.system`."""
    cdef int count, index, fd
    cdef list found, masks
    count = epoll_wait(epoll._fd, _events, min(most, MOST_EVENTS), 0)
    if count < 0:
        PyErr_SetFromErrno(OSError)
    found = []
    masks = []
    for index in range(count):
        fd = _events[index].data.fd
        found.append(watched[fd] if fd < len(watched) else None)
        masks.append(_events[index].events)
    return found, masks
