#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""objmapperctl top, in a terminal multiplexer: what an operator sees, and what is left of it."""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import tempfile
import time

import ctl
import daemon as daemon_lib
import tap
import wire

DEADLINE_SECONDS = daemon_lib.DEADLINE_SECONDS
SCREEN = "TIMES"


class Terminal:
    """A shell in a terminal of 100 columns and 32 lines."""

    def __init__(self, folder):
        self.folder = folder
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "32",
                  "env PS1=ready: HISTFILE= bash --norc --noprofile -i")
        self.wait(lambda shown: "ready:" in shown)
        self.n_runs = 0

    def tmux(self, *arguments):
        environment = {name: value for name, value in os.environ.items() if name != "TMUX"}
        return subprocess.run(["tmux", "-S", str(self.folder / "tmux"), *arguments], check=True, capture_output=True,
                              text=True, env=environment | {"LANG": "C.UTF-8"}, timeout=DEADLINE_SECONDS).stdout

    def shown(self):
        return self.tmux("capture-pane", "-p")

    def wait(self, condition):
        """Waits until what is shown fits, and returns it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition(shown := self.shown()):
            if time.monotonic() > deadline:
                raise AssertionError(f"it was not shown in time, but:\n{shown}")
            time.sleep(0.05)
        return shown

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def run(self, command):
        self.keys("-l", command)
        self.keys("Enter")

    def state(self):
        """How the terminal is set, as the shell's commands find it."""
        self.n_runs += 1
        path = self.folder / f"state-{self.n_runs}"
        self.run(f"stty -g >{path}.part; echo $? >>{path}.part; mv {path}.part {path}")
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not path.exists():
            assert time.monotonic() < deadline, self.shown()
            time.sleep(0.02)
        cursor = self.tmux("display-message", "-p", "#{cursor_flag} #{alternate_on}").strip()
        return path.read_text(), cursor

    def start(self, daemon, *options):
        """Clears the terminal, leaves a mark in it, and runs top there."""
        before = self.state()
        command = shlex.join(map(str, (ctl.CTL, *ctl.sockets(daemon), "top", *options)))
        pid = self.folder / f"pid-{self.n_runs}"
        self.run(f"clear; echo ma''rk; sh -c 'echo $$ >{pid}; exec {command}'; echo sta''tus $?.")
        shown = self.wait(lambda shown: SCREEN in shown)
        assert "mark" not in shown, shown
        return before, int(pid.read_text())

    def expect_restored(self, before, status):
        shown = self.wait(lambda shown: f"status {status}." in shown)
        assert "mark" in shown and SCREEN not in shown, shown
        assert self.state() == before, (self.state(), before)

    def close(self):
        self.tmux("kill-server")


def rate_of(shown, title):
    """The first number of the line of TIMES that begins so; None: there is none yet."""
    found = re.search(rf"^{title} +([0-9.]+) ", shown, re.MULTILINE)
    return float(found[1]) if found else None


def gets(daemon, times):
    with wire.Peer(daemon.reader) as peer:
        for _ in range(times):
            peer.get("pages/one")


def test_screen_and_keys(daemon):
    before, _ = terminal.start(daemon, "--interval=1h")
    shown = terminal.wait(lambda shown: rate_of(shown, "get, inline") is not None)
    assert re.search(r"^pages +1 +1000 +1\.0 KiB +-$", shown, re.MULTILINE), shown
    assert re.search(r"^store +\S+ +\S+ +1 +1\.0 KiB ", shown, re.MULTILINE), shown
    assert rate_of(shown, "get, inline") == 0, shown
    gets(daemon, 1000)
    terminal.keys("Up")  # not a key of its own, and many bytes
    assert rate_of(terminal.shown(), "get, inline") == 0
    terminal.keys("Space")
    shown = terminal.wait(lambda shown: rate_of(shown, "get, inline") != 0)
    assert re.search(r"^get, inline +[0-9.]+ +[0-9.]+ [um]?s +[0-9.]+ [um]?s ", shown, re.MULTILINE), shown
    terminal.keys("q")
    terminal.expect_restored(before, 0)


def test_interval(daemon):
    before, _ = terminal.start(daemon, "-i", "100ms")
    terminal.wait(lambda shown: rate_of(shown, "get, inline") == 0)
    gets(daemon, 100)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while rate_of(terminal.shown(), "get, inline") == 0:
        assert time.monotonic() < deadline
        gets(daemon, 100)
    terminal.wait(lambda shown: rate_of(shown, "get, inline") == 0)
    terminal.keys("q")
    terminal.expect_restored(before, 0)


def test_resize(daemon):
    before, _ = terminal.start(daemon, "--interval=1h")
    whole = terminal.wait(lambda shown: "NAMESPACE" in shown and rate_of(shown, "remove") == 0)
    for columns, lines in ((50, 8), (20, 3), (1, 1), (100, 32)):
        terminal.tmux("resize-window", "-x", str(columns), "-y", str(lines))
        expected = [line[:columns].rstrip() for line in whole.splitlines()[:lines]]
        terminal.wait(lambda shown: [line.rstrip() for line in shown.splitlines()] == expected)
    terminal.keys("q")
    terminal.expect_restored(before, 0)


def test_signals(daemon):
    for number in (signal.SIGTERM, signal.SIGHUP):
        before, pid = terminal.start(daemon)
        os.kill(pid, number)
        terminal.expect_restored(before, 128 + number)
    before, _ = terminal.start(daemon)
    terminal.keys("C-c")
    # The shell ends the whole line, and says nothing of the exit status.
    shown = terminal.wait(lambda shown: "mark" in shown and SCREEN not in shown)
    assert terminal.state() == before, shown


def test_stop_and_go_on(daemon):
    before, pid = terminal.start(daemon, "--interval=1h")
    terminal.wait(lambda shown: rate_of(shown, "remove") == 0)
    terminal.keys("C-z")
    terminal.wait(lambda shown: "mark" in shown and "Stopped" in shown and SCREEN not in shown)
    assert terminal.state() == before
    terminal.run("clear; echo ma''rk; fg; echo sta''tus $?.")
    terminal.wait(lambda shown: SCREEN in shown and "mark" not in shown)
    # Stopped by somebody else, it shows itself again.
    os.kill(pid, signal.SIGSTOP)
    terminal.wait(lambda shown: "Stopped" in shown)
    terminal.run("printf '\\033[?1049l'; clear; echo ma''rk; fg; echo sta''tus $?.")
    terminal.wait(lambda shown: SCREEN in shown and "mark" not in shown)
    terminal.keys("q")
    shown = terminal.wait(lambda shown: "status 0." in shown)
    assert terminal.state() == before, shown


def test_daemon_restarts(daemon):
    before, _ = terminal.start(daemon, "--interval=100ms")
    terminal.wait(lambda shown: rate_of(shown, "get, inline") == 0)
    daemon.kill()
    terminal.wait(lambda shown: "Waiting for the daemon" in shown and SCREEN in shown)
    daemon.start()
    terminal.wait(lambda shown: "Waiting for the daemon" not in shown and rate_of(shown, "get, inline") == 0)
    # Not even its socket is there.
    daemon.stop()
    daemon.close_listeners()
    terminal.wait(lambda shown: "Waiting for the daemon" in shown)
    daemon.listen()
    daemon.start()
    terminal.wait(lambda shown: "Waiting for the daemon" not in shown and rate_of(shown, "get, inline") == 0)
    # While it waits the keys do what they do.
    daemon.process.send_signal(signal.SIGSTOP)
    terminal.wait(lambda shown: "Waiting for the daemon" in shown)
    terminal.keys("q")
    terminal.expect_restored(before, 0)
    daemon.process.send_signal(signal.SIGCONT)


def test_batch(daemon):
    sockets = ctl.sockets(daemon)
    result = ctl.run(*sockets, "top", "--batch=3", "--interval=100ms")
    assert result.returncode == ctl.DONE, result
    assert result.stdout.count(SCREEN.encode()) == 3 and b"\x1b" not in result.stdout, result.stdout
    assert rate_of(result.stdout.decode(), "get, inline") == 0, result.stdout
    assert all(len(line) <= 80 for line in result.stdout.decode().splitlines()), result.stdout
    # A reader that has gone ends it.
    piped = subprocess.run(["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "sh", ctl.CTL, *sockets, "top",
                            "--batch=1000", "--interval=100ms"], capture_output=True, check=False, timeout=DEADLINE_SECONDS)
    assert piped.returncode == 128 + signal.SIGPIPE and not piped.stderr, piped


def test_refusals(daemon):
    sockets = ctl.sockets(daemon)
    ctl.fails(ctl.run(*sockets, "top"), ctl.USAGE, "top needs a terminal", "--batch=N")
    status, shown = ctl.on_terminal([ctl.CTL, *sockets, "top"])  # its standard input is none
    assert status == ctl.USAGE and b"needs a terminal" in shown, (status, shown)
    for options in (("--interval=50ms",), ("--interval=x",), ("--batch=0",), ("--batch=x",), ("more",)):
        ctl.fails(ctl.run(*sockets, "top", *options), ctl.USAGE)
    ctl.fails(ctl.run("--socket=/nowhere", "top", "--batch=1"), ctl.NO_DAEMON)


daemon_lib.need("tmux")
with tempfile.TemporaryDirectory(prefix="objmapper-top-", dir="/var/tmp") as where, \
        daemon_lib.Daemon(settings="[Namespace pages]\nPrefix=pages/\nMaxObjects=1000\n") as the_daemon:
    with wire.Peer(the_daemon.publisher) as publisher:
        publisher.put("pages/one", b"x" * 1024)
    terminal = Terminal(pathlib.Path(where))
    try:
        tap.run(globals(), the_daemon)
    finally:
        terminal.close()
