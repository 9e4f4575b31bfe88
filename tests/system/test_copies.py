# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copies of hot objects on a faster disk, set up as objmapperd(8) says."""

import json
import os
import pathlib
import re
import textwrap

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

TOP = pathlib.Path(__file__).resolve().parents[2]
MANUAL = (TOP / "man/objmapperd.8.rst").read_text().partition("Copies on a faster disk")[2]
DROP_IN, COMMANDS, FSTAB = (textwrap.dedent(block) for block in
                            re.findall(r"::\n\n((?:    .*\n|\n)+)", MANUAL)[:3])
CONFIG = "/etc/objmapper/objmapper.conf.d/cache.conf"
BODY = os.urandom(100_000)


def write(host, name, text):
    host.path(name).parent.mkdir(parents=True, exist_ok=True)
    host.path(name).write_text(text)


def count(host, name):
    return json.loads(host.ctl("stats", "--json").stdout)[name]


def heat(host, uri):
    before = count(host, "fast_hits")

    def is_copied():
        assert host.get(uri, "--mode", "copy") == BODY
        return count(host, "fast_hits") > before

    wait_until(is_copied)


def test_setup(host):
    command, _, settings = COMMANDS.partition("\n")
    host.run(*command.split())
    write(host, CONFIG, settings)
    write(host, "/etc/systemd/system/objmapper.service.d/cache.conf", DROP_IN)
    host.run("systemctl", "daemon-reload")
    host.start_again()
    host.put("hot", BODY)
    heat(host, "hot")
    log = host.log("--unit=objmapper.service")
    assert "CachePath=" not in log and "view" not in log, log


def test_nobody_can_change_a_copy(host):
    for user, refused in (("reader", None), ("objmapper", ("fchmod",)), ("root", ("fchmod", "re-open for writing"))):
        before = count(host, "fast_hits")
        result = host.run(host.test_program("tamper"), "fdpass", "hot", user=user, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert count(host, "fast_hits") > before
        lines = [line for line in result.stdout.splitlines() if refused and line.startswith(refused)]
        assert all(line.endswith("Read-only file system") for line in lines) and bool(lines) == bool(refused), lines
    assert host.get("hot") == BODY


def test_in_memory(host):
    host.stop()
    with open(host.path("/etc/fstab"), "a", encoding="utf-8") as fstab:
        fstab.write(FSTAB)
    host.run("systemctl", "daemon-reload")
    host.start_again()
    heat(host, "hot")
    assert host.run("findmnt", "--noheadings", "--output=FSTYPE", "/fast/objmapper").stdout.strip() == "tmpfs"
    copies = host.run("find", "/fast/objmapper", "-type", "f", "-size", "+50k").stdout.split()
    assert len(copies) == 1 and host.path(copies[0]).read_bytes() == BODY
    assert host.run("stat", "--format=%a %U", "/fast/objmapper").stdout == "700 objmapper\n"


def test_killed(host):
    heat(host, "hot")
    host.run("systemctl", "kill", "--signal=KILL", "objmapper.service")
    assert host.get("hot") == BODY
    wait_until(lambda: not host.run("find", "/fast/objmapper", "-type", "f", "-size", "+50k").stdout)
    heat(host, "hot")


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
