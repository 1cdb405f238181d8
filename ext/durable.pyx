"""Files that are on disk before the call returns; `pfsmtp/durable.py` is the door to it.

For one message the order of system calls is openat, writev, fsync, close, renameat2, fsync of the
directory; all under one release of the GIL. When many deliver at once, one thread does what follows
the writev for all of them; and where files are many, syncfs may stand for each fsync. What is left
to Python: names, contents, what an error means, and whether a file system may be synced.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.errno cimport ENOENT, ENOSYS, EXDEV, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, strcmp, strlen
from posix.stat cimport fstat, struct_stat
from posix.unistd cimport close, fsync

from deliveries cimport SEVERAL, Delivery, deliver_one, show, stage, take_back
from diskio cimport (
    AT_FDCWD,
    O_CLOEXEC,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    forget_octets,
    iovec,
    make_file,
    openat,
    rename_new,
    unlink_file,
    write_parts,
)
from groupcommit cimport ENTRY, WHOLE, Group, free_group, group_sync, new_group
from jobs cimport Fault, Job

import os
import re


cdef int open_directory(object path, Directory parent, bint follow) except -1:
    cdef bytes encoded = os.fsencode(path)
    cdef const char *name = encoded
    cdef int start = parent.fd if parent is not None else AT_FDCWD
    # O_NONBLOCK: a FIFO in its place is refused (O_DIRECTORY) and never waited for.
    cdef int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK
    cdef int fd, error = 0
    if len(encoded) == 0 or b"\0" in encoded:
        raise ValueError(f"not a path: {path!r}")
    if not follow:
        flags |= O_NOFOLLOW
    with nogil:
        fd = openat(start, name, flags)
        if fd < 0:
            error = errno
    if fd < 0:
        raise OSError(error, os.strerror(error), path)
    return fd


cdef class Directory:
    cdef readonly int fd
    cdef readonly unsigned long device
    cdef readonly unsigned long inode
    cdef readonly Filesystem filesystem
    cdef Group *group

    def __cinit__(
        self, path, *, Directory parent=None, bint follow=False, Filesystem filesystem=None
    ):
        cdef struct_stat found
        self.fd = open_directory(path, parent, follow)
        try:
            self.group = new_group(self.fd, ENTRY)
        except MemoryError:
            close(self.fd)
            raise
        if fstat(self.fd, &found) != 0:
            raise OSError(errno, os.strerror(errno), path)
        self.device = found.st_dev
        self.inode = found.st_ino
        if filesystem is not None and filesystem.device != self.device:
            raise OSError(EXDEV, "on another file system", path)
        self.filesystem = filesystem

    def __dealloc__(self):
        free_group(self.group)

    @property
    def changed(self):
        cdef struct_stat found
        if fstat(self.fd, &found) != 0:
            raise failure(errno, b"stat", NULL)
        return <double> found.st_ctime

    @property
    def failed(self):
        return self.entry_group().failed != 0

    @property
    def waiting(self):
        return self.entry_group().waiting

    def sync(self):
        cdef Group *group = self.entry_group()
        cdef int error
        with nogil:
            error = group_sync(group)
        if error:
            raise failure(error, b"sync", NULL)

    cdef Group *entry_group(self) noexcept:
        """The group that makes this directory's entries durable."""
        return self.group if self.filesystem is None else self.filesystem.group

    cdef Group *file_group(self) noexcept:
        """The group that makes this directory's files durable; NULL: each has its own fsync."""
        return NULL if self.filesystem is None else self.filesystem.group


cdef tuple kernel():
    """The version of the kernel that runs: `(6, 1)`."""
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


cdef extern from "<sys/vfs.h>" nogil:
    struct statfs_t "statfs":
        long f_type
    int fstatfs(int, statfs_t *)


cdef class Filesystem:
    cdef readonly unsigned long device
    cdef readonly long kind
    cdef Group *group

    def __cinit__(self, Directory directory not None):
        if kernel() < (5, 8):
            raise OSError(ENOSYS, "syncfs reports no errors before Linux 5.8")
        cdef int fd = open_directory(".", directory, False)
        cdef statfs_t found
        try:
            self.group = new_group(fd, WHOLE)
        except MemoryError:
            close(fd)
            raise
        if fstatfs(fd, &found) != 0:
            raise failure(errno, b"statfs", NULL)
        self.device = directory.device
        self.kind = found.f_type

    def __dealloc__(self):
        free_group(self.group)

    @property
    def failed(self):
        return self.group.failed != 0

    def sync(self):
        cdef int error
        with nogil:
            error = group_sync(self.group)
        if error:
            raise failure(error, b"syncfs", NULL)


cdef object failure(int error, const char *step, const char *name):
    text = f"{step.decode()}: {os.strerror(error)}"
    return OSError(error, text) if name == NULL else OSError(error, text, os.fsdecode(name))


cdef const char *checked(str name) except NULL:
    """The octets of a file's name, which live as long as `name`."""
    cdef Py_ssize_t size
    cdef const char *octets = PyUnicode_AsUTF8AndSize(name, &size)
    if (
        size == 0
        or <size_t> size != strlen(octets)
        or memchr(octets, b"/", size) != NULL
        or strcmp(octets, b".") == 0
        or strcmp(octets, b"..") == 0
    ):
        raise ValueError(f"not the name of a file: {name!r}")
    return octets


cdef class Batch:
    """The deliveries of one call, and references to all that they point into."""

    cdef Delivery *deliveries
    cdef int count
    cdef list kept

    def __cinit__(self, int room):
        self.deliveries = <Delivery *> calloc(max(room, 1), sizeof(Delivery))
        if self.deliveries == NULL:
            raise MemoryError
        self.kept = []

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            free(self.deliveries[i].job.parts)
        free(self.deliveries)

    cdef Job *add(self, Directory tmp, str name, parts, Directory new) except NULL:
        """One more; `parts` None when the file is there already, `new` None when it stays."""
        cdef Delivery *delivery = &self.deliveries[self.count]
        cdef Job *job = &delivery.job
        cdef tuple octets = () if parts is None else tuple(parts)
        cdef int i, count = <int> len(octets)
        if tmp is None:
            raise TypeError("no directory to write to")
        job.name = checked(name)
        job.fd = job.source = -1
        job.tmp = tmp.fd
        delivery.file_group = tmp.file_group()
        job.staged = parts is None
        if new is not None:
            job.new = new.fd
            delivery.new_group = new.entry_group()
        self.kept.append((tmp, name, octets, new))
        job.parts = <iovec *> calloc(max(count, 1), sizeof(iovec))
        if job.parts == NULL:
            raise MemoryError
        self.count += 1
        job.count = count
        for i in range(count):
            part = octets[i]
            if not isinstance(part, bytes):
                raise TypeError(f"not bytes: {type(part).__name__}")
            job.parts[i].iov_base = PyBytes_AS_STRING(part)
            job.parts[i].iov_len = PyBytes_GET_SIZE(part)
            job.size += PyBytes_GET_SIZE(part)
        return job

    cdef int use(self, Filesystem filesystem) except -1:
        """Sync this in place of the files and directories of all, or of many who deliver."""
        cdef Delivery *delivery
        cdef int i
        for i in range(self.count):
            if (<Directory?> self.kept[i][0]).device != filesystem.device:
                raise OSError(EXDEV, "on another file system", self.kept[i][1])
        for i in range(self.count):
            delivery = &self.deliveries[i]
            if self.count >= SEVERAL:
                delivery.file_group = delivery.new_group = filesystem.group
            elif delivery.file_group == NULL:
                delivery.whole = filesystem.group
        self.kept.append(filesystem)
        return 0

    cdef int run(self, bint staging, bint showing) except -1:
        """Do it all, or undo it and raise."""
        cdef Fault fault
        cdef int i, error = 0
        for i in range(self.count if showing else 0):
            if self.deliveries[i].new_group == NULL:
                raise TypeError("no directory to rename into")
        with nogil:
            if staging and showing and self.count == 1 and self.deliveries.file_group == NULL:
                error = deliver_one(self.deliveries, &fault)
            else:
                if staging:
                    error = stage(self.deliveries, self.count, &fault)
                if not error and showing:
                    error = show(self.deliveries, self.count, &fault)
            if error:
                take_back(self.deliveries, self.count)
        if error:
            raise failure(error, fault.step, fault.name)
        return 0


def store(Directory directory not None, str name not None, parts not None):
    cdef Batch batch = Batch(1)
    batch.add(directory, name, parts, None)
    batch.run(True, False)


def deliver(
    Directory tmp not None, str name not None, parts not None, Directory new not None
):
    cdef Batch batch = Batch(1)
    batch.add(tmp, name, parts, new)
    batch.run(True, True)


def deliver_all(deliveries not None, Filesystem filesystem=None):
    cdef tuple fixed = tuple(deliveries)
    cdef Batch batch = Batch(<int> len(fixed))
    for tmp, name, parts, new in fixed:
        batch.add(tmp, name, parts, new)
    if filesystem is not None:
        batch.use(filesystem)
    batch.run(True, True)


def publish(moves not None):
    cdef tuple fixed = tuple(moves)
    cdef Batch batch = Batch(<int> len(fixed))
    for tmp, name, new in fixed:
        batch.add(tmp, name, None, new)
    batch.run(False, True)


def move(
    Directory source not None, str name not None, Directory target not None, str new_name not None
):
    cdef const char *old = checked(name)
    cdef const char *new = checked(new_name)
    cdef int error
    with nogil:
        error = rename_new(source.fd, old, target.fd, new)
    if error:
        raise failure(error, b"rename", old)


def remove(Directory directory not None, str name not None):
    cdef const char *octets = checked(name)
    cdef int error
    with nogil:
        error = unlink_file(directory.fd, octets)
    if error and error != ENOENT:
        raise failure(error, b"unlink", octets)


cdef class File:
    cdef Directory directory
    cdef str name
    cdef int fd
    cdef bint opened       # until then, and when that fails, `fd` is none of ours
    cdef readonly long size

    def __cinit__(self, Directory directory not None, str name not None):
        cdef const char *octets = checked(name)
        cdef int error
        self.directory = directory
        self.name = name
        with nogil:
            error = make_file(directory.fd, octets, O_RDWR, &self.fd)
        if error:
            raise failure(error, b"open", octets)
        self.opened = True

    def __dealloc__(self):
        if self.opened:
            close(self.fd)

    def write(self, parts not None):
        cdef Batch batch = Batch(1)
        cdef Job *job = batch.add(self.directory, self.name, parts, None)
        cdef int error
        with nogil:
            error = write_parts(self.fd, job.parts, job.count)
        if error:
            raise failure(error, b"write", job.name)
        self.size += job.size

    def copy(self, Directory directory not None, str name not None, head not None, long start):
        cdef Batch batch = Batch(1)
        cdef Job *job = batch.add(directory, name, head, None)
        job.source = self.fd
        job.start = start
        job.length = self.size - start
        batch.run(True, False)

    def sync(self):
        cdef Group *group = self.directory.file_group()
        cdef int error = 0
        with nogil:
            if group != NULL:
                error = group_sync(group)
            elif fsync(self.fd) != 0:
                error = errno
        if error:
            raise failure(error, b"fsync", checked(self.name))

    def forget(self):
        with nogil:
            forget_octets(self.fd)

    def close(self):
        if self.opened:
            self.opened = False
            with nogil:
                close(self.fd)
