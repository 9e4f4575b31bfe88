# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests of the rooms and of the daemon, all that they start included, confined as the shipped unit confines it.

What the unit has beside that, its sockets, state and bus name, is what the other files of this suite are about."""

import json
import os
import pathlib
import re
import subprocess
import time

import container
import tap

container.enter_namespaces()

from host import BUILD, Host  # noqa: E402, pylint: disable=wrong-import-position

TOP = pathlib.Path(__file__).resolve().parents[2]
INSIDE = {str(BUILD): "/srv/build", str(TOP): "/srv/source"}  # the longer one first, where one is in the other
# What takes root, other users or a bus that they are on: in this suite the daemon itself is asked that, as confined.
OTHERS = "bus|bus_store|verify|polkit|namespaces|disks|fuse|storage-keep-free"
# What is about this machine's tools or compilers, or another machine's.
ELSEWHERE = "man.*|library-.+|vectors-.+|examples|completion|top"
# What takes long, and asks the kernel for nothing that the rest does not.
LONG = "limits|ctl|export|scale|crash.*|policy|turns|storage-(traces|stress|evict|hot|many|kill)"
# What the unit says of the one daemon, and not of how far it may go.
ITS_OWN = ("Type", "BusName", "Exec", "Sockets", "WatchdogSec", "Restart=", "RestartPrevent", "StateDirectory",
           "BindReadOnlyPaths", "Environment", "Timeout")
UNIT = """\
[Service]
Type=oneshot
WorkingDirectory=/srv/build
TimeoutStartSec={seconds}
StandardOutput=file:/run/test-output
StandardError=inherit
{limits}
{environment}
ExecStart={command}
"""


def inside(text):
    text = os.path.normpath(text) if text.startswith("/") else text
    for outside, path in INSIDE.items():
        text = text.replace(outside, path)
    return text


def confined(host):
    """The lines of the shipped unit that confine."""
    section = host.path("/usr/lib/systemd/system/objmapper.service").read_text().partition("[Service]\n")[2]
    lines = section.partition("\n[")[0].splitlines()
    return [line for line in lines if line and not line.startswith(("#", *ITS_OWN))]


def tests():
    listed = subprocess.run(["meson", "introspect", "--tests", BUILD], check=True, stdout=subprocess.PIPE).stdout
    return [test for test in json.loads(listed)
            if test["suite"][0].split(":")[-1] in ("unit", "integration") and not re.fullmatch(f"{OTHERS}|{ELSEWHERE}|{LONG}", test["name"])]


def run_test(host, test):
    """Its exit status and what it said."""
    program, *arguments = test["cmd"]
    command = ["/usr/bin/python3" if "python" in program else program, *arguments]
    environment = {"PYTHONDONTWRITEBYTECODE": "1", **test["env"]}
    host.path("/run/systemd/system/test.service").write_text(UNIT.format(
        limits="\n".join(confined(host)), command=" ".join(inside(word) for word in command),
        seconds=test["timeout"], environment="\n".join(f'Environment="{name}={inside(value)}"' for name, value in environment.items())))
    host.run("systemctl", "daemon-reload")
    result = host.run("systemctl", "start", "test.service", check=False, timeout=test["timeout"] + 30)
    return result.returncode, host.path("/run/test-output").read_text(errors="replace")


def test_all(host):
    host.run("install", "-d", "-m", "1777", "/var/lib/objmapper/tmp")
    host.run("mount", "--bind", "/var/lib/objmapper/tmp", "/var/tmp")  # not the container's own, which is no disk
    failed = []
    for test in tests():
        host.path("/run/test-output").unlink(missing_ok=True)
        began = time.monotonic()
        status, output = run_test(host, test)
        passed, skipped = (len(re.findall(pattern, output, re.MULTILINE))
                           for pattern in (r"^ok (?!.*# SKIP)", r"# SKIP"))
        print(f"# {test['name']}: {passed} passed, {skipped} skipped, {time.monotonic() - began:.1f} s", flush=True)
        if status != 0:
            failed.append(f"{test['name']}:\n{output[-8000:]}")
    assert not failed, "\n".join(failed)


with Host(binds=INSIDE) as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
