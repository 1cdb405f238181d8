# The octets of SMTP read apart: command lines, message data, BDAT chunks, and dot-stuffing. What is
# in the argument of MAIL and RCPT is read in path.pyx, and what other servers reply in reply.pyx.
#
# Only loops over octets are compiled. Which command may come when, what is answered and what
# becomes of a message is decided in Python; so is every limit, given here as an argument.
# pfsmtp/smtp/_wire.pyi documents what is here for its callers.

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcpy, memmove

cdef enum:
    LF = 10
    CR = 13
    DOT = 46

# An idle connection keeps SMALL octets. A message is waited for with MIDDLE, which holds most of them,
# and a record of TLS; one that fills that gets LARGE.
cdef enum:
    SMALL = 4096
    MIDDLE = 16384
    LARGE = 65536

# Classes of octets in message data.
cdef enum:
    SPECIAL = 1     # CR, LF, NUL: looked at one by one
    EIGHT_BIT = 2

cdef unsigned char DATA_CLASS[256]

cdef uint64_t LOW = 0x1010101010101010u
cdef uint64_t HIGH = 0x8080808080808080u


cdef void _fill_table() noexcept:
    cdef int c
    for c in range(256):
        DATA_CLASS[c] = EIGHT_BIT if c > 127 else 0
    for c in (0, CR, LF):
        DATA_CLASS[c] = SPECIAL


_fill_table()


cdef inline const unsigned char* skip_text(
    const unsigned char* read, const unsigned char* end, unsigned char* flags
) noexcept nogil:
    """The next CR, LF or NUL, or `end`; the classes of what was passed over are added to `flags`.

    Eight octets at a time, unless one of them is below 16, as those three are, and the tab.
    """
    cdef const unsigned char* stop
    cdef uint64_t octets, seen = 0
    while True:
        while end - read >= 8:
            memcpy(&octets, read, 8)
            if (octets - LOW) & ~octets & HIGH:
                break
            seen |= octets
            read += 8
        stop = read + 8 if end - read > 8 else end
        while read < stop and not DATA_CLASS[read[0]] & SPECIAL:
            flags[0] |= DATA_CLASS[read[0]]
            read += 1
        if read < stop or read == end:
            break
    if seen & HIGH:
        flags[0] |= EIGHT_BIT
    return read


class LineTooLong(Exception):
    """A command line went over its limit; it has been passed over, to its CRLF."""


class BareLineFeed(Exception):
    """A command line holds a LF without a CR before it."""


cdef class Input:
    """Octets received and not yet understood."""

    cdef unsigned char* _octets
    cdef Py_ssize_t _capacity, _start, _end, _scanned
    cdef int _exports
    cdef bint _discarding

    def __cinit__(self):
        self._octets = <unsigned char*>malloc(SMALL)
        if self._octets == NULL:
            raise MemoryError
        self._capacity = SMALL

    def __dealloc__(self):
        free(self._octets)

    def __len__(self):
        return self._end - self._start

    def __getbuffer__(self, Py_buffer* view, int flags):
        self._make_room(1)
        PyBuffer_FillInfo(view, self, self._octets + self._end, self._capacity - self._end, 0, flags)
        self._exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self._exports -= 1

    cdef int _make_room(self, Py_ssize_t least) except -1:
        cdef unsigned char* grown
        cdef Py_ssize_t held = self._end - self._start
        if self._exports:
            raise BufferError("the free space is being written to")
        if self._start:
            if held:
                memmove(self._octets, self._octets + self._start, held)
            self._scanned -= self._start
            self._start, self._end = 0, held
        if self._capacity - held < least:
            grown = <unsigned char*>realloc(self._octets, held + least)
            if grown == NULL:
                raise MemoryError
            self._octets = grown
            self._capacity = held + least
        return 0

    def received(self, Py_ssize_t count):
        if count < 0 or count > self._capacity - self._end:
            raise ValueError("more octets than there was space for")
        self._end += count

    def feed(self, const unsigned char[:] octets not None):
        cdef Py_ssize_t count = octets.shape[0]
        if count:
            self._make_room(count)
            memcpy(self._octets + self._end, &octets[0], count)
            self._end += count

    def peek(self):
        """The next octet, or -1."""
        return self._octets[self._start] if self._end > self._start else -1

    def clear(self):
        self._start = self._end = self._scanned = 0

    def resize(self, Py_ssize_t capacity):
        """Give the buffer `capacity` octets where what it holds allows it."""
        cdef unsigned char* resized
        self._make_room(0)
        if capacity >= self._end and capacity != self._capacity and capacity > 0:
            resized = <unsigned char*>realloc(self._octets, capacity)
            if resized == NULL:
                raise MemoryError
            self._octets = resized
            self._capacity = capacity

    def command(self, Py_ssize_t limit):
        """Take the next command line: (verb in upper case, argument), or None."""
        cdef unsigned char* line = self._octets + self._start
        cdef unsigned char* feed = NULL
        cdef Py_ssize_t length
        if self._scanned < self._start:
            self._scanned = self._start
        if self._end > self._scanned:
            feed = <unsigned char*>memchr(self._octets + self._scanned, LF, self._end - self._scanned)
        if feed == NULL:
            self._scanned = self._end
            length = self._end - self._start
            if length > limit:
                # All but a last CR can go: the line is refused when its end has come.
                self._discarding = True
                self._start = self._end - 1
            return None
        length = feed - line
        if length == 0 or (feed - 1)[0] != CR:
            self._start = self._scanned = self._end
            raise BareLineFeed
        self._start += length + 1
        self._scanned = self._start
        if self._discarding or length + 1 > limit:
            self._discarding = False
            raise LineTooLong
        return _split(line, length - 1)

    def data(self, Decoder decoder not None):
        """Decode what is held; the message's octets are returned, and taken from here."""
        cdef Py_ssize_t produced, consumed
        cdef bint filled
        cdef unsigned char* octets = self._octets + self._start
        if self._exports:
            raise BufferError("the free space is being written to")
        consumed = decoder.run(octets, self._end - self._start, &produced)
        result = PyBytes_FromStringAndSize(<char*>octets, produced)
        self._start += consumed
        if decoder.ended:
            if self._capacity > SMALL:
                self.resize(SMALL)
        elif self._start == self._end and self._capacity < LARGE:
            filled = self._end == self._capacity
            self.clear()
            if filled or self._capacity < MIDDLE:
                self.resize(LARGE if filled else MIDDLE)
        return result


cdef tuple _split(const unsigned char* line, Py_ssize_t length):
    """Verb and argument; white space behind is dropped (RFC 5321 §4.1.1)."""
    cdef Py_ssize_t verb = 0, start, i
    cdef unsigned char c
    cdef unsigned char upper[16]
    while length and (line[length - 1] == 32 or line[length - 1] == 9):
        length -= 1
    while verb < length and line[verb] != 32 and line[verb] != 9:
        verb += 1
    start = verb
    while start < length and (line[start] == 32 or line[start] == 9):
        start += 1
    if verb > 16:
        return PyBytes_FromStringAndSize(<const char*>line, verb), PyBytes_FromStringAndSize(<const char*>line + start, length - start)
    for i in range(verb):
        c = line[i]
        upper[i] = c - 32 if 97 <= c <= 122 else c
    return (
        PyBytes_FromStringAndSize(<char*>upper, verb),
        PyBytes_FromStringAndSize(<const char*>line + start, length - start),
    )


# ----------------------------------------------------------------------------- message data

cdef enum State:
    LINE_START   # behind CRLF, or behind the 354
    TEXT
    AFTER_CR
    AFTER_DOT    # the first octet of the line was a dot, and has been dropped
    AFTER_DOT_CR


cdef class Decoder:
    """Undoes dot-stuffing, finds the end of data, and notes what makes a message unfit."""

    cdef readonly bint ended
    cdef readonly bint bare_cr, bare_lf, nul, eight_bit
    cdef readonly Py_ssize_t longest_line
    cdef Py_ssize_t _lines, _line, _left
    cdef bint _dots, _keep_cr
    cdef State _state

    def __cinit__(self, *, bint keep_cr):
        self._keep_cr = keep_cr
        self._dots = True
        self._state = LINE_START

    def expect(self, Py_ssize_t count):
        """The next `count` octets are a BDAT chunk: dots and CRLF.CRLF in it are data."""
        self._dots = False
        self._left = count
        self.ended = count == 0

    @property
    def size(self):
        return self._lines + self._line

    @property
    def at_line_start(self):
        return self._state == LINE_START

    def finish(self):
        """The last chunk has ended: a CR that waited for its LF is a bare one (RFC 3030 §2)."""
        if self._state == AFTER_CR:
            self.bare_cr = True
        if self._line > self.longest_line:
            self.longest_line = self._line

    cdef Py_ssize_t run(self, unsigned char* octets, Py_ssize_t count, Py_ssize_t* produced) noexcept nogil:
        """Decode in place, which is safe since what comes out is never longer than what went in.

        Returns how many octets were consumed; less than `count` only when the data has ended.
        """
        cdef unsigned char* read = octets
        cdef unsigned char* end
        cdef unsigned char* write = octets
        cdef unsigned char* span
        cdef unsigned char c, flags = 0
        cdef Py_ssize_t length
        cdef State state = self._state
        if self.ended:
            produced[0] = 0
            return 0
        if not self._dots and count > self._left:
            count = self._left
        end = octets + count
        while read < end:
            if state == TEXT:
                span = read
                read = <unsigned char*>skip_text(read, end, &flags)
                length = read - span
                if length:
                    if write != span:
                        memmove(write, span, length)
                    write += length
                    self._line += length
                    if read == end:
                        break
            c = read[0]
            read += 1
            if state == LINE_START:
                if c == DOT and self._dots:
                    state = AFTER_DOT
                    continue
                state = TEXT
            elif state == AFTER_DOT:
                if c == CR:
                    state = AFTER_DOT_CR
                    continue
                state = TEXT
            elif state == AFTER_DOT_CR:
                if c == LF:
                    self.ended = True
                    state = LINE_START
                    break
                self.bare_cr = True
                state = TEXT
            elif state == AFTER_CR:
                if c == LF:
                    write[0] = LF
                    write += 1
                    if self._line > self.longest_line:
                        self.longest_line = self._line
                    self._lines += self._line + 2
                    self._line = 0
                    state = LINE_START
                    continue
                self.bare_cr = True
                state = TEXT
            if c == CR:
                if self._keep_cr:
                    write[0] = CR
                    write += 1
                state = AFTER_CR
                continue
            if c == LF:
                self.bare_lf = True
            elif c == 0:
                self.nul = True
            flags |= DATA_CLASS[c]
            write[0] = c
            write += 1
            self._line += 1
        self._state = state
        if flags & EIGHT_BIT:
            self.eight_bit = True
        if not self._dots:
            self._left -= read - octets
            self.ended = self._left == 0
        if self._line > self.longest_line:
            self.longest_line = self._line
        produced[0] = write - octets
        return read - octets


cdef inline const unsigned char* next_dot(
    const unsigned char* octets, const unsigned char* end
) noexcept nogil:
    """The next dot behind these that begins a line; NULL if there is none.

    Stored lines end with CRLF, and a LF never stands alone in them.
    """
    cdef const unsigned char* line = octets
    while line < end:
        line = <const unsigned char*>memchr(line, LF, end - line)
        if line == NULL:
            return NULL
        line += 1
        if line < end and line[0] == DOT:
            return line
    return NULL


def dot_stuff(const unsigned char[:] octets not None, bint at_line_start):
    """Double each dot that begins a line (RFC 5321 §4.5.2).

    Returns the stuffed octets, and whether the next ones begin a line.
    """
    cdef Py_ssize_t count = octets.shape[0], extra = 0
    cdef const unsigned char* source
    cdef const unsigned char* end
    cdef const unsigned char* first
    cdef const unsigned char* dot
    cdef unsigned char* target
    if count == 0:
        return b"", at_line_start
    source = &octets[0]
    end = source + count
    first = source if at_line_start and source[0] == DOT else next_dot(source, end)
    dot = first
    while dot != NULL:
        extra += 1
        dot = next_dot(dot, end)
    result = PyBytes_FromStringAndSize(NULL, count + extra)
    target = <unsigned char*>PyBytes_AS_STRING(result)
    dot = first
    while dot != NULL:
        memcpy(target, source, dot - source)
        target += dot - source
        target[0] = DOT
        target += 1
        source = dot
        dot = next_dot(dot, end)
    memcpy(target, source, end - source)
    return result, end[-1] == LF
