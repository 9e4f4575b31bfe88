# SPDX-License-Identifier: LGPL-2.1-or-later
"""A start and a stop that come on may take longer than the unit's timeouts; a start that hangs may not."""

import pathlib
import time

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

DROP_IN = "/run/systemd/system/objmapper.service.d/test.conf"
STATE = "/var/lib/objmapper"
SLOW = f"{STATE}/slow-sync"
TIMEOUT_SECONDS = 2
OLD_STORE = pathlib.Path(__file__).resolve().parent.parent / "data/store-2"


def slow_down(host, msec):
    host.path(SLOW).write_text(str(msec))


def new_state(host):
    host.stop()
    host.run("find", STATE, "-mindepth", "1", "-delete")


def test_long_start(host):
    new_state(host)
    for path in OLD_STORE.rglob("*"):
        copy = host.path(f"{STATE}/{path.relative_to(OLD_STORE)}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            copy.write_bytes(path.read_bytes())
    host.run("chown", "--recursive", "objmapper:objmapper", STATE)
    slow_down(host, 700)
    began = time.monotonic()
    starting = host.start("systemctl", "start", "objmapper.service")
    wait_until(lambda: host.property("objmapper.service", "StatusText") == "Bringing the store up to date")
    assert starting.wait(60) == 0, host.tell()
    took = time.monotonic() - began
    slow_down(host, 0)
    assert took > TIMEOUT_SECONDS + 1, f"{took:.2f} s"
    assert host.property("objmapper.service", "NRestarts") == "0"
    said = "".join(entry["MESSAGE"] for entry in host.journal("--unit=objmapper.service"))
    assert "was upgraded to a newer format" in said, said
    assert len(host.get("blob/1")) == 2600


def test_start_that_hangs(host):
    new_state(host)
    slow_down(host, 3_600_000)
    host.run("systemctl", "start", "--no-block", "objmapper.service")
    wait_until(lambda: host.property("objmapper.service", "NRestarts") not in ("", "0"))
    said = "".join(entry["MESSAGE"] for entry in host.journal("UNIT=objmapper.service", f"--since=@{time.time() - 30:.0f}"))
    assert "start operation timed out" in said, said
    slow_down(host, 0)
    wait_until(host.is_active)


def put_many(host):
    host.start_again()
    host.run("sh", "-c", "mkdir -p /tmp/many && cd /tmp/many && seq 4500 | split -l 1 -a 4")
    host.ctl("put", "--recursive", "/tmp/many", "many/")
    assert len(host.ctl("ls", "many/").stdout.split()) == 4500
    slow_down(host, 1000)


def begin_purge(host):
    """The first of its five steps is done; each takes a second or more."""
    purging = host.start("objmapperctl", "purge", "many/", stdout=-1, stderr=-1, text=True)
    wait_until(lambda: int(host.ctl("stats").stdout.partition("store_removes ")[2].split()[0]) > 0)
    return purging


def stop_slowly(host):
    began = time.monotonic()
    host.run("systemctl", "stop", "objmapper.socket", "objmapper-publish.socket", "objmapper.service")
    took = time.monotonic() - began
    slow_down(host, 0)
    assert took > TIMEOUT_SECONDS, f"{took:.2f} s"
    assert host.property("objmapper.service", "Result") == "success", host.tell()


def test_stop_that_answers(host):
    put_many(host)
    purging = begin_purge(host)
    stop_slowly(host)
    output, errors = purging.communicate(timeout=30)
    assert purging.returncode == 0 and "4500" in output + errors, output + errors
    host.start_again()
    assert not host.ctl("ls", "many/").stdout


def test_stop_that_finishes(host):
    """What nobody waits for any more is finished too, when no loop runs that could tell the watchdog."""
    put_many(host)
    purging = begin_purge(host)
    host.run("pkill", "-KILL", "-x", "objmapperctl")
    purging.communicate(timeout=30)
    stop_slowly(host)
    host.start_again()
    assert not host.ctl("ls", "many/").stdout


with Host() as machine:
    machine.path(DROP_IN).parent.mkdir(parents=True)
    machine.path(DROP_IN).write_text(
        f"[Service]\nTimeoutStartSec={TIMEOUT_SECONDS}s\nTimeoutStopSec={TIMEOUT_SECONDS}s\nWatchdogSec={TIMEOUT_SECONDS}s\n"
        f"Environment=LD_PRELOAD={machine.test_program('libslow-sync.so')}\n")
    machine.run("systemctl", "daemon-reload")
    tap.run(globals(), machine, on_failure=machine.tell)
