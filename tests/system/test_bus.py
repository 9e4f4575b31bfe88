# SPDX-License-Identifier: LGPL-2.1-or-later
"""Management over the system bus, as an operator types it, of the daemon and of an instance; on both buses that a
system may have. With the argument "broker" that is dbus-broker."""

import os
import sys
from xml.etree import ElementTree

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


PYTHON = """
import dbus
manager = dbus.Interface(dbus.SystemBus().get_object("org.objmapper1", "/org/objmapper1"), "org.objmapper1.Manager")
manager.PutBytes("from/python", dbus.ByteArray(b"123"), {}, dbus.Dictionary({}, signature="sv"))
print(int(manager.GetInfo("from/python", dbus.Dictionary({}, signature="sv"))["size"]))
"""


def test_as_an_operator_types(host):
    """tree, introspect, call and get-property of busctl; gdbus and python-dbus."""
    host.stop()
    host.run("systemctl", "start", *SOCKETS)
    tree = host.run("busctl", "tree", "--list", "org.objmapper1", user="stranger").stdout.split()
    assert PATH in tree and host.is_active(), tree  # the call has started it
    shown = host.run("busctl", "introspect", "org.objmapper1", PATH, user="stranger").stdout
    for name in (".GetStats", ".Purge", ".Version", ".StoreReadOnly"):
        assert name in shown, shown

    def prop(name, **kwargs):
        return host.run("busctl", "get-property", "org.objmapper1", PATH, INTERFACE, name, **kwargs).stdout

    assert prop("Version", user="stranger") == f's "{host.ctl("--version").stdout.split()[1]}"\n'
    assert prop("Writable", user="stranger") == "b true\n"
    assert '"MaxStreams" "8"' in prop("Configuration", user="stranger")
    before = int(prop("Objects").split()[1])
    call(host, "org.objmapper1", "PutBytes", "saya{ss}a{sv}", "from/busctl", "1", "65", "0", "0")
    assert prop("Objects") == f"t {before + 1}\n" and host.get("from/busctl") == b"A"
    listed = call(host, "org.objmapper1", "List", "ssua{sv}", "from/", "", "10", "0", user="reader").stdout
    assert listed.startswith('a(sa{sv})s 1 "from/busctl" ') and listed.endswith(' ""\n'), listed
    refused = call(host, "org.objmapper1", "List", "ssua{sv}", "from/", "", "10", "0", user="stranger", check=False)
    assert refused.returncode != 0, refused

    gdbus = ("gdbus", "call", "--system", "--dest", "org.objmapper1", "--object-path", PATH, "--method")
    assert "'from/busctl'" in host.run(*gdbus, f"{INTERFACE}.List", "from/", "", "10", "{}").stdout
    assert host.run(*gdbus, f"{INTERFACE}.Purge", "from/", "{}").stdout == "(uint64 1,)\n"
    assert host.run("/usr/bin/python3", "-c", PYTHON).stdout == "3\n"


def test_reload_is_told(host):
    """What a user who has no right to anything sees when root reloads the daemon."""
    host.stop()
    host.run("systemctl", "start", *SOCKETS, "objmapper.service")
    watching = host.start("sh", "-c", "gdbus monitor --system --dest org.objmapper1 & cat; kill $!", user="stranger",
                          stdin=-1, stdout=-1, text=True)
    path = host.path("/etc/objmapper/objmapper.conf.d/told.conf")
    path.parent.mkdir(parents=True, exist_ok=True)

    def read_until(text):
        seen = [""]
        while text not in seen[-1]:
            seen.append(watching.stdout.readline())
            assert seen[-1], f"{text} did not come after {seen}"
        return seen[1:]

    try:
        read_until("is owned by")
        # Of a reload that is refused nothing is told.
        for setting in ("5", "none", "6"):
            path.write_text(f"[Server]\nMaxStreams={setting}\n")
            reload = host.run("systemctl", "reload", "objmapper.service", check=False)
            assert (reload.returncode != 0) == (setting == "none"), reload
            if setting != "none":
                changed, reloaded = read_until("Manager.Reloaded")
                assert changed.startswith(f"{PATH}: org.freedesktop.DBus.Properties.PropertiesChanged ('{INTERFACE}', "
                                          "{'Configuration': <"), changed
                assert f"'MaxStreams': '{setting}'" in changed, changed
                assert reloaded == f"{PATH}: {INTERFACE}.Reloaded ()\n", reloaded
    finally:
        path.unlink()
        watching.communicate()
    host.run("systemctl", "reload", "objmapper.service")


CALLER = """
import select, sys, dbus
bus = dbus.SystemBus()
def call(method, signature, *arguments):
    return bus.call_blocking("org.objmapper1", "/org/objmapper1", "org.objmapper1.Manager", method, signature, arguments,
                             timeout=60)
n = 0
while n == 0 or not select.select([sys.stdin], [], [], 0)[0]:
    assert call("GetStats", "") and call("GetInfo", "sa{sv}", "called", dbus.Dictionary({}, signature="sv"))["size"] == 5
    n += 1
    if n == 1:
        print(flush=True)
print(n)
"""


def test_restarts_lose_no_call(host):
    """What was sent to the daemon before is answered by it, what comes after that by the next."""
    host.start_again()
    host.put("called", "bytes")
    callers = [host.start("/usr/bin/python3", "-c", CALLER, stdin=-1, stdout=-1, stderr=-1, text=True) for _ in range(4)]
    for caller in callers:
        assert caller.stdout.readline() == "\n", caller.communicate()
    for _ in range(10):
        host.run("systemctl", "restart", "objmapper.service")
    for caller in callers:
        output, errors = caller.communicate(timeout=60)
        assert caller.returncode == 0, errors
        print(f"# {output.strip()} calls of each")


def describe(text):
    interface = ElementTree.fromstring(text).find(f"interface[@name='{INTERFACE}']")
    return sorted((member.tag, member.get("name"), [tuple(sorted(part.attrib.items())) for part in member])
                  for member in interface)


def test_installed_interface(host):
    """What is installed says what the running service says."""
    installed = host.path("/usr/local/share/dbus-1/interfaces/org.objmapper1.Manager.xml")
    if not installed.exists():
        installed = host.path("/usr/share/dbus-1/interfaces/org.objmapper1.Manager.xml")
    for command in (("busctl", "introspect", "--xml-interface", "org.objmapper1", PATH),
                    ("gdbus", "introspect", "--system", "--xml", "--dest", "org.objmapper1", "--object-path", PATH)):
        assert describe(host.run(*command).stdout) == describe(installed.read_text()), command


with Host(broker=BROKER) as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
