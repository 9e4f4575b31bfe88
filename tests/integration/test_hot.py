# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hot table, lookups that wait for the disk, the check of bodies: as clients see them."""

import base64
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading

import common
import tap
import wire
from common import bytes_of
from daemon import Daemon

MODES = (wire.OP_COPY, wire.OP_FDPASS, wire.OP_SPLICE, wire.OP_AUTO)


def only_blob(daemon):
    files = [pathlib.Path(folder) / name for folder, _, names in os.walk(daemon.store / "blobs") for name in names]
    assert len(files) == 1, files
    return files[0]


def flip(path, offset):
    path.chmod(0o600)
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_hits_are_counted_by_tier():
    with Daemon() as daemon, wire.Peer(daemon.publisher, mode=wire.OP_COPY) as peer:
        for name, size in (("inline", 1000), ("file", 10000), ("large", 100000)):
            peer.put(name, bytes_of(size))
        before = common.stats(daemon)
        for _ in range(5):
            for name, size in (("inline", 1000), ("file", 10000), ("large", 100000)):
                assert peer.get(name) == bytes_of(size)
        after = common.stats(daemon)
        assert after["hot_hits"] - before["hot_hits"] == 9, after
        assert after["hot_misses"] - before["hot_misses"] == 6, after
        assert after["hot_objects"] == 3 and after["hot_bytes"] > 11000


def test_cache_size_by_reload():
    with Daemon(settings="[Store]\nCacheSize=4M") as daemon, wire.Peer(daemon.publisher) as peer:
        peer.put("object", bytes_of(1000))
        for _ in range(3):
            assert peer.get("object") == bytes_of(1000)
        assert common.stats(daemon)["hot_objects"] == 1
        daemon.configure("[Store]\nCacheSize=0")
        daemon.process.send_signal(signal.SIGHUP)
        common.wait_until(lambda: "was reloaded" in daemon.log(), "the reload")
        for _ in range(3):
            assert peer.get("object") == bytes_of(1000)
        stats = common.stats(daemon)
        assert stats["hot_objects"] == stats["hot_bytes"] == 0 and stats["hot_hits"] == 1, stats


def test_check_on_fill_in_each_mode():
    """No mode hands out a byte of a body that is not as it was stored."""
    for mode in MODES:
        for size in (5000, 16384, 40000, 3 << 20):
            with Daemon(settings="[Store]\nCheckOnFill=yes") as daemon:
                with wire.Peer(daemon.publisher, mode=mode) as peer:
                    peer.put("object", bytes_of(size))
                    flip(only_blob(daemon), size - 1)
                    for _ in range(3):
                        reply = peer.ask(wire.GET, wire.uri("object"))
                        assert reply.status == wire.ABSENT and not reply.body and reply.fd_count == 0, (mode, size)
                    ranged = peer.ask(wire.GET, wire.uri("object"), wire.range_(0, 10))
                    assert ranged.status == wire.ABSENT
                assert daemon.log().count("is damaged") == 1, daemon.log()


def test_check_on_fill_of_good_bodies():
    with Daemon(settings="[Store]\nCheckOnFill=yes") as daemon:
        with wire.Peer(daemon.publisher) as peer:
            for size in (0, 1000, 5000, 40000, 3 << 20):
                peer.put(f"object {size}", bytes_of(size))
        for mode in MODES:
            with wire.Peer(daemon.reader, mode=mode) as peer:
                for _ in range(3):
                    for size in (0, 1000, 5000, 40000, 3 << 20):
                        assert peer.get(f"object {size}") == bytes_of(size)
        assert common.stats(daemon)["hot_objects"] == 5


def test_no_check():
    """By default the bytes go out as the file system has them, but for those that are kept in memory."""
    for mode in MODES:
        with Daemon() as daemon, wire.Peer(daemon.publisher, mode=mode) as peer:
            peer.put("object", bytes_of(40000))
            flip(only_blob(daemon), 0)
            for _ in range(3):
                got = peer.get("object")
                assert got != bytes_of(40000) and got[1:] == bytes_of(40000)[1:]
    with Daemon() as daemon, wire.Peer(daemon.publisher, mode=wire.OP_COPY) as peer:
        peer.put("object", bytes_of(5000))
        flip(only_blob(daemon), 0)
        assert len(peer.get("object")) == 5000
        assert peer.ask(wire.GET, wire.uri("object")).status == wire.ABSENT
        assert daemon.log().count("is damaged") == 1


def evict_dictionary(daemon):
    """Puts the dictionary of a daemon that does not run out of the page cache; False: the file system keeps it."""
    fd = os.open(daemon.store / "dictionary" / "data.mdb", os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def test_lookups_by_jobs():
    """What is not in memory is looked up by a job: the answers are the same, those of an ordered session in order."""
    n = 300
    sizes = [5000 if i % 3 else 500 for i in range(n)]
    with Daemon() as daemon:
        with wire.Peer(daemon.publisher) as peer:
            for i, size in enumerate(sizes):
                peer.put(f"object {i}", bytes_of(size, i))
        for mode in (wire.OP_COPY, wire.OP_FDPASS):
            daemon.stop()
            evicted = evict_dictionary(daemon)
            daemon.start()
            with wire.Peer(daemon.reader, mode=mode, flags=wire.HELLO_ORDERED) as peer:
                peer.send(*(wire.frame(wire.GET, 100 + i, wire.uri(f"object {i}")) for i in range(n + 1)))
                for i, size in enumerate(sizes):
                    reply = peer.receive()
                    assert reply.id == 100 + i and reply.content() == bytes_of(size, i)
                    reply.close()
                assert peer.receive().status == wire.ABSENT
            with wire.Peer(daemon.reader, mode=mode) as peer:
                ids = {peer.new_id(): i for i in range(n)}
                peer.send(*(wire.frame(wire.STAT, id_, wire.uri(f"object {i}")) for id_, i in ids.items()))
                for _ in sizes:
                    reply = peer.receive()
                    assert reply.status == wire.OK and reply.info.size == sizes[ids.pop(reply.id)]
            # Sessions that end while a lookup of theirs is under way.
            for _ in range(20):
                with wire.Peer(daemon.reader, mode=mode) as leaving:
                    leaving.send(*(wire.frame(wire.GET, leaving.new_id(), wire.uri(f"object {i}")) for i in range(50)))
            if evicted:
                assert common.stats(daemon)["lookups_submitted"] > 0


def wait_for_less(daemon, hot_bytes, what):
    common.wait_until(lambda: common.stats(daemon)["hot_bytes"] < hot_bytes, what)


# So small that each part of the table has some of its memory to give back, wherever these objects come to be.
LITTLE = "[Store]\nCacheSize=32M"


def fill(daemon):
    with wire.Peer(daemon.publisher, mode=wire.OP_COPY) as peer:
        for i in range(300):
            peer.put(f"object {i}", bytes_of(16000))
        for _ in range(3):
            for i in range(300):
                assert peer.get(f"object {i}") == bytes_of(16000)
    full = common.stats(daemon)["hot_bytes"]
    assert full > 5 << 20, full
    return full


def test_memory_pressure_by_fifo():
    """What systemd 254 sets in the environment."""
    with tempfile.TemporaryDirectory() as folder:
        fifo = pathlib.Path(folder) / "fifo"
        os.mkfifo(fifo)
        with Daemon(environment={"MEMORY_PRESSURE_WATCH": str(fifo)}, settings=LITTLE) as daemon:
            full = fill(daemon)
            with open(fifo, "wb", buffering=0) as file:
                file.write(b"pressure")
            wait_for_less(daemon, full, "memory is given back")
            common.wait_until(lambda: "Memory is short" in daemon.log(), "that it is said")
            with wire.Peer(daemon.reader, mode=wire.OP_COPY) as peer:
                for i in range(300):
                    assert peer.get(f"object {i}") == bytes_of(16000)


def test_memory_pressure_by_socket():
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path = str(pathlib.Path(folder) / "socket")
        listener.bind(path)
        listener.listen()
        received = []

        def serve():
            connection, _ = listener.accept()
            received.append(connection.recv(100))
            received.append(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        text = base64.b64encode(b"some 200000 2000000\0").decode()
        with Daemon(environment={"MEMORY_PRESSURE_WATCH": path, "MEMORY_PRESSURE_WRITE": text}, settings=LITTLE) as daemon:
            thread.join(60)
            assert received[0] == b"some 200000 2000000\0", received
            full = fill(daemon)
            received[1].send(b"!")
            wait_for_less(daemon, full, "memory is given back")
            received[1].close()
            common.wait_until(lambda: "Nobody tells" in daemon.log(), "the end is noticed")
            assert common.stats(daemon)["hot_objects"] > 0


def own_group():
    """The path of this process's group among those of control groups of version 2; None: there are none."""
    lines = pathlib.Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::/")), None)


def test_memory_pressure_by_control_group():
    """What there is before systemd 254; the file is put in the place of the kernel's."""
    if os.geteuid() != 0 or not own_group():
        raise tap.Skip("not root, or no control groups of version 2")
    for held in ("high 8\nmax 0", "high 7\nmax 1"):
        with tempfile.TemporaryDirectory() as folder:
            events = pathlib.Path(folder + own_group()) / "memory.events"
            events.parent.mkdir(parents=True, exist_ok=True)
            events.write_text("low 0\nhigh 7\nmax 0\noom 0\noom_kill 0\n")
            bind = ("unshare", "--mount", "sh", "-c", f'mount --bind {folder} /sys/fs/cgroup && exec "$@"', "sh")
            with Daemon(command=bind, settings=LITTLE) as daemon:
                full = fill(daemon)
                events.write_text("low 1\nhigh 7\nmax 0\noom 1\noom_kill 0\n")
                assert common.stats(daemon)["hot_bytes"] == full
                events.write_text(f"low 1\n{held}\noom 0\noom_kill 0\n")
                wait_for_less(daemon, full, "memory is given back")


def test_memory_pressure_that_nobody_tells():
    for environment in ({"MEMORY_PRESSURE_WATCH": "/dev/null"}, {"MEMORY_PRESSURE_WATCH": "/does/not/exist"},
                        {"MEMORY_PRESSURE_WATCH": "/dev/zero", "MEMORY_PRESSURE_WRITE": "!?"},
                        {"MEMORY_PRESSURE_WATCH": "relative"}):
        with Daemon(environment=environment) as daemon, wire.Peer(daemon.publisher) as peer:
            peer.put("object", b"bytes")
            assert peer.get("object") == b"bytes"


def main():
    names = sys.argv[1:]
    tap.run({name: f for name, f in globals().items() if not names or name in names})


if __name__ == "__main__":
    main()
