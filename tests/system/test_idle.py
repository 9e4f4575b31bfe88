# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon that exits when nobody needs it, and who comes at that moment."""

import pathlib
import sys
import threading
import time

import container
import tap

container.enter_namespaces()
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from host import SOCKETS, Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position
import wire  # noqa: E402, pylint: disable=wrong-import-position

IDLE_SECONDS = 1
ROUNDS, CLIENTS, CALLERS = 20, 50, 3
# Over the bus: a call for each line, after as many seconds as it says.
CALLER = """
import sys, time, dbus
bus = dbus.SystemBus()
for line in sys.stdin:
    time.sleep(float(line))
    print(bus.call_blocking("org.objmapper1", "/org/objmapper1", "org.objmapper1.Manager", "GetInfo", "sa{sv}",
                            ("kept", dbus.Dictionary({}, signature="sv")), timeout=60)["size"], flush=True)
"""


def is_gone(host):
    return host.property("objmapper.service", "ActiveState") == "inactive"


def test_exits_and_comes_back(host):
    host.start_again()
    host.put("kept", "bytes")
    wait_until(lambda: is_gone(host))
    assert host.property("objmapper.service", "Result") == "success"
    assert all(host.is_active(socket) for socket in SOCKETS)
    assert host.get("kept") == b"bytes"
    wait_until(lambda: is_gone(host))
    # A call on the bus needs it just as well.
    assert '"store_objects" t 1' in host.busctl("GetStats").stdout


def test_stays_for_a_session(host):
    host.start_again()
    host.put("kept", "bytes")
    with wire.Peer(str(host.path("/run/objmapper/objmapper.sock"))) as peer:
        pid = host.property("objmapper.service", "MainPID")
        time.sleep(3 * IDLE_SECONDS)
        assert peer.ask(wire.GET, wire.uri("kept")).body == b"bytes"
        assert host.property("objmapper.service", "MainPID") == pid
    wait_until(lambda: is_gone(host))


def test_serves_who_comes_at_that_moment(host):
    host.start_again()
    host.put("kept", "bytes")
    path = str(host.path("/run/objmapper/objmapper.sock"))
    failures, served, pids = [], [], set()
    callers = [host.start("/usr/bin/python3", "-c", CALLER, stdin=-1, stdout=-1, text=True, bufsize=1)
               for _ in range(CALLERS)]

    def get(delay):
        time.sleep(delay)
        try:
            with wire.Peer(path) as peer:
                served.append(peer.ask(wire.GET, wire.uri("kept")).body)
        except Exception as error:  # pylint: disable=broad-except
            failures.append(repr(error))

    # After the last session has closed: earlier when it was too late, later when it was too early, by less when it has
    # been both.
    start, step, was_early = 1.25 * IDLE_SECONDS, 0.1, None
    for _ in range(ROUNDS):
        before = host.property("objmapper.service", "MainPID")
        clients = [threading.Thread(target=get, args=(start + 0.04 * i / CLIENTS,)) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        for i, caller in enumerate(callers):
            caller.stdin.write(f"{start + 0.04 * i / CALLERS}\n")
        for client in clients:
            client.join()
        assert [caller.stdout.readline() for caller in callers] == ["5\n"] * CALLERS
        pid = host.property("objmapper.service", "MainPID")
        is_early = pid == before
        if was_early is not None and is_early != was_early:
            step = max(step * 0.6, 0.02)
        start = max(start + (step if is_early else -step), 0)
        was_early = is_early
        pids.add(pid)
    for caller in callers:
        caller.communicate(timeout=60)
    assert not failures, failures[:5]
    assert len(served) == ROUNDS * CLIENTS and set(served) == {b"bytes"}
    print(f"# {len(served)} served by {len(pids)} daemons")
    assert len(pids) > 1, "it never exited at that moment"


with Host(files={"/etc/objmapper/objmapper.conf.d/test.conf": f"[Server]\nExitIdleSec={IDLE_SECONDS}s\n"}) as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
