# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that is given back at MemoryHigh=, under the whole sandbox of the unit."""

import json
import os
import re
import textwrap

import container
import tap

container.enter_namespaces()

import pathlib  # noqa: E402, pylint: disable=wrong-import-position

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

TOP = pathlib.Path(__file__).resolve().parents[2]
MANUAL = (TOP / "man/objmapperd.8.rst").read_text().partition("\nMemory\n---")[2]
DROP_IN = textwrap.dedent(re.findall(r"::\n\n((?:    .*\n|\n)+)", MANUAL)[0])
OBJECTS = 1500
BODY = os.urandom(15000)


def count(host, name):
    return json.loads(host.ctl("stats", "--json").stdout)[name]


def get_all(host, times):
    for _ in range(times):
        host.run("sh", "-c", "objmapperctl export object/ >/dev/null")


def memory_file(host, name):
    """A file of the service's control group, as the container sees it; None: memory is not counted there."""
    group = host.property("objmapper.service", "ControlGroup")
    result = host.run("cat", f"/sys/fs/cgroup{group}/{name}", check=False)
    return result.stdout if result.returncode == 0 else None


def test_held_at_memory_high(host):
    host.run("mkdir", "-p", "/root/bodies")
    for i in range(OBJECTS):
        host.path(f"/root/bodies/{i}").write_bytes(BODY)
    host.start_again()
    host.ctl("put", "--recursive", "/root/bodies", "object/")
    get_all(host, 3)
    full = count(host, "hot_bytes")
    assert full > 20 << 20, full
    if memory_file(host, "memory.events") is None:
        print("# no control group of this machine's container counts memory: what is told is tested with "
              "the environment's file alone")
        return

    current = int(memory_file(host, "memory.current"))
    host.run("systemctl", "set-property", "--runtime", "objmapper.service", f"MemoryHigh={current - (8 << 20)}")
    get_all(host, 1)
    wait_until(lambda: count(host, "hot_bytes") < full * 0.8, 60)
    wait_until(lambda: "Memory is short" in host.log("--unit=objmapper.service"))

    # It grows again when that is over.
    host.run("systemctl", "set-property", "--runtime", "objmapper.service", "MemoryHigh=infinity")
    low = count(host, "hot_bytes")

    def has_grown():
        get_all(host, 1)
        return count(host, "hot_bytes") > low

    wait_until(has_grown, 120)


def test_drop_in_of_the_manual(host):
    host.path("/etc/systemd/system/objmapper.service.d").mkdir(parents=True, exist_ok=True)
    host.path("/etc/systemd/system/objmapper.service.d/memory.conf").write_text(DROP_IN)
    host.run("systemctl", "daemon-reload")
    host.start_again("objmapper.socket")
    assert host.get("object/1") == BODY
    assert host.property("objmapper.service", "MemoryHigh") == str(512 << 20)


if __name__ == "__main__":
    with Host(users={"reader": ["objmapper"], "publisher": ["objmapper", "objmapper-publish"]}) as host_:
        tap.run(globals(), host_, on_failure=host_.tell)
