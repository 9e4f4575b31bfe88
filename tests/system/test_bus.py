# SPDX-License-Identifier: LGPL-2.1-or-later
"""Management over the system bus, as an operator types it, of the daemon and of an instance; on both buses that a
system may have. With the argument "broker" that is dbus-broker."""

import os
import sys

import container
import tap

container.enter_namespaces()

from host import SOCKETS, Host  # noqa: E402, pylint: disable=wrong-import-position

BROKER = "broker" in sys.argv[1:]
if BROKER and not os.path.exists("/usr/bin/dbus-broker-launch"):
    tap.skip_all("needs dbus-broker")

PATH = "/org/objmapper1"
INTERFACE = "org.objmapper1.Manager"
INSTANCE = ("objmapper@one.socket", "objmapper-publish@one.socket")


def call(host, name, method, *args, **kwargs):
    return host.run("busctl", "call", name, PATH, INTERFACE, method, *args, **kwargs)


def test_policy(host):
    """What the bus lets whom call, of the one daemon and of an instance. The daemon is asked no more than that."""
    host.start_again(*SOCKETS, *INSTANCE)
    for name, ctl in (("org.objmapper1", ()), ("org.objmapper1.one", ("--instance=one",))):
        host.ctl(*ctl, "put", "it", input="bytes")
        for user in ("root", "reader", "publisher"):
            assert '"size" t 5' in call(host, name, "GetInfo", "sa{sv}", "it", "0", user=user).stdout
        refused = call(host, name, "GetInfo", "sa{sv}", "it", "0", user="stranger", check=False)
        assert refused.returncode != 0 and "denied" in refused.stderr, refused
        for user in ("reader", "stranger"):
            assert '"store_objects"' in call(host, name, "GetStats", user=user).stdout
            assert ".GetStats" in host.run("busctl", "introspect", name, PATH, user=user).stdout
            for method, *args in (("PutBytes", "saya{ss}a{sv}", "it", "0", "0", "0"), ("Remove", "sa{sv}", "it", "0"),
                                  ("Pin", "sa{sv}", "it", "0"), ("Verify", "a{sv}", "0"), ("Reload",)):
                refused = call(host, name, method, *args, user=user, check=False)
                assert refused.returncode != 0 and f"{method} is not permitted to uid" in refused.stderr, refused
        host.ctl(*ctl, "pin", "it")
        host.ctl(*ctl, "verify")
        call(host, name, "Remove", "sa{sv}", "it", "0")
        assert host.ctl(*ctl, "stat", "it", check=False).returncode == 3
        unit = "objmapper.service" if not ctl else "objmapper@one.service"
        host.run("systemctl", "reload", unit)
        host.run("systemctl", "service-log-level", unit, "debug")
        assert host.run("systemctl", "service-log-level", unit).stdout == "debug\n"
    host.run("systemctl", "stop", *INSTANCE, "objmapper@one.service")
    assert host.is_active("dbus-broker.service") == BROKER


with Host(broker=BROKER) as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
