"""System calls that make, fill, copy and rename files; each function returns 0 or an errno.

They run without the GIL. Inline, for the modules that need them.
"""

from libc.errno cimport EINTR, EINVAL, EIO, ENOSYS, EOPNOTSUPP, EXDEV, errno

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int, const iovec *, int)

cdef extern from "<fcntl.h>" nogil:
    int O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_CLOEXEC, O_DIRECTORY, O_NONBLOCK
    int AT_FDCWD
    int SYNC_FILE_RANGE_WRITE
    int openat(int, const char *, int, ...)
    int sync_file_range(int, long, long, unsigned int)
    int POSIX_FADV_DONTNEED
    int posix_fadvise(int, long, long, int)

cdef extern from "<unistd.h>" nogil:
    int linkat(int, const char *, int, const char *, int)
    int unlinkat(int, const char *, int)
    ssize_t copy_file_range(int, long *, int, long *, size_t, unsigned int)

cdef extern from "<sys/sendfile.h>" nogil:
    ssize_t sendfile(int, int, long *, size_t)

cdef extern from "<stdio.h>" nogil:
    unsigned int RENAME_NOREPLACE
    int renameat2(int, const char *, int, const char *, unsigned int)

cdef enum:
    MODE = 0o600
    PARTS_AT_ONCE = 1024  # IOV_MAX of Linux

cdef inline int make_file(int directory, const char *name, int access, int *fd) noexcept nogil:
    """Open a file that was not there."""
    cdef int flags = access | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
    while True:
        fd[0] = openat(directory, name, flags, MODE)
        if fd[0] >= 0:
            return 0
        if errno != EINTR:
            return errno


cdef inline void use_up(iovec **parts, int *count, size_t taken) noexcept nogil:
    """Take so many octets, and what is empty, from the front of `parts`."""
    while count[0] > 0 and parts[0].iov_len <= taken:
        taken -= parts[0].iov_len
        parts[0] += 1
        count[0] -= 1
    if count[0] > 0:
        parts[0].iov_base = <char *> parts[0].iov_base + taken
        parts[0].iov_len -= taken


cdef inline int write_parts(int fd, iovec *parts, int count) noexcept nogil:
    """Write them all, whatever the kernel takes at a time; uses `parts` up."""
    cdef ssize_t taken
    use_up(&parts, &count, 0)
    while count > 0:
        taken = writev(fd, parts, min(count, <int> PARTS_AT_ONCE))
        if taken >= 0:
            use_up(&parts, &count, taken)
        elif errno != EINTR:
            return errno
    return 0


cdef inline void forget_octets(int fd) noexcept nogil:
    """Have the kernel use the memory in which it holds this file for the next one.

    Only what is on disk is let go. New memory costs more than all else that is done to fill it
    where a hypervisor has to find it, or the kernel to win it back from other files.
    """
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)


cdef inline int copy_octets(int source, long start, long length, int target) noexcept nogil:
    """Append `length` octets of `source`, from `start` on, to `target`; within the kernel."""
    cdef ssize_t taken
    cdef bint ranges = True
    while length > 0:
        if ranges:
            taken = copy_file_range(source, &start, target, NULL, length, 0)
            if taken == 0 or (taken < 0 and errno in (EINVAL, ENOSYS, EOPNOTSUPP, EXDEV)):
                ranges = False  # these two files cannot: the older way can
                continue
        else:
            taken = sendfile(target, source, &start, length)
        if taken > 0:
            length -= taken
        elif taken == 0:
            return EIO  # the file has become shorter
        elif errno != EINTR:
            return errno
    return 0


cdef inline int unlink_file(int directory, const char *name) noexcept nogil:
    """Unlink it; ENOENT if it is not there."""
    while unlinkat(directory, name, 0) != 0:
        if errno != EINTR:
            return errno
    return 0


cdef inline int rename_new(
    int source, const char *name, int target, const char *new_name
) noexcept nogil:
    """Rename, never over another file."""
    cdef int error
    if renameat2(source, name, target, new_name, RENAME_NOREPLACE) == 0:
        return 0
    if errno != EINVAL and errno != ENOSYS:
        return errno
    # The file system lacks the flag.
    if linkat(source, name, target, new_name, 0) != 0:
        return errno
    error = unlink_file(source, name)
    if error:
        unlink_file(target, new_name)
    return error
