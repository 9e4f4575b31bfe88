# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits and deadlines: who reaches one is told or dropped, and others are served meanwhile."""

import os
import resource
import socket
import sys
import time

import common
import tap
import wire
from common import bytes_of
from daemon import Daemon, need


def connect(path):
    """A connection without a hello."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(wire.TIMEOUT_SECONDS)
    connection.connect(path)
    return connection


def test_silent_without_hello():
    """Closed after ten seconds, and logged; one that said hello stays."""
    with Daemon() as daemon:
        with wire.Peer(daemon.reader) as greeted, wire.Peer(daemon.reader, greet=False) as silent:
            start = time.monotonic()
            silent.expect_closed()
            assert time.monotonic() - start > 5
            assert greeted.is_alive()
            assert "no hello" in daemon.log()


def test_hello_that_trickles():
    """The whole of it has to come in time."""
    with Daemon() as daemon, connect(daemon.reader) as slow:
        end = time.monotonic() + 20
        try:
            for i in range(len(wire.hello()) - 1):
                slow.send(wire.hello()[i:i + 1])
                time.sleep(0.5)
                assert time.monotonic() < end, "it is still waited for"
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert "no hello" in daemon.log()


def test_idle():
    """A notice, then the end; so for a stream that stalls. Who asks in time stays."""
    with Daemon(settings="IdleTimeoutSec=3s") as daemon, common.Unchanged(daemon):
        with wire.Peer(daemon.reader) as idle, wire.Peer(daemon.publisher) as stalled, \
                wire.Peer(daemon.reader) as busy:
            assert idle.limits["idle_usec"] == 3000000
            stalled.send(wire.frame(wire.PUT, 9, wire.uri("stalled"), flags=wire.FLAG_STREAM),
                         wire.frame(wire.DATA, 9, body_size=100000), bytes_of(70000))
            idle.socket.setblocking(False)
            end = time.monotonic() + common.DEADLINE_SECONDS
            while True:
                assert busy.is_alive() and time.monotonic() < end
                try:
                    notice = idle.receive()
                    break
                except BlockingIOError:
                    time.sleep(0.05)
            idle.socket.settimeout(wire.TIMEOUT_SECONDS)
            assert (notice.type, notice.id, notice.status) == (wire.NOTICE, 0, wire.DRAINING)
            assert idle.receive().status == wire.DRAINED
            idle.expect_closed()
            for status in (wire.DRAINING, wire.DRAINED):
                notice = stalled.receive()
                assert (notice.type, notice.status) == (wire.NOTICE, status)
            stalled.expect_closed()
            assert busy.ask(wire.STAT, wire.uri("stalled")).status == wire.ABSENT


def test_idle_after_a_long_answer():
    """Who was taking an answer all the time was not idle."""
    with Daemon(settings="IdleTimeoutSec=4s") as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("large", bytes(32 << 20))
        with wire.Peer(daemon.reader, mode=wire.OP_COPY) as peer:
            peer.send(wire.frame(wire.GET, 100, wire.uri("large")))
            head = peer.socket.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL)
            left = int.from_bytes(head, "little") + (32 << 20)
            buffer = bytearray(2 << 20)
            while left > 0:
                left -= peer.socket.recv_into(buffer, min(left, len(buffer)), socket.MSG_WAITALL)
                time.sleep(0.3)
            time.sleep(0.7)
            assert peer.is_alive()


def test_client_that_never_reads():
    """Its output is bounded, it is dropped after the deadline, others are served."""
    with Daemon(settings="WriteTimeoutSec=2s\nMaxOutput=1M\nMaxDescriptorsInFlight=100") as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("large", bytes_of(3 << 20))
            peer.put("small", bytes_of(1500))
        with common.Unchanged(daemon):
            greedy = []
            for mode in (wire.OP_COPY, wire.OP_SPLICE, wire.OP_FDPASS, wire.OP_AUTO):
                for name in ("large", "small"):
                    peer = wire.Peer(daemon.reader, mode=mode)
                    greedy.append(peer)
                    peer.socket.setblocking(False)
                    peer.socket.send(b"".join(wire.frame(wire.GET, 100 + i, wire.uri(name)) for i in range(3000)))
            with wire.Peer(daemon.reader) as other:
                assert other.get("small") == bytes_of(1500)
                memory = resident(daemon)
                common.wait_until(lambda: common.stats(daemon)["sessions_dropped"] >= len(greedy),
                                  "those that never read are dropped")
                assert memory < (1 << 20) * 400, memory
                assert other.get("large", mode=wire.OP_SPLICE) == bytes_of(3 << 20)
            assert "takes no answers" in daemon.log()
            for peer in greedy:
                peer.close()


def resident(daemon):
    """Bytes of memory of its own."""
    with open(f"/proc/{daemon.process.pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Anonymous:"))


def test_descriptors_in_flight():
    """No more than the limit are sent before the client receives some; then it goes on."""
    with Daemon(settings="MaxDescriptorsInFlight=10\nMaxPipeline=100") as daemon:
        with wire.Peer(daemon.publisher, mode=wire.OP_FDPASS) as peer:
            peer.put("file", bytes_of(5000))
            assert peer.limits["fds_in_flight"] == 10
            for _ in range(3):
                ids = [peer.new_id() for _ in range(100)]
                peer.send(*(wire.frame(wire.GET, id_, wire.uri("file")) for id_ in ids))
                common.wait_until(lambda: common.readable(peer.socket) > 0, "the first came")
                while ids:
                    reply = peer.receive()
                    ids.remove(reply.id)  # in any order: some may be opened by a thread
                    assert reply.fd_count <= 10 and reply.content() == bytes_of(5000), reply
                    reply.close()


def test_descriptors_not_received():
    """A client that has to receive some first is waited for, not asked again and again."""
    with Daemon(settings="MaxDescriptorsInFlight=10") as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("file", bytes_of(5000))
        with wire.Peer(daemon.reader, mode=wire.OP_FDPASS) as peer:
            peer.send(*(wire.frame(wire.GET, 100 + i, wire.uri("file")) for i in range(100)))
            common.wait_until(lambda: common.readable(peer.socket) > 0, "the first came")
            before = cpu_ticks(daemon)
            time.sleep(1)
            assert cpu_ticks(daemon) - before < 50, "it spins"
            ids = {100 + i for i in range(100)}
            while ids:
                reply = peer.receive()
                ids.remove(reply.id)
                assert reply.content() == bytes_of(5000), reply
                reply.close()


def stuck(daemon, n, name, mode):
    """n clients that ask for more than they take."""
    peers = []
    for _ in range(n):
        peer = wire.Peer(daemon.reader, mode=mode)
        peer.socket.setblocking(False)
        peer.socket.send(b"".join(wire.frame(wire.GET, 100 + i, wire.uri(name)) for i in range(1000)))
        peers.append(peer)
    time.sleep(0.5)
    return peers


def test_files_of_stuck_clients():
    """What waits for them to read holds few files open, and leaves the rest to others."""
    with Daemon(settings="MaxDescriptorsInFlight=10") as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("file", bytes_of(200000))
            for mode in (wire.OP_COPY, wire.OP_SPLICE):
                before = daemon.fds()
                peers = stuck(daemon, 10, "file", mode)
                assert daemon.fds() - before <= 10 * 8, daemon.fds() - before
                for greedy in peers:
                    greedy.close()
    few = ("sh", "-c", 'ulimit -n 2000 && exec "$@"', "sh")
    with Daemon(settings="MaxDescriptorsInFlight=10", command=few) as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("file", bytes_of(200000))
        for mode in (wire.OP_FDPASS, wire.OP_COPY):
            peers = stuck(daemon, 100, "file", mode)
            with wire.Peer(daemon.reader) as other:
                assert other.get("file", mode=wire.OP_FDPASS) == bytes_of(200000)
                assert other.get("file", mode=wire.OP_COPY) == bytes_of(200000)
            for greedy in peers:
                greedy.close()


def test_memory_of_stuck_clients():
    """What waits for all of them together is bounded, and others are served."""
    # The hot table has a bound of its own, and counts many times over where a sanitizer keeps its books.
    with Daemon(settings="Workers=2\n[Store]\nCacheSize=0") as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("small", bytes_of(16000))
        # Each alone may have 4M; a sanitizer takes about as much again.
        peers = stuck(daemon, 400, "small", wire.OP_COPY)
        assert resident(daemon) < 800 << 20, resident(daemon)
        with wire.Peer(daemon.reader) as other:
            assert all(other.get("small") == bytes_of(16000) for _ in range(100))
        for greedy in peers:
            greedy.close()


def test_memory_of_refused_streams():
    """Of a put that a reader may not make nothing is kept, though it has to be ended."""
    with Daemon() as daemon:
        big = wire.metadata((b"key", bytes(32000)))
        before = resident(daemon)
        peers = [wire.Peer(daemon.reader) for _ in range(200)]
        for peer in peers:
            peer.send(*(wire.frame(wire.PUT, 50 + i, wire.uri("x"), big, flags=wire.FLAG_STREAM) for i in range(8)))
        for peer in peers:
            assert all(peer.receive().status == wire.NOT_PERMITTED for _ in range(8))
        assert resident(daemon) - before < 40 << 20, resident(daemon) - before
        for peer in peers:
            peer.close()


def test_stalled_stream_of_a_busy_session():
    """What it has sent goes to the disk, whatever else the session does."""
    with Daemon() as daemon, wire.Peer(daemon.publisher) as peer:
        peer.send(wire.frame(wire.PUT, 1000, wire.uri("stream"), flags=wire.FLAG_STREAM),
                  wire.frame(wire.DATA, 1000, body_size=100000), bytes_of(100000))

        def is_written():
            assert peer.is_alive()
            return common.blob_files(daemon) == 1

        common.wait_until(is_written, "the stream's beginning in a file", 10)
        peer.send(wire.frame(wire.END, 1000))
        assert peer.receive().info.size == 100000
        assert peer.get("stream") == bytes_of(100000)


def test_connections_in_all():
    with Daemon(settings="MaxConnections=20") as daemon:
        with common.Unchanged(daemon):
            peers = [wire.Peer(daemon.reader) for _ in range(20)]
            for _ in range(50):
                with wire.Peer(daemon.reader, greet=False) as refused:
                    notice = refused.receive()
                    assert (notice.type, notice.id, notice.status) == (wire.NOTICE, 0, wire.BUSY)
                    assert "MaxConnections=" in notice.text
                    refused.expect_closed()
            assert all(peer.is_alive() for peer in peers)
            for peer in peers:
                peer.close()
        assert common.stats(daemon)["sessions_refused"] == 50
        log = daemon.log()
        assert "Refused a session of uid" in log and log.count("Refused a session") < 50


def test_connections_of_a_user():
    """One uid at its limit; another one is served."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root, to be two users")
    with Daemon(settings="MaxConnectionsPerUser=5") as daemon:
        os.chmod(daemon.base, 0o755)
        os.chmod(daemon.reader, 0o666)
        with common.Unchanged(daemon):
            os.seteuid(65533)
            try:
                peers = [wire.Peer(daemon.reader) for _ in range(5)]
                with wire.Peer(daemon.reader, greet=False) as refused:
                    notice = refused.receive()
                    assert notice.status == wire.BUSY and "MaxConnectionsPerUser=" in notice.text
            finally:
                os.seteuid(0)
            with wire.Peer(daemon.reader) as other:
                assert other.is_alive()
            peers.pop().close()
            os.seteuid(65533)
            try:
                common.wait_until(lambda: can_greet(daemon.reader), "a place is free again")
            finally:
                os.seteuid(0)
            for peer in peers:
                peer.close()
        assert "uid 65533" in daemon.log()


def can_greet(path):
    try:
        wire.Peer(path).close()
        return True
    except (AssertionError, wire.Closed, ConnectionResetError, BrokenPipeError):
        return False


def test_thousands_of_connections():
    """5,000 at once, silent and greeted; those who ask are served, and all are given back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11000:
        raise tap.Skip(f"needs 11,000 descriptors, may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with Daemon() as daemon:
            with wire.Peer(daemon.publisher) as peer:
                peer.put("object", bytes_of(5000))
            with common.Unchanged(daemon):
                silent = [connect(daemon.reader) for _ in range(2500)]
                greeted = [wire.Peer(daemon.reader, mode=wire.OP_FDPASS) for _ in range(2500)]
                for peer in greeted[::10]:
                    assert peer.get("object") == bytes_of(5000)
                assert common.stats(daemon)["sessions"] >= 5000
                for connection in (*silent, *greeted):
                    connection.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_out_of_descriptors():
    """Connections beyond what the daemon can open wait or are refused; it does not spin, and recovers."""
    with Daemon() as daemon:
        with wire.Peer(daemon.publisher) as first:
            first.put("object", bytes_of(5000))
            assert first.is_alive()
            used = daemon.fds()
            resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (used + 10, used + 100))
            waiting = [connect(daemon.reader) for _ in range(60)]
            common.wait_until(lambda: "Can't accept" in daemon.log(), "it says so")
            assert first.is_alive()
            # Nothing is left to open the object's file with.
            reply = first.ask(wire.GET, wire.uri("object"), mode=wire.OP_FDPASS)
            assert reply.status == wire.BUSY, reply
            before = cpu_ticks(daemon)
            time.sleep(1)
            assert cpu_ticks(daemon) - before < 50, "it spins"
            for connection in waiting:
                connection.close()
            common.wait_until(lambda: can_greet(daemon.reader), "it accepts again")
            assert first.get("object", mode=wire.OP_FDPASS) == bytes_of(5000)


def test_descriptors_of_all_sessions_in_flight():
    """The kernel's own limit for the daemon's user is used up by clients who never receive: others get the bytes."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root, to run the daemon as another user, whom the limit holds")
    need("setpriv")
    limit = 400
    user = f'ulimit -n {limit} && exec setpriv --reuid=65533 --regid=65533 --clear-groups -- "$@"'
    with Daemon(start=False, command=("sh", "-c", user, "sh")) as daemon:
        for path in (daemon.base, daemon.store):
            os.chown(path, 65533, 65533)
        before = os.umask(0)  # the socket on which it says that it is ready is for it too
        try:
            daemon.start()
        finally:
            os.umask(before)
        watch = wire.Peer(daemon.publisher, mode=wire.OP_FDPASS)
        watch.put("file", bytes_of(5000))
        watch.put("small", bytes_of(10))
        greedy = [wire.Peer(daemon.reader, mode=wire.OP_FDPASS, fds=50) for _ in range(20)]
        for i, peer in enumerate(greedy):
            # Some with answers waiting in the daemon, some with all of them sent.
            peer.send(*(wire.frame(wire.GET, 100 + n, wire.uri("file")) for n in range((10, 100)[i % 2])))
        with wire.Peer(daemon.reader, mode=wire.OP_FDPASS) as peer:
            common.wait_until(lambda: count_copied(peer) > 0, "no descriptor may be sent any more")
            assert peer.is_alive()
        for peer in (watch, *greedy):
            peer.close()
        with wire.Peer(daemon.reader, mode=wire.OP_FDPASS) as peer:
            common.wait_until(lambda: gets_file(peer), "descriptors are sent again")


def count_copied(peer):
    """Asks for many objects, each of which must come whole; returns how many files came as bytes."""
    copied = 0
    wanted = {100 + i: ("file", "small")[i % 2] for i in range(100)}
    peer.send(*(wire.frame(wire.GET, id_, wire.uri(name)) for id_, name in wanted.items()))
    while wanted:
        reply = peer.receive()
        body = bytes_of(5000 if wanted.pop(reply.id) == "file" else 10)
        # What waits is open in the daemon: it may run out of descriptors, and says so.
        assert reply.status in (wire.OK, wire.BUSY), reply
        assert reply.status == wire.BUSY or reply.content() == body
        copied += reply.status == wire.OK and reply.fd is None and len(body) == 5000
        reply.close()
    return copied


def gets_file(peer):
    reply = peer.ask(wire.GET, wire.uri("file"))
    assert reply.status in (wire.OK, wire.BUSY), reply
    reply.close()
    return reply.mode == wire.OP_FDPASS


def cpu_ticks(daemon):
    with open(f"/proc/{daemon.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def main():
    names = sys.argv[1:]
    tap.run({name: f for name, f in globals().items() if not names or name in names})


if __name__ == "__main__":
    main()
