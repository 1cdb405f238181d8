# Whole steps of a queue slot with the GIL let go once: "lock it, write the message durably, unlock
# it, tell the deliverer"; "lock one unit and read the slot"; "record an outcome durably, unlock".
#
# A write is durable through a group commit: each thread writes to the page cache by itself, and
# then one of those who wait for the same file has all of it synced (fdatasync) for the others. The
# group has a description of its own, opened before any of these writes, so that the kernel tells
# it of each that is lost; it tells so once, so a group whose sync has failed calls nothing good any
# more. Locks are those of an open file description (F_OFD_SETLK): they are gone when the last
# descriptor of it is closed, so that they die with their process.
# pfsmtp/mailqueue/_slot.pyi documents what is here for its callers.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EACCES, EAGAIN, EINTR, EIO, errno
from posix.types cimport off_t
from posix.unistd cimport fdatasync, pread, write as write_record

from diskio cimport iovec, use_up
from groupcommit cimport CONTENT, Group, free_group, group_sync, new_group

import os

cdef extern from "<fcntl.h>" nogil:
    struct flock:
        short l_type
        short l_whence
        off_t l_start
        off_t l_len
        int l_pid
    int fcntl(int fd, int command, ...)
    int F_OFD_SETLK, F_OFD_GETLK, F_WRLCK, F_UNLCK, SEEK_SET

cdef extern from "<sys/uio.h>" nogil:
    ssize_t pwritev(int fd, const iovec *parts, int count, off_t offset)

cdef enum:
    MOST_PARTS = 8
    PAGE = 4096

cdef enum:
    BUSY = 0
    STORED = 1
    ANNOUNCED = 2

cdef char[PAGE] ZEROS


cdef int _lock(int fd, short kind, off_t start, off_t length) noexcept nogil:
    """Set or clear a lock without waiting; 0 or an errno, EAGAIN when somebody else has it."""
    cdef flock range
    range.l_type = kind
    range.l_whence = SEEK_SET
    range.l_start = start
    range.l_len = length
    range.l_pid = 0
    while fcntl(fd, F_OFD_SETLK, &range) != 0:
        if errno == EACCES:
            return EAGAIN
        if errno != EINTR:
            return errno
    return 0


cdef void _unlock(int fd, off_t start, off_t length) noexcept nogil:
    """Let a lock go; or all of this description, which takes the kernel no memory."""
    if _lock(fd, F_UNLCK, start, length) != 0:
        _lock(fd, F_UNLCK, 0, 0)


cdef int _write(int fd, iovec *parts, int count, off_t offset) noexcept nogil:
    """Write them all, whatever the kernel takes at a time; 0 or an errno. Uses `parts` up."""
    cdef ssize_t taken
    use_up(&parts, &count, 0)
    while count > 0:
        taken = pwritev(fd, parts, count, offset)
        if taken > 0:
            use_up(&parts, &count, taken)
            offset += taken
        elif taken == 0:
            return EIO
        elif errno != EINTR:
            return errno
    return 0


cdef int _write_durably(
    int fd, Group *group, iovec *parts, int count, off_t offset
) noexcept nogil:
    """As `_write`, and wait until it is on disk."""
    cdef int error = _write(fd, parts, count, offset)
    return error if error else group_sync(group)


cdef void _wipe(int fd, off_t offset) noexcept nogil:
    """Take back a message that could not be stored, as well as the disk lets us.

    With a sync of its own: the group's may have failed for good.
    """
    cdef iovec page
    page.iov_base = ZEROS
    page.iov_len = PAGE
    if _write(fd, &page, 1, offset) == 0:
        fdatasync(fd)


cdef bint _announce(int pipe, const char *record, size_t size) noexcept nogil:
    """Write a record to a FIFO that is never waited for; whether it was taken."""
    cdef ssize_t taken = write_record(pipe, record, size)
    while taken < 0 and errno == EINTR:
        taken = write_record(pipe, record, size)
    return taken == <ssize_t> size


cdef object _failure(int error):
    return OSError(error, os.strerror(error))


cdef int _point(iovec *into, list parts) except -1:
    """Fill `into` with where these octets are; they live as long as the list does."""
    cdef int i, count = <int> len(parts)
    if count > MOST_PARTS:
        raise ValueError("too many parts")
    for i in range(count):
        part = parts[i]
        if not isinstance(part, bytes):
            raise TypeError(f"not bytes: {type(part).__name__}")
        into[i].iov_base = PyBytes_AS_STRING(part)
        into[i].iov_len = PyBytes_GET_SIZE(part)
    return count


cdef class GroupCommit:
    cdef Group *group

    def __cinit__(self, int fd):
        self.group = new_group(fd, CONTENT)

    def __dealloc__(self):
        free_group(self.group)

    @property
    def failed(self):
        return self.group.failed != 0

    @property
    def waiting(self):
        return self.group.waiting

    def sync(self):
        cdef int error
        with nogil:
            error = group_sync(self.group)
        if error:
            raise _failure(error)


def store(
    int fd,
    GroupCommit commit not None,
    off_t offset,
    off_t span,
    list parts not None,
    int pipe=-1,
    bytes record=b"",
):
    cdef iovec pointed[MOST_PARTS]
    cdef int count = _point(pointed, parts)
    cdef const char *octets = record
    cdef Py_ssize_t size = PyBytes_GET_SIZE(record)
    cdef int error, result = STORED
    with nogil:
        error = _lock(fd, F_WRLCK, offset, span)
        if not error:
            error = _write_durably(fd, commit.group, pointed, count, offset)
            if error:
                _wipe(fd, offset)
                if error == EAGAIN:
                    error = EIO
            _unlock(fd, offset, span)
            if not error and pipe >= 0 and _announce(pipe, octets, size):
                result = ANNOUNCED
    if error == EAGAIN:
        return BUSY
    if error:
        raise _failure(error)
    return result


def claim(int fd, off_t at, off_t offset, Py_ssize_t size):
    cdef bytes octets = PyBytes_FromStringAndSize(NULL, size)
    cdef char *into = PyBytes_AS_STRING(octets)
    cdef ssize_t got = 0
    cdef int error
    with nogil:
        error = _lock(fd, F_WRLCK, at, 1)
        if not error:
            got = pread(fd, into, size, offset)
            while got < 0 and errno == EINTR:
                got = pread(fd, into, size, offset)
            if got < 0:
                error = EIO if errno == EAGAIN else errno
                _unlock(fd, at, 1)
    if error == EAGAIN:
        return None
    if error:
        raise _failure(error)
    return octets if got == size else octets[:got]


def write(int fd, GroupCommit commit not None, off_t offset, bytes octets not None):
    cdef iovec one
    cdef int error
    one.iov_base = PyBytes_AS_STRING(octets)
    one.iov_len = PyBytes_GET_SIZE(octets)
    with nogil:
        error = _write_durably(fd, commit.group, &one, 1, offset)
    if error:
        raise _failure(error)


def settle(
    int fd, GroupCommit commit not None, off_t offset, bytes octets not None, off_t at
):
    cdef iovec one
    cdef int error
    one.iov_base = PyBytes_AS_STRING(octets)
    one.iov_len = PyBytes_GET_SIZE(octets)
    with nogil:
        error = _write_durably(fd, commit.group, &one, 1, offset)
        if not error:
            _unlock(fd, at, 1)
    if error:
        raise _failure(error)


def lock(int fd, off_t start, off_t length):
    cdef int error = _lock(fd, F_WRLCK, start, length)
    if error == EAGAIN:
        return False
    if error:
        raise _failure(error)
    return True


def unlock(int fd, off_t start, off_t length):
    _unlock(fd, start, length)


def some_lock(int fd, off_t start, off_t length):
    cdef flock range
    range.l_type = F_WRLCK
    range.l_whence = SEEK_SET
    range.l_start = start
    range.l_len = length
    range.l_pid = 0
    if fcntl(fd, F_OFD_GETLK, &range) != 0:
        raise _failure(errno)
    return None if range.l_type == F_UNLCK else (range.l_start, range.l_start + range.l_len)
