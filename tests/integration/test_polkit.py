#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What polkit permits to others than root, with an authority of the test's own in polkit's place."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import bus as bus_lib  # noqa: E402  pylint: disable=wrong-import-position
import daemon as daemon_lib  # noqa: E402  pylint: disable=wrong-import-position
import tap  # noqa: E402  pylint: disable=wrong-import-position

FAKE = sys.argv[1]
USER = 1  # one that the bus knows: daemon, and bin after it
PUT = ("PutBytes", "saya{ss}a{sv}", "put/by/a/user", 2, 1, 2, 0, 0)


class Authority:
    """with Authority(bus) as polkit: polkit.will("yes"); …; polkit.asked()"""

    def __init__(self, bus):
        self.process = subprocess.Popen([FAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": bus.address})
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def will(self, *words):
        self.process.stdin.write("".join(f"{word}\n" for word in words))
        self.process.stdin.flush()

    def asked(self):
        return self.process.stdout.readline().split()


def start(bus, method, *arguments, interactive=False):
    """A call by USER that is under way: a Popen."""
    return subprocess.Popen(["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "busctl",
                             f"--address={bus.address}", f"--allow-interactive-authorization={interactive}",
                             "call", bus_lib.NAME, bus_lib.PATH, bus_lib.INTERFACE, method, *map(str, arguments)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said_to(call):
    output, errors = call.communicate(timeout=60)
    assert call.returncode != 0, output
    return errors.removeprefix("Call failed: ").strip()


def test_absent(bus):
    said = bus.fail(*PUT, uid=USER)
    assert said.startswith(f"PutBytes is not permitted to uid {USER}, and polkit can't be asked: "), said


def test_each_action(bus):
    with Authority(bus) as polkit:
        for call, action, uri in (  # busctl lets a person be asked, unless told otherwise
                (PUT, "put", PUT[2]), (("Pin", "sa{sv}", PUT[2], 0), "pin", PUT[2]),
                (("Unpin", "sa{sv}", PUT[2], 0), "pin", PUT[2]), (("Remove", "sa{sv}", PUT[2], 0), "remove", PUT[2]),
                (("Verify", "a{sv}", 0), "verify", "-"),
                (("Purge", "sa{sv}", PUT[2], 0), "purge", PUT[2]), (("FlushCache", "a{sv}", 0), "flush-cache", "-"),
                (("Reload",), "reload", "-")):
            polkit.will("no")
            said = bus.fail(*call, uid=USER)
            assert said == f"{call[0]} is not permitted to uid {USER} (polkit's action org.objmapper1.{action}).", said
            assert polkit.asked() == [f"org.objmapper1.{action}", uri, "1", "name"]
            polkit.will("yes")
            bus.call(*call, uid=USER)
            assert polkit.asked() == [f"org.objmapper1.{action}", uri, "1", "name"]


def test_asks_for_nobody_else(bus):
    """Root and who only reads are permitted, polkit or not: it has no answer for them here."""
    with Authority(bus):
        bus.call(*PUT)
        assert bus.call("GetInfo", "sa{sv}", PUT[2], 0, uid=USER)["size"]["data"] == 2
        bus.call("GetStats", uid=USER)
        bus.call("Remove", "sa{sv}", PUT[2], 0)


def test_person(bus):
    with Authority(bus) as polkit:
        polkit.will("challenge")
        said = said_to(start(bus, *PUT))
        assert polkit.asked() == ["org.objmapper1.put", PUT[2], "0", "name"]
        assert "without authentication (polkit's action org.objmapper1.put)" in said or "nteractive" in said, said
        polkit.will("yes")
        call = start(bus, *PUT, interactive=True)
        assert call.communicate(timeout=60) and call.returncode == 0
        assert polkit.asked() == ["org.objmapper1.put", PUT[2], "1", "name"]


def test_out_of_order(bus):
    with Authority(bus) as polkit:
        polkit.will("error")
        said = bus.fail(*PUT, uid=USER)
        assert said == f"PutBytes is not permitted to uid {USER}, and polkit can't be asked: out of order", said
        polkit.will("odd")
        said = bus.fail(*PUT, uid=USER)
        assert said.startswith(f"PutBytes is not permitted to uid {USER}, and polkit can't be asked: "), said


def test_silence_costs_nobody_else(bus):
    with Authority(bus) as polkit:
        polkit.will(*["silence"] * 8)
        waiting = [start(bus, *PUT) for _ in range(8)]
        for _ in waiting:
            polkit.asked()
        said = bus.fail(*PUT, uid=USER)
        assert said == f"polkit is being asked about 8 calls of uid {USER} already: try again later.", said
        bus.call(*PUT)  # root
        polkit.will("yes")
        bus.call(*PUT, uid=USER + 1)
        # Who goes away is forgotten once polkit, or the time, says so; the daemon goes on all the while.
        for call in waiting:
            call.kill()
            call.communicate()


def test_goes_away(bus):
    """An authority that ends while it is asked permits nothing, and one that comes after it is asked."""
    with Authority(bus) as polkit:
        polkit.will("silence")
        call = start(bus, *PUT)
        polkit.asked()
    said = said_to(call)
    assert said.startswith(f"PutBytes is not permitted to uid {USER}, and polkit can't be asked: "), said
    with Authority(bus) as polkit:
        polkit.will("yes")
        bus.call(*PUT, uid=USER)


def test_stop_answers(_):
    """Who waits for polkit is told when the daemon stops."""
    with bus_lib.Bus() as own, daemon_lib.Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": own.address}) as daemon, \
            Authority(own) as polkit:
        polkit.will("silence")
        call = start(own, "Reload")
        polkit.asked()
        daemon.stop()
        assert said_to(call) == "The daemon is stopping."


if os.geteuid() != 0:
    tap.skip_all("needs root")
with bus_lib.Bus() as test_bus, daemon_lib.Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": test_bus.address}):
    tap.run(globals(), test_bus)
