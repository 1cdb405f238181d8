# A line of the log as octets, and its way into a file. pfsmtp/_logline.pyi documents what is here
# for its callers; what is not visible ASCII is escaped by pfsmtp/log.py.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.math cimport llround
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef extern from "<unistd.h>":
    ssize_t write(int fd, const void* octets, size_t count)

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)

# What a value may hold without quotes, for logfmt's readers: visible ASCII but for `"`, `=` and `\`.
# And what it may hold within quotes without escapes.
cdef enum:
    BARE = 1
    PLAIN = 2

cdef unsigned char KIND[256]


cdef void _fill_table() noexcept:
    cdef int c
    for c in range(256):
        KIND[c] = PLAIN if 0x20 <= c < 0x7f and c not in (b'"', b"\\") else 0
        if KIND[c] and c not in (b" ", b"="):
            KIND[c] |= BARE


_fill_table()


cdef struct Text:
    char* octets
    Py_ssize_t length
    Py_ssize_t room


cdef int add(Text* text, const char* octets, Py_ssize_t count) except -1:
    cdef char* grown
    if text.room - text.length < count:
        grown = <char*>realloc(text.octets, text.length + count + 512)
        if grown == NULL:
            raise MemoryError
        text.octets = grown
        text.room = text.length + count + 512
    memcpy(text.octets + text.length, octets, count)
    text.length += count
    return 0


cdef int add_text(Text* text, object added) except -1:
    cdef Py_ssize_t count
    cdef const char* octets = PyUnicode_AsUTF8AndSize(added, &count)
    return add(text, octets, count)


cdef int add_number(Text* text, long long number) except -1:
    cdef char digits[20]
    cdef int first = 20
    cdef unsigned long long left = number if number >= 0 else -<unsigned long long>number
    while True:
        first -= 1
        digits[first] = 48 + left % 10
        left //= 10
        if left == 0:
            break
    if number < 0:
        add(text, "-", 1)
    return add(text, digits + first, 20 - first)


cdef int add_fraction(Text* text, double value) except -1:
    """A number from 0 to 1e6 with up to six digits behind its point."""
    cdef long long parts = llround(value * 1e6)
    cdef long long fraction = parts % 1_000_000
    cdef char digits[7]
    cdef int i, count = 2
    add_number(text, parts // 1_000_000)
    digits[0] = b"."
    for i in range(6, 0, -1):
        digits[i] = 48 + fraction % 10
        fraction //= 10
        if digits[i] != 48 and i >= count:
            count = i + 1
    return add(text, digits, count)


cdef int kind(str value) except -1:
    """The kinds that it is of. Nothing, and `-`, which would be read as None, are not bare."""
    cdef Py_ssize_t count, i
    cdef const char* octets
    cdef int all_are = BARE | PLAIN
    if not PyUnicode_IS_ASCII(value):
        return 0
    octets = PyUnicode_AsUTF8AndSize(value, &count)
    for i in range(count):
        all_are &= KIND[<unsigned char>octets[i]]
    if count == 0 or (count == 1 and octets[0] == b"-"):
        all_are &= ~BARE
    return all_are


cdef int add_string(Text* text, str value, object escape) except -1:
    cdef int all_are = kind(value)
    if all_are & BARE:
        return add_text(text, value)
    add(text, '"', 1)
    add_text(text, value if all_are & PLAIN else escape(value))
    return add(text, '"', 1)


cdef bint are_bare(list items) except -1:
    """Whether all may stand as they are, with commas between them."""
    for item in items:
        if type(item) is not str or not kind(item) & BARE or "," in <str>item:
            return False
    return True


cdef int add_value(Text* text, object value, object words, object escape) except -1:
    cdef long long number
    cdef int overflow = 0
    if value is None:
        return add(text, "-", 1)
    if type(value) is str:
        return add_string(text, value, escape)
    if type(value) is int:
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if not overflow:
            return add_number(text, number)
    if type(value) is float and 0.0 <= <double>value < 1e6:
        return add_fraction(text, value)
    if type(value) is list and are_bare(value):
        return add_string(text, value[0] if len(value) == 1 else ",".join(value), escape)
    return add_string(text, words(value), escape)


cdef int add_fields(Text* text, dict fields, object words, object escape) except -1:
    for key, value in fields.items():
        add(text, " ", 1)
        add_text(text, key)
        add(text, "=", 1)
        add_value(text, value, words, escape)
    return 0


def logfmt(dict fields not None, words, escape):
    cdef Text text = Text(NULL, 0, 0)
    try:
        add_fields(&text, fields, words, escape)
        return PyBytes_FromStringAndSize(text.octets, text.length)
    finally:
        free(text.octets)


def logfmt_line(
    str stamp not None, name, bytes bound not None, dict fields not None, words, escape
):
    cdef Text text = Text(NULL, 0, 0)
    try:
        add(&text, "ts=", 3)
        add_text(&text, stamp)
        add(&text, " event=", 7)
        add_text(&text, name)
        add(&text, PyBytes_AS_STRING(bound), PyBytes_GET_SIZE(bound))
        add_fields(&text, fields, words, escape)
        add(&text, "\n", 1)
        return PyBytes_FromStringAndSize(text.octets, text.length)
    finally:
        free(text.octets)


def write_at_once(int descriptor, bytes octets not None):
    cdef ssize_t written = write(descriptor, PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))
    if written < 0:
        PyErr_SetFromErrno(OSError)
    return written
