#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""slow.py COUNT [WINDOWS]: what a hundred sessions' hot gets feel of others who wait for a disk.

 - a client that reads a body of 256 MiB, as copies and by splice, from a disk that gives 100 MiB a second: a file
   system of its own, slowed down by a control group. The same from memory, as fast, tells what is the disk's part;
 - a client whose gets miss, in a store of COUNT objects whose dictionary is not in the page cache.

OBJMAPPER_BUILD names the build directory."""

import os
import random
import subprocess
import sys

import scale  # finds the next ones
import disk
import tap
import wire
from daemon import Daemon, build_path

scale.SESSIONS = 100
scale.INTERVAL_USEC = 100000
BODY_SIZE = 256 << 20
DISK_RATE = 100 << 20


def read_body(daemon, mode):
    """Somewhat longer than the gets are measured."""
    return int(subprocess.run([build_path("tests/bench/read-body"), daemon.reader, "body", mode, str(DISK_RATE),
                               str(scale.WINDOW_MSEC + 150)], check=True, stdout=subprocess.PIPE, text=True).stdout)


def compare(daemon, mode, fd, cold):
    def work():
        if cold:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return read_body(daemon, mode)

    def windows():
        return scale.common.stats(daemon)["windows_read"]

    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if not cold:
        while os.read(fd, 1 << 20):
            pass
        os.lseek(fd, 0, os.SEEK_SET)
    before = windows()
    sizes = scale.compare(daemon, f"{mode} of a {'cold' if cold else 'warm'} body", work)
    print(f"# {sum(sizes) / len(sizes) / (scale.WINDOW_MSEC + 150) / 1000:.0f} MB/s of the body; "
          f"{windows() - before} windows by jobs", flush=True)
    assert min(sizes) > 1 << 20 and (not cold or windows() > before)


def compare_bodies(disk_):
    with disk.Throttle(disk_.path, DISK_RATE) as throttle, Daemon(start=False) as daemon:
        daemon.store = disk_.path / "store"
        daemon.configure_store("CacheSize=64M")
        daemon.start()
        daemon.stop()
        scale.fill(daemon, "kept/", scale.KEPT, "-m", "4000", "-f", "1")
        throttle.attach(daemon.start())
        with wire.Peer(daemon.publisher) as peer:
            peer.put("body", bytes(BODY_SIZE))
        body, = (path for path in (daemon.store / "blobs").rglob("*") if path.stat().st_size == BODY_SIZE)
        fd = os.open(body, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            scale.gets(daemon, "kept/", scale.KEPT, 3000)
            for mode in "copy", "splice":
                for cold in False, True:
                    compare(daemon, mode, fd, cold)
        finally:
            os.close(fd)


def test_cold_body(_):
    disk.need()
    with disk.Disk("ext4", mbytes=1024) as disk_:
        # No processor's time for what a disk does by itself: bytes are not to be copied below the file system too.
        disk.run("losetup", "--direct-io=on", f"/dev/{disk_.device()}")
        compare_bodies(disk_)


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
