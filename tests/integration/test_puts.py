# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts, inline and as streams: whole, too long, too short, wrong, stalled, given up, broken off."""

import common
import tap
import wire
from common import bytes_of
from daemon import Daemon

OBJECT_MAX = 8 << 20
SETTINGS = f"[Store]\nMaxObjectSize={OBJECT_MAX}\n[Server]\nMaxStreams=3"


def stream(peer, name, *fields):
    """Opens a streamed put; its id."""
    id_ = peer.new_id()
    peer.send(wire.frame(wire.PUT, id_, wire.uri(name), *fields, flags=wire.FLAG_STREAM))
    return id_


def data(peer, id_, body):
    peer.send(wire.frame(wire.DATA, id_, body_size=len(body)), body)


def end(peer, id_, *fields):
    """Ends the stream; the reply of the put."""
    peer.send(wire.frame(wire.END, id_, *fields))
    return put_reply(peer, id_)


def put_reply(peer, id_):
    reply = peer.receive()
    assert (reply.type, reply.id) == (wire.PUT | wire.REPLY, id_), reply
    return reply


def xxh3_of(peer, body):
    """The server's own sum of a body."""
    checksum = peer.put("checksummed", body).checksum
    peer.ask(wire.REMOVE, wire.uri("checksummed"))
    return checksum


def forget(peer, *names):
    for name in names:
        peer.ask(wire.REMOVE, wire.uri(name))


def test_inline_sizes(daemon):
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        for size in (0, 1, 2000, 2001, 65536, 262143, 262144, 262145, 524288, 3000000, OBJECT_MAX):
            info = peer.put("sized", bytes_of(size, 3))
            assert info.size == size and peer.get("sized", mode=wire.OP_SPLICE) == bytes_of(size, 3)
        forget(peer, "sized")


def test_streams(daemon):
    """Pieces of all sizes, with and without the whole size."""
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        for pieces in ((), (0,), (1,), (1, 0, 1), (1000,) * 5, (262144,) * 4, (262145,) * 3, (5, 3000000, 5),
                       (100,) * 3000):
            for known in (False, True):
                body = bytes_of(sum(pieces), len(pieces))
                id_ = stream(peer, "streamed", *([wire.u64(wire.TAG_SIZE, len(body))] if known else []))
                at = 0
                for piece in pieces:
                    data(peer, id_, body[at:at + piece])
                    at += piece
                reply = end(peer, id_, wire.metadata((b"k", b"v")))
                assert reply.status == wire.OK and reply.info.size == len(body)
                got = peer.ask(wire.GET, wire.uri("streamed"), mode=wire.OP_COPY)
                assert got.body == body and got.fields[wire.TAG_METADATA] == wire.metadata((b"k", b"v"))[8:]
        forget(peer, "streamed")


def test_streams_beside_each_other(daemon):
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        ids = [stream(peer, f"beside/{i}") for i in range(3)]
        for step in range(20):
            for i, id_ in enumerate(ids):
                data(peer, id_, bytes_of(30000, i))
            assert step or peer.is_alive()
        for i, id_ in enumerate(ids):
            assert end(peer, id_).status == wire.OK
            assert peer.get(f"beside/{i}") == bytes_of(30000, i) * 20
        forget(peer, *(f"beside/{i}" for i in range(3)))


def test_too_many_streams(daemon):
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        ids = [stream(peer, f"many/{i}") for i in range(3)]
        assert put_reply(peer, stream(peer, "many/3")).status == wire.BUSY
        peer.send(wire.frame(wire.ABORT, ids[0]))
        assert put_reply(peer, ids[0]).status == wire.ABORTED
        again = stream(peer, "many/4")
        for id_ in (*ids[1:], again):
            peer.send(wire.frame(wire.ABORT, id_))
            assert put_reply(peer, id_).status == wire.ABORTED


def test_checksum(daemon):
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        for size in (0, 100, 5000, 1000000):
            body = bytes_of(size, 9)
            right = xxh3_of(peer, body)
            wrong = right ^ 1
            assert peer.ask(wire.PUT, wire.uri("sum"), wire.u64(wire.TAG_CHECKSUM, wrong),
                            body=body).status == wire.BAD_CHECKSUM
            assert peer.ask(wire.STAT, wire.uri("sum")).status == wire.ABSENT
            assert peer.put("sum", body, wire.u64(wire.TAG_CHECKSUM, right)).checksum == right
            forget(peer, "sum")
            # What END says wins over what PUT said.
            for first, last, status in ((wrong, right, wire.OK), (right, wrong, wire.BAD_CHECKSUM)):
                id_ = stream(peer, "sum", wire.u64(wire.TAG_CHECKSUM, first))
                data(peer, id_, body)
                assert end(peer, id_, wire.u64(wire.TAG_CHECKSUM, last)).status == status
                forget(peer, "sum")


def test_lies_about_the_size(daemon):
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        for size, sent in ((1000, 1001), (0, 1), (300000, 600000)):
            id_ = stream(peer, "liar", wire.u64(wire.TAG_SIZE, size))
            data(peer, id_, bytes_of(sent))
            assert put_reply(peer, id_).status == wire.BAD_REQUEST  # early
            data(peer, id_, bytes_of(100))  # skipped
            peer.send(wire.frame(wire.END, id_))  # no second reply
            assert peer.is_alive()
        for size, sent in ((1000, 999), (1, 0), (600000, 300000)):
            id_ = stream(peer, "liar", wire.u64(wire.TAG_SIZE, size))
            data(peer, id_, bytes_of(sent))
            assert end(peer, id_).status == wire.BAD_REQUEST
        assert peer.ask(wire.PUT, wire.uri("liar"), wire.u64(wire.TAG_SIZE, 4), body=b"123").status \
            == wire.BAD_REQUEST
        assert peer.ask(wire.STAT, wire.uri("liar")).status == wire.ABSENT


def test_too_large(daemon):
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        # Inline: the answer is early, the body is skipped.
        reply = peer.ask(wire.PUT, wire.uri("large"), body=bytes_of(OBJECT_MAX + 1))
        assert reply.status == wire.TOO_LARGE and peer.is_alive()
        # With the size said beforehand; the slot is held until the end.
        for finish in (wire.END, wire.ABORT):
            id_ = stream(peer, "large", wire.u64(wire.TAG_SIZE, wire.U64_MAX))
            assert put_reply(peer, id_).status == wire.TOO_LARGE
            others = [stream(peer, "other") for _ in range(2)]
            assert put_reply(peer, stream(peer, "other")).status == wire.BUSY
            for other in others:
                peer.send(wire.frame(wire.ABORT, other))
                assert put_reply(peer, other).status == wire.ABORTED
            data(peer, id_, bytes_of(1000))
            peer.send(wire.frame(finish, id_))
            assert peer.is_alive()
        # Without.
        id_ = stream(peer, "large")
        for _ in range(9):
            data(peer, id_, bytes_of(1 << 20))
        assert put_reply(peer, id_).status == wire.TOO_LARGE
        peer.send(wire.frame(wire.END, id_))
        assert peer.is_alive() and peer.ask(wire.STAT, wire.uri("large")).status == wire.ABSENT


def test_frames_without_a_stream(daemon):
    with wire.Peer(daemon.publisher) as peer:
        for type_ in (wire.DATA, wire.END, wire.ABORT):
            assert peer.ask(type_, body=b"abc" if type_ == wire.DATA else b"").status == wire.BAD_REQUEST
        id_ = stream(peer, "twice")
        peer.send(wire.frame(wire.PUT, id_, wire.uri("twice"), flags=wire.FLAG_STREAM))
        assert put_reply(peer, id_).status == wire.BAD_REQUEST
        data(peer, id_, b"whole")
        assert end(peer, id_).status == wire.OK and peer.get("twice") == b"whole"
        peer.send(wire.frame(wire.END, id_))
        reply = peer.receive()
        assert reply.type == wire.END | wire.REPLY and reply.status == wire.BAD_REQUEST


def test_abort_and_break_off(daemon):
    """Nothing of it was ever there; the old object stays."""
    before = common.stats(daemon)
    with common.Unchanged(daemon):
        with wire.Peer(daemon.publisher) as peer:
            peer.put("kept", b"old")
            for size in (0, 10, 100000, 3000000):
                id_ = stream(peer, "kept")
                data(peer, id_, bytes_of(size))
                peer.send(wire.frame(wire.ABORT, id_))
                assert put_reply(peer, id_).status == wire.ABORTED
        for size in (0, 10, 100000, 3000000):
            with wire.Peer(daemon.publisher) as peer:  # a stream, cut
                data(peer, stream(peer, "kept"), bytes_of(size))
            with wire.Peer(daemon.publisher) as peer:  # inline, cut
                peer.send(wire.frame(wire.PUT, 77, wire.uri("kept"), body_size=size + 1), bytes_of(size))
            with wire.Peer(daemon.publisher) as peer:  # within a piece
                id_ = stream(peer, "kept")
                peer.send(wire.frame(wire.DATA, id_, body_size=size + 1), bytes_of(size))
        with wire.Peer(daemon.publisher) as peer:
            assert peer.get("kept") == b"old"
            forget(peer, "kept")
    assert common.stats(daemon)["puts_aborted"] >= before["puts_aborted"] + 16


def test_stalled_stream(daemon):
    """Others are served, and what it sent is written away instead of held."""
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as stalled:
        id_ = stream(stalled, "stalled")
        data(stalled, id_, bytes_of(100000))
        stalled.send(wire.frame(wire.DATA, id_, body_size=1000), bytes_of(500, 2))
        with wire.Peer(daemon.publisher) as peer:
            peer.put("beside", b"x")
            assert peer.get("beside") == b"x"
            common.wait_until(lambda: common.blob_files(daemon) > 0, "what was received is written")
            forget(peer, "beside")
        stalled.send(bytes_of(500, 3))
        assert end(stalled, id_).status == wire.OK
        assert stalled.get("stalled") == bytes_of(100000) + bytes_of(500, 2) + bytes_of(500, 3)
        forget(stalled, "stalled")


def test_many_puts_in_flight(daemon):
    with common.Unchanged(daemon), wire.Peer(daemon.publisher) as peer:
        bodies = {peer.new_id(): bytes_of(i * 37 % 9000, i) for i in range(500)}
        # Sent by pieces while answers are taken, as a client must.
        answers = {}
        for id_, body in bodies.items():
            peer.send(wire.frame(wire.PUT, id_, wire.uri(f"flight/{id_}"), body_size=len(body)), body)
            if len(bodies) - id_ > 64 and id_ > 64:
                reply = peer.receive()
                answers[reply.id] = reply
        while len(answers) < len(bodies):
            reply = peer.receive()
            answers[reply.id] = reply
        assert all(reply.status == wire.OK for reply in answers.values())
        assert all(peer.get(f"flight/{id_}") == body for id_, body in bodies.items())
        assert peer.ask(wire.PURGE, wire.prefix("flight/")).count == 500


def main():
    with Daemon(settings=SETTINGS) as daemon:
        tap.run(globals(), daemon, on_failure=daemon.log)


if __name__ == "__main__":
    main()
