# SPDX-License-Identifier: LGPL-2.1-or-later
"""Namespaces on a booted machine: users and groups, through every verb of both sockets and the bus."""

import tarfile

import container
import tap

container.enter_namespaces()

from host import Host  # noqa: E402, pylint: disable=wrong-import-position

BOTH = ["objmapper", "objmapper-publish"]
# Everybody may connect to both sockets: what keeps them apart are the rules alone. ed is an editor besides.
PEOPLE = {"alice": BOTH, "bob": BOTH, "ed": [*BOTH, "editors"]}
RULES = """\
[Namespace private]
Prefix=private/
ReadUsers=alice
PublishUsers=alice

[Namespace news]
Prefix=news/
ReadUsers=alice
ReadGroups=editors
PublishGroups=editors
"""
NOT_PERMITTED = 5
REFUSED = "710565abde534923886f8dde7afd7cc9"
PUBLISHERS_SOCKET = "--socket=/run/objmapper/publish.sock"


def refused(result, namespace):
    assert result.returncode == NOT_PERMITTED, result
    assert f"namespace {namespace}:" in result.stderr, result.stderr
    assert not result.stdout, result.stdout


def prepare(host):
    host.path("/etc/objmapper/objmapper.conf.d/60-public.conf").unlink(missing_ok=True)
    host.start_again()
    host.ctl("purge", "--all")
    host.configure("50-test", RULES)
    for uri in ("private/1", "news/1", "public/1"):
        host.put(uri, f"body of {uri}")


def said(host, name, line):
    """What was logged of a line of a drop-in."""
    return "\n".join(entry["MESSAGE"] for entry in host.journal(
        f"CONFIG_FILE=/etc/objmapper/objmapper.conf.d/{name}.conf", f"CONFIG_LINE={line}"))


def uid_of(host, user):
    return host.run("id", "-u", user).stdout.strip()


def test_readers(host):
    prepare(host)
    for socket in ([], [PUBLISHERS_SOCKET]):
        for uri, user in (("private/1", "alice"), ("news/1", "alice"), ("news/1", "ed"), ("public/1", "bob"),
                          ("private/1", "root"), ("news/1", "root")):
            assert host.ctl(*socket, "get", uri, user=user).stdout == f"body of {uri}"
            assert host.ctl(*socket, "stat", uri, user=user).stdout
            assert host.ctl(*socket, "ls", uri, user=user).stdout == f"{uri}\n"
        for uri, user in (("private/1", "bob"), ("private/1", "ed"), ("private/none", "bob"), ("news/1", "bob")):
            namespace = uri.partition("/")[0]
            for verb in ("get", "stat", "ls", "export"):
                refused(host.ctl(*socket, verb, uri, user=user, check=False), namespace)


def test_publishers(host):
    prepare(host)
    host.put("private/2", "alice's", user="alice")
    host.put("news/2", "ed's", user="ed")
    host.put("public/2", "bob's", user="bob")
    host.ctl("set-meta", "news/2", "a=b", user="ed")
    host.ctl("rm", "private/2", user="alice")
    for user, uri in (("bob", "private/1"), ("bob", "news/1"), ("ed", "private/1"), ("alice", "news/1")):
        namespace = uri.partition("/")[0]
        for arguments in (("rm", uri), ("set-meta", uri, "a=b"), ("purge", uri), ("put", uri, "/etc/hostname"),
                          ("put", uri, "/usr/bin/bash")):
            refused(host.ctl(*arguments, user=user, check=False), namespace)
        recursive = host.ctl("put", "--recursive", "/usr/share/doc/base-files", uri, user=user, check=False)
        assert recursive.returncode == NOT_PERMITTED and f"namespace {namespace}:" in recursive.stderr, recursive
    assert host.ctl("ls").stdout.split() == ["news/1", "news/2", "private/1", "public/1", "public/2"]
    assert host.get("private/1", user="alice") == b"body of private/1"


def test_purge_of_a_broader_prefix(host):
    """All or nothing, and whose rules speak against it is named."""
    prepare(host)
    refused(host.ctl("purge", "--all", user="alice", check=False), "news")
    refused(host.ctl("purge", "--all", user="ed", check=False), "private")
    refused(host.ctl("purge", "p", user="bob", check=False), "private")
    assert len(host.ctl("ls").stdout.split()) == 3
    host.ctl("purge", "p", user="alice")
    assert host.ctl("ls").stdout.split() == ["news/1"]


def test_listings_leave_out(host):
    prepare(host)
    for user, wanted in (("bob", ["public/1"]), ("ed", ["news/1", "public/1"]),
                         ("alice", ["news/1", "private/1", "public/1"]),
                         ("root", ["news/1", "private/1", "public/1"])):
        assert host.ctl("ls", user=user).stdout.split() == wanted
        host.run("sh", "-c", "rm -f /tmp/archive; touch /tmp/archive; chown $0 /tmp/archive", user)
        host.run("sh", "-c", "objmapperctl export > /tmp/archive", user=user)
        with tarfile.open(host.path("/tmp/archive")) as archive:
            assert sorted(member.pax_headers["SCHILY.xattr.user.objmapper.uri"] for member in archive) == wanted
    # And nobody brings in what is not theirs: root's archive, which is the last.
    result = host.run("sh", "-c", "objmapperctl import < /tmp/archive", user="ed", check=False)
    assert result.returncode == NOT_PERMITTED and "private/1" in result.stderr and "news/1" not in result.stderr


def test_bus(host):
    prepare(host)
    for user, uri, may in (("alice", "private/1", True), ("bob", "private/1", False), ("bob", "private/none", False),
                           ("ed", "private/1", False), ("ed", "news/1", True), ("bob", "news/1", False),
                           ("bob", "public/1", True), ("root", "private/1", True)):
        result = host.busctl("GetInfo", "sa{sv}", uri, "0", user=user, check=False)
        if may:
            assert result.returncode == 0 and '"size" t' in result.stdout, result
        else:
            assert result.returncode != 0 and f"namespace {uri.partition('/')[0]} do not permit" in result.stderr, result
    for user, wanted in (("bob", {"public/1"}), ("ed", {"news/1", "public/1"}),
                         ("alice", {"news/1", "private/1", "public/1"}), ("root", {"news/1", "private/1", "public/1"})):
        listed = host.busctl("List", "ssua{sv}", "", "", "0", "0", user=user).stdout
        assert {uri for uri in ("news/1", "private/1", "public/1") if f'"{uri}"' in listed} == wanted, listed

    # Changes are root's, in every namespace.
    changes = (("PutBytes", "saya{ss}a{sv}", "private/bus", "1", "65", "0", "0"), ("Pin", "sa{sv}", "private/bus", "0"),
               ("Unpin", "sa{sv}", "private/bus", "0"), ("Remove", "sa{sv}", "private/bus", "0"),
               ("Purge", "sa{sv}", "private/", "0"))
    for change in changes:
        for user in ("alice", "bob"):
            result = host.busctl(*change, user=user, check=False)
            assert result.returncode != 0 and "not permitted" in result.stderr, result
        host.busctl(*change)
    assert host.ctl("ls").stdout.split() == ["news/1", "public/1"]


def test_logged_once(host):
    prepare(host)
    before = len(host.journal(f"MESSAGE_ID={REFUSED}"))
    for _ in range(3):
        for verb in ("get", "rm", "ls"):
            refused(host.ctl(verb, "private/1", user="bob", check=False), "private")
        host.busctl("GetInfo", "sa{sv}", "private/1", "0", user="bob", check=False)
        refused(host.ctl("stat", "news/1", user="bob", check=False), "news")
    entries = host.journal(f"MESSAGE_ID={REFUSED}")[before:]
    assert [(e["OBJMAPPER_NAMESPACE"], e["OBJMAPPER_PEER_UID"]) for e in entries] == [
        ("private", uid_of(host, "bob")), ("news", uid_of(host, "bob"))], entries
    assert all(int(e["OBJMAPPER_PEER_PID"]) > 1 and e["PRIORITY"] == "5" for e in entries), entries


def test_reload(host):
    """A namespace that is added, and one whose rules change, count at once; a wrong one changes nothing."""
    prepare(host)
    assert host.get("public/1", user="bob") == b"body of public/1"
    host.configure("60-public", "[Namespace public]\nPrefix=public/\nReadUsers=root\n[Namespace private]\nReadUsers=bob\n")
    refused(host.ctl("get", "public/1", user="bob", check=False), "public")
    assert host.get("private/1", user="bob") == b"body of private/1"

    path = host.path("/etc/objmapper/objmapper.conf.d/60-public.conf")
    path.write_text("[Namespace other]\nPrefix=private/\n")
    result = host.run("systemctl", "reload", "objmapper.service", check=False)
    assert result.returncode != 0
    assert "[Namespace other] has the same Prefix= as [Namespace private]" in said(host, "60-public", 2)
    assert host.get("private/1", user="bob") == b"body of private/1"

    host.configure("60-public", "")
    refused(host.ctl("get", "private/1", user="bob", check=False), "private")
    assert host.get("public/1", user="bob") == b"body of public/1"


QUOTAS = """\
[Namespace limited]
Prefix=limited/
MaxBytes=1M
Evict=no
PublishUsers=alice bob

[Namespace tiny]
Prefix=tiny/
MaxObjects=1
Evict=no

[Namespace cache]
Prefix=cache/
MaxObjects=5
Evict=yes
"""
NO_ROOM = 7
NO_ROOM_ID = "9579859678e0448f9c5b9edfabc84823"


def test_quotas(host):
    """Whoever publishes, on the socket and on the bus; and what others put is not touched."""
    prepare(host)
    host.configure("60-public", QUOTAS)
    host.put("limited/1", b"x" * 600_000, user="alice")
    for user in ("bob", "root"):
        result = host.ctl("put", "limited/2", input=b"y" * 600_000, text=False, user=user, check=False)
        assert result.returncode == NO_ROOM and b"no space" in result.stderr, result
    result = host.ctl("put", "--recursive", "/usr/share/doc/base-files", "limited/doc/", user="ed", check=False)
    assert result.returncode == NOT_PERMITTED
    host.busctl("PutBytes", "saya{ss}a{sv}", "tiny/1", "1", "65", "0", "0")
    result = host.busctl("PutBytes", "saya{ss}a{sv}", "tiny/2", "1", "65", "0", "0", check=False)
    assert result.returncode != 0 and "no room for it in namespace tiny" in result.stderr, result
    full = [(entry["OBJMAPPER_NAMESPACE"], entry["OBJMAPPER_PEER_UID"]) for entry in host.journal(f"MESSAGE_ID={NO_ROOM_ID}")]
    assert full == [("limited", uid_of(host, "bob")), ("limited", "0"), ("tiny", "0")], full
    for i in range(20):
        host.put(f"cache/{i:02}", "x", user="bob")
    kept = host.ctl("ls", "cache/").stdout.split()
    assert len(kept) == 5 and "cache/19" in kept, kept
    for uri in ("private/1", "news/1", "public/1"):
        assert host.get(uri, user="root") == f"body of {uri}".encode()
    assert len(host.get("limited/1", user="bob")) == 600_000

    rows = [line.split() for line in host.ctl("namespaces", user="reader").stdout.splitlines()]
    assert rows[0] == ["NAMESPACE", "OBJECTS", "PINNED", "MAX", "BYTES", "PINNED", "MAX"], rows
    assert ["limited", "1", "0", "-", "600000", "0", "1048576"] in rows and ["cache", "5", "0", "5", "5", "0", "-"] in rows, rows
    assert "namespace_limited_bytes 600000\n" in host.ctl("stats", user="reader").stdout

    # More room by a reload.
    host.configure("60-public", QUOTAS.replace("1M", "2M"))
    host.put("limited/2", b"y" * 600_000, user="bob")
    host.configure("60-public", "")


def test_group_that_is_gone(host):
    """Nobody is a member of it then, and not everybody; the start and the reload go on, with a warning."""
    prepare(host)
    host.run("groupdel", "editors")
    try:
        host.run("systemctl", "restart", "objmapper.service")
        assert host.is_active()
        refused(host.ctl("get", "news/1", user="ed", check=False), "news")
        refused(host.ctl("get", "news/1", user="bob", check=False), "news")
        refused(host.ctl("put", "news/1", "/etc/hostname", user="ed", check=False), "news")
        assert host.get("news/1", user="alice") == b"body of news/1"
        assert "ReadGroups=editors: there is no such group" in said(host, "50-test", 9)
    finally:
        host.run("groupadd", "editors")
        host.run("usermod", "--append", "--groups=editors", "ed")
    refused(host.ctl("get", "news/1", user="ed", check=False), "news")  # until the reload
    host.run("systemctl", "reload", "objmapper.service")
    assert host.get("news/1", user="ed") == b"body of news/1"


with Host(users=PEOPLE) as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
