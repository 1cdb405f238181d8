# What other servers say read apart: their replies. pfsmtp/smtp/client/_reply.pyi documents what is
# here for its callers; what a reply means is decided in Python, and every limit is an argument.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memchr

cdef enum:
    LF = 10
    CR = 13


class BadReply(Exception):
    """What came is no reply; the text names it: `a reply whose code changes`."""


cdef inline bint is_digit(unsigned char c) noexcept nogil:
    return 48 <= c <= 57


cdef bint is_reply_line(const unsigned char* line, Py_ssize_t length, bint whole) noexcept nogil:
    """Whether this is a line of a reply without its end, or, unless `whole`, can become one.

    There is no LF in it. Codes are 200 to 599; nothing, or a space or hyphen and text, follows.
    """
    cdef Py_ssize_t i
    if length < 3 and whole:
        return False
    for i in range(min(length, 3)):
        if not is_digit(line[i]):
            return False
    if length and not 50 <= line[0] <= 53:
        return False
    if length <= 3:
        return True
    return (line[3] == 32 or line[3] == 45) and memchr(line + 4, CR, length - 4) == NULL


cdef class ReplyReader:
    """Takes replies off the octets that come in."""

    cdef object _make
    cdef bytes _octets
    cdef Py_ssize_t _position, _longest, _most
    cdef int _code
    cdef list _lines

    def __cinit__(self, make not None, *, Py_ssize_t longest, Py_ssize_t most):
        self._make = make
        self._longest = longest
        self._most = most
        self._octets = b""
        self._lines = []

    def feed(self, bytes octets not None):
        if self._position < len(self._octets):
            octets = self._octets[self._position:] + octets
        self._octets = octets
        self._position = 0

    @property
    def is_empty(self):
        return self._position == len(self._octets) and not self._lines

    def next(self):
        """The next whole reply, or None."""
        cdef const unsigned char* octets = <const unsigned char*>PyBytes_AS_STRING(self._octets)
        cdef const unsigned char* end = octets + len(self._octets)
        cdef const unsigned char* line
        cdef const unsigned char* feed
        cdef Py_ssize_t length
        cdef int code
        cdef bint last
        while True:
            line = octets + self._position
            feed = <const unsigned char*>memchr(line, LF, end - line)
            if feed == NULL:
                self._check_rest(line, end - line)
                return None
            length = feed - line - 1
            if length < 0 or line[length] != CR or not is_reply_line(line, length, True):
                raise self._unlike_a_reply()
            if length + 2 > self._longest:
                raise self._too_long()
            code = (line[0] - 48) * 100 + (line[1] - 48) * 10 + line[2] - 48
            if self._lines and code != self._code:
                raise BadReply("a reply whose code changes")
            last = length == 3 or line[3] == 32
            self._lines.append(
                PyBytes_FromStringAndSize(<const char*>line + 4, max(length - 4, 0))
            )
            self._position += length + 2
            if last:
                lines, self._lines = self._lines, []
                return self._make(code, line[0] - 48, lines)
            self._code = code
            if len(self._lines) == self._most:
                raise BadReply(f"a reply of more than {self._most} lines")

    cdef int _check_rest(self, const unsigned char* rest, Py_ssize_t length) except -1:
        """See that what is left can still become a line."""
        cdef bint at_end = length > 0 and rest[length - 1] == CR
        if length > self._longest:
            raise self._too_long()
        if not is_reply_line(rest, length - at_end, at_end):
            raise self._unlike_a_reply()
        return 0

    cdef object _too_long(self):
        return BadReply(f"a reply line of more than {self._longest} octets")

    cdef object _unlike_a_reply(self):
        """What to raise for octets that are none; it shows the first of them."""
        shown = self._octets[self._position:self._position + 80]
        text = "".join([chr(octet) if 32 <= octet < 127 else "?" for octet in shown])
        return BadReply(f'what is no reply ("{text.strip("?")}")')
