# SPDX-License-Identifier: LGPL-2.1-or-later
"""org.objmapper1.Manager: what concerns many objects, or the store as a whole."""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import disk  # noqa: E402  pylint: disable=wrong-import-position
import tap  # noqa: E402  pylint: disable=wrong-import-position
from manager import NONE, Manager, dbus  # noqa: E402  pylint: disable=wrong-import-position
from bus import INTERFACE, NAME, PATH, Bus  # noqa: E402  pylint: disable=wrong-import-position
from daemon import Daemon  # noqa: E402  pylint: disable=wrong-import-position
from common import wait_until  # noqa: E402  pylint: disable=wrong-import-position

PAGE = 500
MEMBERS = {"etag", "size", "checksum", "stored", "expires", "hits", "used", "pinned"}


@contextlib.contextmanager
def daemon_of_its_own(settings=""):
    with Bus() as bus, Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": bus.address}, settings=settings) as daemon:
        yield Manager(bus.address), daemon


def put_many(daemon, prefix, n):
    """prefix0000 and so on, of one byte each."""
    with tempfile.TemporaryDirectory(prefix="objmapper-many-", dir="/var/tmp") as folder:
        for i in range(n):
            (pathlib.Path(folder) / f"{i:04}").write_text("1", encoding="ascii")
        daemon.ctl("put", "--recursive", folder, prefix)


def stat(manager, name):
    return manager.call("GetStats", "")[name]


def list_page(manager, prefix="", cursor="", limit=0):
    entries, after = manager.call("List", "ssua{sv}", prefix, cursor, dbus.UInt32(limit), NONE)
    return entries, str(after)


def list_all(manager, prefix, limit):
    """The URIs on each page."""
    pages, cursor = [], ""
    while True:
        entries, cursor = list_page(manager, prefix, cursor, limit)
        pages.append([str(uri) for uri, _info in entries])
        if not cursor:
            return pages


def test_purge(manager, daemon):
    put_many(daemon, "gone/", 700)
    manager.put("gonest", b"1")
    before = stat(manager, "store_objects")
    assert manager.call("Purge", "sa{sv}", "gone/", NONE) == 700
    assert stat(manager, "store_objects") == before - 700
    manager.fail("Absent", "GetInfo", "sa{sv}", "gone/0003", NONE)
    assert manager.info("gonest")["size"] == 1
    assert manager.call("Purge", "sa{sv}", "gone/", NONE) == 0


def test_purge_of_all(manager, _):
    """What was forgotten does not cost everything."""
    manager.put("kept", b"1")
    for options in (NONE, {"all": False}):
        assert '"all"' in manager.fail("BadRequest", "Purge", "sa{sv}", "", options)
    assert manager.info("kept")["size"] == 1
    n_objects = stat(manager, "store_objects")
    assert manager.call("Purge", "sa{sv}", "", {"all": True}) == n_objects
    assert stat(manager, "store_objects") == 0


def test_prefixes(manager, _):
    assert manager.call("Purge", "sa{sv}", "p" * 4096, NONE) == 0
    assert list_page(manager, "p" * 4096) == ([], "")
    for method, signature, *arguments in (("Purge", "sa{sv}", "p" * 4097, NONE),
                                          ("List", "ssua{sv}", "p" * 4097, "", 0, NONE)):
        assert "4096" in manager.fail("BadRequest", method, signature, *arguments)
    for method, signature, *arguments in (("Purge", "sa{sv}", "p", {"shiny": True}),
                                          ("List", "ssua{sv}", "p", "", 0, {"shiny": True}),
                                          ("FlushCache", "a{sv}", {"shiny": True}),
                                          ("GetNamespaces", "a{sv}", {"shiny": True}),
                                          ("GetInfo", "sa{sv}", "p", {"shiny": True})):
        assert '"shiny"' in manager.fail("BadRequest", method, signature, *arguments)


def test_list(manager, daemon):
    put_many(daemon, "list/", 1200)
    wanted = [f"list/{i:04}" for i in range(1200)]
    pages = list_all(manager, "list/", 0)
    assert [len(page) for page in pages][:2] == [PAGE, PAGE] and sum(pages, []) == wanted, list(map(len, pages))
    for limit, most in ((7, 7), (5000, PAGE)):
        pages = list_all(manager, "list/0", limit)
        assert max(map(len, pages)) == most and sum(pages, []) == wanted[:1000], (limit, list(map(len, pages)))
    assert list_page(manager, "lost/") == ([], "")


def test_list_tells_what_is_known(manager, daemon):
    manager.put("told/1", b"12345", {"a": "b"}, ttl=dbus.UInt64(3_600_000))
    manager.call("Pin", "sa{sv}", "told/1", NONE)
    daemon.ctl("get", "told/1")
    (uri, info), = list_page(manager, "told/")[0]
    known = manager.info("told/1")
    assert uri == "told/1" and set(info) == MEMBERS, info
    assert {name: known[name] for name in MEMBERS} == info and info["pinned"] and info["size"] == 5, (info, known)


def test_list_of_bytes(manager, daemon):
    """A URI that is not UTF-8 is there as bytes."""
    for uri in (b"bytes/\xff\x01", "bytes/ü".encode()):
        daemon.ctl("put", uri, "/dev/null")
    entries = {bytes(info["uri-bytes"]) if uri == "" else str(uri): set(info) for uri, info in list_page(manager, "bytes/")[0]}
    assert entries == {"bytes/ü": MEMBERS, b"bytes/\xff\x01": MEMBERS | {"uri-bytes"}}, entries


def test_long_uris_are_paged_by_bytes(manager, _):
    for i in range(300):
        manager.put(f"{i:04}" + "l" * 4092, b"", durability="visible")
    wait_until(lambda: len(sum(list_all(manager, "0", 500), [])) == 300, "the commit")
    pages = list_all(manager, "0", 500)
    assert len(pages) > 1 and len(set(sum(pages, []))) == 300, list(map(len, pages))
    manager.call("Purge", "sa{sv}", "0", NONE)


def test_cursors(manager, _):
    for cursor in ("0", "zz", "AB", "00", "ff" * 8193, "more"):
        said = manager.fail("BadRequest", "List", "ssua{sv}", "", cursor, 0, NONE)
        assert said == "The cursor is not one of this store.", (cursor, said)


def test_flush_cache(manager, daemon):
    daemon.ctl("put", "warm", input=b"w" * 5000)
    wait_until(lambda: daemon.ctl("get", "warm").stdout and stat(manager, "hot_objects") > 0, "it is hot")
    assert stat(manager, "hot_bytes") > 0
    before = stat(manager, "hot_bytes")
    assert manager.call("FlushCache", "a{sv}", NONE) is None
    assert stat(manager, "hot_objects") == 0 and stat(manager, "hot_bytes") < before
    assert "the cache flushed" in daemon.log()
    hits = stat(manager, "hot_hits")
    assert daemon.ctl("get", "warm").stdout == b"w" * 5000 and stat(manager, "hot_hits") == hits
    wait_until(lambda: daemon.ctl("get", "warm").stdout and stat(manager, "hot_objects") > 0, "it is hot again")


def test_flush_copies(*_):
    with tempfile.TemporaryDirectory(prefix="objmapper-copies-", dir="/var/tmp") as folder, \
            daemon_of_its_own(f"[Store]\nCachePath={folder}\nCachePathSize=64M") as (manager, daemon):
        body = bytes(300_000)
        for name in ("one", "two"):
            daemon.ctl("put", name, input=body)

        def are_copied():
            return all(daemon.ctl("get", name).stdout == body for name in ("one", "two")) and \
                stat(manager, "fast_objects") == 2

        for _again in range(2):
            wait_until(are_copied, "copies")
            manager.call("FlushCache", "a{sv}", NONE)
            assert stat(manager, "fast_objects") == 0 and stat(manager, "fast_bytes") == 0
            assert not [path for path in pathlib.Path(folder).glob("*/blobs/*/*") if path.is_file()]


def test_get_namespaces(*_):
    settings = "[Namespace few]\nPrefix=few/\nMaxObjects=3\nMaxBytes=1M\n[Namespace free]\nPrefix=free/\n"
    with daemon_of_its_own(settings) as (manager, _daemon):
        manager.put("few/1", b"123")
        manager.put("few/2", b"45")
        manager.put("other", b"6")
        manager.call("Pin", "sa{sv}", "few/2", NONE)
        shown = {str(name): {str(key): int(value) for key, value in usage.items()}
                 for name, usage in manager.call("GetNamespaces", "a{sv}", NONE)}
        assert shown == {
            "few": {"objects": 2, "bytes": 5, "objects-pinned": 1, "bytes-pinned": 2, "objects-max": 3,
                    "bytes-max": 1 << 20},
            "free": {"objects": 0, "bytes": 0, "objects-pinned": 0, "bytes-pinned": 0}}, shown


class Signals:
    """with Signals(manager) as signals: what the object tells the bus meanwhile."""

    def __init__(self, manager):
        self.process = subprocess.Popen(["busctl", f"--address={manager.address}", "--json=short",
                                         f"--match=type='signal',path='{PATH}'", "monitor"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.read = b""
        # Not every busctl says when it has begun: it has when it shows what is sent for that.
        wait_until(lambda: self.shows_probe(manager.connection), "the monitor")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def shows_probe(self, connection):
        connection.send_message(dbus.lowlevel.SignalMessage(PATH, INTERFACE, "Probe"))
        connection.flush()
        return select.select([self.process.stdout], [], [], 0.1)[0]

    def await_member(self, member):
        """All signals up to that one, which is awaited: the name of each and what it carries."""
        seen = []
        while not seen or seen[-1][0] != member:
            while b"\n" not in self.read:
                ready, _, _ = select.select([self.process.stdout], [], [], 60)
                assert ready, f"{member} does not come after {seen}"
                self.read += os.read(self.process.stdout.fileno(), 65536)
            line, _, self.read = self.read.partition(b"\n")
            message = json.loads(line)
            if message.get("path") == PATH and message["member"] != "Probe":
                seen.append((message["member"], message["payload"]["data"]))
        return seen


def get(manager, name):
    return manager.connection.call_blocking(NAME, PATH, "org.freedesktop.DBus.Properties", "Get", "ss",
                                            (INTERFACE, name), timeout=60)


def test_properties(manager, daemon):
    version = get(manager, "Version")
    assert daemon.ctl("--version").stdout.decode().split()[1] == version
    etag = manager.put("of/the/store", b"123")
    assert etag.split("-")[0] == get(manager, "StoreID")
    assert get(manager, "Writable")
    assert get(manager, "Objects") == stat(manager, "store_objects") > 0
    assert get(manager, "Bytes") == stat(manager, "store_bytes") > 0
    assert get(manager, "Sessions") == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(daemon.reader))
        wait_until(lambda: get(manager, "Sessions") == 1, "the session")
    everything = manager.connection.call_blocking(NAME, PATH, "org.freedesktop.DBus.Properties", "GetAll", "s",
                                                  (INTERFACE,), timeout=60)
    assert set(everything) == {"Version", "StoreID", "Configuration", "ConfigurationFiles", "Writable", "Objects",
                               "Bytes", "Sessions"}, set(everything)
    for name in everything:  # none can be set, not by root
        try:
            manager.connection.call_blocking(NAME, PATH, "org.freedesktop.DBus.Properties", "Set", "ssv",
                                             (INTERFACE, name, everything[name]), timeout=60)
        except dbus.DBusException as failure:
            assert failure.get_dbus_name() == "org.freedesktop.DBus.Error.PropertyReadOnly", failure
        else:
            raise AssertionError(f"{name} was set")


def test_reload_is_told(*_):
    with daemon_of_its_own() as (manager, daemon), Signals(manager) as signals:
        before = get(manager, "Configuration")
        assert before["Server"]["MaxStreams"] == "8" and before["Store"]["StoreDirectory"] == str(daemon.store), before
        assert before["Store"]["MaxBytes"] == "80%" and before["Store"]["CachePath"] == "", before
        assert list(get(manager, "ConfigurationFiles")) == [str(daemon.config)]

        daemon.configure("MaxStreams=3\nMaxOutput=1M\nIdleTimeoutSec=90\n[Namespace a.b]\nPrefix=\"a\\xff\\\\ \"\nEvict=no\n"
                         "ReadUsers=root 7")
        manager.call("Reload", "")
        seen = signals.await_member("Reloaded")
        assert [name for name, _ in seen] == ["PropertiesChanged", "Reloaded"], seen
        interface, changed, invalidated = seen[0][1]
        assert interface == INTERFACE and set(changed) == {"Configuration", "ConfigurationFiles"}, seen
        assert not invalidated and seen[1][1] == []
        now = get(manager, "Configuration")
        assert changed["Configuration"]["data"] == now
        assert (now["Server"]["MaxStreams"], now["Server"]["MaxOutput"], now["Server"]["IdleTimeoutSec"]) == (
            "3", "1M", "1min 30s"), now
        namespace = now["Namespace a.b"]
        assert namespace["Prefix"] == '"a\\xff\\\\ "' and namespace["Evict"] == "no", namespace
        assert namespace["ReadUsers"] == "root 7" and namespace["Policy"] == "", namespace

        # What is shown is what would be written.
        daemon.config.write_text("".join(f"[{section}]\n" + "".join(f"{name}={value}\n" for name, value in values.items())
                                         for section, values in now.items()))
        daemon.process.send_signal(signal.SIGHUP)
        assert [name for name, _ in signals.await_member("Reloaded")] == ["PropertiesChanged", "Reloaded"]
        assert get(manager, "Configuration") == now
        # A reload that is refused changes nothing.
        daemon.configure("MaxStreams=none")
        manager.fail("ReloadRefused", "Reload", "")
        daemon.configure("MaxStreams=4")
        manager.call("Reload", "")
        assert len(signals.await_member("Reloaded")) == 2


def test_trouble_of_the_disk_is_told(*_):
    """Read-only and writable again: a property and a signal each, of which nobody has to poll."""
    disk.need()
    with disk.Disk("ext4") as disk_, Bus() as bus, \
            Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": bus.address}, start=False) as daemon:
        daemon.store = disk_.path / "store"
        daemon.configure("")
        daemon.start()
        daemon.stop()
        # A mount that has a file open for writing can't be made read-only: so one of its own for the bodies.
        blobs = daemon.store / "blobs"
        disk.run("mount", "--bind", blobs, blobs)
        daemon.start()
        manager = Manager(bus.address)
        manager.put("there", b"1")
        with Signals(manager) as signals:
            disk.run("mount", "-o", "remount,bind,ro", blobs)
            for _again in range(2):
                manager.refuse("ReadOnly", "not/there", bytes(100_000))
            seen = signals.await_member("StoreReadOnly")
            assert [name for name, _ in seen] == ["PropertiesChanged", "StoreReadOnly"], seen
            assert seen[0][1][1] == {"Writable": {"type": "b", "data": False}} and seen[1][1] == ["Read-only file system"], seen
            assert not get(manager, "Writable") and manager.info("there")["size"] == 1

            disk.run("mount", "-o", "remount,bind,rw", blobs)
            manager.put("there/now", bytes(100_000))
            seen = signals.await_member("StoreWritable")
            assert [name for name, _ in seen] == ["PropertiesChanged", "StoreWritable"], seen
            assert seen[0][1][1] == {"Writable": {"type": "b", "data": True}} and seen[1][1] == [] and get(manager, "Writable")
        daemon.stop()
        disk.run("umount", blobs)


with daemon_of_its_own() as place:
    tap.run(globals(), *place, on_failure=place[1].log)
