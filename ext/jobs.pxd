"""The steps of one delivery: a file is written in one directory, synced, and renamed into another.

Each function returns 0 or an errno, and notes in `Fault` what it was at; all run without the GIL.
Inline, for the one module that needs them.
"""

from libc.errno cimport errno
from posix.unistd cimport close, fsync

from diskio cimport (
    O_WRONLY,
    SYNC_FILE_RANGE_WRITE,
    copy_octets,
    forget_octets,
    iovec,
    make_file,
    rename_new,
    sync_file_range,
    unlink_file,
    write_parts,
)


cdef enum:
    LARGE = 32 << 10  # octets; a file whose own are most of what is written to the disk for it


cdef struct Fault:
    const char *step
    const char *name


cdef struct Job:
    int tmp
    int new
    const char *name
    iovec *parts
    int count
    size_t size            # octets in the parts
    int source             # -1, or the file whose octets from `start` on follow the parts
    long start
    long length
    int fd                 # -1 once the file is on disk
    bint staged            # a file of ours is in tmp/
    bint moved             # one is in new/


cdef inline int at(const char *step, const char *name, int error, Fault *fault) noexcept nogil:
    """Note where an error came from; passes it through."""
    if error:
        fault.step = step
        fault.name = name
    return error


cdef inline bint is_large(const Job *job) noexcept nogil:
    return job.size + <size_t> job.length > <size_t> LARGE


cdef inline int write_job(Job *job, Fault *fault) noexcept nogil:
    cdef int error = make_file(job.tmp, job.name, O_WRONLY, &job.fd)
    if error:
        return at("open", job.name, error, fault)
    job.staged = True
    error = write_parts(job.fd, job.parts, job.count)
    if not error and job.source >= 0:
        error = copy_octets(job.source, job.start, job.length, job.fd)
    return at("write", job.name, error, fault)


cdef inline void start_job(Job *job) noexcept nogil:
    """Have the disk begin with the file's octets, so that many files are written side by side."""
    sync_file_range(job.fd, 0, 0, SYNC_FILE_RANGE_WRITE)


cdef inline int close_job(Job *job, Fault *fault) noexcept nogil:
    cdef int error = 0
    cdef int fd = job.fd
    job.fd = -1
    if close(fd) != 0:
        error = errno
    return at("close", job.name, error, fault)


cdef inline int sync_job(Job *job, Fault *fault) noexcept nogil:
    if fsync(job.fd) != 0:
        return at("fsync", job.name, errno, fault)
    if is_large(job):
        forget_octets(job.fd)
    return close_job(job, fault)


cdef inline int show_job(Job *job, Fault *fault) noexcept nogil:
    cdef int error = rename_new(job.tmp, job.name, job.new, job.name)
    if error:
        return at("rename", job.name, error, fault)
    job.staged = False
    job.moved = True
    return 0


cdef inline void take_back_job(Job *job) noexcept nogil:
    """After a failure: leave nothing, as far as the disk lets us."""
    if job.fd >= 0:
        close(job.fd)
        job.fd = -1
    if job.staged:
        unlink_file(job.tmp, job.name)
    if job.moved:
        unlink_file(job.new, job.name)
