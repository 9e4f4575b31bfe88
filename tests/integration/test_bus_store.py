# SPDX-License-Identifier: LGPL-2.1-or-later
"""org.objmapper1.Manager: what concerns many objects, or the store as a whole."""

import contextlib
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import tap  # noqa: E402  pylint: disable=wrong-import-position
from manager import NONE, Manager, dbus  # noqa: E402  pylint: disable=wrong-import-position
from bus import Bus  # noqa: E402  pylint: disable=wrong-import-position
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


with daemon_of_its_own() as place:
    tap.run(globals(), *place, on_failure=place[1].log)
