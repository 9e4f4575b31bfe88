#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion of objmapperctl's command line, by the Tab key of a real bash and of a real zsh."""

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))

import daemon as daemon_lib  # noqa: E402, pylint: disable=wrong-import-position
import tap  # noqa: E402, pylint: disable=wrong-import-position

CTL = daemon_lib.build_path("src/ctl/objmapperctl")
FOLDER = TOP / "src/ctl/completion"
BASH_COMPLETION = "/usr/share/bash-completion/bash_completion"
TAB, KILL_LINE = "\t", "\x15"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r|\x07")


class Shell:
    """An interactive shell that knows objmapperctl."""

    def __init__(self, command, setup, path):
        environment = {"PATH": f"{path}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(path), "LANG": "C.UTF-8"}
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment,
                                        start_new_session=True, cwd=path)
        os.close(slave)
        self.output = ""
        for line in setup:
            self.send(line + "\n")
        self.send("echo rea''dy\n")
        self.expect("ready")

    def send(self, text):
        os.write(self.master, text.encode())

    def expect(self, text):
        """Waits until the shell has shown text, and returns what it showed until then."""
        deadline = time.monotonic() + daemon_lib.DEADLINE_SECONDS
        while text not in self.output:
            if not select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no {text!r} in {self.output!r}")
            self.output += CONTROL.sub("", os.read(self.master, 65536).decode())
        before, _, self.output = self.output.partition(text)
        return before + text

    def complete(self, line, expected, tabs=1):
        """line, and then Tab: expected appears, in the line or below it. Returns all that was shown."""
        self.output = ""
        self.send(line + tabs * TAB)
        shown = self.expect(expected)
        self.send(KILL_LINE)
        return shown

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def check(shell, socket, lists):
    """lists: how many tabs it takes to see all there is."""
    shell.complete("objmapperctl pur", "objmapperctl purge ")
    shell.complete("objmapperctl get --mo", "--mode")
    shell.complete("objmapperctl get --mode fd", "--mode fdpass ")
    shell.complete("objmapperctl stats --js", "--json")
    shell.complete("objmapperctl to", "objmapperctl top ")
    shell.complete("objmapperctl top --int", "--interval")
    shell.complete("objmapperctl stats --al", "--all ")
    shell.complete("objmapperctl put URI fil", "put URI file-here ")
    shell.complete(f"objmapperctl --socket={socket} get pag", "get pages/one ")
    shell.complete(f"objmapperctl --socket={socket} stat http", "http://host/a\\?b=1 ")
    shown = shell.complete("objmapperctl s", "stats", lists)
    assert "set-meta" in shown + shell.output or shell.expect("set-meta"), shown
    # Options of another verb are none of this one's.
    shell.complete("objmapperctl ls --json", "--json", 2)
    # No daemon: nothing to complete, and nothing is said.
    shown = shell.complete("objmapperctl --socket=/nowhere get pag", "pag", 2)
    assert "objmapperctl: " not in shown + shell.output, shown


def test_bash():
    shell = Shell(["bash", "--norc", "--noprofile", "-i"],
                  ["bind 'set enable-bracketed-paste off'", f". {BASH_COMPLETION}",
                   f". {FOLDER}/objmapperctl.bash", "PS1='> '"], path)
    try:
        check(shell, daemon.reader, 2)
    finally:
        shell.close()


def test_zsh():
    shutil.copy(FOLDER / "objmapperctl.zsh", path / "_objmapperctl")
    shell = Shell(["zsh", "-f", "-i"],
                  ["unsetopt zle_bracketed_paste prompt_sp; setopt no_auto_menu", f"fpath=({path} $fpath)",
                   "autoload -U compinit", "compinit -u -D", "PS1='> '"], path)
    try:
        check(shell, daemon.reader, 1)
    finally:
        shell.close()


if not (shutil.which("bash") and shutil.which("zsh") and os.path.exists(BASH_COMPLETION)):
    tap.skip_all("needs bash-completion and zsh")
path = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-completion-", dir="/var/tmp"))
try:
    (path / "objmapperctl").symlink_to(CTL)
    (path / "file-here").touch()
    with daemon_lib.Daemon() as daemon:
        for uri in ("pages/one", "http://host/a?b=1"):
            subprocess.run([CTL, f"--publish-socket={daemon.publisher}", "put", uri], input=b"body", check=True)
        tap.run(globals())
finally:
    shutil.rmtree(path)
