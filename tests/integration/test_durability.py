# SPDX-License-Identifier: LGPL-2.1-or-later
"""Durable and visible puts: when each is answered, and who says which it is."""

import os
import re
import signal
import sys

import common
import tap
import wire
from common import bytes_of
from daemon import Daemon, need_tracing

VISIBLE_BY_DEFAULT = "[Store]\nDurability=visible"
SIZES = {"inline": 1000, "file": 100000}


def visible_puts(daemon):
    return common.stats(daemon)["puts_visible"]


class Calls:
    """What the daemon asked the kernel for around one put, in order: (seconds, call and its arguments)."""

    def __init__(self, size, flags):
        with Daemon(start=False) as daemon:
            trace = daemon.base / "trace"
            daemon.command = ("strace", "-D", "-f", "-ttt", "-y", "-o", trace, "-e",
                              "trace=sendmsg,sendto,fdatasync,fsync,msync,pwrite64,linkat")
            # Leaks can't be looked for under strace.
            daemon.environment = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
            daemon.start()
            with wire.Peer(daemon.publisher) as peer:
                peer.put("first", b"has the numbers reserved")
                before = common.stats(daemon)["store_changes"]
                peer.send(wire.frame(wire.PUT, 77, wire.uri("object"), flags=flags, body_size=size), bytes_of(size))
                reply = peer.receive()
                assert reply.status == wire.OK, reply
                common.wait_until(lambda: common.stats(daemon)["store_changes"] > before, "the commit")
            daemon.stop()
            self.store = daemon.store
            self.calls = []
            for line in trace.read_text(errors="replace").splitlines():
                match = re.match(r"\d+ +(\d+\.\d+) (.*)", line)
                if match and "resumed" not in match[2]:
                    self.calls.append((float(match[1]), match[2]))
        # The reply's head has the put's id.
        self.reply = self.find(r"send(?:msg|to)\(.*\\0\\4\\200.*M\\0\\0\\0\\0\\0\\0\\0")

    def find(self, pattern, begin=0):
        """The index of the first call from begin on that matches."""
        for i in range(begin, len(self.calls)):
            if re.match(pattern, self.calls[i][1]):
                return i
        raise AssertionError(f"no {pattern} among\n" + "\n".join(call for _, call in self.calls[begin:]))

    def syncs(self, name):
        """Where the put's blob, its folder and the dictionary are synced: indices, in that order."""
        found = []
        if name == "file":
            link = self.find(r"linkat\(.*/blobs/")
            blob = [i for i, (_, call) in enumerate(self.calls)
                    if re.match(rf"fdatasync\(\d+<{self.store}/blobs/", call)]
            assert len(blob) == 1, blob
            found += [blob[0], self.find(rf"fsync\(\d+<{self.store}/blobs/\w+>", link)]
            assert link < found[1]
        begin = found[-1] if found else self.find(r"fdatasync\(\d+<.*/data\.mdb>", self.first_reply())
        found.append(self.find(r"fdatasync\(\d+<.*/data\.mdb>", begin))
        # What makes a transaction count: the write of its page to a descriptor that syncs.
        found.append(self.find(r"pwrite64\(\d+<.*/data\.mdb>", found[-1]))
        return found

    def first_reply(self):
        """Where the reply to the put before was sent."""
        return self.find(r"send(?:msg|to)\(.*\\0\\4\\200")


def test_durable_is_answered_after_the_disk():
    need_tracing()
    for name, size in SIZES.items():
        calls = Calls(size, wire.FLAG_DURABLE)
        syncs = calls.syncs(name)
        assert syncs == sorted(syncs) and syncs[-1] < calls.reply, (syncs, calls.reply)


def test_visible_is_answered_before_the_disk():
    need_tracing()
    for name, size in SIZES.items():
        # On a busy machine the disk may be asked while the reply is on its way.
        for _ in range(20):
            calls = Calls(size, wire.FLAG_VISIBLE)
            syncs = calls.syncs(name)
            assert syncs == sorted(syncs)
            if calls.reply < syncs[0]:
                break
        else:
            raise AssertionError((syncs, calls.calls))
        # Begun; how long it takes is the disk's affair.
        assert calls.calls[syncs[0]][0] - calls.calls[calls.reply][0] < 1, calls.calls


def test_flags():
    with Daemon() as daemon, wire.Peer(daemon.publisher) as peer:
        for size in SIZES.values():
            before = visible_puts(daemon)
            peer.put("silent", bytes_of(size))
            reply = peer.ask(wire.PUT, wire.uri("durable"), body=bytes_of(size), flags=wire.FLAG_DURABLE)
            assert reply.status == wire.OK
            assert visible_puts(daemon) == before
            reply = peer.ask(wire.PUT, wire.uri("visible"), body=bytes_of(size), flags=wire.FLAG_VISIBLE)
            assert reply.status == wire.OK
            assert visible_puts(daemon) == before + 1
            assert peer.get("visible") == bytes_of(size)

            peer.send(wire.frame(wire.PUT, 99, wire.uri("stream"), flags=wire.FLAG_STREAM | wire.FLAG_VISIBLE),
                      wire.frame(wire.DATA, 99, body_size=size), bytes_of(size), wire.frame(wire.END, 99))
            assert peer.receive().status == wire.OK and visible_puts(daemon) == before + 2
            assert peer.get("stream") == bytes_of(size)

        reply = peer.ask(wire.PUT, wire.uri("both"), body=b"x", flags=wire.FLAG_DURABLE | wire.FLAG_VISIBLE)
        assert reply.status == wire.BAD_REQUEST and "exclude" in reply.text
        # In other frames they say nothing.
        assert peer.ask(wire.STAT, wire.uri("stream"), flags=wire.FLAG_DURABLE | wire.FLAG_VISIBLE).status == wire.OK


def test_configured_and_reloaded():
    with Daemon(settings=VISIBLE_BY_DEFAULT) as daemon, wire.Peer(daemon.publisher) as peer:
        peer.put("a", b"1")
        assert visible_puts(daemon) == 1
        assert peer.ask(wire.PUT, wire.uri("a"), body=b"2", flags=wire.FLAG_DURABLE).status == wire.OK
        assert visible_puts(daemon) == 1

        daemon.configure("")
        daemon.process.send_signal(signal.SIGHUP)
        common.wait_until(lambda: "was reloaded" in daemon.log(), "the reload")
        peer.put("a", b"3")  # in the session that was there
        assert visible_puts(daemon) == 1
        assert common.stats(daemon)["puts_lost"] == 0


def test_tool():
    with Daemon() as daemon:
        tree = daemon.base / "tree"
        tree.mkdir()
        for i in range(3):
            (tree / str(i)).write_bytes(os.urandom(3000))
        archive = daemon.base / "archive"
        daemon.ctl("put", "a", tree / "0")
        daemon.ctl("put", "a", tree / "0", "--durable")
        assert visible_puts(daemon) == 0
        daemon.ctl("put", "--visible", "a", tree / "0")
        assert visible_puts(daemon) == 1
        daemon.ctl("put", "--visible", "--recursive", tree, "tree/")
        assert visible_puts(daemon) == 4
        common.wait_until(lambda: common.stats(daemon)["store_objects"] == 4, "the commit")
        daemon.ctl("export", "-o", archive)
        daemon.ctl("import", "--visible", archive)
        assert visible_puts(daemon) == 8


def test_a_stop_loses_nothing():
    with Daemon() as daemon:
        with wire.Peer(daemon.publisher) as peer:
            for i in range(200):
                peer.ask(wire.PUT, wire.uri(f"{i}"), body=bytes_of(i * 50), flags=wire.FLAG_VISIBLE)
        daemon.restart()
        with wire.Peer(daemon.reader) as peer:
            for i in range(200):
                assert peer.get(f"{i}") == bytes_of(i * 50)


if __name__ == "__main__":
    sys.exit(tap.run(globals()))
