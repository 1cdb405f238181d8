"""A disk that keeps a record of what was written to it, and of when it was told to flush.

    python -m tests.powercut.recorder IMAGE MOUNTPOINT RECORD

shows the file IMAGE at MOUNTPOINT, a file too, through FUSE. A loop device over it turns a flush of
its file system into an fsync, which is where a disk with a write cache promises something. Every
write and fsync is answered only after it is in RECORD (`record` has the format), so that whoever
has seen a consequence of one finds it there.

Speaks to /dev/fuse itself (linux/fuse.h, protocol 7.31): the root of the file system is the file,
and there are a handful of requests. It ends when MOUNTPOINT is unmounted, and when its parent dies.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from tests.powercut.record import Writer

_IN = struct.Struct("<IIQQIIIHH")  # fuse_in_header: length, opcode, unique, node, uid, gid, pid, …
_OUT = struct.Struct("<IiQ")  # fuse_out_header: length, error, unique
_ATTRIBUTES = struct.Struct("<QIIQQQQQQIIIIIIIIII")  # fuse_attr_out: validity, inode, size, …
_READ = struct.Struct("<QQIIQII")  # fuse_read_in, and fuse_write_in: handle, offset, size, …
_INIT = struct.Struct("<IIIIHHIIHH32x")  # fuse_init_out: version, readahead, flags, …
_LONGEST_WRITE = 1 << 20
_PAGE = 4096
_ROOM = _LONGEST_WRITE + 2 * _PAGE

_ASYNC_READ, _BIG_WRITES, _MAX_PAGES = 1 << 0, 1 << 5, 1 << 22  # flags of FUSE_INIT
_GETATTR, _SETATTR, _OPEN, _READING, _WRITING, _STATFS = 3, 4, 14, 15, 16, 17
_RELEASE, _FSYNC, _FLUSH, _INITIAL, _FORGET, _INTERRUPT = 18, 20, 25, 26, 2, 36
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Disk:
    """The image, as /dev/fuse is told of it."""

    def __init__(self, image: int, record: Writer) -> None:
        self._image = image
        self._record = record
        self._size = os.fstat(image).st_size
        self._answers: dict[int, Callable[[memoryview], bytes]] = {
            _INITIAL: self._init,
            _GETATTR: self._attributes,
            _SETATTR: self._attributes,
            _OPEN: lambda _: bytes(16),
            _READING: self._read,
            _WRITING: self._write,
            _FSYNC: self._fsync,
            _FLUSH: lambda _: b"",
            _RELEASE: lambda _: b"",
            _STATFS: lambda _: bytes(80),
        }

    def serve(self, device: int) -> None:
        """Answer, until the file is unmounted."""
        while True:
            try:
                request = memoryview(os.read(device, _ROOM))
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, opcode, unique, *_ = _IN.unpack_from(request)
            if opcode in (_FORGET, _INTERRUPT):
                continue  # these have no answer
            respond = self._answers.get(opcode)
            answer = b"" if respond is None else respond(request[_IN.size :])
            code = -errno.ENOSYS if respond is None else 0
            with suppress(FileNotFoundError):  # who asked was interrupted
                os.write(device, _OUT.pack(_OUT.size + len(answer), code, unique) + answer)

    def _init(self, request: memoryview) -> bytes:
        flags = _ASYNC_READ | _BIG_WRITES | _MAX_PAGES
        # Not FUSE_WRITEBACK_CACHE: every write comes here before it is done.
        pages = _LONGEST_WRITE // _PAGE
        return _INIT.pack(7, 31, 1 << 17, flags, 16, 12, _LONGEST_WRITE, 1, pages, 0)

    def _attributes(self, request: memoryview) -> bytes:
        validity = (3600, 0, 0)
        size = (1, self._size, self._size // 512)
        times = (0, 0, 0)
        owner = (stat.S_IFREG | 0o600, 1, 0, 0)
        return _ATTRIBUTES.pack(*validity, *size, *times, *times, *owner, 0, _PAGE, 0)

    def _read(self, request: memoryview) -> bytes:
        _, offset, size, *_ = _READ.unpack_from(request)
        return os.pread(self._image, size, offset)

    def _write(self, request: memoryview) -> bytes:
        _, offset, size, *_ = _READ.unpack_from(request)
        octets = request[_READ.size : _READ.size + size]
        os.pwrite(self._image, octets, offset)
        self._record.write(offset, octets, at=time.time())
        return struct.pack("<II", size, 0)

    def _fsync(self, request: memoryview) -> bytes:
        self._record.flush(at=time.time())
        return b""


def main(image: str, mountpoint: str, record: str) -> None:
    """Mount, say so on stdout, and serve. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0"
    if libc.mount(b"pfsmtp-recorder", mountpoint.encode(), b"fuse", 0, options.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount: {os.strerror(code)}")
    print("mounted", flush=True)
    with Writer(record) as writer:
        Disk(os.open(image, os.O_RDWR | os.O_CLOEXEC), writer).serve(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
