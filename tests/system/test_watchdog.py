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


def count_timeouts(host):
    return sum("Watchdog timeout" in entry["MESSAGE"] for entry in host.journal("UNIT=objmapper.service"))


def check_hang(host, thread):
    """thread: as hang.c names it. From the moment at which it hung to that at which systemd found the service active."""
    pid = start(host)
    before = count_timeouts(host)
    hang, hung = host.path(STATE + "hang"), host.path(STATE + "hung")
    hang.write_text(thread)
    try:
        wait_until(hung.exists)
        wait_until(lambda: host.property("objmapper.service", "MainPID") not in ("0", pid))
        wait_until(host.is_active)
        active_usec = int(host.property("objmapper.service", "ActiveEnterTimestampMonotonic"))
        took = (active_usec - int(hung.read_text())) / 1e6
    finally:
        hang.unlink(missing_ok=True)
        hung.unlink(missing_ok=True)
    print(f"# {thread}: {took:.2f} s")
    assert host.get("kept") == b"bytes"
    assert count_timeouts(host) == before + 1
    assert took < WATCHDOG_SECONDS + 1, f"{took:.2f} s"


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
