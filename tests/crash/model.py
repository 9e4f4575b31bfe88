# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the clients of the crash test agree on: URIs, bodies that tell what they are, and what may be stored where."""

import hashlib
import mmap
import pathlib
import struct
import sys
import time

for folder in ("lib", "integration"):
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / folder))

import wire  # noqa: E402  pylint: disable=wrong-import-position

WRITERS = 3
READERS = 2
GROUPS = 4  # of URIs of one writer; what a purge takes
GROUP_URIS = 24
WRITER_URIS = GROUPS * GROUP_URIS
URIS = WRITERS * WRITER_URIS

HEADER = struct.Struct("<8sIQQ")
MAGIC = b"objcrash"


def prefix_of(writer, group):
    return f"crash/{writer}/{group}/".encode()


def name_of(index):
    """The URI with this number; every fourth is too long for a key of the dictionary."""
    writer, rest = divmod(index, WRITER_URIS)
    group, number = divmod(rest, GROUP_URIS)
    return prefix_of(writer, group) + (b"%0600d" if number % 4 == 0 else b"%d") % number


EVICTABLE = set()  # writers whose objects may have to go for others: set before the clients are made


def is_evictable(index):
    return index // WRITER_URIS in EVICTABLE


INDEX = {name_of(i): i for i in range(URIS)}


def body_of(index, seq, size):
    """The body of the put with the number seq: it tells all of that."""
    header = HEADER.pack(MAGIC, index, seq, size)
    return header + hashlib.shake_128(header).digest(size - HEADER.size)


def metadata_of(index, put, set_=0):
    """put, set_: the numbers of the put and of the set-metadata that made it; 0: there was none."""
    return wire.metadata((b"uri", b"%d" % index), (b"put", b"%d" % put), (b"set", b"%d" % set_),
                         (b"filling", b"f" * ((put + set_) % 7 * 100)))


def parse_metadata(block):
    """The reverse: (index, put, set_). Other metadata than such is an AssertionError."""
    at, values = 0, {}
    while at < len(block):
        key_size, value_size = struct.unpack_from("<HI", block, at)
        at += 6
        values[block[at:at + key_size]] = block[at + key_size:at + key_size + value_size]
        at += key_size + value_size
    numbers = tuple(int(values[key]) for key in (b"uri", b"put", b"set"))
    assert metadata_of(*numbers)[8:] == block, f"wrong metadata: {block!r}"
    return numbers


def now_usec():
    return time.time_ns() // 1000


class Shared:
    """Numbers that all processes see. Each cell has one writer.

    sent: the newest change that was sent for a URI; floor: the newest that was acknowledged, or found after a
    start; kind: what is there when these two are equal; loose: whether the newest that was acknowledged is a visible
    put, which without power may be undone; gets: asked by each client; answers: taken by each; dark: whether the
    power is cut."""

    ABSENT, PRESENT, MORTAL = range(3)

    def __init__(self):
        clients = WRITERS + READERS
        memory = memoryview(mmap.mmap(-1, 8 * (4 * URIS + clients * URIS + clients + 1))).cast("Q")
        self.sent, self.floor, self.kind, self.loose = (memory[i * URIS:(i + 1) * URIS] for i in range(4))
        self.gets = memory[4 * URIS:(4 + clients) * URIS]
        self.answers = memory[(4 + clients) * URIS:-1]
        self.dark = memory[-1:]

    def gets_of(self, index):
        return sum(self.gets[index::URIS])


class Etags:
    """What each generation was and each ETag named: never two things."""

    def __init__(self):
        self.generations = {}
        self.versions = {}

    def add(self, info, index, put, set_):
        self._add(self.generations, info.generation, (index, put, info.size, info.checksum))
        self._add(self.versions, (info.generation, info.metadata_version), (index, put, set_))

    def merge(self, other):
        for key, value in other.generations.items():
            self._add(self.generations, key, value)
        for key, value in other.versions.items():
            self._add(self.versions, key, value)

    def newest(self):
        return max(self.generations, default=0)

    @staticmethod
    def _add(names, key, value):
        assert names.setdefault(key, value) == value, f"{key} names two things: {names[key]} and {value}"


def verify_answer(reply, index):
    """Every byte of an answer to a get: (put, set_). Closes its descriptor."""
    told, put, set_ = parse_metadata(reply.fields[wire.TAG_METADATA])
    assert told == index, f"asked for {index}, got the metadata of {told}"
    content = reply.content()
    reply.close()
    expected = body_of(index, put, reply.info.size)
    if wire.TAG_RANGE in reply.fields:
        offset, size = reply.range
        expected = expected[offset:offset + size]
    assert content == expected, (f"wrong bytes for URI {index}, put {put}, mode {reply.mode}: {len(content)} of "
                                 f"{len(expected)}, which begin with {bytes(content[:64])!r}")
    return put, set_


class State:
    """An object as it may be stored. generation and expires are None until they are known."""

    def __init__(self, put, set_=0, *, generation=None, version=1, ttl_msec=0, sent_usec=0, expires=None):
        self.put, self.set = put, set_
        self.generation, self.version = generation, version
        self.ttl_msec, self.sent_usec = ttl_msec, sent_usec
        self.expires = 0 if ttl_msec == 0 else expires

    @property
    def seq(self):
        return max(self.put, self.set)

    def expires_least(self):
        """The earliest it can expire; 0: never."""
        return self.expires if self.expires is not None else self.sent_usec + self.ttl_msec * 1000

    def phases(self, since, until):
        """What it can be between two times: live, expired, or gone because it expired."""
        if self.expires_least() == 0 or until < self.expires_least():
            return {"live"}
        if self.expires is not None and since > self.expires:
            return {"expired", "gone"}
        return {"live", "expired", "gone"}

    def with_metadata(self, set_):
        return State(self.put, set_, generation=self.generation, version=self.version + 1, ttl_msec=self.ttl_msec,
                     sent_usec=self.sent_usec, expires=self.expires)

    def __repr__(self):
        return f"<put {self.put} set {self.set} generation {self.generation}.{self.version} ttl {self.ttl_msec}>"


class Change:
    """A change under way to one URI. kind: put, abort (a put given up), set, remove or purge."""

    def __init__(self, kind, seq, *, if_absent=False, if_generation=0, ttl_msec=0, size=0, visible=False):
        self.kind, self.seq, self.size, self.visible = kind, seq, size, visible
        self.if_absent, self.if_generation, self.ttl_msec = if_absent, if_generation, ttl_msec
        self.sent_usec = now_usec()
        self.is_stream = False
        self.is_whole = True  # all of it was sent

    def statuses(self, uri, base, until):
        """What may be answered when base (a State or None) is there."""
        if self.kind == "abort":
            return {wire.ABORTED, wire.NO_SPACE} if is_evictable(uri.index) else {wire.ABORTED}
        allowed = {wire.NO_SPACE} if self.kind == "put" and is_evictable(uri.index) else set()
        for phase in uri.phases(base, self.sent_usec, until):
            if self.if_generation and phase != "gone" and base.generation != self.if_generation:
                allowed.add(wire.CONFLICT)
            elif phase == "gone" and (self.if_generation or self.kind != "put"):
                allowed.add(wire.ABSENT)
            elif phase == "live" and self.if_absent:
                allowed.add(wire.EXISTS)
            else:
                allowed.add(wire.OK)
        return allowed

    def result(self, base):
        """What is there when it was made."""
        if self.kind == "put":
            return State(self.seq, ttl_msec=self.ttl_msec, sent_usec=self.sent_usec)
        return base.with_metadata(self.seq) if self.kind == "set" else None

    def __repr__(self):
        return (f"<{self.kind} {self.seq} visible {self.visible} if-absent {self.if_absent} "
                f"if-generation {self.if_generation}>")


class Uri:
    """What its one writer knows of it: what is there (for sure, or after visible puts one of what was before), and
    the changes under way, in order."""

    def __init__(self, index):
        self.index = index
        self.base = None
        self.before = []
        self.pending = []

    def phases(self, state, since, until):
        """What its state (None: there is no object) can be between two times."""
        if state is None:
            return {"gone"}
        return state.phases(since, until) | ({"gone"} if is_evictable(self.index) else set())

    def settle(self, change, state):
        """change was acknowledged, and those before it with it: state is there now."""
        self.before = [*self.before, self.base] if change.visible else []
        self.base = state
        del self.pending[:self.pending.index(change) + 1]

    def drop(self, change):
        """change was refused."""
        self.pending.remove(change)

    def candidates(self):
        """What may be there after a crash: (state, change that made it or None for the base and those before it)."""
        found = []
        for base in (self.base, *self.before):
            found.append((base, None))
            for change in self.pending:
                if change.is_whole and (change.kind == "purge" or wire.OK in change.statuses(self, base, now_usec())):
                    found.append((change.result(base), change))
        return found
