# SPDX-License-Identifier: LGPL-2.1-or-later
"""Namespaces: whom their rules let read and publish what, through every verb, and what others can learn."""

import contextlib
import json
import os
import pathlib
import re
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import common  # noqa: E402  pylint: disable=wrong-import-position
import tap  # noqa: E402  pylint: disable=wrong-import-position
import wire  # noqa: E402  pylint: disable=wrong-import-position
from bus import INTERFACE, NAME, PATH, Bus  # noqa: E402  pylint: disable=wrong-import-position
from daemon import Daemon  # noqa: E402  pylint: disable=wrong-import-position

ALICE, BOB, CAROL, OVERFLOW = 1, 2, 3, 65534  # the first three have names on every Debian, as the bus wants
TEAM, OTHERS = 4001, 4002

SETTINGS = f"""
[Namespace open]
Prefix=open/
[Namespace alice]
Prefix=alice/
ReadUsers={ALICE}
PublishUsers={ALICE}
[Namespace team]
Prefix=team/
ReadGroups={TEAM}
PublishUsers={BOB}
[Namespace alice.shared]
Prefix=alice/shared/
PublishUsers={ALICE} {CAROL}
[Namespace nobody]
Prefix=nobody/
ReadUsers=no-such-user 65534
PublishGroups=65534
[Namespace bytes]
Prefix=\\xff\\x20
ReadUsers={ALICE}
"""


@contextlib.contextmanager
def open_daemon(settings=SETTINGS, **kwargs):
    """A daemon that every user can connect to."""
    with Daemon(settings=settings, **kwargs) as daemon:
        daemon.base.chmod(0o755)
        for path in (daemon.reader, daemon.publisher):
            os.chmod(path, 0o666)
        yield daemon


def connect(path, uid, gid=None, groups=()):
    """A session of a peer who has these when it connects."""
    before = os.getgroups()
    try:
        os.setgroups(groups)
        os.setegid(OTHERS if gid is None else gid)
        os.seteuid(uid)
        return wire.Peer(path)
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def reload(daemon, settings):
    n = daemon.log(1 << 20).count("was reloaded")
    daemon.configure(settings)
    daemon.process.send_signal(signal.SIGHUP)
    common.wait_until(lambda: daemon.log(1 << 20).count("was reloaded") > n, "reloaded")


def refusals(daemon):
    return re.findall(r"Refused a ([a-z-]+) in namespace ([a-z.]+) to uid (\d+) \(pid (\d+)\): ", daemon.log(1 << 20))


def names(reply):
    assert reply.status == wire.OK, reply
    return [name for _, name in wire.list_entries(reply.body)]


def list_all(peer, prefix, limit=0):
    """Every name, page by page, and the pages' sizes."""
    found, sizes, cursor = [], [], b""
    while True:
        fields = [wire.prefix(prefix)]
        if limit:
            fields.append(wire.field(wire.TAG_LIMIT, limit.to_bytes(4, "little")))
        if cursor:
            fields.append(wire.field(wire.TAG_CURSOR, cursor))
        reply = peer.ask(wire.LIST, *fields)
        page = names(reply)
        found += page
        sizes.append(len(page))
        cursor = reply.fields.get(wire.TAG_CURSOR, b"")
        if not cursor:
            return found, sizes


def refused(reply, namespace):
    """It says which namespace, and says no more than that."""
    assert reply.status == wire.NOT_PERMITTED, reply
    assert f"namespace {namespace}:" in reply.text, reply.text
    assert set(reply.fields) == {wire.TAG_TEXT}, reply.fields


def fill(daemon):
    with connect(daemon.publisher, 0) as root:
        for name in ("open/1", "alice/1", "alice/shared/1", "alice/zzz", "team/1", "nobody/1", b"\xff 1", b"\xff!", "z"):
            root.put(name, b"body")


def test_reading():
    with open_daemon() as daemon:
        fill(daemon)
        for path in (daemon.reader, daemon.publisher):
            with connect(path, BOB) as bob, connect(path, ALICE) as alice:
                for name in ("alice/1", "alice/none", b"alice/\xff"):  # there or not: no difference
                    for verb in (wire.GET, wire.STAT):
                        refused(bob.ask(verb, wire.uri(name)), "alice")
                refused(bob.ask(wire.GET, wire.uri("alice/1"), wire.range_(0)), "alice")
                refused(bob.ask(wire.GET, wire.uri(b"\xff 1")), "bytes")
                refused(bob.ask(wire.GET, wire.uri("team/1")), "team")
                refused(alice.ask(wire.STAT, wire.uri("nobody/1")), "nobody")
                assert alice.get("alice/1") == b"body" and alice.get(b"\xff 1") == b"body"
                assert alice.ask(wire.STAT, wire.uri("alice/none")).status == wire.ABSENT
                for peer in (alice, bob):
                    assert peer.get("alice/shared/1") == b"body" and peer.get("open/1") == b"body"
                    assert peer.get("z") == b"body" and peer.get(b"\xff!") == b"body"
                    assert peer.ask(wire.STAT, wire.uri("alice")).status == wire.ABSENT


def test_groups():
    """The group that the peer runs as, and those that it has besides."""
    with open_daemon() as daemon:
        fill(daemon)
        with connect(daemon.reader, CAROL, gid=TEAM) as peer:
            assert peer.get("team/1") == b"body"
        with connect(daemon.reader, CAROL, groups=[7, OTHERS, TEAM]) as peer:
            assert peer.get("team/1") == b"body"
        with connect(daemon.reader, CAROL, groups=list(range(10000, 11023)) + [TEAM]) as peer:
            assert peer.get("team/1") == b"body"
        with connect(daemon.reader, CAROL, groups=list(range(10000, 11024)) + [TEAM]) as peer:
            refused(peer.ask(wire.GET, wire.uri("team/1")), "team")  # too many: in none
        with connect(daemon.reader, TEAM, groups=[7]) as peer:
            refused(peer.ask(wire.GET, wire.uri("team/1")), "team")  # a user's number is no group's


def test_overflow_matches_nothing():
    with open_daemon() as daemon:
        fill(daemon)
        with connect(daemon.publisher, OVERFLOW, gid=OVERFLOW, groups=[OVERFLOW]) as peer:
            refused(peer.ask(wire.GET, wire.uri("nobody/1")), "nobody")
            refused(peer.ask(wire.REMOVE, wire.uri("nobody/1")), "nobody")
            assert peer.get("open/1") == b"body"


def test_publishing():
    with open_daemon() as daemon:
        fill(daemon)
        with connect(daemon.publisher, BOB) as bob, connect(daemon.publisher, CAROL) as carol:
            for name in ("alice/1", "alice/none"):
                refused(bob.ask(wire.PUT, wire.uri(name), body=b"x" * 100000), "alice")
                refused(bob.ask(wire.PUT, wire.uri(name), body=b""), "alice")
                refused(bob.ask(wire.REMOVE, wire.uri(name)), "alice")
                refused(bob.ask(wire.SET_METADATA, wire.uri(name), wire.metadata((b"a", b"b"))), "alice")
            # A stream is refused before its body; nothing of it is kept.
            id_ = bob.new_id()
            bob.send(wire.frame(wire.PUT, id_, wire.uri("alice/stream"), flags=wire.FLAG_STREAM))
            refused(bob.receive(), "alice")
            bob.send(wire.frame(wire.DATA, id_, body_size=5), b"bytes", wire.frame(wire.END, id_))
            refused(carol.ask(wire.PUT, wire.uri("alice/1"), body=b"x"), "alice")
            carol.put("alice/shared/2", b"carol's")
            refused(bob.ask(wire.PUT, wire.uri("alice/shared/2"), body=b"x"), "alice.shared")
            # A publisher is no reader for that.
            bob.put("team/2", b"bob's")
            refused(bob.ask(wire.GET, wire.uri("team/2")), "team")
            assert bob.ask(wire.SET_METADATA, wire.uri("team/2"), wire.metadata((b"a", b"b"))).status == wire.OK
            assert bob.ask(wire.REMOVE, wire.uri("team/2")).status == wire.OK
            bob.put("open/2", b"bob's")
            bob.put("elsewhere", b"bob's")
            assert carol.ask(wire.REMOVE, wire.uri("elsewhere")).status == wire.OK
        with connect(daemon.reader, ALICE) as alice:
            assert alice.get("alice/1") == b"body" and alice.get("alice/shared/2") == b"carol's"
            assert alice.ask(wire.STAT, wire.uri("alice/stream")).status == wire.ABSENT
            # The readers' socket carries no changes, whatever the rules say.
            reply = alice.ask(wire.REMOVE, wire.uri("alice/1"))
            assert reply.status == wire.NOT_PERMITTED and "namespace" not in reply.text


def test_purge_is_all_or_nothing():
    with open_daemon() as daemon:
        fill(daemon)
        with connect(daemon.publisher, ALICE) as alice, connect(daemon.publisher, CAROL) as carol:
            for prefix, namespace in (("", "nobody"), ("t", "team"), ("team/", "team"), ("team/1/2", "team")):
                refused(alice.ask(wire.PURGE, wire.prefix(prefix)), namespace)
            refused(carol.ask(wire.PURGE, wire.prefix("a")), "alice")
            refused(carol.ask(wire.PURGE, wire.prefix("alice/s")), "alice")
            with connect(daemon.reader, 0) as root:
                assert len(list_all(root, "")[0]) == 9
            assert carol.ask(wire.PURGE, wire.prefix("alice/shared/")).count == 1
            assert alice.ask(wire.PURGE, wire.prefix("a")).count == 2
            assert alice.ask(wire.PURGE, wire.prefix(b"\xff")).count == 2
        with connect(daemon.publisher, 0) as root:
            assert root.ask(wire.PURGE, wire.prefix("")).count == 4


def test_listing():
    with open_daemon() as daemon:
        fill(daemon)
        everything = [b"alice/1", b"alice/shared/1", b"alice/zzz", b"nobody/1", b"open/1", b"team/1", b"z", b"\xff 1",
                      b"\xff!"]
        with connect(daemon.reader, BOB) as bob, connect(daemon.reader, ALICE, groups=[TEAM]) as alice, \
                connect(daemon.reader, 0) as root:
            for prefix, namespace in (("alice/", "alice"), ("alice/s", "alice"), ("team/1", "team"),
                                      (b"\xff ", "bytes")):
                refused(bob.ask(wire.LIST, wire.prefix(prefix)), namespace)
            for limit in (0, 1, 2):
                assert list_all(root, "", limit)[0] == everything
                assert list_all(alice, "", limit)[0] == [name for name in everything if name != b"nobody/1"]
                assert list_all(bob, "", limit)[0] == [b"alice/shared/1", b"open/1", b"z", b"\xff!"]
            assert list_all(bob, "alice")[0] == [b"alice/shared/1"]
            assert list_all(bob, "alice/shared/")[0] == [b"alice/shared/1"]
            assert list_all(alice, "alice/")[0] == everything[:3]


def test_listing_says_nothing_of_others():
    """Neither cursors nor empty pages tell of names that one may not know, however many there are."""
    # More than are looked at for a page, had they to be.
    secret = "alice/" + "the secret of " * 40  # longer than a key of the dictionary as well
    with open_daemon() as daemon:
        with connect(daemon.publisher, 0) as root:
            root.put("alice", b"")
            for i in range(0, 10200, 200):
                ttl = wire.u64(wire.TAG_TTL, 1) if i % 400 else b""
                root.send(*(wire.frame(wire.PUT, root.new_id(), wire.uri(f"alice/{n:05}"), ttl)
                            for n in range(i, i + 200)))
                assert all(root.receive().status == wire.OK for _ in range(200))
            root.put(secret + "1", b"")
            root.put(secret + "2", b"")
            root.put("bob", b"")
        with connect(daemon.reader, BOB) as bob:
            cursor = b""
            for wanted in (b"alice", b"bob"):
                fields = [wire.field(wire.TAG_CURSOR, cursor)] if cursor else []
                reply = bob.ask(wire.LIST, wire.prefix(""), wire.field(wire.TAG_LIMIT, b"\1\0\0\0"), *fields)
                assert names(reply) == [wanted]
                cursor = reply.fields[wire.TAG_CURSOR]
                assert b"secret" not in cursor and b"/0" not in cursor and b"/2" not in cursor
            assert list_all(bob, "") == ([b"alice", b"bob"], [2])
            # One that was made up does not lead there.
            for made_up in (b"alice/0", b"alice/", b"alice/9"):
                reply = bob.ask(wire.LIST, wire.prefix(""), wire.field(wire.TAG_CURSOR, cursor[:9] + made_up))
                assert names(reply) == [b"bob"]


def test_root_and_own_user_always_may():
    with open_daemon() as daemon:
        fill(daemon)
        with connect(daemon.publisher, 0) as root:
            for name in ("nobody/1", "alice/1", "team/1"):
                assert root.get(name) == b"body"
                root.put(name, b"new")
        assert not refusals(daemon)


def test_logged_once():
    with open_daemon() as daemon:
        fill(daemon)
        with connect(daemon.publisher, BOB) as bob, connect(daemon.reader, CAROL) as carol:
            for _ in range(50):
                bob.ask(wire.GET, wire.uri("alice/1"))
                bob.ask(wire.REMOVE, wire.uri("alice/1"))
                carol.ask(wire.GET, wire.uri("alice/1"))
                carol.ask(wire.LIST, wire.prefix("team/"))
            wanted = [("get", "alice", BOB), ("get", "alice", CAROL), ("list", "team", CAROL)]
            assert [(verb, space, int(uid)) for verb, space, uid, _ in refusals(daemon)] == wanted
            assert all(int(pid) == os.getpid() for *_, pid in refusals(daemon))
            assert common.stats(daemon)["errors_not_permitted"] == 200
            # New rules, new lines.
            reload(daemon, SETTINGS)
            bob.ask(wire.GET, wire.uri("alice/1"))
            assert len(refusals(daemon)) == 4


def test_reload():
    """Sessions that are there see new rules with their next request; a wrong file changes nothing."""
    with open_daemon(settings="") as daemon:
        fill(daemon)
        with connect(daemon.publisher, BOB) as bob:
            assert bob.get("alice/1") == b"body"
            stream = bob.new_id()
            bob.send(wire.frame(wire.PUT, stream, wire.uri("alice/stream"), flags=wire.FLAG_STREAM))
            bob.send(wire.frame(wire.DATA, stream, body_size=5), b"bytes")
            assert bob.get("alice/1") == b"body"  # so the put was begun

            reload(daemon, SETTINGS)
            refused(bob.ask(wire.GET, wire.uri("alice/1")), "alice")
            bob.send(wire.frame(wire.END, stream))
            assert bob.receive().status == wire.OK  # begun when it was permitted

            for wrong in ("[Namespace alice]\nReadUsers=1\n", "[Namespace a]\nPrefix=a\n[Namespace b]\nPrefix=a\n"):
                daemon.configure(wrong)
                n = daemon.log(1 << 20).count("was not reloaded")
                daemon.process.send_signal(signal.SIGHUP)
                common.wait_until(lambda n=n: daemon.log(1 << 20).count("was not reloaded") > n, "refused")
                refused(bob.ask(wire.GET, wire.uri("alice/1")), "alice")

            for _ in range(10):
                reload(daemon, "")
                assert bob.get("alice/1") == b"body"
                reload(daemon, SETTINGS)
                refused(bob.ask(wire.GET, wire.uri("alice/1")), "alice")


def test_unknown_names_are_warned_of():
    with open_daemon(settings="[Namespace a]\nPrefix=a\nReadUsers=no-such-user\n") as daemon:
        assert f"{daemon.config}:6: ReadUsers=no-such-user: there is no such user" in daemon.log()
        with connect(daemon.reader, ALICE) as alice:
            refused(alice.ask(wire.STAT, wire.uri("a")), "a")


def test_bus():
    """There too a peer has its user and its groups; only root changes something."""
    with Bus() as bus, open_daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": bus.address}) as daemon:
        fill(daemon)

        def ask(uri, uid, groups=()):
            return bus.busctl("call", NAME, PATH, INTERFACE, "GetInfo", "sa{sv}", uri, "0", uid=uid, groups=groups)

        def listed(prefix, uid, groups=()):
            result = bus.busctl("call", NAME, PATH, INTERFACE, "List", "ssua{sv}", prefix, "", "0", "0", uid=uid,
                                groups=groups)
            assert result.returncode == 0, result.stderr
            return [uri for uri, _info in json.loads(result.stdout)["data"][0] if uri]

        assert json.loads(ask("alice/1", ALICE).stdout)["data"][0]["size"]["data"] == 4
        for uri in ("alice/1", "alice/none"):
            result = ask(uri, BOB)
            assert result.returncode != 0
            assert f"{uri}: The rules of namespace alice do not permit GetInfo to uid {BOB}." in result.stderr, result
        assert ask("alice/shared/1", BOB).returncode == 0 and ask("open/1", BOB).returncode == 0
        assert "There is no such object" in ask("alice/none", ALICE).stderr
        assert "namespace team" in ask("team/1", CAROL).stderr
        assert ask("team/1", CAROL, groups=(7, TEAM)).returncode == 0
        assert ask("nobody/1", 0).returncode == 0
        assert "namespace nobody" in ask("nobody/1", OVERFLOW).stderr
        said = re.findall(r"Refused a stat in namespace ([a-z]+) to uid (\d+): ", daemon.log())
        assert said == [("alice", str(BOB)), ("team", str(CAROL)), ("nobody", str(OVERFLOW))], said

        everything = listed("", 0)
        assert {"alice/1", "alice/shared/1", "open/1", "team/1"} <= set(everything), everything
        of_bob = [uri for uri in everything if ask(uri, BOB).returncode == 0]
        assert 0 < len(of_bob) < len(everything) and listed("", BOB) == of_bob
        assert "team/1" in listed("", CAROL, groups=(TEAM,)) and "team/1" not in listed("", CAROL)

        assert "Not permitted" not in bus.call("PutBytes", "saya{ss}a{sv}", "alice/2", 1, 65, 0, 0, uid=0)
        assert "PutBytes is not permitted" in bus.fail("PutBytes", "saya{ss}a{sv}", "alice/2", 1, 65, 0, 0, uid=ALICE)
        bus.call("Remove", "sa{sv}", "alice/2", 0, uid=0)


QUOTAS = """
[Namespace small]
Prefix=small/
MaxBytes=100000
Evict=no
[Namespace few]
Prefix=few/
MaxObjects=3
Evict=no
[Namespace cache]
Prefix=cache/
MaxObjects=10
Policy=lru
Evict=yes
[Namespace brief]
Prefix=brief/
DefaultTTLSec=1h
[Namespace open]
Prefix=open/
"""


def usage(daemon):
    """What objmapperctl shows: {name: {column: value}}."""
    return {space.pop("name"): space for space in json.loads(daemon.ctl("namespaces", "--json").stdout)}


def test_quotas():
    """What does not fit is refused, and other namespaces have their room."""
    with open_daemon(settings=QUOTAS) as daemon, connect(daemon.publisher, BOB) as bob:
        bob.put("small/1", b"x" * 60000)
        for name, size in (("small/2", 60000), ("small/2", 40001), ("small/3", 200000), ("small/1", 100001)):
            reply = bob.ask(wire.PUT, wire.uri(name), body=b"y" * size)
            assert reply.status == wire.NO_SPACE, reply
        bob.put("small/2", b"y" * 40000)
        bob.put("small/1", b"z" * 60000)  # in place of what was there
        assert bob.get("small/1") == b"z" * 60000
        bob.put("open/1", b"x" * 200000)
        for i in range(3):
            bob.put(f"few/{i}", b"")
        assert bob.ask(wire.PUT, wire.uri("few/3"), body=b"").status == wire.NO_SPACE
        bob.put("few/0", b"new")
        assert bob.ask(wire.REMOVE, wire.uri("few/1")).status == wire.OK
        bob.put("few/3", b"")
        reply = bob.ask(wire.PUT, wire.uri("few/4"), body=b"")
        assert reply.text == "namespace few: there is no room for it", reply.text
        # A quota is no matter of who publishes.
        with connect(daemon.publisher, 0) as root:
            assert root.ask(wire.PUT, wire.uri("few/4"), body=b"").status == wire.NO_SPACE

        # Once for each user and namespace.
        full = re.findall(r"Refused a put to uid (\d+) \(pid \d+\): there is no room for it in namespace (\w+)", daemon.log())
        assert full == [(str(BOB), "small"), (str(BOB), "few"), ("0", "few")], full

        held = usage(daemon)
        wanted = (("small", 2, None, 100000, 100000), ("few", 3, 3, 3, None), ("cache", 0, 10, 0, None),
                  ("brief", 0, None, 0, None), ("open", 1, None, 200000, None))
        assert held == {name: {"objects": objects, "objects_pinned": 0, "objects_max": objects_max, "bytes": size,
                               "bytes_pinned": 0, "bytes_max": bytes_max}
                        for name, objects, objects_max, size, bytes_max in wanted}, held
        counters = common.stats(daemon)
        assert counters["namespace_small_bytes"] == 100000 and counters["namespace_few_objects_max"] == 3
        assert "namespace_small_objects_max" not in counters
        metrics = daemon.ctl("metrics", text=True).stdout
        assert 'objmapper_namespace_bytes{namespace="small"} 100000\n' in metrics
        assert 'objmapper_namespace_max_objects{namespace="few"} 3\n' in metrics


def test_quotas_of_visible_puts():
    """What is acknowledged before it is durable has its room, though many come at once."""
    with open_daemon(settings=QUOTAS) as daemon, connect(daemon.publisher, BOB) as bob:
        for _ in range(20):
            bob.send(*(wire.frame(wire.PUT, bob.new_id(), wire.uri(f"few/{i}"), flags=wire.FLAG_VISIBLE)
                       for i in range(50)))
            statuses = [bob.receive().status for _ in range(50)]
            assert statuses.count(wire.OK) == 3 and statuses.count(wire.NO_SPACE) == 47, statuses
            assert len(list_all(bob, "few/")[0]) == 3
            assert usage(daemon)["few"]["objects"] == 3
            assert bob.ask(wire.PURGE, wire.prefix("few/")).count == 3
        assert common.stats(daemon)["puts_lost"] == 0


def test_quotas_after_a_restart():
    with open_daemon(settings=QUOTAS) as daemon:
        with connect(daemon.publisher, BOB) as bob:
            for i in range(3):
                bob.put(f"few/{i}", b"x")
        before = usage(daemon)
        for end in (daemon.stop, daemon.kill):
            end()
            daemon.start()
            assert usage(daemon) == before
            with connect(daemon.publisher, BOB) as bob:
                assert bob.ask(wire.PUT, wire.uri("few/3"), body=b"").status == wire.NO_SPACE


def test_namespace_of_the_rest():
    """A prefix of no bytes: whatever belongs to no other."""
    settings = f"""
[Namespace rest]
Prefix=""
ReadUsers={ALICE}
MaxObjects=2
Evict=no
[Namespace open]
Prefix=open/
"""
    with open_daemon(settings=settings) as daemon, connect(daemon.publisher, BOB) as bob:
        bob.put("a", b"1")
        bob.put("open", b"2")
        assert bob.ask(wire.PUT, wire.uri("b"), body=b"").status == wire.NO_SPACE
        for i in range(3):
            bob.put(f"open/{i}", b"")
        refused(bob.ask(wire.GET, wire.uri("a")), "rest")
        refused(bob.ask(wire.LIST, wire.prefix("")), "rest")
        refused(bob.ask(wire.LIST, wire.prefix("open")), "rest")
        assert len(list_all(bob, "open/")[0]) == 3
        with connect(daemon.reader, ALICE) as alice:
            assert len(list_all(alice, "")[0]) == 5
        held = usage(daemon)
        assert held["rest"]["objects"] == 2 and held["open"]["objects"] == 3, held


def test_as_the_store():
    """What a namespace leaves open is as [Store] says."""
    settings = "[Store]\nEvict={}\n[Namespace few]\nPrefix=few/\nMaxObjects=2\n[Namespace own]\nPrefix=own/\nMaxObjects=2\nEvict={}\n"
    with open_daemon(settings=settings.format("no", "yes")) as daemon, connect(daemon.publisher, BOB) as bob:

        def put_three(prefix):
            statuses = {bob.ask(wire.PUT, wire.uri(f"{prefix}/{i}"), body=b"x").status for i in range(3)}
            assert bob.ask(wire.PURGE, wire.prefix(prefix)).count == 2
            return statuses

        assert put_three("few") == {wire.OK, wire.NO_SPACE} and put_three("own") == {wire.OK}
        reload(daemon, settings.format("yes", "no"))
        assert put_three("few") == {wire.OK} and put_three("own") == {wire.OK, wire.NO_SPACE}


def test_quota_on_the_bus():
    with Bus() as bus, open_daemon(settings=QUOTAS, environment={"DBUS_SYSTEM_BUS_ADDRESS": bus.address}) as daemon:
        for i in range(3):
            bus.call("PutBytes", "saya{ss}a{sv}", f"few/{i}", 1, 65, 0, 0)
        result = bus.busctl("call", NAME, PATH, INTERFACE, "PutBytes", "saya{ss}a{sv}", "few/3", "1", "65", "0", "0")
        assert result.returncode != 0 and "few/3: There is no room for it in namespace few." in result.stderr, result
        assert "Refused a put to uid 0: there is no room for it in namespace few" in daemon.log()
        assert bus.call("GetStats")["namespace_few_objects"]["data"] == 3


def test_eviction_stays_inside():
    """A namespace makes room for its own objects from its own, and never holds more than it may."""
    with open_daemon(settings=QUOTAS) as daemon, connect(daemon.publisher, BOB) as bob:
        bob.put("few/1", b"few")
        bob.put("open/1", b"open")
        for i in range(50):
            bob.put(f"cache/{i:02}", b"x")
            assert usage(daemon)["cache"]["objects"] <= 10
        kept = list_all(bob, "cache/")[0]
        assert len(kept) == 10 and b"cache/49" in kept, kept
        assert bob.get("few/1") == b"few" and bob.get("open/1") == b"open"


def test_default_ttl():
    """Of puts that carry none."""
    with open_daemon(settings=QUOTAS) as daemon, connect(daemon.publisher, BOB) as bob:
        for name, fields, wanted in (("brief/1", [], 3600), ("brief/2", [wire.u64(wire.TAG_TTL, 60000)], 60),
                                     ("open/1", [], None)):
            info = bob.put(name, b"", *fields)
            lives = (info.expires_usec - info.stored_usec) / 1000000 if info.expires_usec else None
            assert lives == wanted, (name, lives)


def test_reload_of_quotas():
    """Lower limits trim what may be evicted; what is in a new namespace is counted there; others count at once."""
    with open_daemon(settings=QUOTAS) as daemon, connect(daemon.publisher, BOB) as bob:
        for i in range(10):
            bob.put(f"cache/{i}", b"x")
            bob.put(f"late/{i}", b"x")
        reload(daemon, QUOTAS.replace("MaxObjects=10", "MaxObjects=4") + "[Namespace late]\nPrefix=late/\nEvict=no\nMaxObjects=10\n")
        common.wait_until(lambda: usage(daemon)["cache"]["objects"] == 4, "trimmed")
        common.wait_until(lambda: usage(daemon)["late"]["objects"] == 10, "counted anew")
        assert bob.ask(wire.PUT, wire.uri("late/10"), body=b"").status == wire.NO_SPACE
        assert len(list_all(bob, "cache/")[0]) == 4
        reload(daemon, "")
        assert usage(daemon) == {}
        bob.put("late/10", b"")
        daemon.restart()
        assert usage(daemon) == {}


def test_many_namespaces():
    """All that there may be, with the longest names and prefixes."""
    settings = "".join(f"[Namespace {i:032}]\nPrefix={i:0255}/\nMaxBytes=1G\nMaxObjects=1000\n" for i in range(256))
    with open_daemon(settings=settings) as daemon, connect(daemon.publisher, BOB) as bob:
        for i in (0, 128, 255):
            bob.put(f"{i:0255}/1", b"body")
        held = usage(daemon)
        assert len(held) == 256
        assert {int(name) for name, space in held.items() if space["objects"] == 1} == {0, 128, 255}
        assert len(daemon.ctl("namespaces", text=True).stdout.splitlines()) == 257


if os.geteuid() != 0:
    tap.skip_all("needs root, to be other users")
tap.run(globals())
