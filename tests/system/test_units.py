# SPDX-License-Identifier: LGPL-2.1-or-later
"""The units themselves: valid, tightly confined, and usable by a user's own service manager."""

import re

import container
import tap

container.enter_namespaces()

from host import SOCKETS, Host  # noqa: E402, pylint: disable=wrong-import-position

SYSTEM_UNITS = ("objmapper.socket", "objmapper-publish.socket", "objmapper.service")
EXPOSURE_MAX = 0.5


def test_verify_is_silent(host):
    for scope, units in (("--system", SYSTEM_UNITS), ("--user", SYSTEM_UNITS)):
        result = host.run("env", "XDG_RUNTIME_DIR=/run", "systemd-analyze", scope, "verify", *units)
        said = [line for line in (result.stdout + result.stderr).splitlines() if "objmapper" in line]
        assert not said, said


def test_exposure(host):
    said = host.run("systemd-analyze", "security", "--no-pager", "objmapper.service").stdout
    exposure = float(re.search(r"Overall exposure level for objmapper.service: ([0-9.]+)", said)[1])
    assert exposure <= EXPOSURE_MAX, said


def test_sockets_have_their_groups(host):
    host.start_again()
    for name, group in (("objmapper.sock", "objmapper"), ("publish.sock", "objmapper-publish")):
        said = host.run("stat", "--format=%G %a", f"/run/objmapper/{name}").stdout.strip()
        assert said == f"{group} 660", said
    host.put("owner", "bytes")
    assert host.run("stat", "--format=%U %a", "/var/lib/objmapper").stdout.strip() == "objmapper 700"


def test_user_units(host):
    """A user's own manager starts a daemon for that user."""
    uid = host.run("id", "-u", "stranger").stdout.strip()
    host.run("install", "-d", "-o", "stranger", "-m", "0700", "/home/stranger")
    host.run("systemctl", "start", f"user@{uid}.service")

    def run(*command, **kwargs):
        return host.run("env", "HOME=/home/stranger", f"XDG_RUNTIME_DIR=/run/user/{uid}", *command,
                        user="stranger", **kwargs).stdout

    run("systemctl", "--user", "start", *SOCKETS)
    assert run("systemctl", "--user", "is-active", "objmapper.service", check=False).strip() == "inactive"
    run("objmapperctl", "--user", "put", "mine", input="bytes")
    assert run("objmapperctl", "--user", "get", "mine") == "bytes"
    assert run("systemctl", "--user", "is-active", "objmapper.service").strip() == "active"
    state = run("stat", "--format=%U %a", "/home/stranger/.local/state/objmapper").strip()
    assert state == "stranger 700", state
    run("systemctl", "--user", "stop", "objmapper.service")
    assert run("objmapperctl", "--user", "get", "mine") == "bytes"


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
