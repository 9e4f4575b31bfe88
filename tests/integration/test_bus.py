# SPDX-License-Identifier: LGPL-2.1-or-later
"""org.objmapper1.Manager: every method, every error that a caller can provoke, and who may call."""

import os
import pathlib
import pwd
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import tap  # noqa: E402  pylint: disable=wrong-import-position

from manager import ERROR, NONE, NO_METADATA, Manager, dbus  # noqa: E402  pylint: disable=wrong-import-position
from bus import INTERFACE, NAME, PATH, Bus  # noqa: E402  pylint: disable=wrong-import-position
from common import wait_until  # noqa: E402  pylint: disable=wrong-import-position
from daemon import Daemon, build_path, need  # noqa: E402  pylint: disable=wrong-import-position

SOURCE = pathlib.Path(__file__).parent.parent.parent
STRANGER = pwd.getpwnam("nobody").pw_uid  # the bus wants one that has a name
MIB = 1 << 20


def generation_of(etag):
    return int(etag.split("-")[1], 16)


def test_put_and_get_info(_, manager, daemon):
    etag = manager.put("http://a/b?c=d", b"body", {"Content-Type": "text/plain", "empty": ""})
    assert re.fullmatch("[0-9a-f]{16}-[0-9a-f]+-1", etag), etag
    assert daemon.ctl("get", "http://a/b?c=d").stdout == b"body"

    info = manager.info("http://a/b?c=d")
    assert set(info) == {"etag", "size", "checksum", "stored", "expires", "hits", "used", "pinned",
                         "metadata", "metadata-omitted"}, set(info)
    assert info["etag"] == etag and info["size"] == 4 and info["hits"] == 1, info
    assert re.fullmatch("[0-9a-f]{16}", info["checksum"]), info
    assert info["used"] >= info["stored"] > 1.7e15 and info["expires"] == 0, info
    assert dict(info["metadata"]) == {"Content-Type": "text/plain", "empty": ""}, info
    assert info["metadata-omitted"] == 0, info


def test_put_replaces(_, manager, daemon):
    first = manager.put("replaced", b"one")
    second = manager.put("replaced", b"two")
    assert generation_of(second) > generation_of(first)
    assert daemon.ctl("get", "replaced").stdout == b"two"


def test_durability(_, manager, daemon):
    def visible_puts():
        return manager.call("GetStats", "")["puts_visible"]

    before = visible_puts()
    manager.put("durability", b"1")
    manager.put("durability", b"2", durability="durable")
    assert visible_puts() == before
    for size in (3, 3000):
        manager.put("durability", b"3" * size, durability="visible")
        assert daemon.ctl("get", "durability").stdout == b"3" * size
    assert visible_puts() == before + 2
    assert "durability" in manager.refuse("BadRequest", "durability", durability="maybe")
    manager.refuse("BadRequest", "durability", durability=1)


def test_sizes(_, manager, daemon):
    for size in (0, 1, 1999, 100_000, MIB):
        data = bytes(i % 251 for i in range(size))
        manager.put(f"size/{size}", data)
        assert manager.info(f"size/{size}")["size"] == size
        assert daemon.ctl("get", f"size/{size}").stdout == data
    said = manager.refuse("TooLarge", "size/more", bytes(MIB + 1))
    assert said.startswith("size/more: ") and "socket" in said, said
    assert "size/more" in manager.fail("Absent", "GetInfo", "sa{sv}", "size/more", NONE)


def test_largest_object(_, __, ___):
    with Bus() as own, Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": own.address}, start=False) as daemon:
        daemon.config.write_text(f"[Store]\nStoreDirectory={daemon.store}\nMaxObjectSize=10K\n")
        daemon.start()
        manager = Manager(own.address)
        manager.put("fits", bytes(10240))
        assert "MaxObjectSize=" in manager.refuse("TooLarge", "fits", bytes(10241))
        assert manager.info("fits")["size"] == 10240
        daemon.stop()


def test_uris(_, manager, __):
    for uri in ("../../etc/passwd", "/", " ", "ü" * 2048, "a" * 4096):
        manager.put(uri, uri.encode())
        assert manager.info(uri)["size"] == len(uri.encode())
    for uri in ("", "a" * 4097, "ü" * 2049):
        assert "4096" in manager.refuse("BadRequest", uri)
        assert "4096" in manager.fail("BadRequest", "GetInfo", "sa{sv}", uri, NONE)
        assert "4096" in manager.fail("BadRequest", "Remove", "sa{sv}", uri, NONE)


def test_conditions(_, manager, __):
    etag = manager.put("conditional", b"1", if_absent=True)
    assert "conditional: " in manager.refuse("Exists", "conditional", b"2", if_absent=True)
    generation = dbus.UInt64(generation_of(etag))
    again = manager.put("conditional", b"2", if_generation=generation)
    assert "conditional: " in manager.refuse("Conflict", "conditional", b"3", if_generation=generation)
    manager.refuse("Absent", "conditional/not", b"3", if_generation=generation)
    assert manager.info("conditional")["etag"] == again

    manager.fail("Conflict", "Remove", "sa{sv}", "conditional", {"if-generation": generation})
    manager.call("Remove", "sa{sv}", "conditional", {"if-generation": dbus.UInt64(generation_of(again))})
    manager.fail("Absent", "GetInfo", "sa{sv}", "conditional", NONE)


def test_remove(_, manager, __):
    manager.put("removed", b"1")
    assert manager.call("Remove", "sa{sv}", "removed", NONE) is None
    assert manager.fail("Absent", "Remove", "sa{sv}", "removed", NONE).startswith("removed: ")


def test_pin(_, manager, __):
    etag = manager.put("pinned", b"1")
    assert manager.info("pinned")["pinned"] == False  # pylint: disable=singleton-comparison
    before = manager.call("GetStats", "")["pinned_objects"]
    for _again in range(2):
        assert manager.call("Pin", "sa{sv}", "pinned", NONE) is None
        assert manager.info("pinned")["pinned"] and manager.info("pinned")["etag"] == etag
        assert manager.call("GetStats", "")["pinned_objects"] == before + 1
    etag = manager.put("pinned", b"2")
    assert manager.info("pinned")["pinned"]
    manager.fail("Conflict", "Unpin", "sa{sv}", "pinned", {"if-generation": dbus.UInt64(generation_of(etag) - 1)})
    manager.call("Unpin", "sa{sv}", "pinned", {"if-generation": dbus.UInt64(generation_of(etag))})
    assert not manager.info("pinned")["pinned"]
    assert manager.call("GetStats", "")["pinned_objects"] == before
    for method in ("Pin", "Unpin"):
        assert manager.fail("Absent", method, "sa{sv}", "pinned/not", NONE).startswith("pinned/not: ")
        assert "4096" in manager.fail("BadRequest", method, "sa{sv}", "", NONE)
        assert '"shiny"' in manager.fail("BadRequest", method, "sa{sv}", "pinned", {"shiny": True})


def test_expiry(_, manager, __):
    manager.put("lasting", b"1", ttl=dbus.UInt64(3_600_000))
    info = manager.info("lasting")
    assert 3_599_000_000 < info["expires"] - info["stored"] <= 3_600_000_000, info

    manager.put("brief", b"1", ttl=dbus.UInt64(1))
    expired = None
    while expired is None:  # until the clock has moved
        try:
            manager.info("brief")
        except dbus.DBusException as failure:
            expired = failure.get_dbus_name()
    assert expired == ERROR + "Expired", expired


def test_options(bus, manager, __):
    assert '"shiny"' in manager.refuse("BadRequest", "options", b"", shiny=True)
    for wrong in ({"if_absent": dbus.UInt32(1)}, {"ttl": "1h"}, {"if_generation": dbus.Int64(1)},
                  {"ttl": dbus.UInt64(0)}, {"if_generation": dbus.UInt64(0)},
                  {"if_absent": True, "if_generation": dbus.UInt64(1)}):
        said = manager.refuse("BadRequest", "options", b"", **wrong)
        assert said.startswith("options: ") and f'"{next(iter(wrong)).replace("_", "-")}"' in said, said
    assert '"if-absent"' in manager.fail("BadRequest", "Remove", "sa{sv}", "options", {"if-absent": True})
    manager.put("options", b"", if_absent=False)
    said = bus.fail("Remove", "sa{sv}", "options", 2, "if-generation", "t", 1, "if-generation", "t", 1)
    assert said == 'options: Option "if-generation" is there twice.', said


def test_metadata(_, manager, daemon):
    manager.refuse("BadRequest", "metadata", b"", {"": "value"})
    manager.refuse("BadRequest", "metadata", b"", {"k" * 256: "value"})
    manager.refuse("TooLarge", "metadata", b"", {"key": "v" * 32768})
    manager.put("metadata", b"", {"k" * 255: "v" * 32000, "ü": "ü\n"})
    assert manager.info("metadata")["metadata"] == {"k" * 255: "v" * 32000, "ü": "ü\n"}

    # What a dictionary of text can't hold is left out and counted.
    daemon.ctl("put", "metadata/bytes", "/dev/null", "--meta", b"a=1", "--meta", b"a=2", "--meta", b"b=\xff",
               "--meta", b"\xff=1", "--meta", b"c=3")
    info = manager.info("metadata/bytes")
    assert dict(info["metadata"]) == {"a": "1", "c": "3"} and info["metadata-omitted"] == 3, info


def test_stats(_, manager, daemon):
    counters = manager.call("GetStats", "")
    assert all(isinstance(value, dbus.UInt64) for value in counters.values())
    before = counters["store_puts"]
    manager.put("counted", b"1")
    assert manager.call("GetStats", "")["store_puts"] == before + 1
    assert b'"store_puts"' in daemon.ctl("stats", "--json").stdout


def test_reload(_, manager, daemon):
    daemon.configure("MaxStreams=none")
    said = manager.fail("ReloadRefused", "Reload", "")
    assert said.startswith(f"{daemon.config}:4: MaxStreams=none: "), said
    daemon.configure("MaxStreams=2")
    assert manager.call("Reload", "") is None
    assert "The configuration was reloaded" in daemon.log()


def test_strangers_may_ask_alone(bus, manager, __):
    if os.geteuid() != 0:
        raise tap.Skip("needs root")
    manager.put("guarded", b"1")
    assert bus.call("GetInfo", "sa{sv}", "guarded", 0, uid=STRANGER)["size"]["data"] == 1
    assert bus.call("GetStats", uid=STRANGER)["store_objects"]["data"] > 0
    for method, *arguments in (("PutBytes", "saya{ss}a{sv}", "guarded", 0, 0, 0), ("Remove", "sa{sv}", "guarded", 0),
                               ("Pin", "sa{sv}", "guarded", 0), ("Unpin", "sa{sv}", "guarded", 0),
                               ("Purge", "sa{sv}", "guarded", 0), ("FlushCache", "a{sv}", 0), ("Verify", "a{sv}", 0),
                               ("Reload",)):
        said = bus.fail(method, *arguments, uid=STRANGER)
        assert said.startswith(f"{method} is not permitted to uid {STRANGER}"), said
    assert manager.info("guarded")["size"] == 1


def test_no_descriptors(_, manager, daemon):
    """The bus itself refuses a message with descriptors: the daemon never gets one."""
    before = daemon.fds()
    with open("/dev/null", "rb") as null:
        try:
            returned = manager.call("PutBytes", "h", dbus.types.UnixFd(null))
        except dbus.DBusException as failure:
            assert failure.get_dbus_name() == "org.freedesktop.DBus.Error.NotSupported", failure
        else:
            raise AssertionError(f"returned {returned!r}")
    manager.call("GetStats", "")
    wait_until(lambda: daemon.fds() <= before, "every descriptor closed")


def test_wrong_arguments(_, manager, __):
    for method, signature, *arguments in (("PutBytes", "s", "uri"), ("GetInfo", "t", 1), ("Nothing", "")):
        try:
            manager.call(method, signature, *arguments)
        except dbus.DBusException as failure:
            assert failure.get_dbus_name().startswith("org.freedesktop.DBus.Error."), failure
        else:
            raise AssertionError(f"{method}({signature}) was taken")


def make_put(uri, data):
    message = dbus.lowlevel.MethodCallMessage(NAME, PATH, INTERFACE, "PutBytes")
    message.append(uri, dbus.ByteArray(data), NO_METADATA, NONE, signature="saya{ss}a{sv}")
    return message


def test_calls_under_way_are_bounded(bus, manager, daemon):
    """Of 1200 calls that wait in the bus when the daemon looks, at most 1024 are taken and the others refused."""
    before = manager.call("GetStats", "")["store_puts"]
    impatient = Manager(bus.address).connection
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        for i in range(1200):
            impatient.send_message(make_put(f"many/{i}", b"1"))
        impatient.get_name_owner(NAME)  # when this is answered, the bus has them all
    finally:
        daemon.process.send_signal(signal.SIGCONT)

    last = None
    while last is None:
        try:
            last = manager.put("many/last", b"1")
        except dbus.DBusException as failure:
            assert failure.get_dbus_name() == ERROR + "Busy", failure
    assert before + 64 < manager.call("GetStats", "")["store_puts"] <= before + 1024 + 1
    impatient.close()


def test_strangers_hold_up_nobody(bus, manager, daemon):
    """However much somebody asks for who may do nothing: root's calls behind that are done."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root")
    before = daemon.log().count("The configuration was reloaded")
    os.seteuid(STRANGER)
    try:
        strangers = [Manager(bus.address).connection for _ in range(10)]
    finally:
        os.seteuid(0)
    root = Manager(bus.address).connection
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        for stranger in strangers:
            for i in range(500):
                stranger.send_message(make_put(f"strange/{i}", b"1"))
            stranger.get_name_owner(NAME)  # when this is answered, the bus has them all
        root.send_message(dbus.lowlevel.MethodCallMessage(NAME, PATH, INTERFACE, "Reload"))
        root.get_name_owner(NAME)
    finally:
        daemon.process.send_signal(signal.SIGCONT)

    # The first call that is taken, and has to wait for its turn as that one had to, comes after it.
    while (name := manager.failure("Remove", "sa{sv}", "strange/0", NONE)[0]) == ERROR + "Busy":
        pass
    assert name == ERROR + "Absent", name
    assert daemon.log().count("The configuration was reloaded") == before + 1
    for stranger in strangers:
        stranger.close()
    root.close()


def test_listers_hold_up_nobody(bus, manager, _):
    """However much somebody lists: others list, and ask for one object."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root")
    for i in range(1000):
        manager.put(f"listed/{i}", b"", durability="visible")
    lister = Manager(bus.address).connection
    os.seteuid(STRANGER)
    try:
        other = Manager(bus.address)
    finally:
        os.seteuid(0)
    for _ in range(50):
        for _ in range(40):
            message = dbus.lowlevel.MethodCallMessage(NAME, PATH, INTERFACE, "List")
            message.append("listed/", "", dbus.UInt32(0), NONE, signature="ssua{sv}")
            message.set_no_reply(True)
            lister.send_message(message)
        lister.flush()
        assert other.info("listed/1")["size"] == 0
        assert len(other.call("List", "ssua{sv}", "listed/", "", dbus.UInt32(2), NONE)[0]) == 2
    lister.close()
    manager.call("Purge", "sa{sv}", "listed/", NONE)


def test_callers_that_leave(bus, manager, daemon):
    """A caller that is gone before its answer leaves nothing behind."""
    before = daemon.fds()
    for i in range(30):
        leaver = Manager(bus.address).connection
        leaver.send_message(make_put(f"left/{i}", bytes(10_000)))
        leaver.flush()
        leaver.close()
    manager.put("left/last", b"1")
    wait_until(lambda: daemon.fds() <= before, "every descriptor closed")


def test_introspection(_, manager, __):
    """The running service and the file in dbus/ say the same, which is valid."""
    def describe(text):
        interface = ElementTree.fromstring(text).find(f"interface[@name='{INTERFACE}']")
        return [(member.tag, member.get("name"), [tuple(sorted(part.attrib.items())) for part in member])
                for member in interface]

    running = manager.connection.call_blocking(NAME, PATH, "org.freedesktop.DBus.Introspectable", "Introspect", "",
                                               ())
    source = (SOURCE / "dbus" / f"{INTERFACE}.xml").read_text()
    assert describe(running) == describe(source)


def test_gdbus_speaks_to_it(bus, _, __):
    need("gdbus")
    env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address}
    for member, *arguments in (("GetStats",), ("PutBytes", "'from/gdbus'", "[byte 0x31]", "{'a': 'b'}",
                                               "{'if-absent': <true>}")):
        subprocess.run(["gdbus", "call", "--system", "--dest", NAME, "--object-path", PATH, "--method",
                        f"{INTERFACE}.{member}", *arguments], check=True, env=env, stdout=subprocess.DEVNULL,
                       timeout=60)


def test_name_is_taken(bus, _, __):
    """A second daemon on the same bus does not start."""
    with Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": bus.address}, start=False) as second:
        process = second.start(wait=False)
        assert process.wait(60) == 1
        second.process = None
        assert "Another process has the bus name org.objmapper1." in second.log(), second.log()


def test_changes_survive_a_stop(_, __, ___):
    """What is under way when the daemon is told to stop is answered, and what was answered is there."""
    with Bus() as own, Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": own.address}) as daemon:
        acknowledged = []
        failed = threading.Event()

        def put_until_it_stops():
            manager = Manager(own.address)
            while True:
                try:
                    uri = f"stop/{len(acknowledged)}"
                    manager.put(uri, uri.encode())
                    acknowledged.append(uri)
                except dbus.DBusException:
                    failed.set()
                    return

        thread = threading.Thread(target=put_until_it_stops)
        thread.start()
        while len(acknowledged) < 20:
            assert not failed.wait(0.005)
        daemon.stop()
        thread.join()
        daemon.start()
        for uri in acknowledged:
            assert daemon.ctl("get", uri).stdout == uri.encode()


class Deaf:
    """A caller that reads nothing once it is on the bus."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(address.removeprefix("unix:path="))
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        assert self.socket.recv(100).startswith(b"OK ")
        self.socket.sendall(b"BEGIN\r\n" + self.make_call(1, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                                          "org.freedesktop.DBus", "Hello"))
        assert self.socket.recv(1)  # what is on the bus may send

    @staticmethod
    def make_call(serial, destination, path, interface, member):
        fields = b""
        for code, kind, text in ((1, b"o", path), (2, b"s", interface), (3, b"s", member), (6, b"s", destination)):
            fields += bytes(-len(fields) % 8) + bytes([code, 1]) + kind + b"\0"
            fields += struct.pack("<I", len(text)) + text.encode() + b"\0"
        return struct.pack("<cBBBIII", b"l", 1, 0, 1, 0, serial, len(fields)) + fields + bytes(-len(fields) % 8)

    def call(self, n, method):
        self.socket.sendall(b"".join(self.make_call(2 + i, NAME, PATH, INTERFACE, method) for i in range(n)))


def memory_of(daemon):
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text())[1]) << 10


def processor_time_of(daemon):
    return pathlib.Path(f"/proc/{daemon.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]


def test_callers_that_read_nothing(_, __, ___):
    """A bus with as many unread answers as it holds takes no more, and the daemon does not keep them instead."""
    # What is freed is to be gone under the address sanitizer, too.
    sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
    with Bus("<limit name='max_incoming_bytes'>1000000</limit>") as own, \
            Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": own.address, "ASAN_OPTIONS": sanitizer}) as daemon:
        before = memory_of(daemon)
        callers = [Deaf(own.address) for _ in range(40)]
        for caller in callers:
            caller.call(100, "GetStats")
        Manager(own.address).connection.get_name_owner(NAME)  # when this is answered, the bus has them all
        spent = -1
        while spent != (spent := processor_time_of(daemon)):
            time.sleep(0.3)  # until it has nothing more to do
            assert memory_of(daemon) < before + (32 << 20)
        for caller in callers:
            caller.socket.close()
        manager = Manager(own.address)
        counters = None
        while counters is None:
            try:
                counters = manager.call("GetStats", "")
            except dbus.DBusException as failure:
                assert failure.get_dbus_name() == ERROR + "Busy", failure
        assert counters["sessions"] == 0


NO_CREDENTIALS = """<policy context="mandatory"><deny send_destination="org.freedesktop.DBus"
send_interface="org.freedesktop.DBus" send_member="GetConnectionCredentials"/></policy>"""


def test_bus_that_tells_users_alone(_, __, ___):
    """As dbus-brokers with a descriptor among the credentials: users are known, groups not."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root")
    settings = "[Namespace some]\nPrefix=some/\nReadUsers=1\nReadGroups=4001"
    with Bus(NO_CREDENTIALS) as own, \
            Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": own.address}, settings=settings) as daemon:
        manager = Manager(own.address)
        manager.put("some/1", b"123")
        ask = ("GetInfo", "sa{sv}", "some/1", 0)
        assert own.call(*ask, uid=1)["size"]["data"] == 3
        refused = own.busctl("call", NAME, PATH, INTERFACE, *map(str, ask), uid=2, groups=(4001,))
        assert "The rules of namespace some do not permit GetInfo to uid 2." in refused.stderr, refused
        said = own.fail("Reload", uid=STRANGER)
        assert said.startswith(f"Reload is not permitted to uid {STRANGER}"), said
        own.call("Reload")
        assert "has closed the connection" not in daemon.log()


def test_bus_goes_away(_, __, ___):
    """The daemon serves on without its bus."""
    with Bus() as own, Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": own.address}) as daemon:
        daemon.ctl("put", "object", "/etc/hostname")
        own.stop()
        while "The bus has closed the connection" not in daemon.log():
            pass
        assert daemon.ctl("get", "object").stdout == pathlib.Path("/etc/hostname").read_bytes()


assert build_path("src/daemon/objmapperd").exists()
with Bus() as private, Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": private.address}) as server:
    tap.run(globals(), private, Manager(private.address), server, on_failure=server.log)
