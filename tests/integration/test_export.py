#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""objmapperctl export and import: what is exported is imported the same, whatever is damaged on the way is not."""

import hashlib
import io
import os
import pathlib
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time

from ctl import (CONFLICT, CTL, DONE, FAILED, NO_DAEMON, NO_ROOM, NOT_PERMITTED, USAGE, fails, on_terminal,
                 sockets)  # puts tests/lib on the path too

import daemon as daemon_lib
import tap
import wire

KEY = "SCHILY.xattr.user.objmapper."
LARGE = bytes(range(256)) * 4096 * 5
BODIES = (b"", b"small", bytes(511), bytes(512), b"x" * 513, bytes(range(256)) * 16, b"y" * 70000,
          os.urandom(262144), os.urandom(262145), LARGE)
URIS = (b"plain", "übergröße".encode(), b"two\nlines", b"12 key=value\n", b"\xff\xfe", b"../../x", b"/etc/passwd", b"a",
        b"a/", b"a/b", b"-dash", b"..", b".", b" ", b"\x01\x7f=%", b"x" * 4096, b"x" * 4095, b"\xf0" * 4096)
PAIRS = ((b"content-type", b"text/plain"), (b"x", b"1"), (b"x", b"2"), (b"empty", b""), (b"binary", bytes(range(256))),
         (b"=key= \n,:", b"3:abc,"), (b"k" * 255, b"v" * 20000))

work = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-export-", dir="/var/tmp"))


def contents(daemon):
    """All that is in a store: URI to (body, pairs, checksum, expiry)."""
    found = {}
    for uri in daemon.ctl("ls", "-0").stdout.split(b"\0")[:-1]:
        with wire.Peer(daemon.reader) as peer:
            reply = peer.ask(wire.GET, wire.uri(uri))
            found[uri] = (reply.content(), reply.fields.get(wire.TAG_METADATA, b""), reply.info.checksum,
                          reply.info.expires_usec)
            reply.close()
    return found


def fill(daemon):
    """A store with a bit of everything."""
    daemon.ctl("purge", "--all")
    with wire.Peer(daemon.publisher) as peer:
        for number, uri in enumerate(URIS):
            fields = [wire.metadata(*PAIRS)] if number % 3 == 0 else []
            peer.put(uri, BODIES[number % len(BODIES)], *fields)
        for number, body in enumerate(BODIES):
            peer.put(f"bodies/{number}", body, wire.metadata((b"number", b"%d" % number)))
        peer.put("mortal", b"body", wire.u64(wire.TAG_TTL, 3600 * 1000))


def export(daemon, *arguments):
    return daemon.ctl("export", *arguments).stdout


def load(daemon, archive, *arguments, check=True):
    return daemon.ctl("import", *arguments, check=check, input=archive)


def counts(result):
    """objects put, bytes, expired, failed"""
    found = re.fullmatch(rb"(\d+) objects put, (\d+) bytes; skipped (\d+) expired; (\d+) failed\n", result.stdout)
    assert found, result
    return tuple(map(int, found.groups()))


def members(archive):
    """Where in an archive each member's headers begin, where its body does, and the body's size."""
    found = []
    at = 0
    while archive[at] != 0:
        start = at
        size = int(archive[at + 124:at + 135], 8)
        assert archive[at + 156:at + 157] == b"x"
        at += 512 + size + -size % 512
        assert archive[at + 156:at + 157] == b"0"
        size = int(archive[at + 124:at + 135], 8)
        found.append((start, at + 512, size))
        at += 512 + size + -size % 512
    assert archive[at:] == bytes(1024)
    return found


# ---- round trips ----

def test_round_trip(daemon):
    fill(daemon)
    before = contents(daemon)
    archive = export(daemon)
    size = sum(len(body) for body, *_ in before.values())

    for how in ("pipe", "file", "dash"):
        with daemon_lib.Daemon() as other:
            if how == "pipe":
                with subprocess.Popen([CTL, *sockets(daemon), "export"], stdout=subprocess.PIPE) as source:
                    result = other.ctl("import", stdin=source.stdout)
                assert source.returncode == DONE
            elif how == "file":
                daemon.ctl("export", "-o", str(work / "archive"))
                assert (work / "archive").read_bytes() == archive
                result = other.ctl("import", str(work / "archive"))
            else:
                with open(work / "archive", "rb") as file:
                    result = other.ctl("import", "-", stdin=file)
            assert counts(result) == (len(before), size, 0, 0) and result.stderr == b""
            after = contents(other)
            assert after.keys() == before.keys()
            for uri, (body, pairs, checksum, expires) in before.items():
                assert after[uri][:3] == (body, pairs, checksum), uri
                # What is left of its life is measured in milliseconds.
                assert abs(after[uri][3] - expires) < 60_000_000 and (after[uri][3] == 0) == (expires == 0), uri


def test_prefix_and_nothing(daemon):
    fill(daemon)
    with daemon_lib.Daemon() as other:
        assert counts(load(other, export(daemon, "bodies/")))[0] == len(BODIES)
        assert set(contents(other)) == {f"bodies/{number}".encode() for number in range(len(BODIES))}
        other.ctl("purge", "--all")
        assert export(other) == bytes(1024) and export(daemon, "nothing such") == bytes(1024)
        assert counts(load(other, bytes(1024))) == (0, 0, 0, 0)


def test_many_pages(daemon):
    daemon.ctl("purge", "--all")
    with wire.Peer(daemon.publisher) as peer:
        for number in range(1000):
            peer.put(f"many/{number:04}", b"%d" % number)
    archive = export(daemon)
    with daemon_lib.Daemon() as other:
        assert counts(load(other, archive)) == (1000, 2890, 0, 0)
        assert contents(other) == contents(daemon)


def test_expiry(daemon):
    for seconds in (2, 10, 50):  # a busy machine may take longer to come to the export
        daemon.ctl("purge", "--all")
        daemon.ctl("put", "short", f"--ttl={seconds}s", input=b"s")
        daemon.ctl("put", "long", "--ttl=1h", input=b"l")
        archive = export(daemon)
        if len(members(archive)) == 2:
            break
    deadline = time.monotonic() + 90
    while daemon.ctl("get", "short", check=False).returncode == DONE:
        assert time.monotonic() < deadline
    with daemon_lib.Daemon() as other:
        assert counts(load(other, archive)) == (1, 1, 1, 0)
        assert set(contents(other)) == {b"long"}
    assert len(members(export(daemon))) == 1, "the expired one is exported"


def test_if_absent(daemon):
    fill(daemon)
    archive = export(daemon)
    large = f"bodies/{BODIES.index(LARGE)}"
    for uri in ("a", large):
        daemon.ctl("put", uri, input=b"newer")
    daemon.ctl("rm", "plain", "two\nlines")
    for source in ("pipe", "file"):
        (work / "archive").write_bytes(archive)
        result = load(daemon, archive, "--if-absent", check=False) if source == "pipe" else \
            daemon.ctl("import", "--if-absent", str(work / "archive"), check=False)
        fails(result, CONFLICT, "there is one already")
        done = 2 if source == "pipe" else 0
        assert counts(result)[0] == done and counts(result)[3] == len(URIS) + len(BODIES) + 1 - done
        for uri in ("a", large):
            assert daemon.ctl("get", uri).stdout == b"newer"
    load(daemon, archive)
    assert daemon.ctl("get", large).stdout == LARGE


def test_the_last_of_two_wins(daemon):
    """Archives one after the other are as one, and what was later stays later."""
    daemon.ctl("purge", "--all")
    archives = b""
    for number in range(20):
        # A small one could overtake the large one before it.
        daemon.ctl("put", "same", input=b"version %d" % number + bytes(200000 * (1 - number % 2)))
        archives += export(daemon)
    daemon.ctl("rm", "same")
    assert counts(load(daemon, archives))[0] == 20
    assert daemon.ctl("get", "same").stdout == b"version 19"


# ---- while others change the store ----

def test_consistent_while_serving(daemon):
    """Each object is in one of the states it had: body, metadata and checksum of one put."""
    daemon.ctl("purge", "--all")
    sizes = (10, 3000, 50000, 400000)

    def body_of(uri, version):
        return (hashlib.sha256(f"{uri} {version}".encode()).digest() * 12501)[:sizes[version % 4]]

    stop = threading.Event()
    failures = []

    def change(share):
        try:
            with wire.Peer(daemon.publisher) as peer:
                version = 1
                while not stop.is_set():
                    for number in range(share, 200, 2):
                        uri = f"changing/{number}"
                        if (number + version) % 7 == 0:
                            assert peer.ask(wire.REMOVE, wire.uri(uri)).status in (wire.OK, wire.ABSENT)
                        else:
                            peer.put(uri, body_of(uri, version), wire.metadata((b"version", b"%d" % version)))
                        if stop.is_set():
                            return
                    version += 1
        except BaseException as error:  # pylint: disable=broad-except
            failures.append(error)

    with wire.Peer(daemon.publisher) as peer:
        for number in range(200):
            peer.put(f"changing/{number}", body_of(f"changing/{number}", 0), wire.metadata((b"version", b"0")))
            peer.put(f"staying/{number}", b"stays")
    writers = [threading.Thread(target=change, args=(share,)) for share in range(2)]
    for writer in writers:
        writer.start()
    archives = [export(daemon) for _ in range(5)]
    stop.set()
    for writer in writers:
        writer.join()
    assert not failures, failures

    seen = set()
    for archive in archives:
        with daemon_lib.Daemon() as other:
            assert counts(load(other, archive))[3] == 0  # the checksums are right
            found = contents(other)
        for uri, (body, pairs, *_) in found.items():
            if uri.startswith(b"changing/"):
                version = int(pairs[6 + len(b"version"):])
                seen.add(version)
                assert body == body_of(uri.decode(), version), (uri, version)
        assert sum(uri.startswith(b"staying/") for uri in found) == 200
    assert len(seen) > 1, "nothing was changed meanwhile"


def test_daemon_restarts_meanwhile(_):
    with daemon_lib.Daemon() as restarted, daemon_lib.Daemon() as other:
        with wire.Peer(restarted.publisher) as peer:
            for number in range(300):
                peer.put(f"{number}", bytes([number % 256]) * 100000)
        before = contents(restarted)
        process = subprocess.Popen([CTL, *sockets(restarted), "export"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        archive = process.stdout.read(1000000)
        restarted.restart()
        archive += process.stdout.read()
        assert process.wait(daemon_lib.DEADLINE_SECONDS) == DONE, process.stderr.read()
        process.stderr.close()
        process.stdout.close()

        process = subprocess.Popen([CTL, *sockets(other), "import"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(archive[:15000000])
        process.stdin.flush()
        other.restart()
        process.stdin.write(archive[15000000:])
        process.stdin.close()
        assert process.stdout.read().endswith(b"; 0 failed\n") and process.wait(daemon_lib.DEADLINE_SECONDS) == DONE
        process.stdout.close()
        assert contents(other) == before


# ---- what tar says ----

def test_tar_takes_it(daemon):
    fill(daemon)
    archive = export(daemon)
    (work / "archive").write_bytes(archive)
    before = contents(daemon)

    listed = subprocess.run(["tar", "-tvf", work / "archive"], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listed.stderr == b"", listed.stderr
    lines = listed.stdout.decode().splitlines()
    assert len(lines) == len(before)
    names = [line.split()[-1] for line in lines]
    assert all(re.fullmatch(r"objects/\d{12}-[A-Za-z0-9._-]{1,64}", name) for name in names), names
    assert len(set(names)) == len(names)

    jail = work / "jail"
    shutil.rmtree(jail, ignore_errors=True)
    target = jail / "deep/target"
    target.mkdir(parents=True)
    subprocess.run(["tar", "-xf", work / "archive", "-C", target], check=True)
    assert os.listdir(jail) == ["deep"] and os.listdir(jail / "deep") == ["target"] and os.listdir(target) == ["objects"]
    assert all(file.is_file() and not file.is_symlink() for file in (target / "objects").iterdir())

    with tarfile.open(work / "archive") as tar:
        for info in tar:
            uri = info.pax_headers[KEY + "uri"].encode("utf-8", "surrogateescape")
            body, pairs, checksum, expires = before[uri]
            assert tar.extractfile(info).read() == body == (target / info.name).read_bytes()
            assert info.pax_headers[KEY + "checksum"] == f"{checksum:016x}"
            assert int(info.pax_headers.get(KEY + "expires", 0)) == expires
            assert (KEY + "metadata" in info.pax_headers) == bool(pairs)
            assert abs(info.mtime - time.time()) < 600


def test_metadata_is_netstrings(daemon):
    daemon.ctl("purge", "--all")
    daemon.ctl("put", "m", "-M", "one=1", "-M", "zwei=", "-M", "one=a=b", input=b"")
    with tarfile.open(fileobj=io.BytesIO(export(daemon))) as tar:
        assert tar.next().pax_headers[KEY + "metadata"] == "3:one,1:1,4:zwei,0:,3:one,3:a=b,"


def test_packed_again_by_tar(daemon):
    """Unpacked and packed by tar --xattrs, some files thrown away, it is still an archive of objects."""
    fill(daemon)
    daemon.ctl("rm", *("x" * 4096, "x" * 4095), b"\xf0" * 4096)  # more than an extended attribute of ext4 can be
    with wire.Peer(daemon.publisher) as peer:
        for uri in URIS[:-3]:
            peer.ask(wire.SET_METADATA, wire.uri(uri), wire.metadata(*PAIRS[:5]))
    before = contents(daemon)
    target = work / "again"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    try:
        os.setxattr(target, "user.objmapper", b"")
    except OSError as error:
        raise tap.Skip("needs a file system with extended attributes") from error
    subprocess.run(["tar", "-x", "--xattrs", "-C", target], check=True, input=export(daemon))
    for form in (["--format=pax"], []):
        packed = subprocess.run(["tar", "-c", "--xattrs", *form, "-C", target, "objects"], check=True,
                                stdout=subprocess.PIPE).stdout
        with daemon_lib.Daemon() as other:
            assert counts(load(other, packed))[3] == 0
            after = contents(other)
        assert {uri: value[:3] for uri, value in after.items()} == {uri: value[:3] for uri, value in before.items()}


def test_an_archive_of_something_else(daemon):
    daemon.ctl("purge", "--all")
    folder = work / "else"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "file\n").write_bytes(LARGE)
    (folder / "link").symlink_to("file\n")
    for form in ("ustar", "pax", "gnu"):
        other = subprocess.run(["tar", "-c", f"--format={form}", "-C", folder, "."], check=True, stdout=subprocess.PIPE).stdout
        result = load(daemon, other, check=False)
        fails(result, FAILED, "is no object", r"'./file\n'", "neither a file nor a folder")
        assert counts(result) == (0, 0, 0, 2 if form == "ustar" else 3)
        (folder / ("long" * 50)).write_bytes(b"")  # which the first form can't have
    for data, word in ((b"x" * 10000, "damaged, compressed, or something else"), (b"", "cut off at byte 0"),
                       (b"\x1f\x8b" + bytes(600), "no header"), (bytes(512), "cut off"), (b"tiny", "cut off")):
        result = load(daemon, data, check=False)
        fails(result, FAILED, word)
        assert counts(result) == (0, 0, 0, 0)
    assert contents(daemon) == {}


# ---- damage ----

def test_cut_off(daemon):
    fill(daemon)
    archive = export(daemon)
    found = members(archive)
    places = {0, 1, 511, 512, 513, 1024, 1600, len(archive) - 1, len(archive) - 512, len(archive) - 513,
              len(archive) - 1024}
    for start, body, size in found[-8:]:
        places |= {start, body - 1, body, body + size // 2, body + size}
    with daemon_lib.Daemon() as other:
        for place in sorted(places):
            whole = sum(body + size <= place for _, body, size in found)
            for source in ("pipe", "file"):
                other.ctl("purge", "--all")
                (work / "cut").write_bytes(archive[:place])
                result = load(other, archive[:place], check=False) if source == "pipe" else \
                    other.ctl("import", str(work / "cut"), check=False)
                fails(result, FAILED, "cut off at byte")
                # What is whole but for the bytes that fill its last block may be taken or not.
                assert counts(result)[0] in (whole, whole - 1), (place, source, whole, result)


def test_bodies_that_are_damaged(daemon):
    fill(daemon)
    before = contents(daemon)
    archive = bytearray(export(daemon))
    damaged = 0
    for _, body, size in members(archive):
        if size > 0:
            archive[body + size // 2] ^= 0x20
            damaged += 1
    for source in ("pipe", "file"):
        with daemon_lib.Daemon() as other:
            (work / "archive").write_bytes(archive)
            result = load(other, bytes(archive), check=False) if source == "pipe" else \
                other.ctl("import", str(work / "archive"), check=False)
            fails(result, FAILED, "checksum", "put bodies/7: ")
            assert counts(result) == (len(before) - damaged, 0, 0, damaged)
            assert all(body == b"" for body, *_ in contents(other).values())


def test_every_byte_of_a_head(daemon):
    """Whatever byte is another one: the object is imported as it was, or not at all."""
    daemon.ctl("purge", "--all")
    with wire.Peer(daemon.publisher) as peer:
        peer.put("the/uri", b"the body", wire.metadata((b"key", b"value"), (b"key", b"other")),
                 wire.u64(wire.TAG_TTL, 36000000))
        peer.put("the/uri/2", b"another")
    before = contents(daemon)
    archive = export(daemon)
    (_, body, size), _ = members(archive)
    imported = 0
    with daemon_lib.Daemon() as other:
        for place in range(body + size):
            if place % 3 and archive[place] == 0:  # most are zeros: a third of them must do
                continue
            damaged = bytearray(archive)
            damaged[place] ^= 1 << (place % 8)
            result = load(other, bytes(damaged), check=False)
            assert result.returncode in (DONE, FAILED), result
            for uri, value in contents(other).items():
                assert value[:3] == before[uri][:3], (place, uri, value)
                assert (value[3] == 0) == (before[uri][3] == 0), place
                imported += 1
            if result.returncode == DONE:
                assert counts(result) == (2, 15, 0, 0)
            other.ctl("purge", "--all")
    assert imported > 0


def header(size, kind=b"0", name=b"objects/1"):
    """A header block by hand."""
    block = bytearray(512)
    for at, value in ((0, name), (100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0"), (124, b"%011o\0" % size),
                      (136, b"%011o\0" % 0), (148, b" " * 8), (156, kind), (257, b"ustar\00000")):
        block[at:at + len(value)] = value
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def record(key, value):
    length = 1 + len(key) + 1 + len(value) + 1
    digits = len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length + digits, key, value)


def test_headers_that_lie(daemon):
    daemon.ctl("purge", "--all")
    daemon.ctl("put", "real", input=b"real")
    real = export(daemon)[:-1024]
    daemon.ctl("purge", "--all")
    key = KEY.encode()
    huge = 8**11 - 1

    def records(data):
        return header(len(data), b"x") + data + bytes(-len(data) % 512)

    refused = (
        records(record(key + b"uri", b"x")) + header(0),  # no checksums
        records(record(key + b"head-checksum", b"0" * 16)) + header(0),
        records(b"") + header(0),
        records(b"5 a=b\n") + header(0), records(b"99999999999999999999 a=b\n") + header(0), records(b"6 a=bb") + header(0),
        records(b"-1 a=b\n") + header(0), records(b"a=b\n") + header(0), records(b"6 ====\n") + header(0),
        records(bytes(2000)) + header(0), records(record(b"size", b"x")) + header(0),
        records(record(b"comment", b"x" * 200000)) + header(0),
        header(0, b"1"), header(huge, b"2"), header(0, b"3"), header(5, b"S") + bytes(512), header(0, b"\0"),
    )
    for archive in refused:
        result = load(daemon, archive + real + bytes(1024), check=False)
        fails(result, FAILED, "member 'objects/1'")
        assert counts(result) == (1, 4, 0, 1), (archive, result)
        assert set(contents(daemon)) == {b"real"}
        daemon.ctl("purge", "--all")

    # What is said of a folder holds for no file after it.
    (_, body, _), = members(real + bytes(1024))
    result = load(daemon, real[:body - 512] + header(0, b"5") + header(0) + bytes(1024), check=False)
    fails(result, FAILED, "is no object")
    assert counts(result) == (0, 0, 0, 1)

    cut = (header(huge) + real, header(huge, b"x") + real, header(huge, b"g") + real,
           records(record(b"size", b"%d" % 2**62)) + header(0) + real)
    for archive in cut:
        for source in ("pipe", "file"):
            (work / "archive").write_bytes(archive + bytes(1024))
            result = load(daemon, archive + bytes(1024), check=False) if source == "pipe" else \
                daemon.ctl("import", str(work / "archive"), check=False)
            fails(result, FAILED, "cut off")
    for archive in (records(record(b"size", b"%d" % 2**63)) + header(0), real + b"x" * 512):
        load(daemon, archive + bytes(1024), check=False)
    # What looks like an archive inside of a body is a body.
    daemon.ctl("purge", "--all")
    result = load(daemon, header(len(real)) + real + bytes(-len(real) % 512) + bytes(1024), check=False)
    fails(result, FAILED, "is no object")
    assert contents(daemon) == {}


# ---- outputs and inputs ----

def test_output_that_can_not_be_written(daemon):
    fill(daemon)
    target = work / "target"
    target.write_bytes(b"from before")
    with open("/dev/full", "wb") as full:
        fails(daemon.ctl("export", check=False, stdout=full), FAILED, "can't write standard output", "No space left")
    fails(daemon.ctl("export", "-o", "/dev/full", check=False), FAILED, "can't write '/dev/full'", "No space left")
    fails(daemon.ctl("export", "-o", str(work), check=False), FAILED, "can't write", "Is a directory")
    fails(daemon.ctl("export", check=False, preexec_fn=lambda: os.close(1), stdout=None), FAILED, "Bad file descriptor")
    fails(daemon.ctl("import", check=False, preexec_fn=lambda: os.close(0), stdin=None), FAILED, "can't read",
          "Bad file descriptor")

    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))

    fails(daemon.ctl("export", "-o", str(target), check=False, preexec_fn=small_files), FAILED, "can't write", "too large")
    assert target.read_bytes() == b"from before"

    # A reader who has gone.
    for ignored in (False, True):
        reader, writer = os.pipe()
        os.close(reader)
        handler = signal.SIG_IGN if ignored else signal.SIG_DFL
        result = daemon.ctl("export", check=False, stdout=writer, restore_signals=False,
                            preexec_fn=lambda handler=handler: signal.signal(signal.SIGPIPE, handler))
        os.close(writer)
        if ignored:
            fails(result, FAILED, "Broken pipe")
        else:
            assert result.returncode == -signal.SIGPIPE and result.stderr == b"", result

    with open(target, "ab") as appended:
        daemon.ctl("export", stdout=appended)
    assert target.read_bytes() == b"from before" + export(daemon)


def test_output_that_does_not_wait(daemon):
    """A pipe whose other users made it non-blocking."""
    fill(daemon)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen([CTL, *sockets(daemon), "export"], stdout=writer)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == export(daemon)
    assert process.wait(daemon_lib.DEADLINE_SECONDS) == DONE


def test_terminals(daemon):
    for verb in ("export", "import"):
        master, slave = pty.openpty()
        result = subprocess.run([CTL, *sockets(daemon), verb], stdin=slave, stdout=slave, stderr=subprocess.PIPE, check=False,
                                timeout=daemon_lib.DEADLINE_SECONDS)
        fails(result, USAGE, "terminal")
        assert not select.select([master], [], [], 0)[0], "it was written to"
        os.close(slave)
        os.close(master)


def test_progress(daemon):
    fill(daemon)
    status, shown = on_terminal([CTL, *sockets(daemon), "export", "-o", work / "archive"],
                                env={**os.environ, "TERM": "xterm"})
    objects = len(URIS) + len(BODIES) + 1
    assert status == DONE and re.search(rb"\r\[[#.]{30}\] +\d+%  \d+/" + str(objects).encode() + rb"  ", shown), shown
    status, shown = on_terminal([CTL, *sockets(daemon), "import", work / "archive"], stdout=subprocess.DEVNULL,
                                env={**os.environ, "TERM": "xterm"})
    assert status == DONE and re.search(rb"\r\[[#.]{30}\] +\d+%  \d+  ", shown), shown
    assert shown.rindex(b"\r\x1b[K") > shown.rindex(b"]"), "the bar stays"


def test_verbose(daemon):
    daemon.ctl("purge", "--all")
    daemon.ctl("put", "v\n", input=b"12345")
    told = daemon.ctl("export", "-v", "-o", str(work / "archive")).stderr.decode()
    assert re.fullmatch(r"'v\\n': 5 bytes, etag [0-9a-f-]+\nobjmapperctl: 1 objects exported, 5 bytes; 0 failed\n", told), told
    told = daemon.ctl("import", "--verbose", str(work / "archive")).stderr.decode()
    assert re.fullmatch(r"'v\\n': 5 bytes, etag [0-9a-f-]+\n", told), told
    assert daemon.ctl("export", "-o", str(work / "archive")).stderr == b""


def test_slow_pipes(daemon):
    """Nothing times out while the other side takes its time."""
    fill(daemon)
    before = contents(daemon)
    archive = export(daemon)
    daemon.ctl("purge", "--all")
    process = subprocess.Popen([CTL, *sockets(daemon), "import", "--timeout=3s"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    found = members(archive)
    _, body, size = max(found, key=lambda member: member[2])
    at = 0
    for place in (body - 700, body + 100000, len(archive)):
        process.stdin.write(archive[at:place])
        process.stdin.flush()
        at = place
        time.sleep(3.2)  # longer than the time-out
    output = process.communicate()[0]
    assert process.returncode == DONE and output.endswith(b" 0 failed\n"), output
    assert {uri: value[:3] for uri, value in contents(daemon).items()} == {uri: value[:3] for uri, value in before.items()}

    process = subprocess.Popen([CTL, *sockets(daemon), "export", "--timeout=3s"], stdout=subprocess.PIPE)
    taken = process.stdout.read(1000000)
    time.sleep(3.2)
    taken += process.stdout.read()
    process.stdout.close()
    assert process.wait(daemon_lib.DEADLINE_SECONDS) == DONE
    assert len(members(taken)) == len(before)


# ---- failures of the daemon ----

def test_goes_on_after_failures(daemon):
    fill(daemon)
    archive = export(daemon)
    (work / "archive").write_bytes(archive)
    too_large = sum(size > 100000 for _, _, size in members(archive))
    for source in ("pipe", "file"):
        with daemon_lib.Daemon(settings="[Store]\nMaxObjectSize=100000") as small:
            result = load(small, archive, check=False) if source == "pipe" else \
                small.ctl("import", str(work / "archive"), check=False)
            fails(result, NO_ROOM, "too large")
            done, _, expired, failed = counts(result)
            assert (done, expired, failed) == (len(members(archive)) - too_large, 0, too_large), result
            assert all(len(body) <= 100000 for body, *_ in contents(small).values())


def test_no_daemon_and_no_permission(daemon):
    archive = export(daemon)
    (work / "archive").write_bytes(archive)
    for verb in (["export"], ["import", work / "archive"]):
        result = subprocess.run([CTL, f"--socket={work}/nobody.sock", *verb], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        fails(result, NO_DAEMON, "nobody.sock", "stopped there")
        assert result.stderr.count(b"nobody.sock") == 1
    result = subprocess.run([CTL, f"--socket={daemon.reader}", "import", work / "archive"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    fails(result, NOT_PERMITTED, "not permitted", "--publish-socket")


def test_bodies_that_can_not_be_read(_):
    """One whose file fails under way is named, and refused by import; the others are exported."""
    with daemon_lib.Daemon() as damaged, daemon_lib.Daemon() as other:
        with wire.Peer(damaged.publisher) as peer:
            for number in range(5):
                peer.put(f"{number}", bytes([number]) * 300000)
        process = subprocess.Popen([CTL, *sockets(damaged), "export"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # The first body fills the pipe; all files are open by then.
        archive = process.stdout.read(2000)
        blob, = (path for path in (damaged.store / "blobs").rglob("*") if path.is_file() and path.read_bytes()[:1] == b"\3")
        blob.chmod(0o600)
        os.truncate(blob, 100000)
        archive += process.stdout.read()
        told = process.stderr.read().decode()
        process.stdout.close()
        process.stderr.close()
        assert process.wait(daemon_lib.DEADLINE_SECONDS) == FAILED
        assert "can't read the body of '3'" in told and "4 objects exported, 1200000 bytes; 1 failed" in told, told
        result = load(other, archive, check=False)
        fails(result, FAILED, "put 3: ", "checksum")
        assert counts(result) == (4, 1200000, 0, 1)
        assert {uri: body for uri, (body, *_) in contents(other).items()} == \
            {b"%d" % number: bytes([number]) * 300000 for number in (0, 1, 2, 4)}


def test_objects_that_are_damaged(_):
    """What the daemon finds damaged is absent from then on: the others are exported, and it is told."""
    with daemon_lib.Daemon() as damaged, daemon_lib.Daemon() as other:
        with wire.Peer(damaged.publisher) as peer:
            for number in range(5):
                peer.put(f"{number}", bytes([number]) * 300000)
        blob, = (path for path in (damaged.store / "blobs").rglob("*") if path.is_file() and path.read_bytes()[:1] == b"\3")
        blob.chmod(0o600)
        os.truncate(blob, 100000)
        result = damaged.ctl("export", check=False)
        fails(result, FAILED, "1 of the objects that were listed", "found 1 damaged", "4 objects exported")
        load(other, result.stdout)
        assert set(contents(other)) == {b"0", b"1", b"2", b"4"}
        # From then on it is not listed either.
        result = damaged.ctl("export")
        assert result.stderr == b"" and len(members(result.stdout)) == 4


try:
    with daemon_lib.Daemon() as shared:
        tap.run(globals(), shared, on_failure=shared.log)
finally:
    shutil.rmtree(work, ignore_errors=True)
