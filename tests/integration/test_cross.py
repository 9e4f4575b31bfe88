# SPDX-License-Identifier: LGPL-2.1-or-later
"""The library on machines of another word size or byte order, against this machine's daemon."""

import tempfile

import common  # noqa: F401  pylint: disable=unused-import
import cross
import tap
from daemon import Daemon


def run_client(kind):
    try:
        target = cross.Target(kind)
    except cross.Unavailable as reason:
        raise tap.Skip(str(reason)) from None
    with tempfile.TemporaryDirectory() as folder, Daemon() as daemon:
        program = f"{folder}/cross-client"
        target.build(program, "tests/integration/cross-client.c", ["protocol", "fdpass", "client"])
        target.run(program, daemon.reader, daemon.publisher, check=True, timeout=120)


def test_32bit():
    run_client("32bit")


def test_big_endian():
    run_client("big-endian")


if __name__ == "__main__":
    tap.run(globals())
