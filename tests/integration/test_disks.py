# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks that are full, read-only or broken under a daemon that serves: what it answers, logs, and comes back from."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import threading

import common
from common import Unchanged, bytes_of, wait_until
import disk
import tap
import wire
from baddisk import BadDisk
from daemon import DEADLINE_SECONDS, Daemon

MARK = b"here the disk is broken"
NO_EVICTION = "[Store]\nMaxBytes=infinity\nKeepFree=0\nEvict=no"
META_PAGE = b"\xde\xc0\xef\xbe"  # LMDB's magic number, which its two first pages alone have
STORE_SAYS = {
    "no bodies": "Bodies can't be written",
    "bodies again": "Bodies can be written",
    "no changes": "changes are refused",
    "changes again": "can be written again",
    "no body": "can't be read from the disk:",
    "body again": "can be read from the disk again",
}


def on_both(test):
    """The test with each kind of file system."""
    def run():
        disk.need()
        for kind in disk.KINDS:
            test(kind)

    return run


@contextlib.contextmanager
def serving(disk_, settings=""):
    """A daemon whose store is on the disk."""
    with Daemon(start=False) as daemon:
        daemon.store = disk_.path / "store"
        daemon.configure(settings)
        daemon.start()
        try:
            yield daemon
        except Exception as error:
            raise AssertionError(f"{error!r}\n{daemon.log()}") from error


def says(daemon, what):
    """How many times the daemon said so."""
    return daemon.log(1 << 20).count(STORE_SAYS[what])


def remount_cold(daemon, disk_):
    """Nothing of the disk is in memory any more."""
    daemon.stop()
    disk_.unmount()
    disk_.mount()
    daemon.start()


def forget_bodies(daemon):
    """Bodies are no more in the page cache."""
    for folder, _, names in os.walk(daemon.store / "blobs"):
        for name in names:
            with open(pathlib.Path(folder) / name, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def put_all(peer, objects):
    """Puts (name, body) each, many at a time."""
    requests = [wire.frame(wire.PUT, peer.new_id(), wire.uri(name), body_size=len(body)) + body
                for name, body in objects]
    for at in range(0, len(requests), 50):
        some = requests[at:at + 50]
        peer.send(*some)
        for _ in some:
            reply = peer.receive()
            assert reply.status == wire.OK, reply


def put_status(peer, name, body):
    return peer.ask(wire.PUT, wire.uri(name), body=body).status


def get_status(peer, name, mode=wire.OP_COPY):
    reply = peer.ask(wire.GET, wire.uri(name), mode=mode)
    reply.close()
    return reply.status


def marked(size):
    """A body that the broken disk does not take, or does not give back."""
    middle = size // 2
    return bytes_of(middle) + MARK + bytes_of(size - middle - len(MARK))


def expect_sigbus(daemon, text):
    """It has died of it, and said so."""
    process, daemon.process = daemon.process, None
    assert process.wait(DEADLINE_SECONDS) == -signal.SIGBUS, f"{process.returncode}\n{daemon.log()}"
    assert text in daemon.log(), daemon.log()


@on_both
def test_dictionary_unreadable(kind):
    def body(i):
        return marked(1900) if i == 1000 else bytes_of(1900, i)

    def name(i):
        return f"small/{i:04}"

    with BadDisk(kind) as bad, serving(bad) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            put_all(peer, [(name(i), body(i)) for i in range(2000) if i != 1000])
            # The last: LMDB leaves remains of pages in those that it writes later.
            peer.put(name(1000), body(1000))
        bad.fail_reads(MARK)
        remount_cold(daemon, bad)

        # A get's thread, then the one that makes changes.
        for type_, path in ((wire.GET, daemon.reader), (wire.REMOVE, daemon.publisher)):
            with wire.Peer(path) as peer:
                for i in (0, 100, 1900, 1999):  # far away, as pages are read with their neighbours
                    assert peer.get(name(i)) == body(i)
                peer.send(wire.frame(type_, 100, wire.uri(name(1000))))
                peer.expect_closed()
            expect_sigbus(daemon, f"An I/O error in the dictionary of the store {daemon.store} (SIGBUS)")
            bad.unmount()  # the next one is to read it anew
            bad.mount()
            daemon.start()

        bad.fail_reads(b"")
        with wire.Peer(daemon.reader) as peer:
            for i in range(2000):
                assert peer.get(name(i)) == body(i)


def test_dictionary_cut_off():
    with Daemon() as daemon:
        with wire.Peer(daemon.publisher) as peer:
            put_all(peer, [(f"small/{i}", bytes_of(1900, i)) for i in range(500)])
        data = daemon.store / "dictionary/data.mdb"
        whole = data.read_bytes()
        os.truncate(data, 16384)
        with wire.Peer(daemon.reader) as peer:
            peer.send(wire.frame(wire.GET, 100, wire.uri("small/250")))
            peer.expect_closed()
        expect_sigbus(daemon, f"An I/O error in the dictionary of the store {daemon.store} (SIGBUS)")
        data.write_bytes(whole)
        daemon.start()
        with wire.Peer(daemon.reader) as peer:
            for i in range(500):
                assert peer.get(f"small/{i}") == bytes_of(1900, i)


def test_other_sigbus():
    with Daemon() as daemon:
        daemon.process.send_signal(signal.SIGBUS)
        expect_sigbus(daemon, "SIGBUS, and not in the store's dictionary")
        daemon.start()


@on_both
def test_body_unreadable(kind):
    sizes = {"small": 10000, "large": 300000}
    with BadDisk(kind) as bad, serving(bad) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            for name, size in sizes.items():
                peer.put(name, marked(size))
                peer.put(f"good-{name}", bytes_of(size))
            # Found broken when the first of it has been sent.
            peer.put("huge", bytes_of(3 << 20) + MARK)
        forget_bodies(daemon)
        bad.fail_reads(MARK)

        with wire.Peer(daemon.reader) as peer:
            for _ in range(3):
                for name, size in sizes.items():
                    for mode in (wire.OP_COPY, wire.OP_SPLICE):
                        assert get_status(peer, name, mode) == wire.INTERNAL, (name, mode)
                        assert peer.get(f"good-{name}", mode=mode) == bytes_of(size)
            with contextlib.closing(wire.Peer(daemon.reader)) as other:
                other.send(wire.frame(wire.GET, 100, wire.uri("huge"), mode=wire.OP_COPY))
                other.expect_closed()
            assert peer.is_alive()
            assert says(daemon, "no body") == 2, daemon.log()
            assert says(daemon, "body again") == 0

            bad.fail_reads(b"")
            for _ in range(3):
                for name, size in sizes.items():
                    assert peer.get(name, mode=wire.OP_COPY) == marked(size)
            assert peer.get("huge", mode=wire.OP_SPLICE) == bytes_of(3 << 20) + MARK
            assert says(daemon, "body again") == 2, daemon.log()
            assert "damage" not in daemon.log()


@on_both
def test_body_unwritable(kind):
    with BadDisk(kind) as bad, serving(bad) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("stays", bytes_of(100000))
        with Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
            bad.fail_writes(MARK)
            for _ in range(3):
                assert put_status(peer, "stays", marked(100000)) == wire.INTERNAL
                assert peer.get("stays") == bytes_of(100000)
            assert says(daemon, "no bodies") == 1, daemon.log()
            peer.put("other", bytes_of(50000, 2))
            assert says(daemon, "bodies again") == 1, daemon.log()
            bad.fail_writes(b"")
            peer.put("other", marked(100000))
            assert peer.get("other") == marked(100000)
            peer.ask(wire.REMOVE, wire.uri("other"))
        assert says(daemon, "no changes") == 0
        remount_cold(daemon, bad)
        with wire.Peer(daemon.reader) as peer:
            assert peer.get("stays") == bytes_of(100000)
            assert get_status(peer, "other") == wire.ABSENT


@on_both
def test_sync_fails_once(kind):
    """What a sync was for is lost when it has failed, though the next one succeeds."""
    with BadDisk(kind) as bad, serving(bad) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            durability = {"durable": wire.FLAG_DURABLE, "visible": wire.FLAG_VISIBLE}
            for name, flag in durability.items():
                peer.put(name, bytes_of(50000))
                bad.fail_writes(MARK, times=1)
                reply = peer.ask(wire.PUT, wire.uri(name), body=marked(100000), flags=flag)
                assert reply.status == (wire.INTERNAL if name == "durable" else wire.OK), (name, reply)
                wait_until(lambda name=name: peer.get(name) == bytes_of(50000), "the one before")
        remount_cold(daemon, bad)
        with wire.Peer(daemon.publisher) as peer:
            for name in durability:
                assert peer.get(name) == bytes_of(50000)
                peer.put(name, marked(100000))
        remount_cold(daemon, bad)
        with wire.Peer(daemon.reader) as peer:
            for name in durability:
                assert peer.get(name) == marked(100000)


@contextlib.contextmanager
def readers(daemon, n):
    """So many clients that get the first fifty small objects all the while, and have to get them."""
    is_over = threading.Event()

    def read():
        with wire.Peer(daemon.reader) as peer:
            n_gets = 0
            while not is_over.is_set():
                i = n_gets % 50
                assert peer.get(f"small/{i}") == bytes_of(1000, i)
                n_gets += 1
        return n_gets

    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        reading = [pool.submit(read) for _ in range(n)]
        try:
            yield
        finally:
            is_over.set()
        assert all(one.result() > 0 for one in reading)


def check_dictionary_unwritable(kind, mark):
    with BadDisk(kind) as bad, serving(bad) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            put_all(peer, [(f"small/{i}", bytes_of(1000, i)) for i in range(100)])
            peer.put("large", bytes_of(100000))
            bad.fail_writes(mark)
            with readers(daemon, 3):
                for _ in range(50):
                    assert put_status(peer, "new", marked(1000)) == wire.INTERNAL
            for _ in range(3):
                assert put_status(peer, "small/50", marked(1000)) == wire.INTERNAL
                assert put_status(peer, "new", marked(1000)) == wire.INTERNAL
                for i in range(100):
                    assert peer.get(f"small/{i}") == bytes_of(1000, i)
                assert peer.get("large") == bytes_of(100000)
                assert get_status(peer, "new") == wire.ABSENT
            assert says(daemon, "no changes") == 1, daemon.log()
            bad.fail_writes(b"")

            # It comes back by itself; a change that was refused may be asked for again.
            wait_until(lambda: put_status(peer, "new", marked(1000)) == wire.OK, "puts again")
            assert says(daemon, "changes again") == 1, daemon.log()
            peer.put("small/50", marked(1000))
            assert peer.ask(wire.REMOVE, wire.uri("small/51")).status == wire.OK
        for start_again in (lambda: remount_cold(daemon, bad), daemon.restart):
            with wire.Peer(daemon.reader) as peer:
                for i in range(100):
                    if i not in (50, 51):
                        assert peer.get(f"small/{i}") == bytes_of(1000, i)
                assert peer.get("small/50") == peer.get("new") == marked(1000)
                assert get_status(peer, "small/51") == wire.ABSENT
                assert peer.get("large") == bytes_of(100000)
            start_again()


@on_both
def test_dictionary_unwritable(kind):
    check_dictionary_unwritable(kind, MARK)


@on_both
def test_commit_half_way(kind):
    check_dictionary_unwritable(kind, META_PAGE)


@on_both
def test_commit_made_and_denied(kind):
    """The disk has a commit that it said it has not. What comes later must not make it the newest there."""
    with BadDisk(kind) as bad, serving(bad) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            put_all(peer, [(f"small/{i}", bytes_of(1000, i)) for i in range(100)])
            bad.deny_writes(META_PAGE, times=1)
            assert put_status(peer, "small/50", bytes_of(1000, 200)) == wire.INTERNAL
            bad.fail_writes(META_PAGE)
            for i in range(100):
                assert put_status(peer, f"other/{i}", bytes_of(1500, i)) == wire.INTERNAL
            bad.cut_power()
        daemon.kill()
        bad.fail_writes(b"")
        bad.unmount()
        bad.mount()
        daemon.start()
        with wire.Peer(daemon.publisher) as peer:
            for i in range(100):
                content = peer.get(f"small/{i}")
                assert content == bytes_of(1000, i) or (i == 50 and content == bytes_of(1000, 200)), i
            listed = peer.ask(wire.LIST, wire.prefix(b""))
            assert len(wire.list_entries(listed.body)) == 100
            put_all(peer, [(f"small/{i}", bytes_of(1100, i)) for i in range(100)])


@on_both
def test_read_only(kind):
    with disk.Disk(kind) as disk_, serving(disk_) as daemon:
        daemon.stop()
        # A mount that has a file open for writing can't be made read-only: so one of its own for the bodies.
        blobs = daemon.store / "blobs"
        disk.run("mount", "--bind", blobs, blobs)
        daemon.start()
        with wire.Peer(daemon.publisher) as peer:
            peer.put("large", bytes_of(100000))
            disk.run("mount", "-o", "remount,bind,ro", blobs)
            for _ in range(3):
                assert put_status(peer, "large", bytes_of(100000, 2)) == wire.READ_ONLY
                assert peer.get("large") == bytes_of(100000)
                peer.put("small", bytes_of(1000))
            assert says(daemon, "no bodies") == 1, daemon.log()
            disk.run("mount", "-o", "remount,bind,rw", blobs)
            peer.put("large", bytes_of(100000, 2))
            assert says(daemon, "bodies again") == 1, daemon.log()
            assert peer.get("large") == bytes_of(100000, 2)
        daemon.stop()
        disk.run("umount", blobs)
        daemon.start()


def test_read_only_by_error():
    """ext4 after an error that it found: nothing can be written until it was unmounted."""
    disk.need()
    with disk.Disk("ext4", options="errors=remount-ro") as disk_, serving(disk_) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("large", bytes_of(100000))
            peer.put("small", bytes_of(1000))
            pathlib.Path("/sys/fs/ext4", disk_.device(), "trigger_fs_error").write_text("a test")
            for _ in range(3):
                for size in (100000, 1000):
                    assert put_status(peer, "new", bytes_of(size)) == wire.READ_ONLY
                assert peer.ask(wire.REMOVE, wire.uri("small")).status == wire.READ_ONLY
                assert peer.get("large") == bytes_of(100000)
                assert peer.get("small") == bytes_of(1000)
            assert (says(daemon, "no bodies"), says(daemon, "no changes")) == (1, 1), daemon.log()
        remount_cold(daemon, disk_)
        with wire.Peer(daemon.publisher) as peer:
            peer.put("new", bytes_of(100000, 2))
            assert peer.get("large") == bytes_of(100000)
            assert peer.get("small") == bytes_of(1000)


class Shelf:
    """Objects that were put until nothing more could be, and are to be there."""

    def __init__(self, peer):
        self.peer = peer
        self.sizes = {}

    def fill(self, prefix, size, depth=50):
        """Puts objects of size bytes, so many at a time and in the end each alone, until there is no room. How
        many."""
        n = at = 0
        while True:
            names = {self.peer.new_id(): f"{prefix}/{at + i}" for i in range(depth)}
            self.peer.send(*[wire.frame(wire.PUT, id_, wire.uri(name), body_size=size) + self.body(name, size)
                             for id_, name in names.items()])
            replies = [self.peer.receive() for _ in range(depth)]
            assert all(reply.status in (wire.OK, wire.NO_SPACE) for reply in replies), replies
            stored = {names[reply.id]: size for reply in replies if reply.status == wire.OK}
            self.sizes.update(stored)
            n += len(stored)
            at += depth
            assert n * size < 1 << 30, "it takes everything"
            if len(stored) < depth:
                if depth == 1:
                    return n
                depth = 1

    @staticmethod
    def body(name, size):
        return bytes_of(size, sum(name.encode()))

    def check(self):
        for name, size in self.sizes.items():
            assert self.peer.get(name) == self.body(name, size), name

    def remove(self, names):
        for at in range(0, len(names), 50):
            some = {self.peer.new_id(): name for name in names[at:at + 50]}
            self.peer.send(*[wire.frame(wire.REMOVE, id_, wire.uri(name)) for id_, name in some.items()])
            for _ in some:
                reply = self.peer.receive()
                assert reply.status == wire.OK, reply
                del self.sizes[some[reply.id]]

    def names(self, prefix):
        return [name for name in self.sizes if name.startswith(prefix)]


class Filler:
    """A file of somebody else's, made while there is room."""

    def __init__(self, path):
        self.path = path / "filler"
        self.path.touch()

    def fill(self):
        """It takes what is left, to the last byte."""
        with open(self.path, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
                        os.fsync(file.fileno())

    def remove(self):
        self.path.unlink()


@on_both
def test_full_of_bodies(kind):
    with disk.Disk(kind, mbytes=64) as disk_, serving(disk_, NO_EVICTION) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            shelf, filler = Shelf(peer), Filler(disk_.path)
            assert shelf.fill("large", 300000, depth=1) > 50
            shelf.fill("middle", 20000, depth=1)
            assert says(daemon, "no bodies") == 1, daemon.log()
            filler.fill()
            for _ in range(3):
                assert put_status(peer, "large/0", bytes_of(300000, 77)) == wire.NO_SPACE
            assert says(daemon, "no bodies") == 1, daemon.log()
            shelf.check()

        # Full as it is it starts, serves and removes.
        daemon.restart()
        with wire.Peer(daemon.publisher) as peer:
            shelf.peer = peer
            shelf.check()
            assert put_status(peer, "large/0", bytes_of(300000, 77)) == wire.NO_SPACE
            shelf.remove(shelf.names("large/1"))
            wait_until(lambda: put_status(peer, "large/1", shelf.body("large/1", 300000)) == wire.OK, "room again")
            shelf.sizes["large/1"] = 300000
            shelf.check()
            assert says(daemon, "bodies again") == 1, daemon.log()
            filler.remove()
            shelf.remove(shelf.names(""))
            wait_until(lambda: shelf.fill("large", 300000, depth=1) > 50, "room for as much as before")
            shelf.check()


def check_full_dictionary(daemon, path):
    """path: of the file system that the dictionary is on."""
    with wire.Peer(daemon.publisher) as peer:
        shelf, filler = Shelf(peer), Filler(path)
        if path != daemon.store:
            peer.put("before", bytes_of(100000))
        assert shelf.fill("small", 1900) > 1000
        shelf.fill("large", 100000, depth=1)
        # What is too much at once may find room one by one.
        told = says(daemon, "no changes")
        assert told >= 1, daemon.log()
        filler.fill()
        for _ in range(3):
            assert put_status(peer, "new", bytes_of(1900)) == wire.NO_SPACE
            assert put_status(peer, "new", bytes_of(100000)) == wire.NO_SPACE
        assert says(daemon, "no changes") == told, daemon.log()
        shelf.check()
    daemon.restart()
    with wire.Peer(daemon.publisher) as peer:
        shelf.peer = peer
        shelf.check()
        shelf.fill("small/more", 1900)
        # Removals need pages too, to the last object; what they free is used again.
        names = shelf.names("small")
        shelf.remove(names[:len(names) // 2])
        shelf.check()
        wait_until(lambda: put_status(peer, "small/0", shelf.body("small/0", 1900)) == wire.OK, "room again")
        shelf.sizes["small/0"] = 1900
        assert daemon.log().rstrip().endswith("can be written again."), daemon.log()
        shelf.remove(shelf.names("small"))
        assert shelf.fill("small", 1900) > 1000
        assert peer.ask(wire.PURGE, wire.prefix("small/")).count == len(shelf.names("small/"))


@on_both
def test_full_of_small_ones(kind):
    with disk.Disk(kind, mbytes=64) as disk_, serving(disk_, NO_EVICTION) as daemon:
        check_full_dictionary(daemon, disk_.path)


@on_both
def test_full_dictionary(kind):
    """On a file system of its own, while there is room for bodies."""
    with disk.Disk(kind, mbytes=64) as disk_, Daemon(settings=NO_EVICTION, start=False) as daemon:
        for folder in (disk_.path / "dictionary", daemon.store / "dictionary"):
            folder.mkdir(mode=0o700)
        disk.run("mount", "--bind", disk_.path / "dictionary", daemon.store / "dictionary")
        try:
            daemon.start()
            check_full_dictionary(daemon, disk_.path)
            daemon.stop()
        finally:
            disk.run("umount", "--lazy", daemon.store / "dictionary")


@on_both
def test_never_full_by_default(kind):
    with disk.Disk(kind, mbytes=256) as disk_, serving(disk_) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            for prefix, size, n in (("large", 600000, 500), ("small", 1900, 30000)):
                for at in range(0, n, 100):
                    put_all(peer, [(f"{prefix}/{at + i}", bytes_of(size, at + i)) for i in range(100)])
                    room = os.statvfs(disk_.path)
                    assert room.f_bavail > room.f_blocks / 50, f"{room} after {prefix}/{at}"
                assert peer.get(f"{prefix}/{n - 1}") == bytes_of(size, n - 1)
        assert common.stats(daemon)["evictions"] > 100
        assert "can't be written" not in daemon.log(), daemon.log()


if __name__ == "__main__":
    tap.run(globals())
