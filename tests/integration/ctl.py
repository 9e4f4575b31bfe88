# SPDX-License-Identifier: LGPL-2.1-or-later
"""objmapperctl, as the tests of this suite run it."""

import contextlib
import os
import pathlib
import pty
import select
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import daemon as daemon_lib  # noqa: E402  pylint: disable=wrong-import-position

CTL = daemon_lib.build_path("src/ctl/objmapperctl")
DONE, FAILED, USAGE, ABSENT, CONFLICT, NOT_PERMITTED, NO_DAEMON, NO_ROOM, UNKNOWN, BUSY = range(10)


def run(*arguments, **kwargs):
    """objmapperctl without a daemon of the test's."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([CTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          timeout=daemon_lib.DEADLINE_SECONDS, **kwargs)


def fails(result, status, *words):
    """The exit status is this one, and standard error has the words, after the program's name."""
    text = result.stderr.decode(errors="replace")
    assert result.returncode == status, f"exit status {result.returncode}, not {status}: {text}"
    assert all(line.startswith("objmapperctl: ") for line in text.splitlines()), text
    for word in words:
        assert word in text, f"no {word!r} in: {text}"


def on_terminal(command, stdout=None, **kwargs):
    """Runs a command whose standard error is a terminal, and standard output too unless it is given: exit status and
    what was shown."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave if stdout is None else stdout, stderr=slave,
                               **kwargs)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while select.select([master], [], [], daemon_lib.DEADLINE_SECONDS)[0]:
            data = os.read(master, 65536)
            if not data:
                break
            shown += data
    os.close(master)
    return process.wait(daemon_lib.DEADLINE_SECONDS), shown


def sockets(daemon):
    """The options that say which daemon."""
    return [f"--socket={daemon.reader}", f"--publish-socket={daemon.publisher}"]
