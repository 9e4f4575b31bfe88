#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts at random moments, under load: what was acknowledged is there afterwards, and nothing else.

usage: power.py ROUNDS [SECONDS]    on each kind of file system: at most so many rounds, for about so long

The store's file system loses all that it has not written down (the shutdown that file systems offer to their own
tests), the daemon is killed, the file system mounted again.

POWER_KIND=, POWER_SEED= and POWER_ROUNDS= replay: see rounds.py."""

import os
import sys
import time

import model  # noqa: F401  pylint: disable=unused-import; finds the rest
import disk
import tap
from daemon import Daemon
from rounds import Run

DARK_SECONDS = 0.05  # at most, until the daemon ends too


class PowerRun(Run):
    """The store is on a disk of its own."""

    def __init__(self, daemon, disk_):
        super().__init__(daemon, "POWER", f"power cuts on {disk_.kind}")
        self.disk = disk_

    def strike(self, choice):
        self.shared.dark[0] = 1
        self.disk.cut_power()
        time.sleep(choice.random() * DARK_SECONDS)
        self.daemon.kill()

    def mend(self):
        self.crew.tell("release")
        self.crew.hear("done")
        self.disk.unmount()
        self.disk.mount()
        self.shared.dark[0] = 0

    def compare(self):
        super().compare()
        self.compare_files()


def cut(kind):
    disk.need()
    if os.environ.get("POWER_KIND", kind) != kind:
        return
    with disk.Disk(kind) as disk_, Daemon(start=False) as daemon:
        daemon.store = disk_.path / "store"
        daemon.configure("")
        daemon.start()
        PowerRun(daemon, disk_).all(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))


def test_ext4():
    cut("ext4")


def test_xfs():
    cut("xfs")


if __name__ == "__main__":
    tap.run(globals())
