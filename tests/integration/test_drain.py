# SPDX-License-Identifier: LGPL-2.1-or-later
"""The end of a daemon: what was begun is answered, nothing else is begun, every client is told."""

import os
import signal
import threading

import common
import tap
import wire
from common import bytes_of
from daemon import Daemon


def drain(peer):
    """Replies by id until the end, and whether both notices came, the second as the last thing."""
    replies, notices = {}, []
    while True:
        try:
            reply = peer.receive()
        except (wire.Closed, ConnectionResetError):
            return replies, notices == [wire.DRAINING, wire.DRAINED]
        if reply.type == wire.NOTICE:
            assert reply.id == 0
            notices.append(reply.status)
        else:
            assert wire.DRAINED not in notices
            reply.close()
            replies[reply.id] = reply


def test_idle_sessions_are_told():
    with Daemon() as daemon:
        peers = [wire.Peer(daemon.reader) for _ in range(20)]
        silent = wire.Peer(daemon.reader, greet=False)
        daemon.stop()
        for peer in (*peers, silent):
            assert drain(peer) == ({}, True)
            peer.close()


def test_what_was_begun_is_answered():
    """Puts under way are finished and there after the restart; a large body goes to its end."""
    with Daemon() as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("large", bytes_of(20 << 20))
        reading = {mode: wire.Peer(daemon.reader, mode=mode) for mode in (wire.OP_COPY, wire.OP_SPLICE)}
        for peer in reading.values():
            peer.send(wire.frame(wire.GET, 50, wire.uri("large")))
        putting = wire.Peer(daemon.publisher)
        for id_ in range(100, 150):
            putting.send(wire.frame(wire.PUT, id_, wire.uri(f"begun/{id_}"), body_size=10000), bytes_of(10000, id_))
        for mode in reading:
            common.wait_until(lambda: common.stats(daemon)["replies_" + ("copy", "splice")[mode - 2]] > 0, "begun")
        daemon.process.send_signal(signal.SIGTERM)
        for peer in reading.values():
            replies, noticed = drain(peer)
            assert noticed and replies[50].body == bytes_of(20 << 20)
        replies, noticed = drain(putting)
        assert noticed
        daemon.stop()
        daemon.start()
        with wire.Peer(daemon.reader) as peer:
            # The promise: answered means done, and unanswered, after the notice, means not done.
            for id_ in range(100, 150):
                reply = peer.ask(wire.GET, wire.uri(f"begun/{id_}"), mode=wire.OP_COPY)
                if id_ in replies:
                    assert reply.body == bytes_of(10000, id_)
                else:
                    assert reply.status == wire.ABSENT
        for peer in (*reading.values(), putting):
            peer.close()


def test_half_a_put():
    """A stream that did not end, and a body that is not whole, were never begun."""
    with Daemon() as daemon:
        stream, inline = wire.Peer(daemon.publisher), wire.Peer(daemon.publisher)
        stream.send(wire.frame(wire.PUT, 9, wire.uri("stream"), flags=wire.FLAG_STREAM),
                    wire.frame(wire.DATA, 9, body_size=600000), bytes_of(600000))
        inline.send(wire.frame(wire.PUT, 9, wire.uri("inline"), body_size=600000), bytes_of(599999))
        common.wait_until(lambda: common.stats(daemon)["bytes_received"] > 1199000, "received")
        daemon.process.send_signal(signal.SIGTERM)
        assert drain(stream) == ({}, True) and drain(inline) == ({}, True)
        daemon.stop()
        daemon.start()
        with wire.Peer(daemon.reader) as peer:
            assert peer.ask(wire.LIST, wire.prefix("")).count == 0
            assert common.blob_files(daemon) == 0
        stream.close()
        inline.close()


def test_under_load():
    """Clients that keep asking while it ends: each reply is right, each client is told or finds it closed."""
    with Daemon() as daemon:
        with wire.Peer(daemon.publisher) as peer:
            for i in range(10):
                peer.put(f"load/{i}", bytes_of(3000 * i, i))
        failures, done = [], []

        def ask_on(number):
            try:
                with wire.Peer(daemon.reader, mode=number % 4 + 1) as peer:
                    asked = 0
                    while True:
                        peer.send(*(wire.frame(wire.GET, 100 + i, wire.uri(f"load/{i}")) for i in range(10)))
                        for _ in range(10):
                            reply = peer.receive()
                            if reply.type == wire.NOTICE:
                                return
                            i = reply.id - 100
                            assert reply.content() == bytes_of(3000 * i, i)
                            reply.close()
                            asked += 1
                            if asked == 100:
                                done.append(number)
            except (BrokenPipeError, ConnectionResetError, wire.Closed):
                pass
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=ask_on, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        common.wait_until(lambda: len(done) == len(threads) or failures, "all are under way")
        daemon.stop()
        for thread in threads:
            thread.join(common.DEADLINE_SECONDS)
            assert not thread.is_alive()
        assert not failures, failures


def test_client_that_takes_nothing():
    """It does not keep the daemon from ending."""
    with Daemon(settings="WriteTimeoutSec=1s") as daemon:
        with wire.Peer(daemon.publisher) as peer:
            peer.put("large", bytes_of(20 << 20))
        peer = wire.Peer(daemon.reader, mode=wire.OP_COPY)
        peer.send(wire.frame(wire.GET, 50, wire.uri("large")))
        common.wait_until(lambda: common.stats(daemon)["replies_copy"] > 0, "begun")
        daemon.stop()
        peer.close()


def test_killed():
    """SIGKILL: what was answered is there."""
    with Daemon() as daemon:
        with wire.Peer(daemon.publisher) as peer:
            for i in range(20):
                peer.put(f"kept/{i}", bytes_of(i * 1000, i))
            peer.send(wire.frame(wire.PUT, 999, wire.uri("cut"), body_size=1000000), bytes_of(500000))
            os.kill(daemon.process.pid, signal.SIGKILL)
            daemon.kill()
        daemon.start()
        with wire.Peer(daemon.reader) as peer:
            for i in range(20):
                assert peer.get(f"kept/{i}", mode=wire.OP_COPY) == bytes_of(i * 1000, i)
            assert peer.ask(wire.LIST, wire.prefix("")).count == 20


def main():
    tap.run(globals())


if __name__ == "__main__":
    main()
