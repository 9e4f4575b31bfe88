# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of this suite have in common."""

import array
import fcntl
import functools
import os
import pathlib
import sys
import termios
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import wire  # noqa: E402  pylint: disable=wrong-import-position

DEADLINE_SECONDS = 60


def wait_until(condition, what, seconds=DEADLINE_SECONDS):
    """Polls condition() until it is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"in {seconds} s not seen: {what}")
        time.sleep(0.01)


@functools.cache
def block_of(seed):
    return bytes((i * 7 + i // 256 * 13 + seed * 31) % 256 for i in range(65521))


def bytes_of(size, seed=1):
    """size bytes that differ from place to place and from seed to seed, the same at each call."""
    block = block_of(seed % 256)
    return (block * (size // len(block) + 1))[:size]


def readable(socket_):
    """How many bytes can be read from a socket at once."""
    return array.array("i", fcntl.ioctl(socket_, termios.FIONREAD, bytes(4)))[0]


def stats(daemon):
    """The daemon's counters."""
    with wire.Peer(daemon.reader) as peer:
        return wire.counters(peer.ask(wire.STATS).body)


def blob_files(daemon):
    """How many files there are for bodies, complete or under way, named or not."""
    named = sum(len(files) for folder in ("blobs", "staging") for _, _, files in os.walk(daemon.store / folder))
    unnamed = sum(file.startswith(str(daemon.store)) and file.endswith(" (deleted)") for file in daemon.open_files())
    return named + unnamed


class Unchanged:
    """with Unchanged(daemon): … fails when descriptors or files for bodies are left over at the end.

    No session may be open before; what is put in between is to be removed in between."""

    def __init__(self, daemon):
        self.daemon = daemon

    def __enter__(self):
        wait_until(lambda: stats(self.daemon)["sessions"] == 1, "earlier sessions closed")
        self.before = self.state()
        return self

    def state(self):
        return {"descriptors": self.daemon.fds(), "files for bodies": blob_files(self.daemon)}

    def __exit__(self, error, *_):
        if error:
            return
        try:
            # Fewer, when the session that asked for the counters was just being closed.
            wait_until(lambda: all(n <= self.before[what] for what, n in self.state().items()),
                       "everything given back")
        except AssertionError as failure:
            raise AssertionError(f"before: {self.before}, after: {self.state()}") from failure
