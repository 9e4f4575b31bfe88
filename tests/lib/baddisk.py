# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk with bad sectors: those that have some bytes in them, which a test puts there.

Below the file system there is a loop device, below that a file of a FUSE server of ours, which fails as it is told."""

import ctypes
import errno
import mmap
import multiprocessing
import os
import pathlib
import signal
import struct

import tap
from disk import Disk, run

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, INTERRUPT, BATCH_FORGET = \
    1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 36, 42
HEADER_SIZE, READ_SIZE, WRITE_SIZE = 40, 40, 40
REQUEST_MAX = 1 << 20
DIRECT_IO = 1
MARK_MAX = 64
PR_SET_PDEATHSIG = 1


class Server:
    """Serves one file, "image", whose bytes are those of another file."""

    def __init__(self, fd, image, marks):
        self.fd = fd
        self.image = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self.image).st_size
        self.marks = marks

    def attributes(self):
        return struct.pack("<QQQQQQIIIIIIIIII", 2, self.size, self.size // 512, 0, 0, 0, 0, 0, 0, 0o100600, 1, 0, 0, 0,
                           4096, 0)

    def is_bad(self, operation, data):
        at = operation * MARK_MAX
        size, times = struct.unpack_from("<II", self.marks, at)
        if size == 0 or self.marks[at + 8:at + 8 + size] not in data:
            return False
        if times > 0:
            self.marks[at:at + 8] = struct.pack("<II", size if times > 1 else 0, times - 1)
        return True

    def read(self, request):
        offset, size = struct.unpack_from("<QI", request, HEADER_SIZE + 8)
        data = os.pread(self.image, size, offset)
        if self.is_bad(0, data):
            raise OSError(errno.EIO, "")
        return data

    def write(self, request):
        offset, size = struct.unpack_from("<QI", request, HEADER_SIZE + 8)
        data = request[HEADER_SIZE + WRITE_SIZE:]
        assert len(data) == size
        if self.is_bad(2, data):
            os.pwrite(self.image, data, offset)
            raise OSError(errno.EIO, "")
        if self.is_bad(1, data):
            raise OSError(errno.EIO, "")
        os.pwrite(self.image, data, offset)
        return struct.pack("<II", size, 0)

    def answer(self, opcode, request):
        if opcode == INIT:
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 16, 12, 131072, 1, 32, 0, 0)
        if opcode == LOOKUP:
            return struct.pack("<QQQQII", 2, 0, 3600, 3600, 0, 0) + self.attributes()
        if opcode == GETATTR:
            return struct.pack("<QII", 3600, 0, 0) + self.attributes()
        if opcode == OPEN:
            return struct.pack("<QII", 0, DIRECT_IO, 0)
        if opcode == READ:
            return self.read(request)
        if opcode == WRITE:
            return self.write(request)
        if opcode in (FSYNC, FLUSH, RELEASE):
            return b""
        raise OSError(errno.ENOSYS, "")

    def serve(self):
        # Whoever started it may be killed; whoever waits for an answer then gets an error.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            try:
                request = os.read(self.fd, REQUEST_MAX)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                continue
            _, opcode, unique = struct.unpack_from("<IIQ", request)
            if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            try:
                body, error = self.answer(opcode, request), 0
            except OSError as failure:
                body, error = b"", -failure.errno
            os.write(self.fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


class BadDisk(Disk):
    """with BadDisk(kind) as disk: disk.fail_reads(b"…"), disk.fail_writes(b"…"): of sectors with these bytes"""

    def __init__(self, *arguments, **kwargs):
        super().__init__(*arguments, **kwargs)
        self.marks = mmap.mmap(-1, 3 * MARK_MAX)
        self.server = None
        self.fuse = None

    def format(self):
        super().format()
        self.fuse = self.base / "fuse"
        self.fuse.mkdir()
        try:
            fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise tap.Skip(f"needs /dev/fuse: {error}") from error
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"baddisk", bytes(self.fuse), b"fuse", 0, options) < 0:
            raise OSError(ctypes.get_errno(), "mount of a FUSE file system")
        self.server = multiprocessing.get_context("fork").Process(
            target=Server(fd, self.image, self.marks).serve, daemon=True)
        self.server.start()
        os.close(fd)
        self.image = self.fuse / "image"

    def mount(self):
        super().mount()
        # Only the bad sectors are to fail, not what is read with them.
        pathlib.Path("/sys/block", self.device(), "queue/read_ahead_kb").write_text("0")

    def __exit__(self, *error):
        self.fail_reads(b"")
        self.fail_writes(b"")
        try:
            if self.is_mounted:
                self.unmount()
        finally:
            if self.server:
                run("umount", "--lazy", self.fuse, check=False)
                self.server.kill()
                self.server.join()
            super().__exit__(*error)

    def fail_reads(self, mark, times=0):
        """So many times; 0: until it is called again."""
        self._mark(0, mark, times)

    def fail_writes(self, mark, times=0):
        self._mark(1, mark, times)

    def deny_writes(self, mark, times=0):
        """They fail, it says, but are made."""
        self._mark(2, mark, times)

    def _mark(self, operation, mark, times):
        at = operation * MARK_MAX
        assert len(mark) <= MARK_MAX - 8
        self.marks[at:at + 8] = bytes(8)
        self.marks[at + 8:at + 8 + len(mark)] = mark
        self.marks[at:at + 8] = struct.pack("<II", len(mark), times)
