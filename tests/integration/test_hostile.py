# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peers that send what they should not: each gets its documented status or is dropped, and costs nobody anything."""

import os
import random
import socket
import struct
import subprocess
import sys
import time

import common
import tap
import wire
from common import bytes_of
from daemon import Daemon, build_path

CHANGES = {
    wire.PUT: (wire.uri("denied"),),
    wire.SET_METADATA: (wire.uri("denied"), wire.metadata((b"k", b"v"))),
    wire.REMOVE: (wire.uri("denied"),),
    wire.PURGE: (wire.prefix(""),),
    wire.DATA: (),
    wire.END: (),
    wire.ABORT: (),
}


def refused(peer, status, type_, *fields, **options):
    """The request is answered with status and a text, and the session goes on."""
    reply = peer.ask(type_, *fields, **options)
    assert reply.status == status and reply.text, reply
    assert peer.is_alive()


def test_garbage(daemon):
    """At first and later; the daemon lives, other sessions with it."""
    generator = random.Random(1)
    before = common.stats(daemon)["sessions_dropped"]
    with common.Unchanged(daemon):
        for i in range(200):
            with wire.Peer(daemon.publisher if i % 2 else daemon.reader, greet=i % 3 != 0) as peer:
                try:
                    peer.send(generator.randbytes(generator.randrange(1, 3000)))
                    peer.socket.shutdown(socket.SHUT_WR)
                    while True:
                        reply = peer.receive()
                        assert reply.status in (wire.BAD_REQUEST, wire.UNSUPPORTED), reply
                except (wire.Closed, BrokenPipeError, ConnectionResetError):
                    pass
    assert common.stats(daemon)["sessions_dropped"] > before
    assert "Dropped a session of uid" in daemon.log()


def test_no_hello(daemon):
    for first in (wire.frame(wire.GET, 1, wire.uri("a")), wire.hello(magic=0x12345678), wire.frame(99, 1),
                  wire.hello(0), wire.frame(wire.HELLO, 1)):
        with wire.Peer(daemon.reader, greet=False) as peer:
            peer.send(first)
            assert peer.receive().status == wire.BAD_REQUEST
            peer.expect_closed()


def test_head_sizes_that_lie(daemon):
    for size in (0, 1, 31, 65537, 2**31, 2**32 - 1):
        with wire.Peer(daemon.reader) as peer:
            peer.send(wire.frame(wire.GET, 9, wire.uri("a"), head_size=size))
            reply = peer.receive()
            assert (reply.type, reply.id, reply.status) == (wire.NOTICE, 0, wire.BAD_REQUEST) and reply.text
            peer.expect_closed()


def test_truncated_head(daemon):
    """The end comes within a head: everything before it is answered, nothing else."""
    whole = wire.frame(wire.STAT, 8, wire.uri("absent"))
    for cut in (1, 4, 31, 32, len(whole) - 1):
        with common.Unchanged(daemon), wire.Peer(daemon.reader) as peer:
            peer.send(whole, whole[:cut])
            peer.socket.shutdown(socket.SHUT_WR)
            assert peer.receive().status == wire.ABSENT
            peer.expect_closed()


def test_byte_by_byte(daemon):
    with wire.Peer(daemon.publisher, greet=False) as peer:
        for byte in wire.hello() + wire.frame(wire.PUT, 2, wire.uri("bytes"), body_size=3) + b"abc" \
                + wire.frame(wire.GET, 3, wire.uri("bytes")):
            peer.send(bytes([byte]))
        assert peer.receive().type == wire.HELLO | wire.REPLY
        replies = {reply.id: reply for reply in (peer.receive(), peer.receive())}
        assert replies[2].status == wire.OK and replies[3].status in (wire.OK, wire.ABSENT)
        peer.ask(wire.REMOVE, wire.uri("bytes"))


def test_fields_that_lie(daemon):
    name = wire.uri("a")
    with wire.Peer(daemon.reader) as peer:
        for size in (0, 5, 100, 2**31, 2**32 - 1):
            field = struct.pack("<HHI", wire.TAG_URI | wire.MUST, 0, size) + b"abc"
            if size == 0:
                field = wire.uri("")
            refused(peer, wire.BAD_REQUEST, wire.GET, field)
        refused(peer, wire.BAD_REQUEST, wire.GET)
        refused(peer, wire.BAD_REQUEST, wire.GET, name, name)
        refused(peer, wire.BAD_REQUEST, wire.GET, name + b"123")
        refused(peer, wire.BAD_REQUEST, wire.GET, name, wire.prefix("a"))
        refused(peer, wire.BAD_REQUEST, wire.GET, name, wire.field(wire.TAG_RANGE, b"short"))
        refused(peer, wire.BAD_REQUEST, wire.LIST, wire.prefix("x" * 4097))


def test_uris(daemon):
    with wire.Peer(daemon.publisher) as peer:
        for name in (b"", b"x" * 5000, b"x" * 4097, b"a\0b", b"\0"):
            for type_ in (wire.GET, wire.STAT, wire.REMOVE, wire.PUT):
                refused(peer, wire.BAD_REQUEST, type_, wire.uri(name))
        for name in (b"x", b"x" * 4096, b"../../etc/passwd", b"/", b"\xff\xfe", b" ", b"\n"):
            peer.put(name, name[:10])
            assert peer.get(name) == name[:10]
            assert peer.ask(wire.REMOVE, wire.uri(name)).status == wire.OK


def test_metadata(daemon):
    with wire.Peer(daemon.publisher) as peer:
        for block in (b"x", struct.pack("<HI", 0, 0), struct.pack("<HI", 1, 9) + b"a",
                      struct.pack("<HI", 256, 0) + b"k" * 256, wire.metadata((b"k", bytes(32768)))[8:]):
            refused(peer, wire.BAD_REQUEST, wire.PUT, wire.uri("m"), wire.field(wire.TAG_METADATA, block))
        largest = wire.metadata((b"k", bytes(32768 - 7)))
        peer.put("m", b"", largest)
        assert peer.ask(wire.STAT, wire.uri("m")).fields[wire.TAG_METADATA] == largest[8:]
        peer.ask(wire.REMOVE, wire.uri("m"))


def test_unknown_things(daemon):
    """What a later version may send: refused or ignored, and the session goes on."""
    name = wire.uri("absent")
    with wire.Peer(daemon.reader) as peer:
        for type_ in (14, 99, 0x7FFF):
            refused(peer, wire.UNSUPPORTED, type_)
            refused(peer, wire.UNSUPPORTED, type_, name, body=bytes_of(300000))
        for flag in (1, 2, 4, 8):
            refused(peer, wire.UNSUPPORTED, wire.GET, name, flags=flag)
        assert peer.ask(wire.GET, name, flags=0xF0).status == wire.ABSENT
        refused(peer, wire.UNSUPPORTED, wire.GET, name, mode=9)
        refused(peer, wire.UNSUPPORTED, wire.GET, name, wire.field(99, b"later"))
        assert peer.ask(wire.GET, name, wire.field(99, b"later", must=False)).status == wire.ABSENT
    with wire.Peer(daemon.reader, mode=9, greet=False) as peer:
        peer.send(wire.hello(mode=9))
        assert peer.receive().status == wire.UNSUPPORTED


def test_contradictions(daemon):
    name = wire.uri("a")
    with wire.Peer(daemon.publisher) as peer:
        refused(peer, wire.BAD_REQUEST, wire.GET, name, body=b"a body")
        refused(peer, wire.BAD_REQUEST, wire.STATS, body=bytes_of(100000))
        refused(peer, wire.BAD_REQUEST, wire.PUT, name, wire.field(wire.TAG_IF_ABSENT),
                wire.u64(wire.TAG_IF_GENERATION, 1), body=b"b")
        refused(peer, wire.BAD_REQUEST, wire.PUT, name, flags=wire.FLAG_STREAM, body=b"b")
        refused(peer, wire.BAD_REQUEST, wire.STAT, name, mode=wire.OP_COPY)
        assert peer.ask(wire.STAT, name, status=5).status == wire.BAD_REQUEST
        refused(peer, wire.BAD_REQUEST, wire.STAT, name, fd_count=1)
        # Id 0 belongs to the server, and replies come from it.
        peer.send(wire.frame(wire.STAT, 0, name))
        assert peer.receive().status == wire.BAD_REQUEST
        peer.send(wire.frame(wire.GET | wire.REPLY, 7))
        assert peer.receive().status == wire.BAD_REQUEST
        assert peer.is_alive()


def test_changes_on_the_readers_socket(daemon):
    with wire.Peer(daemon.publisher) as peer:
        peer.put("denied", b"stays")
    with common.Unchanged(daemon), wire.Peer(daemon.reader) as peer:
        for type_, fields in CHANGES.items():
            refused(peer, wire.NOT_PERMITTED, type_, *fields,
                    body=bytes_of(100000) if type_ in (wire.PUT, wire.DATA) else b"")
        # A stream is refused once, early; what belongs to it is skipped.
        id_ = peer.new_id()
        peer.send(wire.frame(wire.PUT, id_, wire.uri("denied"), flags=wire.FLAG_STREAM),
                  wire.frame(wire.DATA, id_, body_size=5), b"12345", wire.frame(wire.END, id_))
        assert peer.receive().status == wire.NOT_PERMITTED
        assert peer.is_alive() and peer.get("denied") == b"stays"
    with wire.Peer(daemon.publisher) as peer:
        peer.ask(wire.REMOVE, wire.uri("denied"))


def test_body_that_never_ends(daemon):
    """A frame that claims 2^64-1 bytes of body is skipped for as long as the peer likes."""
    with common.Unchanged(daemon), wire.Peer(daemon.reader) as peer:
        peer.send(wire.frame(99, 5, body_size=wire.U64_MAX))
        assert peer.receive().status == wire.UNSUPPORTED
        for _ in range(20):
            peer.send(bytes_of(1 << 20))
        with wire.Peer(daemon.reader) as other:
            assert other.is_alive()


def send_fds(peer, data, fds):
    """Sends descriptors; a kernel that knows SO_PASSRIGHTS refuses that at the sender already."""
    try:
        peer.send_with_fds(data, fds)
    except PermissionError:
        peer.send(data)


def test_descriptors_are_dropped(daemon):
    """253 in one message, 300 over two: never received, also on a socket that was connected to before the start."""
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        check_dropped(daemon, peer)
    with Daemon(start=False) as early_daemon, wire.Peer(early_daemon.publisher, greet=False) as peer:
        early_daemon.start()
        peer.send(wire.hello())
        assert peer.receive().status == wire.OK
        check_dropped(early_daemon, peer)


def check_dropped(daemon, peer):
    stat = wire.frame(wire.STAT, 100, wire.uri("absent"))
    read_end, write_end = os.pipe()
    pipe = os.readlink(f"/proc/self/fd/{write_end}")
    for counts in ((253,), (150, 150), (1,)):
        for i, count in enumerate(counts):
            half = len(stat) // len(counts)
            part = stat[i * half:] if i == len(counts) - 1 else stat[i * half:(i + 1) * half]
            send_fds(peer, part, [write_end] * count)
        assert peer.receive().status == wire.ABSENT
        assert pipe not in daemon.open_files()
    os.close(write_end)
    # Nobody holds the pipe's end any more: it is not in the daemon.
    assert os.read(read_end, 1) == b""
    os.close(read_end)
    assert peer.is_alive()


def daemons():
    """As the kernel lets it be, and as one before Linux 6.16 does."""
    yield Daemon(start=False)
    yield Daemon(start=False, command=(str(build_path("tests/integration/before-passrights")),))


def test_queued_descriptors(_):
    """Many messages, each with descriptors, which end a read: nothing that is behind them is left unread."""
    read_end, write_end = os.pipe()
    for daemon in daemons():
        with daemon, wire.Peer(daemon.publisher, greet=False) as early:
            early.send_with_fds(wire.hello(depth=32), [write_end])
            for i in range(20):
                early.send_with_fds(wire.frame(wire.STAT, 100 + i, wire.uri("absent")), [write_end])
            daemon.start()
            assert early.receive().status == wire.OK
            for i in range(20):
                assert early.receive().status == wire.ABSENT
            with wire.Peer(daemon.publisher, depth=32) as late:
                for peer in (early, late):
                    for _ in range(5):
                        for i in range(20):
                            send_fds(peer, wire.frame(wire.STAT, 200 + i, wire.uri("absent")), [write_end])
                        for i in range(20):
                            assert peer.receive().status == wire.ABSENT
    os.close(read_end)
    os.close(write_end)


def check_all_read(daemon, send):
    """Three requests come while the daemon can't look, each sent by send(peer, i, request): all are answered."""
    with wire.Peer(daemon.publisher, depth=32) as peer:
        assert peer.is_alive()
        daemon.pause()
        for i in range(3):
            send(peer, i, wire.frame(wire.STAT, 100 + i, wire.uri("absent")))
        daemon.resume()
        for _ in range(3):
            assert peer.receive().status == wire.ABSENT


def test_out_of_band(_):
    """What is in the stream without being of it ends a read, and keeps nothing behind it."""
    def send(peer, i, request):
        peer.send(request)
        if i == 0:  # one after it would make it one of the stream's
            peer.socket.send(b"!", socket.MSG_OOB)

    for daemon in daemons():
        with daemon:
            daemon.start()
            for _ in range(10):
                check_all_read(daemon, send)


def test_credentials(_):
    """Who inherits a socket writes to it as well: where messages tell who sent them, each is read by itself."""
    def send(peer, i, request):
        fd = peer.socket.fileno()
        if i % 2 == 0:
            peer.send(request)
        else:
            subprocess.run([sys.executable, "-c", f"import os; os.write({fd}, {request!r})"], check=True, pass_fds=[fd])

    for daemon in daemons():
        with daemon:
            # As PassCredentials= of a socket's unit does it.
            for fd in daemon.listeners:
                with socket.socket(fileno=os.dup(fd)) as listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            daemon.start()
            check_all_read(daemon, send)


def test_last_words(_):
    """Requests that the end of the stream is behind, together or a moment later: the daemon finds both."""
    for daemon in daemons():
        with daemon:
            daemon.start()
            with common.Unchanged(daemon):
                for i in range(60):
                    with wire.Peer(daemon.publisher, depth=32) as peer:
                        if i % 2:
                            assert peer.is_alive()  # something was read before
                        peer.send(*(wire.frame(wire.STAT, 100 + k, wire.uri("absent")) for k in range(3)))
                        if i % 3 == 0:
                            time.sleep(0.001)
                        if i % 4 == 0:
                            continue
                        peer.socket.shutdown(socket.SHUT_WR)
                        for _ in range(3):
                            assert peer.receive().status == wire.ABSENT
                        peer.expect_closed()


def main():
    with Daemon() as daemon:
        tap.run(globals(), daemon, on_failure=daemon.log)


if __name__ == "__main__":
    main()
