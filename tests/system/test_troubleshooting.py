# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each command under "Troubleshooting" in objmapperd(8), typed while a machine has the trouble that it is for."""

import errno
import pathlib
import re
import textwrap

import container
import tap

container.enter_namespaces()

import disk  # noqa: E402, pylint: disable=wrong-import-position
from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

TOP = pathlib.Path(__file__).resolve().parents[2]
MANUAL = (TOP / "man/objmapperd.8.rst").read_text().partition("\nTROUBLESHOOTING\n")[2].partition("\nSECURITY\n")[0]
BODY = "x" * 100_000
DROP_IN = "/run/systemd/system/objmapper.service.d/test.conf"
WRITABLE = "7ca5e8b0831c49738eed7cba0fa1753b"
tried = set()

IDS = dict(re.findall(r'^#define MESSAGE_(\w+) +"(\w+)"$', (TOP / "src/server/message-ids.h").read_text(), re.MULTILINE))
STORE, URI = {"OBJMAPPER_STORE": "/var/lib/objmapper"}, {"OBJMAPPER_URI": "object"}
PEER = {"OBJMAPPER_PEER_UID": "UID", "OBJMAPPER_PEER_PID": "[1-9][0-9]*"}
# What the tests here provoke, and what each entry of a kind has; UID is that of the user reader.
KINDS = {
    "STARTED": {**STORE, "OBJMAPPER_VERSION": r"[0-9].*", "OBJMAPPER_OBJECTS": "[0-9]+",
                "OBJMAPPER_SOCKETS": ".*/run/objmapper/publish.sock.*"},
    "STOPPED": {},
    "RELOADED": {},
    "RELOAD_REFUSED": {"ERRNO": f"{errno.EINVAL}"},
    "SESSION_REFUSED": PEER,
    "SESSION_DROPPED": PEER,
    "ACCESS_REFUSED": {**PEER, "OBJMAPPER_NAMESPACE": "closed"},
    "NO_ROOM": {**PEER, "OBJMAPPER_PEER_UID": "0", "OBJMAPPER_NAMESPACE": "(tiny)?"},  # or the whole store
    "STORE_WRITE_FAILED": {**STORE, "ERRNO": f"{errno.ENOSPC}"},
    "STORE_RECOVERED": STORE,
    "STORE_DAMAGED": {**STORE, **URI, "ERRNO": "[1-9][0-9]*"},
    "STORE_PROBLEM": {**URI, "OBJMAPPER_PROBLEM": "[a-z-]+"},
    "STORE_VERIFIED": {},
    "STORE_SWEPT": STORE,
    "CACHE_FAILED": {**STORE, "ERRNO": f"{errno.ENOENT}"},
    "VIEW_UNUSABLE": STORE,
}
DROP = """
import socket
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect("/run/objmapper/objmapper.sock")
    peer.sendall(b"x" * 64)
    while peer.recv(4096):
        pass
"""


def commands(title):
    """The blocks of commands under a title, each a list of lines."""
    tried.add(title)
    text = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-+\n|\Z)", MANUAL, re.MULTILINE | re.DOTALL)[1]
    return [textwrap.dedent(block).strip().splitlines()
            for block in re.findall(r"::\n\n((?:    .*\n|\n)+)", text)]


def type_in(host, lines, **words):
    """What each line shows, errors of the daemon's own tools included."""
    shown = []
    for line in lines:
        for word, value in words.items():
            line = line.replace(word, value)
        host.run("journalctl", "--sync")
        result = host.run("sh", "-c", line, check=False)
        shown.append(result.stdout + result.stderr)
        for wrong in ("nknown", "not found", "nvalid", "usage:"):
            assert wrong not in shown[-1], f"{line}: {shown[-1]}"
    return shown


def configure(host, text):
    path = host.path("/etc/objmapper/objmapper.conf.d/trouble.conf")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return host.run("systemctl", "reload-or-restart", "objmapper.service", check=False).returncode


def begin(host):
    host.path("/etc/objmapper/objmapper.conf.d/trouble.conf").unlink(missing_ok=True)
    host.start_again()
    host.put("object", BODY)


def test_clients_cannot_connect(host):
    begin(host)
    configure(host, "[Server]\nMaxConnectionsPerUser=1\n")
    holder = host.start("python3", "-c", "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
                        "s.connect('/run/objmapper/objmapper.sock')\nprint(flush=True)\nsys.stdin.read()",
                        user="reader", stdin=-1, stdout=-1)
    holder.stdout.readline()
    wait_until(lambda: "takes no more connections" in host.ctl("--timeout=1", "get", "object", user="reader",
                                                               check=False).stderr)
    holder.communicate()
    listed, groups, ids, refused = type_in(host, commands("Clients can't connect")[0], USER="stranger")
    assert "/run/objmapper/objmapper.sock" in listed and "/run/objmapper/publish.sock" in listed, listed
    assert groups.split() == ["/run/objmapper/objmapper.sock", "objmapper", "/run/objmapper/publish.sock",
                              "objmapper-publish"], groups
    assert "objmapper" not in ids and "stranger" in ids, ids
    uid = host.run("id", "-u", "reader").stdout.strip()
    assert "MaxConnectionsPerUser=" in refused and f"the user with the number {uid} " in refused, refused
    assert "not permitted to connect" in host.ctl("get", "object", user="stranger", check=False).stderr
    host.run("systemctl", "stop", "objmapper.socket", "objmapper-publish.socket")
    assert "objmapper.sock" not in type_in(host, commands("Clients can't connect")[0][:1])[0]


def test_it_does_not_start(host):
    begin(host)
    look, mend = commands("It does not start")
    assert configure(host, "[Server]\nMaxStreams=none\n") != 0
    host.run("systemctl", "restart", "objmapper.service", check=False)
    status, journal = type_in(host, look)
    assert re.search("Main PID: .*status=6", status), status
    assert "trouble.conf:2: MaxStreams=none" in journal, journal
    # The shipped limit, over a time in which any machine comes to it.
    host.path(DROP_IN).parent.mkdir(parents=True, exist_ok=True)
    host.path(DROP_IN).write_text("[Unit]\nStartLimitIntervalSec=1h\n")
    host.run("systemctl", "daemon-reload")
    host.run("sh", "-c", "for i in $(seq 60); do systemctl restart objmapper.service 2>/dev/null; done", check=False)
    assert "Start request repeated too quickly" in type_in(host, look)[1]
    assert host.property("objmapper.socket", "Result") == "service-start-limit-hit"
    host.path("/etc/objmapper/objmapper.conf.d/trouble.conf").unlink()
    type_in(host, mend)
    host.path(DROP_IN).unlink()
    host.run("systemctl", "daemon-reload")
    assert host.get("object") == BODY.encode()


def test_a_reload_fails(host):
    begin(host)
    assert configure(host, "[Server]\nMaxStreams=none\n") != 0
    refused, shown = type_in(host, commands("A reload fails")[0])
    assert "trouble.conf:2: MaxStreams=none" in refused and "refused a configuration" in refused, refused
    assert "MaxStreams=none" in shown, shown
    assert host.get("object") == BODY.encode()


def test_something_is_not_permitted(host):
    begin(host)
    assert configure(host, "[Namespace closed]\nPrefix=closed/\nReadUsers=root\n") == 0
    assert host.ctl("get", "closed/1", user="reader", check=False).returncode == 5
    refused, action = type_in(host, commands("Something is not permitted")[0])
    uid = host.run("id", "-u", "reader").stdout.strip()
    assert f"Refused a get in namespace closed to uid {uid}" in refused and "if the user should" in refused.lower(), refused
    assert "implicit any:      auth_admin" in action, action


def test_puts_fail(host):
    begin(host)
    lines = commands("Puts fail")[0]
    configure(host, "[Namespace tiny]\nPrefix=tiny/\nMaxBytes=1K\nEvict=no\n[Store]\nKeepFree=0\n")
    assert host.ctl("put", "tiny/1", input=BODY, check=False).returncode == 7
    host.run("sh", "-c", "cat /dev/zero >/var/lib/objmapper/filler", check=False)  # as much as there is room for
    assert host.ctl("put", "object/2", input=BODY, check=False).returncode == 7
    host.run("rm", "/var/lib/objmapper/filler")
    host.ctl("put", "object/2", input=BODY)
    holder = host.start("sh", "-c", "exec python3 -c 'import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\n"
                        "print(flush=True)\nsys.stdin.read()' \"$(find /var/lib/objmapper/blobs -type f -size +50k | head -n 1)\"",
                        stdin=-1, stdout=-1)
    holder.stdout.readline()
    host.ctl("rm", "object", "object/2")
    room, failed, held, disk_room, deleted = type_in(host, lines)
    holder.communicate()
    assert "no room for it in namespace tiny" in room and "There is no room for an object" in room, room
    assert "No space left on device" in failed and "The store can't be written" in failed, failed
    assert "can be written" in host.log(f"MESSAGE_ID={WRITABLE}")
    assert "tiny" in held and "1024" in held, held
    assert "/var/lib/objmapper" in disk_room, disk_room
    assert re.fullmatch(r"/proc/\d+/fd/\d+\n", deleted), deleted


def test_objects_are_missing_or_damaged(host):
    begin(host)
    host.run("sh", "-c", "for file in $(find /var/lib/objmapper/blobs -type f -size +50k); do truncate -s 10 $file; done")
    assert host.ctl("get", "object", check=False).returncode != 0
    missing, counters, damaged, _, checked = type_in(host, commands("Objects are missing or damaged")[0], URI="object")
    assert "object" in missing, missing
    assert "evictions" in counters and "store_expired" in counters and "store_damaged 1" in counters, counters
    assert "Object object is damaged" in damaged and "Subject: An object is damaged" in damaged, damaged
    assert "problems found" in checked, checked


def test_gets_are_slow(host):
    begin(host)
    counters, _, limits = type_in(host, commands("Gets are slow")[0])
    for name in ("hot_misses", "fast_hits", "lookups_submitted", "windows_read", "sessions"):
        assert f"{name} " in counters, counters
    assert "MemoryHigh=" in limits, limits


def test_it_ended_or_hung(host):
    begin(host)
    host.run("systemctl", "kill", "--signal=ABRT", "objmapper.service")
    wait_until(lambda: host.property("objmapper.service", "NRestarts") == "1")
    shown, journal = type_in(host, commands("It ended or hung")[0])
    assert "NRestarts=1" in shown, shown
    assert "Main process exited" in journal and "ABRT" in journal, journal


def test_to_see_more_of_it(host):
    begin(host)
    debug, fields, info = commands("To see more of it")[0]
    type_in(host, [debug])
    assert host.run("systemctl", "service-log-level", "objmapper.service").stdout.strip() == "debug"
    entry = host.journal("--unit=objmapper.service", "_COMM=objmapperd")[-1]
    assert entry["OBJMAPPER_STORE"] == "/var/lib/objmapper"
    shown, = type_in(host, [fields])
    assert "MESSAGE_ID=" in shown and "OBJMAPPER_STORE=/var/lib/objmapper" in shown, shown
    type_in(host, [info])
    assert host.run("systemctl", "service-log-level", "objmapper.service").stdout.strip() == "info"


def entries_by_kind(host):
    """The entries of the daemon that have an id, by the kind's name."""
    names = {number: name for name, number in IDS.items()}
    found = {}
    for entry in host.journal("--unit=objmapper.service", "--identifier=objmapperd"):
        if "MESSAGE_ID" in entry:
            found.setdefault(names[entry["MESSAGE_ID"]], []).append(entry)
    return found


def test_journal(host):
    """Each kind of message that was provoked here and above has its id, its fields and its explanation."""
    begin(host)
    host.run("python3", "-c", DROP, user="reader")
    assert configure(host, "[Server]\nMaxStreams=5\n") == 0
    host.run("find", "/var/lib/objmapper/blobs", "-type", "f", "-size", "+50k", "-exec", "truncate", "-s", "10", "{}", "+")
    assert host.ctl("verify", check=False).returncode != 0
    # A file that a crash left over, then a fast disk that is not there.
    host.stop()
    host.run("sh", "-c", "cd /var/lib/objmapper/blobs && for folder in *; do echo half >$folder/${folder}fff; done")
    begin(host)
    wait_until(lambda: "STORE_SWEPT" in entries_by_kind(host))
    configure(host, "[Store]\nCachePath=/nonexistent\n")
    host.run("systemctl", "restart", "objmapper.service")
    begin(host)

    found = entries_by_kind(host)
    assert set(found) == set(KINDS), set(found) ^ set(KINDS)
    uid = host.run("id", "-u", "reader").stdout.strip()
    catalog = host.path("/usr/lib/systemd/catalog/objmapper.catalog").read_text()
    for kind, fields in KINDS.items():
        for name, value in fields.items():
            assert any(name in entry for entry in found[kind]), (kind, name)
            for entry in found[kind]:
                assert re.fullmatch(value.replace("UID", uid), entry.get(name, "")), (kind, name, entry)
        entry = found[kind][-1]
        subject, text = re.search(rf"^-- {IDS[kind]}\n(Subject: [^\n]*)\n(?:\S+: [^\n]*\n)*\n(.*?)(?=^-- |\Z)", catalog,
                                  re.MULTILINE | re.DOTALL).groups()
        shown = host.log("--catalog", "--cursor", entry["__CURSOR"], "--lines=1")
        shown = re.sub("^\u2591\u2591 ?", "", shown, flags=re.MULTILINE)
        assert entry["MESSAGE"] in shown and subject in shown, (kind, shown)
        assert re.sub("@(.*?)@", lambda name, entry=entry: entry[name[1]], text).strip() in shown, (kind, shown)
    # The mistakes of a configuration, one by one.
    where = host.journal("--identifier=objmapperd", "CONFIG_FILE=/etc/objmapper/objmapper.conf.d/trouble.conf")
    assert {entry["CONFIG_LINE"] for entry in where} == {"2"}, where


def test_nothing_was_left_out(_):
    titles = set(re.findall(r"^([^\n]+)\n-+$", MANUAL, re.MULTILINE))
    assert titles == tried, titles ^ tried


try:
    disk.need()
except tap.Skip as reason:
    tap.skip_all(reason)
with disk.Disk("ext4") as DISK, Host(state=DISK.path) as machine:
    machine.run("journalctl", "--update-catalog")
    tap.run(globals(), machine, on_failure=machine.tell)
