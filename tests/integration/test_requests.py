# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked and what is answered: hello, get in every mode, stat, changes, listings, counters."""

import fcntl
import os

import common
import tap
import wire
from common import bytes_of
from daemon import Daemon

SIZES = (0, 1, 1999, 2001, 4096, 16384, 16385, 65537, 1048576, 5000001)
MODES = (wire.OP_FDPASS, wire.OP_COPY, wire.OP_SPLICE, wire.OP_AUTO)


def put_sizes(daemon):
    with wire.Peer(daemon.publisher) as publisher:
        for size in SIZES:
            publisher.put(f"size/{size}", bytes_of(size, size))


def test_hello(daemon):
    with wire.Peer(daemon.reader, mode=wire.OP_SPLICE, depth=7, fds=9) as peer:
        limits = peer.limits
        assert limits["version"] == limits["min_version"] == 1
        assert limits["mode"] == wire.OP_SPLICE and limits["depth"] == 7 and limits["fds_per_batch"] == 9
        assert limits["role"] == 0 and limits["uri_max"] == 4096 and limits["metadata_max"] == 32768
    with wire.Peer(daemon.publisher) as peer:
        assert peer.limits["mode"] == wire.OP_AUTO and peer.limits["role"] == 1
        assert peer.limits["fds_per_batch"] == 253
        assert peer.ask(wire.HELLO, wire.hello()[32:]).status == wire.BAD_REQUEST
        assert peer.is_alive()


def test_older_hello(daemon):
    with wire.Peer(daemon.reader, min_version=0, max_version=1) as peer:
        assert peer.limits["version"] == 1 and peer.is_alive()
    with wire.Peer(daemon.reader, min_version=1, max_version=9) as peer:
        assert peer.limits["version"] == 1 and peer.is_alive()


def test_hello_of_other_versions(daemon):
    for versions in ((2, 9), (0, 0)):
        with wire.Peer(daemon.reader, greet=False) as peer:
            peer.send(wire.hello(5, min_version=versions[0], max_version=versions[1]))
            reply = peer.receive()
            assert reply.status == wire.UNSUPPORTED and reply.id == 5
            assert (reply.limits["min_version"], reply.limits["version"]) == (1, 1)
            peer.expect_closed()


def test_every_mode_and_size(daemon):
    for session_mode in (wire.OP_DEFAULT, *MODES):
        with common.Unchanged(daemon), wire.Peer(daemon.reader, mode=session_mode) as peer:
            for mode in (wire.OP_DEFAULT, *MODES):
                for size in SIZES:
                    reply = peer.ask(wire.GET, wire.uri(f"size/{size}"), mode=mode)
                    assert reply.status == wire.OK and reply.info.size == size
                    assert reply.content() == bytes_of(size, size)
                    asked = mode or session_mode or wire.OP_AUTO
                    if size <= 2000:
                        assert reply.mode == wire.OP_COPY
                    elif asked == wire.OP_AUTO:
                        assert reply.mode == (wire.OP_COPY if size <= 16384 else wire.OP_FDPASS)
                    else:
                        assert reply.mode == asked
                    assert (reply.fd is not None) == (reply.mode == wire.OP_FDPASS)
                    reply.close()


def test_ranges(daemon):
    with common.Unchanged(daemon), wire.Peer(daemon.reader) as peer:
        for mode in MODES:
            for size in SIZES:
                body = bytes_of(size, size)
                for offset, length in ((0, 1), (0, wire.U64_MAX), (size // 2, 1000), (max(size - 1, 0), 2**40),
                                       (1, 0), (size // 3, size // 3), (0, size)):
                    if offset >= size > 0 or (size == 0 and offset > 0):
                        continue
                    reply = peer.ask(wire.GET, wire.uri(f"size/{size}"), wire.range_(offset, length), mode=mode)
                    assert reply.status == wire.OK, reply
                    assert reply.body == body[offset:offset + length]
                    assert reply.range == (offset, len(reply.body)) and reply.info.size == size
                    large = size > 2000 and len(reply.body) > 0
                    assert reply.mode == (wire.OP_SPLICE if mode == wire.OP_SPLICE and large else wire.OP_COPY)
                for offset in (size, size + 1, wire.U64_MAX):
                    if offset == 0:
                        continue
                    reply = peer.ask(wire.GET, wire.uri(f"size/{size}"), wire.range_(offset), mode=mode)
                    assert reply.status == wire.BAD_RANGE and reply.info.size == size


def test_conditional_get(daemon):
    with wire.Peer(daemon.publisher, mode=wire.OP_FDPASS) as peer:
        etag = peer.put("conditional", bytes_of(5000), wire.metadata((b"type", b"text"))).etag
        condition = wire.field(wire.TAG_IF_NONE_MATCH, etag)
        reply = peer.ask(wire.GET, wire.uri("conditional"), condition)
        assert reply.status == wire.NOT_MODIFIED and reply.fd is None and not reply.body
        assert reply.info.etag == etag and wire.TAG_METADATA in reply.fields
        peer.put("conditional", bytes_of(5000, 2))
        reply = peer.ask(wire.GET, wire.uri("conditional"), condition)
        assert reply.status == wire.OK and reply.content() == bytes_of(5000, 2)
        reply.close()


def test_stat(daemon):
    with wire.Peer(daemon.publisher) as peer:
        info = peer.put("stat", b"12345", wire.metadata((b"a", b"b"), (b"a", b"")))
        peer.get("stat")
        reply = peer.ask(wire.STAT, wire.uri("stat"))
        assert reply.status == wire.OK and reply.info.etag == info.etag and reply.info.size == 5
        assert reply.fields[wire.TAG_METADATA] == wire.metadata((b"a", b"b"), (b"a", b""))[8:]
        assert int.from_bytes(reply.fields[wire.TAG_USAGE][:8], "little") == 1
        assert peer.ask(wire.STAT, wire.uri("absent")).status == wire.ABSENT


def test_expired(daemon):
    with wire.Peer(daemon.publisher) as peer:
        peer.put("expires", b"soon", wire.u64(wire.TAG_TTL, 1))
        common.wait_until(lambda: peer.ask(wire.GET, wire.uri("expires")).status == wire.EXPIRED, "it expires")
        reply = peer.ask(wire.GET, wire.uri("expires"))
        assert reply.info.size == 4 and not reply.body
        assert peer.get("expires", wire.field(wire.TAG_STALE_OK, must=False)) == b"soon"


def test_changes(daemon):
    with wire.Peer(daemon.publisher) as peer:
        first = peer.put("changed", b"one")
        assert peer.ask(wire.PUT, wire.uri("changed"), wire.field(wire.TAG_IF_ABSENT),
                        body=b"x").status == wire.EXISTS
        assert peer.ask(wire.PUT, wire.uri("changed"), wire.u64(wire.TAG_IF_GENERATION, first.generation + 999),
                        body=b"x").status == wire.CONFLICT
        second = peer.put("changed", b"two", wire.u64(wire.TAG_IF_GENERATION, first.generation))
        assert second.generation > first.generation and peer.get("changed") == b"two"
        reply = peer.ask(wire.SET_METADATA, wire.uri("changed"), wire.metadata((b"k", b"v")))
        assert reply.status == wire.OK and reply.info.metadata_version == second.metadata_version + 1
        assert peer.ask(wire.GET, wire.uri("changed")).fields[wire.TAG_METADATA] == wire.metadata((b"k", b"v"))[8:]
        assert peer.ask(wire.REMOVE, wire.uri("changed"),
                        wire.u64(wire.TAG_IF_GENERATION, first.generation)).status == wire.CONFLICT
        reply = peer.ask(wire.REMOVE, wire.uri("changed"))
        assert reply.status == wire.OK and reply.info.generation == second.generation
        assert peer.ask(wire.REMOVE, wire.uri("changed")).status == wire.ABSENT
        assert peer.ask(wire.SET_METADATA, wire.uri("changed"), wire.metadata()).status == wire.ABSENT
        assert peer.ask(wire.GET, wire.uri("changed")).status == wire.ABSENT


def test_list_and_purge(daemon):
    names = sorted(f"list/{i}".encode() for i in range(300))
    with wire.Peer(daemon.publisher) as peer:
        for name in names:
            peer.put(name, name)
        for page in (7, 0):
            seen, cursor, pages = [], (), 0
            while True:
                limit = (wire.field(wire.TAG_LIMIT, page.to_bytes(4, "little")),) if page else ()
                reply = peer.ask(wire.LIST, wire.prefix("list/"), *cursor, *limit)
                entries = wire.list_entries(reply.body)
                assert reply.status == wire.OK and reply.count == len(entries) <= (page or 1000)
                assert all(info.size == len(name) for info, name in entries)
                seen += [name for _, name in entries]
                pages += 1
                if wire.TAG_CURSOR not in reply.fields:
                    break
                cursor = (wire.field(wire.TAG_CURSOR, reply.fields[wire.TAG_CURSOR]),)
            assert seen == names and pages >= (300 // page if page else 1)
        assert peer.ask(wire.LIST, wire.prefix("list/"),
                        wire.field(wire.TAG_CURSOR, b"no cursor")).status == wire.BAD_REQUEST
        assert peer.ask(wire.PURGE, wire.prefix("list/1")).count == 111
        assert peer.ask(wire.LIST, wire.prefix("list/")).count == 189
        assert peer.ask(wire.PURGE, wire.prefix("list/")).count == 189


def test_counters(daemon):
    before = common.stats(daemon)
    with wire.Peer(daemon.reader) as peer:
        peer.get("size/2001", mode=wire.OP_SPLICE)
        peer.get("size/2001", mode=wire.OP_FDPASS)
        peer.get("size/2001", mode=wire.OP_COPY)
        peer.ask(wire.GET, wire.uri("absent"))
    after = common.stats(daemon)
    for name, step in (("requests_get", 4), ("replies_fdpass", 1), ("replies_splice", 1), ("replies_copy", 1),
                       ("bytes_splice", 2001), ("errors_absent", 1), ("sessions_total", 2), ("sessions_dropped", 0)):
        assert after[name] == before[name] + step, name
    assert after["store_objects"] >= len(SIZES) and after["sessions"] >= 1


def test_pipeline(daemon):
    """256 requests in one go, in each mode: every answer is that of its own request."""
    for mode in MODES:
        for fds in (0, 1, 100):
            with common.Unchanged(daemon), wire.Peer(daemon.reader, mode=mode, fds=fds) as peer:
                wanted = {}
                for i in range(256):
                    size = SIZES[i % len(SIZES)] if i % 50 == 0 else SIZES[i % 7]
                    wanted[peer.new_id()] = size
                peer.send(*(wire.frame(wire.GET, id_, wire.uri(f"size/{size}")) for id_, size in wanted.items()))
                largest = 0
                while wanted:
                    reply = peer.receive()
                    size = wanted.pop(reply.id)
                    assert reply.status == wire.OK and reply.content() == bytes_of(size, size)
                    largest = max(largest, reply.fd_count)
                    reply.close()
                assert largest <= (fds or 253)
                if mode == wire.OP_FDPASS and fds != 1:
                    assert largest > 1, "descriptors were not gathered"


def test_beyond_the_depth(daemon):
    """More than the depth, without an error, one after the other."""
    with wire.Peer(daemon.reader, depth=3) as peer:
        ids = [peer.new_id() for _ in range(1000)]
        peer.send(*(wire.frame(wire.GET, id_, wire.uri("size/1999")) for id_ in ids))
        assert [peer.receive().id for _ in ids] == ids


def test_overtaking(daemon):
    """A commit holds up nobody; an ordered session gets its answers in the order of its requests."""
    for flags in (0, wire.HELLO_ORDERED):
        with wire.Peer(daemon.publisher, flags=flags) as peer:
            assert peer.limits["flags"] == flags
            overtaken = 0
            for _ in range(20):
                put, get = peer.new_id(), peer.new_id()
                peer.send(wire.frame(wire.PUT, put, wire.uri("overtaken"), body_size=100000), bytes_of(100000),
                          wire.frame(wire.GET, get, wire.uri("size/1")))
                order = [peer.receive().id, peer.receive().id]
                assert sorted(order) == [put, get]
                overtaken += order[0] == get
            assert overtaken > 0 if not flags else overtaken == 0


def test_bodies_without_room_for_descriptors(daemon):
    """Who takes bodies by plain reads, or splices them, loses no descriptor of a reply behind them."""
    small, large = wire.uri("size/16384"), wire.uri("size/65537")
    with wire.Peer(daemon.reader) as peer:
        modes = ([wire.OP_COPY] * 20 + [wire.OP_FDPASS] * 10) * 6
        peer.send(*(wire.frame(wire.GET, peer.new_id(), small if mode == wire.OP_COPY else large, mode=mode)
                    for mode in modes))
        # More than the socket holds: bodies are sent in parts, with what follows them.
        common.wait_until(lambda: common.readable(peer.socket) > 100000, "the socket filled")
        for mode in modes:
            reply = peer.receive(plain_body=True)
            assert reply.status == wire.OK and reply.mode == mode, reply
            assert reply.content() == (bytes_of(16384, 16384) if mode == wire.OP_COPY else bytes_of(65537, 65537))
            reply.close()
        assert not peer.batches


def test_cold_bodies(daemon):
    """Files that are not in the page cache: the same bytes, read by others than the workers."""
    sizes = [size for size in SIZES if size > 2000]
    read_before = common.stats(daemon)["windows_read"]
    evicted, n_replies = False, 0
    with common.Unchanged(daemon), wire.Peer(daemon.reader) as peer:
        ok_before = common.stats(daemon)["replies_ok"]
        for mode in (wire.OP_COPY, wire.OP_SPLICE, wire.OP_AUTO):
            for _ in range(3):
                evicted = evict(daemon) or evicted
                ids = {peer.new_id(): size for size in sizes}
                peer.send(*(wire.frame(wire.GET, id_, wire.uri(f"size/{size}"), mode=mode)
                            for id_, size in ids.items()))
                for _ in sizes:
                    reply = peer.receive()
                    size = ids[reply.id]
                    assert reply.status == wire.OK and reply.content() == bytes_of(size, size)
                    reply.close()
                evict(daemon)
                reply = peer.ask(wire.GET, wire.uri("size/5000001"), wire.range_(3000000, 5), mode=mode)
                assert reply.body == bytes_of(5000001, 5000001)[3000000:3000005]
                n_replies += len(sizes) + 1
        # Those, the answer to the first question, and the hello of this one.
        assert common.stats(daemon)["replies_ok"] == ok_before + n_replies + 2
        # Sessions that end while a body of theirs is on its way from the disk.
        for mode in (wire.OP_COPY, wire.OP_SPLICE):
            evict(daemon)
            with wire.Peer(daemon.reader, mode=mode) as leaving:
                leaving.send(*(wire.frame(wire.GET, leaving.new_id(), wire.uri(f"size/{size}")) for size in sizes))
    if evicted:
        assert common.stats(daemon)["windows_read"] > read_before


def evict(daemon):
    """Puts the bodies out of the page cache; False: the file system keeps them there."""
    largest = None
    for folder, _, names in os.walk(daemon.store / "blobs"):
        for name in names:
            fd = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if os.fstat(fd).st_size == 5000001:
                largest = os.dup(fd)
            os.close(fd)
    try:
        os.preadv(largest, [bytearray(1)], 0, os.RWF_NOWAIT)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(largest)


def test_descriptors_are_independent(daemon):
    with wire.Peer(daemon.reader, mode=wire.OP_FDPASS) as one, wire.Peer(daemon.reader, mode=wire.OP_FDPASS) as two:
        first = one.ask(wire.GET, wire.uri("size/65537")).fd
        second = two.ask(wire.GET, wire.uri("size/65537")).fd
        try:
            assert os.lseek(second, 0, os.SEEK_CUR) == 0
            os.lseek(first, 100, os.SEEK_SET)
            assert os.lseek(second, 0, os.SEEK_CUR) == 0
            before = fcntl.fcntl(second, fcntl.F_GETFL)
            fcntl.fcntl(first, fcntl.F_SETFL, fcntl.fcntl(first, fcntl.F_GETFL) | os.O_NONBLOCK | os.O_APPEND)
            assert fcntl.fcntl(second, fcntl.F_GETFL) == before
            # Locks belong to a description: of one's own each, they exclude each other. The daemon takes none.
            fcntl.flock(first, fcntl.LOCK_EX)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                raise AssertionError("both have the same description")
            except BlockingIOError:
                pass
            assert two.get("size/65537") == bytes_of(65537, 65537)
            for fd in (first, second):
                assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
                for write in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0)):
                    try:
                        write()
                        raise AssertionError("written")
                    except OSError:
                        pass
        finally:
            os.close(first)
            os.close(second)


def test_old_bytes_stay(daemon):
    """Who holds a replaced or removed object keeps it."""
    with wire.Peer(daemon.publisher, mode=wire.OP_FDPASS) as peer:
        peer.put("replaced", bytes_of(70000, 1))
        old = peer.ask(wire.GET, wire.uri("replaced"))
        peer.put("replaced", bytes_of(70000, 2))
        new = peer.ask(wire.GET, wire.uri("replaced"))
        assert peer.ask(wire.REMOVE, wire.uri("replaced")).status == wire.OK
        assert old.content() == bytes_of(70000, 1) and new.content() == bytes_of(70000, 2)
        old.close()
        new.close()


def main():
    with Daemon() as daemon:
        put_sizes(daemon)
        tap.run(globals(), daemon, on_failure=daemon.log)


if __name__ == "__main__":
    main()
