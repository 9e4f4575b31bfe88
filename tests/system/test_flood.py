# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that provoke errors, a hundred thousand of them: what the journal gets, and that it says what it left out."""

import os
import pathlib
import re
import socket
import sys
import time

import container
import tap

container.enter_namespaces()
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position
import wire  # noqa: E402, pylint: disable=wrong-import-position

LINES_PER_SECOND = 10
DROPPED, REFUSED = "453a12e1b7f54dcea50018ff8014277f", "2824a9bdabb442678e006363d684e326"
NO_ROOM, DAMAGED = "9579859678e0448f9c5b9edfabc84823", "07ec3634690b4c95a13dedaf47b6e3ac"
NOT_PERMITTED = "710565abde534923886f8dde7afd7cc9"
N_DROPPED, N_REFUSED, N_DAMAGED = 10_000, 10_000, 200
N_REQUESTS = 84_000
BATCH = 100
PART_SECONDS = 4  # of a cause's interval: another of its messages may be written then
SETTINGS = """\
[Namespace tiny]
Prefix=tiny/
MaxBytes=1
Evict=no
[Namespace closed]
Prefix=closed/
ReadUsers=root
"""
LIMIT = "[Server]\nMaxConnectionsPerUser=2\n"


def entries(host, message_id):
    return host.journal("--unit=objmapper.service", f"MESSAGE_ID={message_id}")


def told(host, message_id):
    """How many errors the entries of a kind stand for: themselves, and those that they say were not logged."""
    found = entries(host, message_id)
    return len(found) + sum(int(match[1]) for entry in found
                            if (match := re.search(r"\((\d+) more were not logged\)", entry["MESSAGE"])))


def are_gone(host):
    """All sessions but that of the asking user, who is another one."""
    return re.search("^sessions 1$", host.ctl("stats", user="reader").stdout, re.MULTILINE)


def connect_as(host, user, path):
    """A connection of that user of the container, who may not use this machine's way into it."""
    uid, group = int(host.run("id", "--user", user).stdout), os.stat(path).st_gid
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(os.path.dirname(path))
    try:
        os.setegid(group)
        os.seteuid(uid)
        return wire.Peer(os.path.basename(path))
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.fchdir(before)
        os.close(before)


def drop(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.sendall(b"\xff" * 64)  # a head whose size is impossible
        while peer.recv(4096):
            pass


def refuse(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        while peer.recv(4096):
            pass


def test_flood(host):
    host.path("/etc/objmapper/objmapper.conf.d").mkdir(parents=True, exist_ok=True)
    host.path("/etc/objmapper/objmapper.conf.d/flood.conf").write_text(SETTINGS)
    host.start_again()
    host.run("sh", "-c", f"mkdir /root/bodies; for i in $(seq {N_DAMAGED}); do head -c 20000 /dev/zero >/root/bodies/$i; done")
    host.ctl("put", "--recursive", "/root/bodies", "damaged/")
    host.run("find", "/var/lib/objmapper/blobs", "-type", "f", "-exec", "truncate", "-s", "10", "{}", "+")
    reader, publisher = (str(host.path(f"/run/objmapper/{name}.sock")) for name in ("objmapper", "publish"))

    for _ in range(N_DROPPED):
        drop(reader)
    wait_until(lambda: are_gone(host))
    host.configure("limit", LIMIT)
    with wire.Peer(reader) as peer, wire.Peer(publisher) as writer, connect_as(host, "reader", reader) as user:
        for _ in range(N_REFUSED):
            refuse(reader)
        # Wrong verbs, bad requests, no object, rules of a namespace; no room, wrong checksums; damage.
        wrong = [(peer, lambda id_: wire.frame(wire.REMOVE, id_, wire.uri("x")), b"", wire.NOT_PERMITTED),
                 (peer, lambda id_: wire.frame(wire.GET, id_), b"", wire.BAD_REQUEST),
                 (peer, lambda id_: wire.frame(wire.GET, id_, wire.uri("absent")), b"", wire.ABSENT),
                 (user, lambda id_: wire.frame(wire.GET, id_, wire.uri("closed/x")), b"", wire.NOT_PERMITTED),
                 (writer, lambda id_: wire.frame(wire.PUT, id_, wire.uri("tiny/x"), body_size=10), b"x" * 10,
                  wire.NO_SPACE),
                 (writer, lambda id_: wire.frame(wire.PUT, id_, wire.uri("x"), wire.u64(wire.TAG_CHECKSUM, 1),
                                                 body_size=10), b"x" * 10, wire.BAD_CHECKSUM)]
        for to, make, body, status in wrong:
            for _ in range(N_REQUESTS // len(wrong) // BATCH):
                to.send(b"".join(make(to.new_id()) + body for _ in range(BATCH)))
                for _ in range(BATCH):
                    assert (reply := to.receive()).status == status, reply
        for i in range(1, N_DAMAGED + 1):
            assert peer.ask(wire.GET, wire.uri(f"damaged/{i}")).status != wire.OK

    # The next of its kind says how many there were in between.
    time.sleep(PART_SECONDS)
    drop(reader)
    wait_until(lambda: are_gone(host))
    with wire.Peer(reader), wire.Peer(publisher):
        refuse(reader)
    wait_until(lambda: are_gone(host))
    # Those that were not told because of others are told when they come again, and once.
    with wire.Peer(publisher) as writer, connect_as(host, "reader", reader) as user:
        for _ in range(2):
            assert user.ask(wire.GET, wire.uri("closed/x")).status == wire.NOT_PERMITTED
            writer.send(wire.frame(wire.PUT, writer.new_id(), wire.uri("tiny/x"), body_size=10), b"x" * 10)
            assert writer.receive().status == wire.NO_SPACE
    wait_until(lambda: told(host, DROPPED) == N_DROPPED + 1)
    wait_until(lambda: told(host, REFUSED) == N_REFUSED + 1)
    wait_until(lambda: entries(host, NO_ROOM) and entries(host, NOT_PERMITTED))
    assert len(entries(host, NO_ROOM)) == len(entries(host, NOT_PERMITTED)) == 1  # in ten minutes
    assert 1 <= len(entries(host, DAMAGED)) < 20

    # When they were sent: a journald that has had no processor for a while takes many at once.
    times = sorted(int(entry.get("_SOURCE_REALTIME_TIMESTAMP", entry["__REALTIME_TIMESTAMP"]))
                   for entry in host.journal("_COMM=objmapperd"))
    most = max(sum(begin <= moment < begin + 1_000_000 for moment in times) for begin in times)
    print(f"# {len(times)} lines, at most {most} in a second")
    assert most <= LINES_PER_SECOND, times


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
