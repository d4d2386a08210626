# cython: language_level=3
"""Reads and writes heads in C: one pass over the bytes, and one allocation for what is written.

:mod:`slardar.http1.scan` says what each function is for, and has all of them in Python.

A head is accepted only if every byte of it is plainly right.  Everything else is left to the
Python form, which also says why a head is refused: so there is one place for the reasons, and
their order.  Which headers are special, and what each means, is read from the tables of
:mod:`slardar.http1.heads` when this module is imported.

How memory is kept safe:

* Functions that look at bytes get a pointer with the number of bytes behind it.  Each place is
  compared with that number before it is read; nothing relies on a zero at the end.
* A pointer into a bytes object is used only while an argument of the running function holds
  the object, and bytes objects never change.
* What was found is kept as places in the bytes, in arrays of a fixed size.  A head with more
  than they hold is left to the Python form.
* What is written is measured first.  Each piece that is put in place is compared with the room
  that is left.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.string cimport memcmp, memcpy

from slardar.http1 import heads
from slardar.http1.inline cimport digits_of, find_headers, line_end_from

cdef extern from *:
    """
    #ifdef __SSE2__
    #include <emmintrin.h>
    #endif

    /* 16 bytes that are looked at together; in the result of a comparison each byte is 255 or 0.
       This is the vector type of GCC and Clang, which works on every machine. */
    typedef unsigned char slardar_bytes __attribute__((vector_size(16)));

    static inline slardar_bytes slardar_load(const unsigned char *at) {
        slardar_bytes bytes;
        memcpy(&bytes, at, 16);
        return bytes;
    }

    /* How many bytes stand before the first 255; 16 if there is none. */
    static inline int slardar_before(slardar_bytes found) {
    #ifdef __SSE2__
        return __builtin_ctz(_mm_movemask_epi8((__m128i)found) | 0x10000);
    #else
        int place = 0;
        while (place < 16 && !found[place]) place++;
        return place;
    #endif
    }

    /* How many of the 16 bytes at this place come before the first one that is no letter, no
       digit and no hyphen. */
    static inline int slardar_name_run(const unsigned char *at) {
        slardar_bytes bytes = slardar_load(at), lower = bytes | 32;
        return slardar_before((slardar_bytes)~(
            (lower - 'a' < 26) | (bytes - '0' < 10) | (bytes == '-')));
    }

    /* Before the first one that no value has: control codes but for the tab. */
    static inline int slardar_text_run(const unsigned char *at) {
        slardar_bytes bytes = slardar_load(at);
        return slardar_before((slardar_bytes)(
            ((bytes < 32) & (bytes != 9)) | (bytes == 127)));
    }

    /* Before the first one that no path with its query has. */
    static inline int slardar_path_run(const unsigned char *at) {
        slardar_bytes bytes = slardar_load(at);
        return slardar_before((slardar_bytes)((bytes < 33) | (bytes > 126) | (bytes == '#')));
    }

    /* Whether the first of 16 bytes, "size" of them and 16 at most, are this folded text. */
    static inline int slardar_is_name(
        const unsigned char *at, const unsigned char *folded, int size
    ) {
        return slardar_before((slardar_bytes)((slardar_load(at) | 32) != slardar_load(folded)))
            >= size;
    }
    """
    int slardar_name_run(const unsigned char* at) noexcept nogil
    int slardar_text_run(const unsigned char* at) noexcept nogil
    int slardar_path_run(const unsigned char* at) noexcept nogil
    bint slardar_is_name(
        const unsigned char* at, const unsigned char* folded, int size
    ) noexcept nogil

cdef enum:
    # Kinds of bytes: of a name, of a value, of a path with its query.
    TOKEN = 1
    TEXT = 2
    PATH = 4
    # Flags of a head.
    MINOR = 1
    KEEPS = 2
    CLOSES = 4
    # Bytes that are looked at together.
    RUN = 16
    # The bit that makes a capital a small letter.  Of the other bytes that names have, it makes
    # two equal only of "^" and "~".
    FOLD = 32
    # The longest special name, and how many there may be.
    LONGEST = 31
    MOST_NAMES = 128
    # Pieces of a head that pass, and headers that are told.
    MOST_PIECES = 32
    MOST_TOLD = 32
    # Digits of a Content-Length that surely is below 2**63.
    MOST_DIGITS = 18
    # Values of Host that are kept, a number of eight bits; and bytes of the longest one.
    MOST_HOSTS = 256
    LONGEST_HOST = 255
    # In place of a Content-Length.
    CHUNKED = -1
    NO_LENGTH = -2

# What a header means: the numbers of slardar.http1.heads.
cdef int PASSES = heads.PASSES
cdef int DROPPED = heads.DROPPED
cdef int HOST_NAME = heads.HOST_NAME
cdef int CONNECTION = heads.CONNECTION
cdef int CONTENT_LENGTH = heads.CONTENT_LENGTH
cdef int CODING = heads.CODING
cdef int REQUEST_ID = heads.REQUEST_ID
cdef int EXPLAIN = heads.EXPLAIN

cdef struct Name:
    int meaning
    # In lower case, each byte with its sixth bit set.
    unsigned char folded[LONGEST]

cdef struct Names:
    # In the order of their sizes; those of size S are first[S] up to first[S + 1].
    Name all[MOST_NAMES]
    int first[LONGEST + 2]
    # For each size a bit for each letter that a name begins with.
    unsigned int starts[LONGEST + 1]

cdef struct Head:
    # Bytes of the head, with the empty line; and its header lines.
    Py_ssize_t size
    Py_ssize_t lines
    # The values of Host and of X-Request-Id; -1 without one.
    Py_ssize_t host
    Py_ssize_t host_end
    Py_ssize_t request_id
    Py_ssize_t request_id_end
    long long length
    int flags
    # Lines of Connection but for "keep-alive".
    int connections
    # The lines that pass, each with the CRLF before it: neighbours are one piece.
    int pieces
    Py_ssize_t passing
    Py_ssize_t begins[MOST_PIECES]
    Py_ssize_t ends[MOST_PIECES]
    # The headers that the caller reads: meanings, and where the values are.
    int told
    int meanings[MOST_TOLD]
    Py_ssize_t values[MOST_TOLD]
    Py_ssize_t value_ends[MOST_TOLD]

cdef unsigned char KINDS[256]
cdef unsigned char LOWER[256]
cdef Names OF_REQUEST
cdef Names OF_REPLY


cdef int fill_tables() except -1:
    cdef int code
    token = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    for code in range(256):
        KINDS[code] = 0
        LOWER[code] = code + 32 if 65 <= code <= 90 else code
        if code in token:
            KINDS[code] |= TOKEN
        if code == 9 or (code >= 32 and code != 127):
            KINDS[code] |= TEXT
        if 33 <= code <= 126 and code != 35:  # "#"
            KINDS[code] |= PATH
    return 0


cdef int fill_names(Names* names, dict meanings) except -1:
    """Take the names in lower case out of a table of slardar.http1.heads."""
    cdef Py_ssize_t size, at
    cdef int count = 0
    cdef bytes text
    found = sorted(
        (len(name), name, meaning)
        for name, meaning in meanings.items()
        if meaning != heads.PASSES and name == name.lower()
    )
    if len(found) > MOST_NAMES or found[-1][0] > LONGEST or not found[0][0]:
        raise ImportError("the special headers do not fit into the tables")
    if any(b"^" in name or b"~" in name for _, name, _ in found):
        raise ImportError("a special header has a byte that folds to another one's")
    for size in range(LONGEST + 1):
        names.first[size] = count
        names.starts[size] = 0
        for length, name, meaning in found:
            if length == size:
                text = name
                names.all[count].meaning = meaning
                for at in range(size):
                    names.all[count].folded[at] = text[at] | FOLD
                names.starts[size] |= <unsigned int>1 << (text[0] & 31)
                count += 1
    names.first[LONGEST + 1] = count
    return 0


cdef int meaning_of(
    const Names* names, const unsigned char* at, Py_ssize_t size, Py_ssize_t left
) noexcept nogil:
    """What the name of ``size`` bytes means; ``size`` is at least 1, and ``left`` bytes may be
    read."""
    cdef int one
    cdef Py_ssize_t place
    if size > LONGEST or not (names.starts[size] >> (at[0] & 31)) & 1:
        return PASSES
    for one in range(names.first[size], names.first[size + 1]):
        place = 0
        if left >= RUN:
            if not slardar_is_name(at, names.all[one].folded, size if size < RUN else RUN):
                continue
            place = RUN
        while place < size and at[place] | FOLD == names.all[one].folded[place]:
            place += 1
        if place >= size:
            return names.all[one].meaning
    return PASSES


cdef bint is_word(
    const unsigned char* at, Py_ssize_t size, const char* word, Py_ssize_t length
) noexcept nogil:
    """Whether the bytes are this word of ``length`` bytes in lower case, in any case."""
    cdef Py_ssize_t place
    if size != length:
        return False
    for place in range(size):
        if LOWER[at[place]] != <unsigned char>word[place]:
            return False
    return True


cdef bint is_kept_alive(const unsigned char* at, Py_ssize_t size) noexcept nogil:
    """Whether the line is one of slardar.http1.heads.KEEP_ALIVE."""
    return size == 22 and (
        memcmp(at, b"Connection: keep-alive", 22) == 0
        or memcmp(at, b"Connection: Keep-Alive", 22) == 0
        or memcmp(at, b"connection: keep-alive", 22) == 0
    )


cdef bint read_lines(
    const unsigned char* data, Py_ssize_t size, Py_ssize_t at, const Names* names, Head* head
) noexcept nogil:
    """Read the header lines from ``at`` on, up to the empty line; False if that is in doubt.

    Two bytes stand before ``at``: the CRLF of the first line.
    """
    cdef Py_ssize_t start, name_size, value, end, line_end, place
    cdef int meaning, run
    cdef unsigned char digit
    head.lines = head.passing = 0
    head.host = head.host_end = -1
    head.request_id = head.request_id_end = -1
    head.length = NO_LENGTH
    head.pieces = head.told = head.connections = 0
    while True:
        if at >= size:
            return False
        if data[at] == 13:
            if size - at < 2 or data[at + 1] != 10:
                return False
            head.size = at + 2
            return True
        start = at
        run = RUN
        while run == RUN and size - at >= RUN:
            run = slardar_name_run(data + at)
            at += run
        while at < size and KINDS[data[at]] & TOKEN:
            at += 1
        name_size = at - start
        if not name_size or at >= size or data[at] != 58:  # ":"
            return False
        at += 1
        while at < size and (data[at] == 32 or data[at] == 9):
            at += 1
        value = at
        run = RUN
        while run == RUN and size - at >= RUN:
            run = slardar_text_run(data + at)
            at += run
        while at < size and KINDS[data[at]] & TEXT:
            at += 1
        if size - at < 2 or data[at] != 13 or data[at + 1] != 10:
            return False
        end = line_end = at
        at += 2
        head.lines += 1
        meaning = meaning_of(names, data + start, name_size, size - start)
        if meaning == PASSES:
            start -= 2
            if head.pieces and head.ends[head.pieces - 1] == start:
                head.ends[head.pieces - 1] = line_end
            else:
                if head.pieces >= MOST_PIECES:
                    return False
                head.begins[head.pieces] = start
                head.ends[head.pieces] = line_end
                head.pieces += 1
            head.passing += line_end - start
            continue
        if meaning == DROPPED:
            continue
        while end > value and (data[end - 1] == 32 or data[end - 1] == 9):
            end -= 1
        if meaning == HOST_NAME:
            if head.host >= 0 or end == value:
                return False
            head.host = value
            head.host_end = end
        elif meaning == REQUEST_ID:
            if head.request_id >= 0 or end == value:
                return False
            head.request_id = value
            head.request_id_end = end
        elif meaning == CONTENT_LENGTH:
            if head.length != NO_LENGTH or not 1 <= end - value <= MOST_DIGITS:
                return False
            head.length = 0
            for place in range(value, end):
                digit = data[place]
                if digit < 48 or digit > 57:
                    return False
                head.length = head.length * 10 + (digit - 48)
        elif meaning == CODING:
            if (
                head.length != NO_LENGTH
                or not head.flags & MINOR
                or not is_word(data + value, line_end - value, b"chunked", 7)
            ):
                return False
            head.length = CHUNKED
        elif meaning == EXPLAIN:
            return False
        else:
            if meaning == CONNECTION:
                if is_kept_alive(data + start, line_end - start):
                    head.flags |= KEEPS
                    continue
                head.connections += 1
                if is_word(data + value, end - value, b"close", 5):
                    head.flags |= CLOSES
                    continue
            if head.told >= MOST_TOLD:
                return False
            head.meanings[head.told] = meaning
            head.values[head.told] = value
            head.value_ends[head.told] = end
            head.told += 1


cdef list told_of(const Head* head, const unsigned char* data):
    cdef int one
    if not head.told:
        return None
    cdef list told = []
    for one in range(head.told):
        told.append((
            head.meanings[one],
            PyBytes_FromStringAndSize(
                <const char*>data + head.values[one], head.value_ends[one] - head.values[one]
            ),
        ))
    return told


cdef char* put(char* at, char* end, const void* piece, Py_ssize_t size) except NULL:
    """Put a piece at ``at``, and return the place behind it; ``end`` is where the room ends."""
    if size > end - at:
        raise SystemError("a head was measured wrongly")
    memcpy(at, piece, size)
    return at + size


cdef char* put_bytes(char* at, char* end, bytes piece) except NULL:
    return put(at, end, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))


cdef char* put_passing(
    char* at, char* end, const Head* head, const unsigned char* data
) except NULL:
    cdef int one
    for one in range(head.pieces):
        at = put(at, end, data + head.begins[one], head.ends[one] - head.begins[one])
    return at


cdef int check_full(char* at, char* end) except -1:
    if at != end:
        raise SystemError("a head was measured wrongly")
    return 0


# The methods that are read here.
cdef tuple METHODS = heads.METHODS


cdef bytes method_of(const unsigned char* at, Py_ssize_t size):
    cdef bytes method
    for method in METHODS:
        if PyBytes_GET_SIZE(method) == size and not memcmp(at, PyBytes_AS_STRING(method), size):
            return method
    return None


# The values of Host that came last, each at a place that follows from its first and last bytes.
cdef list HOSTS = [b""] * MOST_HOSTS


cdef bytes host_of(const unsigned char* at, Py_ssize_t size):
    """The value of Host, of one byte at least: the object that it was the last time, so that its hash is known."""
    cdef unsigned long long first = at[0], last = at[size - 1]
    cdef Py_ssize_t place
    cdef bytes known
    if size > LONGEST_HOST:
        return PyBytes_FromStringAndSize(<const char*>at, size)
    if size >= 8:
        memcpy(&first, at, 8)
        memcpy(&last, at + size - 8, 8)
    # The upper bits of a product follow from all bits of its factors (Fibonacci hashing).
    place = ((first * 31 + last) * <unsigned long long>0x9E3779B97F4A7C15) >> 56
    known = <bytes>PyList_GET_ITEM(HOSTS, place)
    if PyBytes_GET_SIZE(known) != size or memcmp(PyBytes_AS_STRING(known), at, size):
        known = PyBytes_FromStringAndSize(<const char*>at, size)
        HOSTS[place] = known
    return known


def scan_request(bytes data not None):
    """See :func:`slardar.http1.scan.scan_request`."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), place = 0, target, target_end
    cdef Head head
    cdef int run = RUN
    cdef bytes method, block
    cdef char* out
    cdef char* end
    while place < size and KINDS[at[place]] & TOKEN:
        place += 1
    if place >= size or at[place] != 32:
        return None
    method = method_of(at, place)
    place += 1
    if method is None or place >= size or at[place] != 47:  # "/"
        return None
    target = place
    while run == RUN and size - place >= RUN:
        run = slardar_path_run(at + place)
        place += run
    while place < size and KINDS[at[place]] & PATH:
        place += 1
    target_end = place
    # " HTTP/1.1" and CRLF
    if size - place < 11 or memcmp(at + place, b" HTTP/1.", 8):
        return None
    if at[place + 9] != 13 or at[place + 10] != 10:
        return None
    if at[place + 8] == 49:
        head.flags = MINOR
    elif at[place + 8] == 48:
        head.flags = 0
    else:
        return None
    if not read_lines(at, size, place + 11, &OF_REQUEST, &head):
        return None
    if head.host < 0 and head.flags & MINOR:
        return None
    if head.flags & CLOSES and head.connections > 1:
        # What Connection names, in its order.
        return None
    block = PyBytes_FromStringAndSize(NULL, head.passing)
    out = PyBytes_AS_STRING(block)
    end = out + head.passing
    check_full(put_passing(out, end, &head, at), end)
    return (
        data if head.size == size else PyBytes_FromStringAndSize(<const char*>at, head.size),
        method,
        PyBytes_FromStringAndSize(<const char*>at + target, target_end - target),
        head.lines,
        head.flags,
        b"" if head.host < 0 else host_of(at + head.host, head.host_end - head.host),
        None if head.request_id < 0 else PyBytes_FromStringAndSize(
            <const char*>at + head.request_id, head.request_id_end - head.request_id
        ),
        block,
        0 if head.length == NO_LENGTH else head.length,
        told_of(&head, at),
    )


def scan_reply(bytes data not None):
    """See :func:`slardar.http1.scan.scan_reply`."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), place = 13
    cdef Head head
    cdef bytes block
    cdef char* out
    cdef char* end
    cdef int status
    # "HTTP/1.1 200 ", and at least the CRLF
    if size < 15 or memcmp(at, b"HTTP/1.", 7) or at[8] != 32 or at[12] != 32:
        return None
    if at[7] == 49:
        head.flags = MINOR
    elif at[7] == 48:
        head.flags = 0
    else:
        return None
    if not (49 <= at[9] <= 57 and 48 <= at[10] <= 57 and 48 <= at[11] <= 57):
        return None
    status = (at[9] - 48) * 100 + (at[10] - 48) * 10 + (at[11] - 48)
    if status == 101:
        # It must name the new protocol.
        return None
    while place < size and KINDS[at[place]] & TEXT:
        place += 1
    if size - place < 2 or at[place] != 13 or at[place + 1] != 10:
        return None
    if not read_lines(at, size, place + 2, &OF_REPLY, &head):
        return None
    block = PyBytes_FromStringAndSize(NULL, place + head.passing)
    out = PyBytes_AS_STRING(block)
    end = out + place + head.passing
    out = put(out, end, b"HTTP/1.1", 8)
    out = put(out, end, at + 8, place - 8)
    check_full(put_passing(out, end, &head, at), end)
    return (
        size - head.size, status, head.lines, head.flags, block, head.length, told_of(&head, at)
    )


cdef bint is_named(
    const unsigned char* line, Py_ssize_t size, const unsigned char* name, Py_ssize_t length
) noexcept nogil:
    """Whether the line of ``size`` bytes has this name of ``length`` bytes, in lower case."""
    cdef Py_ssize_t place
    if size <= length or line[length] != 58:  # ":"
        return False
    for place in range(length):
        if LOWER[line[place]] != name[place]:
            return False
    return True


cdef bytes value_of(const unsigned char* data, Py_ssize_t start, Py_ssize_t end):
    """What stands from ``start`` to ``end``, without the blanks around it."""
    while start < end and (data[start] == 32 or data[start] == 9):
        start += 1
    while end > start and (data[end - 1] == 32 or data[end - 1] == 9):
        end -= 1
    return PyBytes_FromStringAndSize(<const char*>data + start, end - start)


def find_value(bytes block not None, bytes name not None):
    """See :func:`slardar.http1.scan.find_value`."""
    cdef const char* lines = PyBytes_AS_STRING(block)
    cdef const char* wanted = PyBytes_AS_STRING(name)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(name), start, end
    find_headers(lines, PyBytes_GET_SIZE(block), &wanted, &length, 1, &start, &end)
    return None if start < 0 else PyBytes_FromStringAndSize(lines + start, end - start)


def find_values(bytes block not None, bytes name not None):
    """See :func:`slardar.http1.scan.find_values`."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(block)
    cdef const unsigned char* wanted = <const unsigned char*>PyBytes_AS_STRING(name)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(block), length = PyBytes_GET_SIZE(name)
    cdef Py_ssize_t place = line_end_from(at, size, 0), line
    cdef list found = []
    while place < size:
        line = place + 2
        place = line_end_from(at, size, line)
        if is_named(at + line, place - line, wanted, length):
            found.append(value_of(at, line + length + 1, place))
    return found


cdef Py_ssize_t lines_of(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t place = line_end_from(data, size, 0), count = 0
    while place < size:
        count += 1
        place = line_end_from(data, size, place + 2)
    return count


def count_lines(bytes block not None):
    """See :func:`slardar.http1.scan.count_lines`."""
    return lines_of(<const unsigned char*>PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))


def put_lines(
    bytes block not None,
    bytes name not None,
    bytes made not None,
    Py_ssize_t most_lines,
    Py_ssize_t most_size,
):
    """See :func:`slardar.http1.scan.put_lines`."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(block)
    cdef const unsigned char* wanted = <const unsigned char*>PyBytes_AS_STRING(name)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(block), length = PyBytes_GET_SIZE(name)
    cdef Py_ssize_t more = PyBytes_GET_SIZE(made)
    # Where the first line with the name begins, and how many bytes such lines have.
    cdef Py_ssize_t first = size, gone = 0
    cdef Py_ssize_t count = lines_of(<const unsigned char*>PyBytes_AS_STRING(made), more)
    cdef Py_ssize_t place = line_end_from(at, size, 0), line_end
    cdef bytes written
    cdef char* out
    cdef char* end
    while place < size:
        line_end = line_end_from(at, size, place + 2)
        if is_named(at + place + 2, line_end - place - 2, wanted, length):
            if not gone:
                first = place
            gone += line_end - place
        else:
            count += 1
        place = line_end
    if count > most_lines or size - gone + more - count + 1 > most_size:
        return None
    written = PyBytes_FromStringAndSize(NULL, size - gone + more)
    out = PyBytes_AS_STRING(written)
    end = out + (size - gone + more)
    out = put(out, end, at, first)
    out = put_bytes(out, end, made)
    place = first
    while place < size:
        line_end = line_end_from(at, size, place + 2)
        if not is_named(at + place + 2, line_end - place - 2, wanted, length):
            out = put(out, end, at + place, line_end - place)
        place = line_end
    check_full(out, end)
    return written


# Writing.

def write_request(
    bytes method not None,
    bytes target not None,
    bytes authority not None,
    bytes block not None,
    bytes hops not None,
    bytes proto not None,
    bytes host not None,
    bytes request_id not None,
    bytes more not None,
):
    """See :func:`slardar.http1.scan.write_request`."""
    cdef Py_ssize_t size = (
        PyBytes_GET_SIZE(method) + 1 + PyBytes_GET_SIZE(target) + 17 + PyBytes_GET_SIZE(authority)
        + PyBytes_GET_SIZE(block) + 19 + PyBytes_GET_SIZE(hops) + 21 + PyBytes_GET_SIZE(proto)
        + 20 + PyBytes_GET_SIZE(host) + 16 + PyBytes_GET_SIZE(request_id)
        + PyBytes_GET_SIZE(more) + 4
    )
    cdef bytes written = PyBytes_FromStringAndSize(NULL, size)
    cdef char* at = PyBytes_AS_STRING(written)
    cdef char* end = at + size
    at = put_bytes(at, end, method)
    at = put(at, end, b" ", 1)
    at = put_bytes(at, end, target)
    at = put(at, end, b" HTTP/1.1\r\nHost: ", 17)
    at = put_bytes(at, end, authority)
    at = put_bytes(at, end, block)
    at = put(at, end, b"\r\nX-Forwarded-For: ", 19)
    at = put_bytes(at, end, hops)
    at = put(at, end, b"\r\nX-Forwarded-Proto: ", 21)
    at = put_bytes(at, end, proto)
    at = put(at, end, b"\r\nX-Forwarded-Host: ", 20)
    at = put_bytes(at, end, host)
    at = put(at, end, b"\r\nX-Request-Id: ", 16)
    at = put_bytes(at, end, request_id)
    at = put_bytes(at, end, more)
    check_full(put(at, end, b"\r\n\r\n", 4), end)
    return written


def write_reply(
    bytes block not None,
    object length,
    bytes more not None,
    bytes body not None,
    Py_ssize_t size,
):
    """See :func:`slardar.http1.scan.write_reply`."""
    cdef char digits[20]
    cdef int overflow = 0
    cdef long long number = PyLong_AsLongLongAndOverflow(length, &overflow)
    cdef Py_ssize_t count = 0, start = PyBytes_GET_SIZE(body) - size, whole
    cdef bytes written
    cdef char* at
    cdef char* end
    if size < 0 or start < 0:
        raise ValueError("a body begins within its bytes")
    if overflow > 0:
        # 2**63 and more.
        more = b"\r\nContent-Length: %d" % length + more
        number = NO_LENGTH
    whole = PyBytes_GET_SIZE(block) + PyBytes_GET_SIZE(more) + 4 + size
    if number >= 0:
        count = digits_of(number, digits)
        whole += 18 + count
    elif number == CHUNKED:
        whole += 28
    written = PyBytes_FromStringAndSize(NULL, whole)
    at = PyBytes_AS_STRING(written)
    end = at + whole
    at = put_bytes(at, end, block)
    if number >= 0:
        at = put(at, end, b"\r\nContent-Length: ", 18)
        at = put(at, end, digits + 20 - count, count)
    elif number == CHUNKED:
        at = put(at, end, b"\r\nTransfer-Encoding: chunked", 28)
    at = put_bytes(at, end, more)
    at = put(at, end, b"\r\n\r\n", 4)
    check_full(put(at, end, PyBytes_AS_STRING(body) + start, size), end)
    return written


fill_tables()
fill_names(&OF_REQUEST, heads.OF_REQUEST)
fill_names(&OF_REPLY, heads.OF_REPLY)
