# SPDX-License-Identifier: LGPL-2.1-or-later
"""A descriptor of a file system that never answers: whoever holds it can't be killed, so the daemon must not."""

import contextlib
import ctypes
import os
import select
import struct
import tempfile
import threading
import time

import common
import tap
import wire
from daemon import Daemon

FUSE_LOOKUP, FUSE_GETATTR, FUSE_OPEN, FUSE_INIT, FUSE_OPENDIR = 1, 3, 14, 26, 27
ATTRIBUTES = struct.pack("<QQQQQQIIIIIIIIII", 2, 4096, 8, 0, 0, 0, 0, 0, 0, 0o100644, 1, 0, 0, 0, 4096, 0)


class DeadFileSystem:
    """Looks a file up and opens it, and answers nothing else: a close, a read, a stat of it wait for ever."""

    def __enter__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.folder = tempfile.mkdtemp(prefix="objmapper-fuse-", dir="/var/tmp")
        try:
            self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            os.rmdir(self.folder)
            raise tap.Skip(f"needs /dev/fuse: {error}") from error
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0".encode()
        if self.libc.mount(b"dead", self.folder.encode(), b"fuse", 0, options) < 0:
            error = os.strerror(ctypes.get_errno())
            os.close(self.fd)
            os.rmdir(self.folder)
            raise tap.Skip(f"needs to mount: {error}")
        self.stop = os.eventfd(0, os.EFD_CLOEXEC)
        self.thread = threading.Thread(target=self.answer)
        self.thread.start()
        return self

    def answer(self):
        while True:
            if self.stop in select.select([self.fd, self.stop], [], [])[0]:
                return
            request = os.read(self.fd, 1 << 17)
            _, opcode, unique = struct.unpack_from("<IIQ", request)
            if opcode == FUSE_INIT:
                body = struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 16, 12, 65536, 1, 16, 0, 0)
            elif opcode == FUSE_LOOKUP:
                body = struct.pack("<QQQQII", 2, 0, 3600, 3600, 0, 0) + ATTRIBUTES
            elif opcode == FUSE_OPEN:
                body = struct.pack("<QII", 7, 0, 0)
            else:
                continue
            os.write(self.fd, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)

    def open(self):
        """A descriptor; never to be closed, nor to be inherited by a child, while the file system is up."""
        return os.open(self.folder + "/file", os.O_RDONLY | os.O_CLOEXEC)

    def __exit__(self, *_):
        os.eventfd_write(self.stop, 1)
        self.thread.join()
        # Whatever waits for an answer gets an error from now on.
        os.close(self.fd)
        os.close(self.stop)
        self.libc.umount2(self.folder.encode(), 2)  # MNT_DETACH
        os.rmdir(self.folder)


def send_it(peer, data, fds):
    """Sends descriptors with data, or finds that the kernel refuses them on this socket."""
    try:
        peer.send_with_fds(data, fds)
    except PermissionError:
        peer.send(data)


def check(path_of_connection):
    """A client sends it in a frame, in the midst of one, and after which nothing is read: SIGKILL still works."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root, to mount")
    with Daemon(start=False) as daemon:
        # Connected to before the daemon could say that it wants no descriptors.
        early = [wire.Peer(path_of_connection(daemon), greet=False) for _ in range(3)]
        daemon.start()
        with DeadFileSystem() as dead:
            file = dead.open()
            for peer in (*early, wire.Peer(path_of_connection(daemon), greet=False)):
                send_it(peer, wire.hello(), [file] * 3)
                assert peer.receive().status == wire.OK
                send_it(peer, wire.frame(wire.STAT, 2, wire.uri("absent")), [file])
                assert peer.receive().status == wire.ABSENT
                # Of a body that is skipped.
                send_it(peer, wire.frame(99, 3, body_size=10) + b"12345", [file])
                assert peer.receive().status == wire.UNSUPPORTED
            fds = [os.readlink(f"/proc/{daemon.process.pid}/fd/{fd}")
                   for fd in os.listdir(f"/proc/{daemon.process.pid}/fd")]
            assert not any(name.startswith(dead.folder) for name in fds), fds
            with wire.Peer(daemon.reader) as other:
                assert other.is_alive()
            start = time.monotonic()
            daemon.kill()
            assert time.monotonic() - start < 10, "SIGKILL took long"
        with contextlib.suppress(OSError):  # the file system is gone
            os.close(file)


def test_readers_socket():
    check(lambda daemon: daemon.reader)


def test_publishers_socket():
    check(lambda daemon: daemon.publisher)


def main():
    tap.run(globals())


if __name__ == "__main__":
    main()
