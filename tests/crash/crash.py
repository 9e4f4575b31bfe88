#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL at random moments, under load: what was acknowledged is there afterwards, and nothing else.

usage: crash.py ROUNDS [SECONDS [cache|evict]]    at most so many rounds, for about so long; with copies of what is
                                                  hot; with two writers whose objects are evicted all the time

CRASH_SEED= and CRASH_ROUNDS= replay: see rounds.py."""

import sys

import model  # finds the rest
import tap
from daemon import Daemon
from rounds import Run


NAMESPACES = """
[Namespace bytes]
Prefix=crash/1/
MaxBytes=300K
[Namespace objects]
Prefix=crash/2/
MaxObjects=25
Policy=lru
"""


def test_crash():
    with Daemon(start=False) as daemon:
        has_cache = "cache" in sys.argv
        if has_cache:  # hardly any room
            cache = daemon.base / "cache"
            cache.mkdir()
            daemon.configure(f"[Store]\nCachePath={cache}\nCachePathSize=1M")
        if "evict" in sys.argv:  # of the third writer's nothing may ever be lost
            daemon.configure(NAMESPACES)
            model.EVICTABLE.update({1, 2})
        daemon.start()
        run = Run(daemon)
        run.all(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))
        assert bool(run.fast_hits) == has_cache
        assert bool(run.evictions) == bool(model.EVICTABLE)


if __name__ == "__main__":
    tap.run(globals())
