# SPDX-License-Identifier: LGPL-2.1-or-later
"""Thousands of real files, each fetched in each mode and compared, across restarts and a kill."""

import os
import re

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

MODES = ("fdpass", "copy", "splice", "auto")
WANTED = 5000
FOLDER = "/srv/files"
stored = {}


def count_files(folder):
    return sum(os.path.isfile(path) and not os.path.islink(path) for parent, _, names in os.walk(folder)
               for path in (os.path.join(parent, name) for name in names))


def fetch_all(host):
    for mode in MODES:
        result = host.run(host.test_program("fetch-all"), mode, "share/", FOLDER, user="reader",
                          timeout=300)
        print(f"# {mode}: {result.stdout.strip()}")
        assert result.stdout.startswith(f"{stored['count']} same, 0 different"), result.stdout


def test_put_recursively(host):
    candidates = ("/usr/share/doc", "/usr/share/man", "/usr/include", "/usr/share")
    counts = {path: count_files(host.path(path)) for path in candidates}
    folder = next((path for path, count in counts.items() if count >= WANTED), None)
    assert folder, f"no folder with enough files: {counts}"
    # Copies: packages may be installed on this machine meanwhile. What goes away before cp comes to it is not in them.
    host.run("sh", "-c", f"mkdir {FOLDER} && cd {folder} && find . -type f -print0 | head -z -n {WANTED + 1000} | "
             f"xargs -0 cp --archive --parents --target-directory={FOLDER}", check=False, timeout=300)
    stored["count"] = count_files(host.path(FOLDER))
    assert stored["count"] >= WANTED, stored
    host.start_again()
    result = host.ctl("put", "--recursive", FOLDER, "share/", timeout=600)
    print(f"# {folder}: {stored['count']} files: {(result.stdout + result.stderr).strip()}")
    listed = host.ctl("ls", "share/", user="reader", timeout=120).stdout
    assert len(listed.splitlines()) == stored["count"]


def test_every_file_in_each_mode(host):
    fetch_all(host)


def test_after_restart(host):
    host.run("systemctl", "restart", "objmapper.service")
    fetch_all(host)


def test_after_sigkill(host):
    before = host.property("objmapper.service", "MainPID")
    host.run("systemctl", "kill", "--signal=SIGKILL", "objmapper.service")
    wait_until(lambda: host.property("objmapper.service", "MainPID") != before)
    fetch_all(host)
    counters = host.ctl("stats", user="reader").stdout
    assert re.search(rf"store_objects\D+{stored['count']}\b", counters), counters


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
