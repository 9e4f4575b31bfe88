#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL at random moments, under load: what was acknowledged is there afterwards, and nothing else.

usage: crash.py ROUNDS [SECONDS]    at most so many rounds, for about so long

CRASH_SEED= and CRASH_ROUNDS= replay: see rounds.py."""

import sys

import model  # noqa: F401  pylint: disable=unused-import; finds the rest
import tap
from daemon import Daemon
from rounds import Run


def test_crash():
    with Daemon() as daemon:
        Run(daemon).all(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))


if __name__ == "__main__":
    tap.run(globals())
