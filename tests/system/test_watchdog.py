# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thread that hangs is a silence that the service manager ends: the main loop's, and each worker's."""

import time

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

DROP_IN = "/run/systemd/system/objmapper.service.d/test.conf"
STATE = "/var/lib/objmapper/"
WATCHDOG_SECONDS = 2
WORKERS = 3


def start(host):
    host.start_again()
    host.put("kept", "bytes")
    return host.property("objmapper.service", "MainPID")


def check_hang(host, thread):
    """thread: as hang.c names it."""
    pid = start(host)
    hang, hung = host.path(STATE + "hang"), host.path(STATE + "hung")
    hang.write_text(thread)
    try:
        wait_until(hung.exists)
        began = time.monotonic()
        hang.unlink()
        wait_until(lambda: host.property("objmapper.service", "MainPID") not in ("0", pid))
        wait_until(host.is_active)
        took = time.monotonic() - began
    finally:
        hang.unlink(missing_ok=True)
        hung.unlink(missing_ok=True)
    assert host.get("kept") == b"bytes"
    assert WATCHDOG_SECONDS / 2 < took < WATCHDOG_SECONDS + 1, f"{took:.2f} s"
    log = host.run("journalctl", "-u", "objmapper.service", f"_PID={pid}", "+", "UNIT=objmapper.service",
                   "-o", "cat").stdout
    assert "Watchdog timeout" in log, log


def test_main_loop(host):
    check_hang(host, "objmapperd 0")


def test_each_worker(host):
    for number in range(1, WORKERS + 1):
        check_hang(host, f"worker {number}")


def test_progress_is_no_hang(host):
    """Longer than the watchdog waits, idle and busy."""
    pid = start(host)
    deadline = time.monotonic() + 2 * WATCHDOG_SECONDS
    while time.monotonic() < deadline:
        assert host.get("kept") == b"bytes"
    time.sleep(2 * WATCHDOG_SECONDS)
    assert host.property("objmapper.service", "MainPID") == pid


with Host(files={"/etc/objmapper/objmapper.conf.d/test.conf": f"[Server]\nWorkers={WORKERS}\n"}) as machine:
    machine.path(DROP_IN).parent.mkdir(parents=True)
    machine.path(DROP_IN).write_text(f"[Service]\nWatchdogSec={WATCHDOG_SECONDS}s\n"
                                     f"Environment=LD_PRELOAD={machine.test_program('libhang.so')}\n")
    machine.run("systemctl", "daemon-reload")
    tap.run(globals(), machine, on_failure=machine.tell)
