# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copies of hot objects on a faster file system (CachePath=): what is served from them, and that nothing else changes."""

import contextlib
import os
import pathlib
import shutil
import tempfile

import common
import disk
import tap
import wire
from baddisk import BadDisk
from common import bytes_of, wait_until
from daemon import Daemon

SIZE = 300000
MARK = b"here the disk is broken"
MODES = (wire.OP_FDPASS, wire.OP_COPY, wire.OP_SPLICE)


def settings(path, size="64M"):
    return f"[Store]\nCachePath={path}\nCachePathSize={size}"


@contextlib.contextmanager
def cached(base="/var/tmp", **options):
    """A daemon with a cache below base, and the cache's folder."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-cache-", dir=base))
    try:
        with Daemon(settings=settings(folder), **options) as daemon:
            yield daemon, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copies(folder):
    return [path for path in folder.glob("*/blobs/*/*") if path.is_file()]


def put(daemon, name, body):
    with wire.Peer(daemon.publisher) as peer:
        peer.put(name, body)


def heat(daemon, name, body):
    """Gets it until a copy answers."""
    with wire.Peer(daemon.reader) as peer:
        before = common.stats(daemon)["fast_hits"]

        def is_copied():
            assert peer.get(name, mode=wire.OP_COPY) == body
            return common.stats(daemon)["fast_hits"] > before

        wait_until(is_copied, "a copy")


def test_every_mode_takes_the_copy():
    with cached() as (daemon, folder):
        body, marked = bytes_of(SIZE), b"?" + bytes_of(SIZE)[1:]
        put(daemon, "hot", body)
        heat(daemon, "hot", body)
        copy, = copies(folder)
        # Nobody may do this, but it shows where bytes come from.
        copy.chmod(0o600)
        copy.write_bytes(marked)
        copy.chmod(0o444)
        for session_mode in MODES:
            with wire.Peer(daemon.reader, mode=session_mode) as peer:
                reply = peer.ask(wire.GET, wire.uri("hot"))
                assert reply.status == wire.OK and reply.mode == session_mode and reply.content() == marked
                if reply.fd is not None:
                    assert os.fstat(reply.fd)[:3] == os.stat(copy)[:3]
                reply.close()
                assert peer.ask(wire.GET, wire.uri("hot"), wire.range_(0, 9)).body == marked[:9]


def test_once_is_not_hot():
    with cached() as (daemon, folder):
        for i in range(50):
            put(daemon, f"cold/{i}", bytes_of(SIZE, i))
            put(daemon, f"small/{i}", bytes_of(500, i))
            put(daemon, f"medium/{i}", bytes_of(16384, i))
        with wire.Peer(daemon.reader) as peer:
            for i in range(50):
                assert peer.get(f"cold/{i}") == bytes_of(SIZE, i)
                for _ in range(3):
                    assert peer.get(f"small/{i}") == bytes_of(500, i)
                    assert peer.get(f"medium/{i}", mode=wire.OP_FDPASS) == bytes_of(16384, i)
        put(daemon, "hot", bytes_of(SIZE))
        heat(daemon, "hot", bytes_of(SIZE))
        assert len(copies(folder)) == common.stats(daemon)["fast_objects"] == 1


def test_replaced_and_removed():
    with cached() as (daemon, folder), wire.Peer(daemon.publisher, mode=wire.OP_COPY) as peer:
        for i in range(20):
            put(daemon, "hot", bytes_of(SIZE, i))
            assert peer.get("hot") == bytes_of(SIZE, i)
            heat(daemon, "hot", bytes_of(SIZE, i))
        reply = peer.ask(wire.GET, wire.uri("hot"), mode=wire.OP_FDPASS)
        assert peer.ask(wire.REMOVE, wire.uri("hot")).status == wire.OK
        assert peer.ask(wire.GET, wire.uri("hot")).status == wire.ABSENT
        wait_until(lambda: not copies(folder), "the copies gone")
        assert reply.content() == bytes_of(SIZE, 19)
        reply.close()


def test_killed():
    """What a killed daemon left is not served, whatever is in it, and goes."""
    with cached() as (daemon, folder):
        for i in range(10):
            put(daemon, f"hot/{i}", bytes_of(SIZE, i))
            heat(daemon, f"hot/{i}", bytes_of(SIZE, i))
        daemon.kill()
        old = copies(folder)
        assert len(old) == 10
        for copy in old:
            copy.chmod(0o600)
            copy.write_bytes(bytes(SIZE))
        daemon.start()
        with wire.Peer(daemon.reader) as peer:
            for _ in range(4):
                for i in range(10):
                    assert peer.get(f"hot/{i}") == bytes_of(SIZE, i)
        wait_until(lambda: not any(copy.exists() for copy in old), "what was left over gone")
        heat(daemon, "hot/1", bytes_of(SIZE, 1))


def test_reload():
    with cached() as (daemon, folder):
        put(daemon, "hot", bytes_of(SIZE))
        heat(daemon, "hot", bytes_of(SIZE))
        daemon.configure(settings(folder, "0"))
        daemon.process.send_signal(1)
        wait_until(lambda: not copies(folder), "no copies")
        daemon.configure(settings(folder, "50%"))
        daemon.process.send_signal(1)
        heat(daemon, "hot", bytes_of(SIZE))
        daemon.configure(settings("/elsewhere"))
        daemon.process.send_signal(1)
        wait_until(lambda: "CachePath= has changed: that counts from the next restart" in daemon.log(), "that it is said")


def test_unusable():
    """The store serves, and one message says why."""
    with cached() as (daemon, folder):
        put(daemon, "hot", bytes_of(SIZE))
        daemon.stop()
        (folder / "objmapper-cache").unlink()
        (folder / "mine").write_text("precious")
        daemon.start()
        assert "CachePath= has files of something else in it, the store serves all objects" in daemon.log()
        with wire.Peer(daemon.reader) as peer:
            for _ in range(5):
                assert peer.get("hot") == bytes_of(SIZE)
        assert (folder / "mine").read_text() == "precious" and common.stats(daemon)["fast_misses"] == 0
        daemon.stop()
        shutil.rmtree(folder)
        daemon.start()
        assert "CachePath= can't be used, the store serves all objects: No such file or directory" in daemon.log()


def test_in_memory():
    """A tmpfs can't be asked what of a file is in memory: nothing is read in the background for that."""
    if not os.access("/dev/shm", os.W_OK):
        raise tap.Skip("needs /dev/shm")
    with cached("/dev/shm") as (daemon, folder):
        for size in (20000, SIZE):
            put(daemon, "hot", bytes_of(size))
            heat(daemon, "hot", bytes_of(size))
            before = common.stats(daemon)["windows_read"]
            for mode in MODES:
                with wire.Peer(daemon.reader, mode=mode) as peer:
                    for _ in range(10):
                        assert peer.get("hot") == bytes_of(size)
            assert common.stats(daemon)["windows_read"] == before
        wait_until(lambda: len(copies(folder)) == 1, "the replaced one's copy gone")


def test_unreadable():
    """The body itself goes on where a copy breaks off."""
    disk.need()
    with BadDisk("ext4") as bad, Daemon(start=False) as daemon:
        folder = bad.path / "cache"
        folder.mkdir()
        daemon.configure(settings(folder))
        daemon.start()
        bodies = {"head": MARK + bytes_of(200000), "small": bytes_of(17000) + MARK, "tail": bytes_of(3 << 20) + MARK}
        for name, body in bodies.items():
            put(daemon, name, body)
        for mode in (wire.OP_COPY, wire.OP_SPLICE):
            for name, body in bodies.items():
                heat(daemon, name, body)
                os.sync()
                for copy in copies(folder):
                    with open(copy, "rb") as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                bad.fail_reads(MARK)
                with wire.Peer(daemon.reader, mode=mode) as peer:
                    hits = common.stats(daemon)["fast_hits"]
                    assert peer.get(name) == body
                    assert common.stats(daemon)["fast_hits"] == hits + 1
                    # It is known by now.
                    wait_until(lambda: not any(copy.stat().st_size == len(body) for copy in copies(folder)), "it gone")
                    assert peer.get(name) == body
                bad.fail_reads(b"")
        assert "can't be read" not in daemon.log()


if __name__ == "__main__":
    tap.run(globals())
