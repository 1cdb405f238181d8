"""Deliveries: several files, all or none, in the order that makes them durable.

All are written to their first directories and synced (`stage`), then all renamed into their
second ones, each of which is synced once (`show`); what went before a failure is undone
(`take_back`). Each function returns 0 or an errno, and notes in `Fault` what it was at; all run
without the GIL. Inline, for the one module that needs them.
"""

from libc.errno cimport errno
from posix.unistd cimport close, fsync

from diskio cimport (
    O_WRONLY,
    SYNC_FILE_RANGE_WRITE,
    copy_octets,
    iovec,
    make_file,
    rename_new,
    sync_file_range,
    unlink_file,
    write_parts,
)
from groupcommit cimport Group, group_sync

cdef enum:
    OPEN_AT_ONCE = 32  # files written before the first of them is synced


cdef struct Fault:
    const char *step
    const char *name


cdef struct Job:
    int tmp
    int new
    const char *name
    iovec *parts
    int count
    int source             # -1, or the file whose octets from `start` on follow the parts
    long start
    long length
    Group *file_group      # NULL: the file has an fsync of its own
    Group *new_group
    int fd
    bint staged            # a file of ours is in tmp/
    bint moved             # one is in new/


cdef inline int at(const char *step, const char *name, int error, Fault *fault) noexcept nogil:
    """Note where an error came from; passes it through."""
    if error:
        fault.step = step
        fault.name = name
    return error


cdef inline int write_job(Job *job, Fault *fault) noexcept nogil:
    cdef int error = make_file(job.tmp, job.name, O_WRONLY, &job.fd)
    if error:
        return at("open", job.name, error, fault)
    job.staged = True
    error = write_parts(job.fd, job.parts, job.count)
    if not error and job.source >= 0:
        error = copy_octets(job.source, job.start, job.length, job.fd)
    return at("write", job.name, error, fault)


cdef inline int sync_job(Job *job, Fault *fault) noexcept nogil:
    cdef int error = 0
    cdef int fd = job.fd
    if job.file_group == NULL and fsync(fd) != 0:
        return at("fsync", job.name, errno, fault)
    job.fd = -1
    if close(fd) != 0:
        error = errno
    return at("close", job.name, error, fault)


cdef inline int sync_groups(Job *jobs, int count, bint files, Fault *fault) noexcept nogil:
    """Sync each group once: those of the jobs' files, or those of their entries in new/."""
    cdef Group *group
    cdef int error, i, j
    for i in range(count):
        group = jobs[i].file_group if files else jobs[i].new_group
        if group == NULL:
            continue
        j = 0
        while (jobs[j].file_group if files else jobs[j].new_group) != group:
            j += 1
        if j < i:
            continue
        error = group_sync(group)
        if error:
            return at("sync", jobs[i].name, error, fault)
    return 0


cdef inline int stage(Job *jobs, int count, Fault *fault) noexcept nogil:
    """Write and sync all files.

    Some at a time are written before the first is synced: one commit of the journal serves all.
    """
    cdef int error, i, first = 0, end = 0
    while end < count:
        first = end
        end = min(count, first + <int> OPEN_AT_ONCE)
        for i in range(first, end):
            error = write_job(&jobs[i], fault)
            if error:
                return error
            if count > 1 and jobs[i].file_group == NULL:
                sync_file_range(jobs[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE)  # only a start
        for i in range(first, end):
            error = sync_job(&jobs[i], fault)
            if error:
                return error
    return sync_groups(jobs, count, True, fault)


cdef inline int show(Job *jobs, int count, Fault *fault) noexcept nogil:
    """Rename all into new/, then make that durable."""
    cdef int error, i
    for i in range(count):
        error = rename_new(jobs[i].tmp, jobs[i].name, jobs[i].new, jobs[i].name)
        if error:
            return at("rename", jobs[i].name, error, fault)
        jobs[i].staged = False
        jobs[i].moved = True
    return sync_groups(jobs, count, False, fault)


cdef inline void take_back(Job *jobs, int count) noexcept nogil:
    """After a failure: leave nothing, as far as the disk lets us."""
    cdef int i
    for i in range(count):
        if jobs[i].fd >= 0:
            close(jobs[i].fd)
            jobs[i].fd = -1
        if jobs[i].staged:
            unlink_file(jobs[i].tmp, jobs[i].name)
        if jobs[i].moved:
            unlink_file(jobs[i].new, jobs[i].name)
    for i in range(count):
        if jobs[i].moved:
            group_sync(jobs[i].new_group)  # one whose sync has failed returns at once
