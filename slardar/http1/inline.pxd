# cython: language_level=3
"""Small functions that more than one extension has: each gets a copy of its own, in line.

They follow the rules of :mod:`slardar.http1.native`: every place is compared with the size before
it is read.
"""

from libc.string cimport memchr


cdef inline unsigned char in_lower_case(unsigned char byte) noexcept nogil:
    return byte + 32 if 65 <= byte <= 90 else byte


cdef inline Py_ssize_t line_end_from(
    const unsigned char* data, Py_ssize_t size, Py_ssize_t at
) noexcept nogil:
    """The place of the first CRLF from ``at`` on, or ``size``."""
    cdef const unsigned char* found
    while at < size:
        found = <const unsigned char*>memchr(data + at, 13, size - at)
        if found == NULL:
            break
        at = found - data + 1
        if at < size and data[at] == 10:
            return at - 1
    return size


cdef inline void find_headers(
    const char* block,
    Py_ssize_t size,
    const char** names,
    const Py_ssize_t* lengths,
    int count,
    Py_ssize_t* values,
    Py_ssize_t* ends,
) noexcept nogil:
    """Find the first header of each of ``count`` names, which are in lower case, in a block of
    lines.

    The value of each is from its place in ``values``, -1 if there is none, up to that in ``ends``.
    """
    cdef const unsigned char* at = <const unsigned char*>block
    cdef Py_ssize_t line, end = line_end_from(at, size, 0), start, place, length
    cdef int one, left = count
    for one in range(count):
        values[one] = ends[one] = -1
    while left and size - end >= 2:
        line = end + 2
        end = line_end_from(at, size, line)
        for one in range(count):
            length = lengths[one]
            if values[one] >= 0 or end - line <= length or at[line + length] != 58:
                continue
            place = 0
            while place < length and in_lower_case(at[line + place]) == <unsigned char>names[one][place]:
                place += 1
            if place < length:
                continue
            start = line + length + 1
            place = end
            while start < place and (at[start] == 32 or at[start] == 9):
                start += 1
            while place > start and (at[place - 1] == 32 or at[place - 1] == 9):
                place -= 1
            values[one] = start
            ends[one] = place
            left -= 1
            break


cdef inline Py_ssize_t digits_of(unsigned long long number, char* digits) noexcept nogil:
    """Write a number to the end of the 20 bytes of ``digits``; returns how many it has."""
    cdef Py_ssize_t count = 0
    while count < 20:
        count += 1
        digits[20 - count] = <char>(48 + number % 10)
        number //= 10
        if not number:
            break
    return count
