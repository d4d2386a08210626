# cython: language_level=3
"""Writes lines of an access log in C: each value is looked at and copied in one pass.

:class:`slardar.observers.lines.NativeJsonLines` uses it.  A line is written only if nothing in it
is unusual: its texts are ASCII that needs no escape, its times are some that JSON shows without an
exponent, and it has room.  Everything else is left to the Python form, which also cuts lines that
are too long.

How memory is kept safe: what is written is compared with the room that is left, and nothing is
read behind the size of an object.  Objects that are read are arguments of the running function,
and never change.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy, strlen
from libc.time cimport gmtime_r, strftime, tm
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from slardar.http1.inline cimport digits_of, find_headers

cdef extern from *:
    """
    /* A byte of the result has its highest bit set where the byte of the word needs an escape, or
       is none of ASCII: below a blank, a quote, a backslash, DEL, or from 128 on.  If no byte is
       from 128 on, no sum below carries into its neighbour. */
    static inline unsigned long long slardar_odd(unsigned long long word) {
        const unsigned long long ones = 0x0101010101010101ULL;
        unsigned long long quote = word ^ (0x22 * ones), backslash = word ^ (0x5c * ones);
        return word | (word + ones)
            | ~((word + 0x60 * ones) & (quote + 0x7f * ones) & (backslash + 0x7f * ones));
    }

    /* Copies a text, and tells whether it can stand in JSON as it is. */
    static int slardar_copy_plain(char *to, const char *from, Py_ssize_t size) {
        unsigned long long word, odd = 0;
        unsigned int first, last;
        Py_ssize_t at;
        if (size >= 8) {
            for (at = 0; at < size - 8; at += 8) {
                memcpy(&word, from + at, 8);
                odd |= slardar_odd(word);
                memcpy(to + at, &word, 8);
            }
            /* The last ones, some of which were copied before. */
            memcpy(&word, from + size - 8, 8);
            odd |= slardar_odd(word);
            memcpy(to + size - 8, &word, 8);
        } else if (size >= 4) {
            memcpy(&first, from, 4);
            memcpy(&last, from + size - 4, 4);
            odd = slardar_odd(first | (unsigned long long)last << 32);
            memcpy(to, &first, 4);
            memcpy(to + size - 4, &last, 4);
        } else {
            word = 0x2020202020202020ULL;
            for (at = 0; at < size; at++) {
                word = word << 8 | (unsigned char)from[at];
                to[at] = from[at];
            }
            odd = slardar_odd(word);
        }
        return !(odd & 0x8080808080808080ULL);
    }
    """
    bint slardar_copy_plain(char* to, const char* text, Py_ssize_t size) noexcept nogil

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    # Bytes for lines, and after how many of them the lines are enough.
    ROOM = 65536
    ENOUGH = 49152
    # Seconds from which on a time is left to the Python form: with their microseconds they have
    # no more than 15 digits, and so one shortest form.
    LONG = 1000000000
    # Microseconds below which JSON has an exponent.
    SHORT = 10

cdef struct Line:
    char* at
    # Where the room ends.
    char* end
    # The line is left to the Python form.
    bint left


cdef inline void put(Line* line, const void* piece, Py_ssize_t size) noexcept nogil:
    if size > line.end - line.at:
        line.left = True
        return
    memcpy(line.at, piece, size)
    line.at += size


cdef inline void put_literal(Line* line, const char* literal) noexcept nogil:
    """Put a text that stands in this file; the compiler knows its size."""
    put(line, literal, strlen(literal))


cdef inline void put_plain(Line* line, const char* text, Py_ssize_t size) noexcept nogil:
    """Put a text between quotes."""
    if size > line.end - line.at - 2:
        line.left = True
        return
    line.at[0] = 34
    if not slardar_copy_plain(line.at + 1, text, size):
        line.left = True
    line.at[size + 1] = 34
    line.at += size + 2


cdef void put_bytes(Line* line, bytes text) noexcept:
    """Put a text, or null for None."""
    if text is None:
        put_literal(line, b"null")
    else:
        put_plain(line, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef void put_text(Line* line, str text) noexcept:
    """Put a text, or null for None."""
    if text is None:
        put_literal(line, b"null")
    elif PyUnicode_IS_COMPACT_ASCII(text):
        put_plain(line, <const char*>PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
    else:
        line.left = True


cdef inline void put_bytes_if_any(Line* line, bytes text) noexcept:
    """Put a text, or null for an empty one."""
    put_bytes(line, text if PyBytes_GET_SIZE(text) else None)


cdef inline void put_text_if_any(Line* line, str text) noexcept:
    """Put a text, or null for an empty one."""
    put_text(line, text if PyUnicode_GET_LENGTH(text) else None)


cdef void put_number(Line* line, unsigned long long number) noexcept nogil:
    cdef char digits[20]
    cdef Py_ssize_t count = digits_of(number, digits)
    put(line, digits + 20 - count, count)


cdef void put_seconds(Line* line, double seconds) noexcept nogil:
    """Put seconds with their microseconds, as JSON has a number with a fraction."""
    cdef unsigned long long micros
    cdef char fraction[8]
    cdef Py_ssize_t count = 7
    if not 0.0 <= seconds < LONG:
        line.left = True
        return
    micros = <unsigned long long>(seconds * 1000000.0 + 0.5)
    if 0 < micros < SHORT:
        line.left = True
        return
    put_number(line, micros // 1000000)
    micros %= 1000000
    fraction[0] = 46
    while count > 1:
        count -= 1
        fraction[count] = <char>(48 + micros % 10)
        micros //= 10
    count = 7
    while count > 2 and fraction[count - 1] == 48:
        count -= 1
    put(line, fraction, count)


cdef inline void put_value(
    Line* line, const char* block, Py_ssize_t start, Py_ssize_t end
) noexcept nogil:
    """Put the value of a header, or null if there is none."""
    if start < 0:
        put_literal(line, b"null")
    else:
        put_plain(line, block + start, end - start)


cdef class LineWriter:
    """Lines that are written, one behind the other.

    ``max_line`` is the bytes of a line at most, with its end; ``worker`` is in every line.
    """

    cdef char room[ROOM]
    # Bytes of lines.
    cdef Py_ssize_t end
    cdef Py_ssize_t max_line
    cdef str worker
    # The second of the last line, and its text up to the point before the milliseconds.
    cdef long long second
    cdef char date[32]
    cdef size_t date_size

    def __cinit__(self, Py_ssize_t max_line, str worker not None):
        self.end = 0
        self.max_line = max_line
        self.worker = worker
        self.second = -1
        self.date_size = 0

    cdef void put_time(self, Line* line) noexcept:
        cdef timespec now
        cdef tm parts
        cdef char text[5]
        cdef int milliseconds
        if clock_gettime(CLOCK_REALTIME, &now):
            line.left = True
            return
        if now.tv_sec != self.second:
            if gmtime_r(&now.tv_sec, &parts) == NULL:
                line.left = True
                return
            self.date_size = strftime(self.date, 32, b"%Y-%m-%dT%H:%M:%S.", &parts)
            self.second = now.tv_sec
        put(line, self.date, self.date_size)
        milliseconds = now.tv_nsec // 1000000
        text[0] = <char>(48 + milliseconds // 100)
        text[1] = <char>(48 + milliseconds // 10 % 10)
        text[2] = <char>(48 + milliseconds % 10)
        text[3] = 90  # "Z"
        text[4] = 34
        put(line, text, 5)

    def write(
        self,
        bytes client not None,
        bytes method not None,
        str host not None,
        bytes uri not None,
        str protocol,
        long long status,
        long long bytes_in,
        long long bytes_out,
        double seconds,
        str upstream not None,
        str server,
        long long attempts,
        object connect,
        object first_byte,
        bytes request_id,
        bytes trace_id,
        bytes span_id,
        str decision,
        str hook not None,
        str error not None,
        bytes block not None,
        str tls,
    ):
        """Write a line behind the others, with the time that it is.

        ``connect`` and ``first_byte`` are seconds; ``block`` has the request's header lines.
        Nothing is written, and 0 is returned, if the line is left; 1 if it is written, and 2 if
        there are enough lines to :meth:`take` them.
        """
        cdef Line line
        cdef Py_ssize_t room = ROOM - self.end
        cdef char* start = self.room + self.end
        cdef const char* lines = PyBytes_AS_STRING(block)
        cdef const char* names[2]
        cdef Py_ssize_t lengths[2]
        cdef Py_ssize_t starts[2]
        cdef Py_ssize_t ends[2]
        if status < 0 or bytes_in < 0 or bytes_out < 0 or attempts < 0 or self.max_line < 0:
            return 0
        line.at = start
        line.end = start + (room if room < self.max_line else self.max_line)
        line.left = False
        put_literal(&line, b'{"time":"')
        self.put_time(&line)
        put_literal(&line, b',"client":')
        put_bytes(&line, client)
        put_literal(&line, b',"method":')
        put_bytes_if_any(&line, method)
        put_literal(&line, b',"host":')
        put_text_if_any(&line, host)
        put_literal(&line, b',"uri":')
        put_bytes_if_any(&line, uri)
        put_literal(&line, b',"protocol":')
        put_text(&line, protocol)
        put_literal(&line, b',"status":')
        put_number(&line, status)
        put_literal(&line, b',"bytes_in":')
        put_number(&line, bytes_in)
        put_literal(&line, b',"bytes_out":')
        put_number(&line, bytes_out)
        put_literal(&line, b',"seconds":')
        put_seconds(&line, seconds)
        put_literal(&line, b',"upstream":')
        put_text_if_any(&line, upstream)
        put_literal(&line, b',"server":')
        put_text(&line, server)
        put_literal(&line, b',"attempts":')
        put_number(&line, attempts)
        put_literal(&line, b',"connect_seconds":')
        if connect is None:
            put_literal(&line, b"null")
        else:
            put_seconds(&line, connect)
        put_literal(&line, b',"first_byte_seconds":')
        if first_byte is None:
            put_literal(&line, b"null")
        else:
            put_seconds(&line, first_byte)
        put_literal(&line, b',"request_id":')
        put_bytes(&line, request_id)
        put_literal(&line, b',"trace_id":')
        put_bytes(&line, trace_id)
        put_literal(&line, b',"span_id":')
        put_bytes(&line, span_id)
        put_literal(&line, b',"decision_id":')
        put_text(&line, decision)
        put_literal(&line, b',"hook":')
        put_text_if_any(&line, hook)
        put_literal(&line, b',"error":')
        put_text_if_any(&line, error)
        names[0] = b"user-agent"
        lengths[0] = 10
        names[1] = b"referer"
        lengths[1] = 7
        find_headers(lines, PyBytes_GET_SIZE(block), names, lengths, 2, starts, ends)
        put_literal(&line, b',"user_agent":')
        put_value(&line, lines, starts[0], ends[0])
        put_literal(&line, b',"referer":')
        put_value(&line, lines, starts[1], ends[1])
        put_literal(&line, b',"tls":')
        put_text(&line, tls)
        put_literal(&line, b',"worker":')
        put_text(&line, self.worker)
        put_literal(&line, b"}\n")
        if line.left:
            return 0
        self.end += line.at - start
        return 2 if self.end >= ENOUGH else 1

    def take(self):
        """The lines that were written since the call before, each with its line end."""
        cdef bytes taken = PyBytes_FromStringAndSize(self.room, self.end)
        self.end = 0
        return taken
