# The argument of MAIL and RCPT read apart: a path in angle brackets, and what follows it.
#
# RFC 5321 §4.1.2, with octets over 127 where RFC 6531 §3.3 has them. Whether there is such a domain or
# user, and whether octets over 127 are allowed in this transaction, is decided in Python.
# pfsmtp/smtp/_path.pyi documents what is here for its callers.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8

cdef enum:
    SPACE = 32
    QUOTE = 34
    COMMA = 44
    HYPHEN = 45
    DOT = 46
    COLON = 58
    LESS = 60
    GREATER = 62
    AT = 64
    OPEN = 91       # [
    BACKSLASH = 92
    CLOSE = 93      # ]
    DELETE = 127

# In octets; RFC 5321 §4.5.3.1.1, §4.5.3.1.2, §4.5.3.1.3. A label is as long as the DNS has it.
cdef enum:
    LONGEST_LOCAL_PART = 64
    LONGEST_DOMAIN = 255
    LONGEST_LABEL = 63
    LONGEST_PATH = 256

cdef unsigned char ATEXT[256]  # RFC 5322 §3.2.3 atext, and octets over 127
cdef unsigned char LABEL[256]  # letters, digits, hyphen, underscore, octets over 127


cdef void _fill_tables() noexcept:
    cdef int c
    for c in range(256):
        ATEXT[c] = c > 127
        LABEL[c] = c > 127
    for c in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789":
        ATEXT[c] = 1
        LABEL[c] = 1
    for c in b"!#$%&'*+-/=?^_`{|}~":
        ATEXT[c] = 1
    for c in b"-_":
        LABEL[c] = 1


_fill_tables()


class PathSyntaxError(ValueError):
    """The argument of MAIL or RCPT does not hold a path; the text says what is wrong."""


# Each of these reads one part of the grammar, from `i` on, and returns where it ends.

cdef Py_ssize_t _keyword(const unsigned char* p, Py_ssize_t end, bytes keyword) except -1:
    """`FROM:` or `TO:`, in any case, and spaces, which are not in the grammar but common."""
    cdef const unsigned char* k = <const unsigned char*>PyBytes_AS_STRING(keyword)
    cdef Py_ssize_t i, width = PyBytes_GET_SIZE(keyword)
    cdef unsigned char c
    if end < width:
        raise PathSyntaxError("the path is missing")
    for i in range(width):
        c = p[i]
        if (c - 32 if 97 <= c <= 122 else c) != k[i]:
            raise PathSyntaxError("the path is missing")
    i = width
    while i < end and p[i] == SPACE:
        i += 1
    return i


cdef Py_ssize_t _source_route(const unsigned char* p, Py_ssize_t i, Py_ssize_t end) except -1:
    while True:
        i = _domain(p, i + 1, end)
        if i + 1 < end and p[i] == COMMA and p[i + 1] == AT:
            i += 1
            continue
        if i < end and p[i] == COLON:
            return i + 1
        raise PathSyntaxError("the source route is not valid")


cdef Py_ssize_t _dot_string(const unsigned char* p, Py_ssize_t i, Py_ssize_t end) noexcept:
    cdef Py_ssize_t begin = i
    while i < end and ATEXT[p[i]]:
        i += 1
        if i + 1 < end and p[i] == DOT and ATEXT[p[i + 1]] and i > begin:
            i += 1
    return i


cdef Py_ssize_t _quoted_string(
    const unsigned char* p, Py_ssize_t i, Py_ssize_t end, bytearray unquoted
) except -1:
    """What is quoted goes to `unquoted`, which is empty."""
    i += 1
    while i < end and p[i] != QUOTE:
        if p[i] == BACKSLASH:
            i += 1
            if i == end or p[i] < SPACE or p[i] >= DELETE:
                raise PathSyntaxError("the quoted local-part is not valid")
        elif p[i] < SPACE or p[i] == DELETE:
            raise PathSyntaxError("the quoted local-part is not valid")
        unquoted.append(p[i])
        i += 1
    if i == end:
        raise PathSyntaxError("the quoted local-part does not end")
    if not unquoted:
        raise PathSyntaxError("the local-part is empty")
    return i + 1


cdef Py_ssize_t _address_literal(const unsigned char* p, Py_ssize_t i, Py_ssize_t end) except -1:
    cdef Py_ssize_t begin = i
    while i < end and p[i] != CLOSE:
        if p[i] <= SPACE or p[i] >= DELETE or p[i] == GREATER or (p[i] == OPEN and i > begin):
            raise PathSyntaxError("an address literal is like [192.0.2.1] or [IPv6:2001:db8::1]")
        i += 1
    if i == end:
        raise PathSyntaxError("an address literal ends with ]")
    return i + 1


cdef Py_ssize_t _domain(const unsigned char* p, Py_ssize_t i, Py_ssize_t end) except -1:
    """A domain, or an address literal."""
    cdef Py_ssize_t label = i, begin = i
    if i < end and p[i] == OPEN:
        return _address_literal(p, i, end)
    while True:
        while i < end and LABEL[p[i]]:
            i += 1
        if i == label or p[label] == HYPHEN or p[i - 1] == HYPHEN:
            raise PathSyntaxError("the domain is not valid")
        if i - label > LONGEST_LABEL or i - begin > LONGEST_DOMAIN:
            raise PathSyntaxError("the domain is too long")
        if i == end or p[i] != DOT:
            return i
        i += 1
        label = i


cdef str _text(const unsigned char* octets, Py_ssize_t length):
    try:
        return PyUnicode_DecodeUTF8(<const char*>octets, length, NULL)
    except UnicodeDecodeError:
        raise PathSyntaxError("the address is not UTF-8") from None


cdef str _unquoted_text(bytearray octets):
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise PathSyntaxError("the address is not UTF-8") from None


cdef bytes _parameters(const unsigned char* p, Py_ssize_t i, Py_ssize_t end):
    """What follows the path, without the spaces before it."""
    if i < end and p[i] != SPACE:
        raise PathSyntaxError("after the path comes a space, or the end")
    while i < end and p[i] == SPACE:
        i += 1
    return PyBytes_FromStringAndSize(<const char*>p + i, end - i)


def parse_path(bytes argument not None, bytes keyword not None):
    cdef const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(argument)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(argument)
    cdef Py_ssize_t path = _keyword(p, end, keyword)
    cdef Py_ssize_t i, begin
    cdef bytearray unquoted = None
    if path == end or p[path] != LESS:
        raise PathSyntaxError("the path stands in < and >")
    i = path + 1
    if i < end and p[i] == GREATER:
        return "", "", _parameters(p, i + 1, end)
    if i < end and p[i] == AT:
        i = _source_route(p, i, end)

    begin = i
    if i < end and p[i] == QUOTE:
        unquoted = bytearray()
        i = _quoted_string(p, i, end, unquoted)
    else:
        i = _dot_string(p, i, end)
        if i == begin:
            raise PathSyntaxError("the local-part is not valid")
    if i - begin > LONGEST_LOCAL_PART:
        raise PathSyntaxError("the local-part is too long")
    local = _text(p + begin, i - begin) if unquoted is None else _unquoted_text(unquoted)
    if i < end and p[i] == GREATER:
        return local, "", _parameters(p, i + 1, end)
    if i == end or p[i] != AT:
        raise PathSyntaxError("the local-part is not valid")

    begin = i + 1
    i = _domain(p, begin, end)
    if i == end or p[i] != GREATER:
        raise PathSyntaxError("the domain is not valid")
    if i + 1 - path > LONGEST_PATH:
        raise PathSyntaxError("the path is too long")
    return local, _text(p + begin, i - begin), _parameters(p, i + 1, end)
