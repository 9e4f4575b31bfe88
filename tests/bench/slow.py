#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""slow.py COUNT [WINDOWS]: what a hundred sessions' hot gets feel of others who wait for a disk.

 - clients that read a body of 256 MiB, as a copy and by splice, from a disk that gives 100 MiB a second;
 - a client whose gets miss, in a store of COUNT objects whose dictionary is not in the page cache.

OBJMAPPER_BUILD names the build directory."""

import random
import sys

import scale  # finds the next ones
import tap
import wire
from daemon import Daemon, build_path

scale.SESSIONS = 100
scale.INTERVAL_USEC = 100000
COLD_SIZE = 256 << 20


def read_piece(peers, name, mode):
    """Goes on reading the body: some of it, so that the work can end."""
    peer = peers.get(mode)
    if not peer:
        peer = peers[mode] = wire.Peer(peers["path"], mode=mode)
        peer.left = 0
    if peer.left == 0:
        peer.send(wire.frame(wire.GET, peer.new_id(), wire.uri(name)))
        peer.left = COLD_SIZE
        peer.is_head = True
    n = len(peer.socket.recv(1 << 18))
    if peer.is_head:
        n -= min(n, 200)  # about what the head takes: the end is not waited for
        peer.is_head = False
    peer.left = peer.left - n if peer.left - n > 1 << 19 else 0
    if peer.left == 0:
        peers.pop(mode).close()
    return n


def test_cold_body(count):
    environment = {"LD_PRELOAD": str(build_path("tests/bench/libslow-disk.so")), "SLOW_DISK_RATE": str(100 << 20)}
    with Daemon(settings="[Store]\nCacheSize=64M", environment=environment, start=False) as daemon:
        scale.fill(daemon, "kept/", scale.KEPT, "-m", "4000", "-f", "1")
        daemon.start()
        with wire.Peer(daemon.publisher) as peer:
            peer.put("cold", bytes(COLD_SIZE))
        scale.gets(daemon, "kept/", scale.KEPT, 3000)
        for name, mode in (("copies", wire.OP_COPY), ("splices", wire.OP_SPLICE)):
            peers = {"path": daemon.reader}
            n = scale.compare(daemon, f"{name} of a cold body", lambda: read_piece(peers, "cold", mode))
            assert sum(n) > 1 << 20, sum(n)
            if mode in peers:
                peers[mode].close()
    print(f"# ({count} objects are for the next)")


def test_cold_dictionary(count):
    with Daemon(settings="[Store]\nCacheSize=64M", start=False) as daemon:
        scale.fill(daemon, "fill/", count, "-m", "800", "-f", "5")
        scale.fill(daemon, "kept/", scale.KEPT, "-m", "4000", "-f", "1")
        scale.forget_pages(daemon)
        daemon.start()
        scale.gets(daemon, "kept/", scale.KEPT, 3000)
        before = scale.common.stats(daemon)["lookups_submitted"]
        with wire.Peer(daemon.reader, mode=wire.OP_COPY) as peer:

            def miss():
                ids = [peer.new_id() for _ in range(16)]
                peer.send(*(wire.frame(wire.STAT, id_, wire.uri(f"fill/{random.randrange(count):010}"))
                            for id_ in ids))
                return sum(peer.receive().status == wire.OK for _ in ids)

            found = sum(scale.compare(daemon, "misses in a cold dictionary", miss))
        stats = scale.common.stats(daemon)
        print(f"# {found} objects found beside them, {stats['lookups_submitted'] - before} lookups by jobs")
        assert found > 0 and stats["lookups_submitted"] > before


if __name__ == "__main__":
    tap.run(globals(), int(sys.argv[1]))
