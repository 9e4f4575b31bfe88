# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clients of the crash test: a process each, told by a pipe when to begin and when to compare."""

import contextlib
import errno
import os
import random
import struct
import time
import traceback

from model import (GROUP_URIS, GROUPS, URIS, WRITER_URIS, WRITERS, Change, Etags, Shared, State, Uri, body_of,
                   is_evictable, metadata_of, name_of, now_usec, prefix_of, verify_answer)
import wire

DEPTH = 48  # changes of a writer in flight
READ_DEPTH = 16
STREAMS = 4  # fewer than MaxStreams=, which counts until the server has seen the end
HELD_FILES = 20
GETS_PER_CHANGE = 2
AHEAD_PAUSE_SECONDS = 0.01
VISIBLE_SHARE = 0.4
MODES = (wire.OP_DEFAULT, wire.OP_FDPASS, wire.OP_COPY, wire.OP_SPLICE, wire.OP_AUTO)


class Dark(Exception):
    """The answer tells of the disk's failure: the power was cut."""


class Client:
    """Both kinds: runs until the connection is lost, then compares with what the next daemon serves."""

    def __init__(self, number, paths, shared, pipe):
        self.number = number
        self.reader, self.publisher = paths
        self.shared = shared
        self.pipe = pipe
        self.random = None
        self.etags = Etags()
        self.floor_generation = 0
        self.n_dark = 0

    def serve(self):
        try:
            while True:
                command, *arguments = self.pipe.recv()
                if command == "end":
                    return
                self.pipe.send(("done", getattr(self, command)(*arguments), self.take_etags()))
        except EOFError:
            pass
        except BaseException:  # pylint: disable=broad-except
            self.pipe.send(("failed", traceback.format_exc(), None))

    def take_etags(self):
        etags, self.etags = self.etags, Etags()
        return etags

    def run(self, seed, floor_generation):
        """Until the connection is lost; what was under way then."""
        self.random = random.Random(seed * 100 + self.number)
        self.floor_generation = floor_generation
        self.n_dark = 0
        with self.connect() as peer:
            self.pipe.send(("ready", None, None))
            try:
                self.work(peer)
            except (BrokenPipeError, ConnectionResetError, Dark):
                self.drain(peer)
            except wire.Closed:
                pass
        return self.lost()

    def drain(self, peer):
        """What was answered before the end counts."""
        try:
            while True:
                with contextlib.suppress(Dark):
                    self.take(peer.receive())
        except (wire.Closed, ConnectionResetError):
            pass

    def count_answer(self, reply):
        """Without power there may be errors: they leave open what became of a change."""
        self.shared.answers[self.number] += 1
        if reply.status in (wire.INTERNAL, wire.READ_ONLY) and self.shared.dark[0]:
            self.n_dark += 1
            raise Dark

    def release(self):
        """Nothing of the store's file system is held any more."""

    def count_get(self, index):
        self.shared.gets[self.number * URIS + index] += 1

    # For both kinds to say how: connect(), work(peer), take(reply), lost(), compare().


class Writer(Client):
    """Changes its URIs, which nobody else does; the URIs' numbers are from first on."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.first = self.number * WRITER_URIS
        self.uris = [Uri(self.first + i) for i in range(WRITER_URIS)]
        self.seq = 0
        self.under_way = {}
        self.later = []
        self.streams = 0
        self.purging = None

    def connect(self):
        self.under_way, self.later, self.streams, self.purging = {}, [], 0, None
        return wire.Peer(self.publisher)

    def new_seq(self):
        self.seq += 1
        return self.seq

    def work(self, peer):
        while True:
            if len(self.under_way) <= DEPTH // 2:
                frames = self.end_streams()
                while len(self.under_way) < DEPTH:
                    frames += self.next_request(peer)
                peer.send(*frames)
            self.take(peer.receive())

    def end_streams(self):
        frames = []
        for change, frame in self.later:
            change.is_whole = True
            frames.append(frame)
        self.later = []
        return frames

    def next_request(self, peer):
        """The frames of one more request."""
        if self.purging is None and self.random.random() < 0.004:
            self.purging = [self.random.randrange(GROUPS), None]
        if self.purging and not self.purging[1] and not any(uri.pending for uri in self.purged()):
            return self.purge(peer.new_id())
        while True:  # some are always free: there are more of them than may be under way
            uri = self.random.choice(self.uris)
            is_purged = self.purging and (uri.index - self.first) // GROUP_URIS == self.purging[0]
            if not is_purged and not uri.pending:
                return self.change(peer.new_id(), uri)
            # A put behind a purge stays, whenever the purge comes to it.
            if is_purged and self.purging[1] and len(uri.pending) == 1:
                return self.put(peer.new_id(), uri)

    def purged(self):
        group = self.purging[0]
        return self.uris[group * GROUP_URIS:(group + 1) * GROUP_URIS]

    def purge(self, id_):
        change = Change("purge", self.new_seq())
        self.purging[1] = id_
        for uri in self.purged():
            self.begin(uri, change)
        self.under_way[id_] = (None, change)
        return [wire.frame(wire.PURGE, id_, wire.prefix(prefix_of(self.number, self.purging[0])))]

    def begin(self, uri, change):
        uri.pending.append(change)
        self.shared.sent[uri.index] = change.seq

    def change(self, id_, uri):
        what = self.random.random()
        if what < 0.5:
            return self.put(id_, uri)
        if what < 0.6:
            return self.put(id_, uri, if_absent=True)
        if what < 0.68:
            return self.put(id_, uri, if_generation=self.some_generation(uri))
        if what < 0.76:
            return self.put(id_, uri, ttl_msec=self.random.choice((30, 150, 1000, 3600000)))
        options = {"if_generation": self.some_generation(uri)} if self.random.random() < 0.3 else {}
        kind = "remove" if what < 0.88 else "set"
        change = Change(kind, self.new_seq(), **options)
        self.begin(uri, change)
        self.under_way[id_] = (uri, change)
        fields = self.conditions(change)
        if kind == "remove":
            return [wire.frame(wire.REMOVE, id_, wire.uri(name_of(uri.index)), *fields)]
        put = uri.base.put if uri.base else 0
        return [wire.frame(wire.SET_METADATA, id_, wire.uri(name_of(uri.index)), *fields,
                           metadata_of(uri.index, put, change.seq))]

    def some_generation(self, uri):
        """That of the object, or one of long ago."""
        return uri.base.generation if uri.base and self.random.random() < 0.7 else 1

    @staticmethod
    def conditions(change):
        fields = []
        if change.if_absent:
            fields.append(wire.field(wire.TAG_IF_ABSENT))
        if change.if_generation:
            fields.append(wire.u64(wire.TAG_IF_GENERATION, change.if_generation))
        return fields

    def some_size(self):
        what = self.random.random()
        most = 2100 if what < 0.6 else 17000 if what < 0.9 else 70000 if what < 0.99 else 600000
        return self.random.randint(28, most)

    def put(self, id_, uri, **options):
        is_stream = self.streams < STREAMS and self.random.random() < 0.15
        kind = "abort" if is_stream and self.random.random() < 0.2 else "put"
        change = Change(kind, self.new_seq(), size=self.some_size(), visible=self.random.random() < VISIBLE_SHARE,
                        **options)
        flags = wire.FLAG_VISIBLE if change.visible else self.random.choice((0, wire.FLAG_DURABLE))
        self.begin(uri, change)
        self.under_way[id_] = (uri, change)
        body = body_of(uri.index, change.seq, change.size)
        metadata = metadata_of(uri.index, change.seq)
        fields = [wire.uri(name_of(uri.index)), *self.conditions(change)]
        if change.ttl_msec:
            fields.append(wire.u64(wire.TAG_TTL, change.ttl_msec))
        if not is_stream:
            return [wire.frame(wire.PUT, id_, *fields, metadata, flags=flags, body_size=len(body)), body]

        # Its end is sent with the next requests: it is open for a while.
        self.streams += 1
        change.is_stream, change.is_whole = True, False
        self.later.append((change, wire.frame(wire.ABORT, id_) if kind == "abort" else
                           wire.frame(wire.END, id_, metadata)))
        frames = [wire.frame(wire.PUT, id_, *fields, flags=wire.FLAG_STREAM | flags)]
        at = 0
        while at < len(body):
            piece = body[at:at + self.random.randint(1, 100000)]
            frames += [wire.frame(wire.DATA, id_, body_size=len(piece)), piece]
            at += len(piece)
        return frames

    def take(self, reply):
        uri, change = self.under_way.pop(reply.id)
        self.streams -= change.is_stream
        self.count_answer(reply)
        if change.kind == "purge":
            assert reply.status == wire.OK, reply
            for one in self.purged():
                if change in one.pending:
                    one.settle(change, None)
                    self.publish(one, change.seq)
            self.purging = None
            return

        if uri.before and self.shared.dark[0]:
            # What it was made of is not known: like a change without an answer.
            self.n_dark += 1
            return
        allowed = change.statuses(uri, uri.base, now_usec())
        assert reply.status in allowed, f"URI {uri.index}: {change} of {uri.base}: {reply}, expected {allowed}"
        if reply.status != wire.OK:
            uri.drop(change)
            return
        state = change.result(uri.base)
        if change.kind == "put":
            self.learn(state, reply.info)
            assert not uri.base or state.generation > uri.base.generation, f"{state} after {uri.base}"
        else:
            assert reply.info.generation == uri.base.generation, f"{change} of {uri.base}: {reply.info.generation}"
        if state:
            assert reply.info.metadata_version == state.version, f"{state}: {reply.info.metadata_version}"
            self.etags.add(reply.info, uri.index, state.put, state.set)
        uri.settle(change, state)
        self.publish(uri, change.seq)

    def learn(self, state, info):
        """What only the daemon knew of a new object."""
        assert info.generation > self.floor_generation, f"generation {info.generation} is an old one"
        state.generation = info.generation
        if state.ttl_msec:
            earliest = state.expires_least()
            assert earliest <= info.expires_usec <= now_usec() + state.ttl_msec * 1000, f"{state} {info.expires_usec}"
            state.expires = info.expires_usec

    def publish(self, uri, seq):
        """Tells the readers what is there, in an order that they rely on."""
        self.shared.loose[uri.index] = bool(uri.before)
        self.shared.kind[uri.index] = (Shared.ABSENT if not uri.base else
                                       Shared.MORTAL if is_mortal(uri) else Shared.PRESENT)
        self.shared.floor[uri.index] = seq

    def lost(self):
        return len(self.under_way) + self.n_dark

    def compare(self):
        """Each URI against what may be there: (changes that were made though not acknowledged, those that were
        not, visible puts that were undone, what is there)."""
        made = unmade = undone = 0
        present = {}
        with wire.Peer(self.reader) as peer:
            for at in range(0, WRITER_URIS, READ_DEPTH):
                some = self.uris[at:at + READ_DEPTH]
                answers = self.ask_all(peer, some)
                for uri in some:
                    n_pending, newest = len(uri.pending), uri.base
                    was_made = self.adopt(uri, *answers[uri])
                    undone += not was_made and is_undone(newest, uri.base)
                    made += was_made
                    unmade += n_pending - was_made
                    if uri.base:
                        present[uri.index] = (uri.base.generation, uri.base.version, is_mortal(uri))
        return made, unmade, undone, present

    def ask_all(self, peer, uris):
        asked, answers, frames = {}, {uri: {} for uri in uris}, []
        for uri in uris:
            for type_ in (wire.GET, wire.STAT):
                id_ = peer.new_id()
                asked[id_] = uri
                mode = self.random.choice(MODES) if type_ == wire.GET else wire.OP_DEFAULT
                frames.append(wire.frame(type_, id_, wire.uri(name_of(uri.index)),
                                         wire.field(wire.TAG_STALE_OK, must=False), mode=mode))
            self.count_get(uri.index)
        peer.send(*frames)
        for _ in range(len(asked)):
            reply = peer.receive()
            answers[asked[reply.id]][reply.type] = reply
        return {uri: (found[wire.GET | wire.REPLY], found[wire.STAT | wire.REPLY]) for uri, found in answers.items()}

    def adopt(self, uri, got, stat):
        """What is there after a start is there to stay. Whether a change made it that was not acknowledged."""
        candidates = uri.candidates()
        what = f"URI {uri.index}: {got} {stat}, expected one of {candidates}"
        uri.pending, uri.before = [], []
        if got.status == wire.ABSENT:
            fitting = [change for state, change in candidates if state is None] or \
                      [change for state, change in candidates if "gone" in uri.phases(state, state.sent_usec, now_usec())]
            assert fitting, f"lost: {what}"
            uri.base = None
            assert stat.status == wire.ABSENT, what
            self.publish(uri, self.new_seq())
            self.shared.sent[uri.index] = self.shared.floor[uri.index]
            return fitting[0] is not None

        assert got.status == wire.OK, what
        put, set_ = verify_answer(got, uri.index)
        fitting = [(state, change) for state, change in candidates if state and (state.put, state.set) == (put, set_)]
        assert fitting, f"put {put} set {set_} is back: {what}"
        state, change = fitting[0]
        if state.generation is None:
            self.learn(state, got.info)
        assert (got.info.generation, got.info.metadata_version) == (state.generation, state.version), what
        assert got.info.expires_usec == state.expires, what
        self.etags.add(got.info, uri.index, put, set_)
        self.compare_usage(uri.index, got, stat, "gone" in uri.phases(state, state.sent_usec, now_usec()))
        uri.base = state
        self.publish(uri, state.seq)
        self.shared.sent[uri.index] = state.seq
        return change is not None

    def compare_usage(self, index, got, stat, may_be_gone):
        if may_be_gone and stat.status == wire.ABSENT:
            return
        assert stat.status == wire.OK and stat.info.etag == got.info.etag, f"{got} but {stat}"
        hits, used = struct.unpack_from("<QQ", stat.fields[wire.TAG_USAGE])
        assert hits <= self.shared.gets_of(index), f"URI {index}: {hits} hits of {self.shared.gets_of(index)} gets"
        assert (used > 0) == (hits > 0) and used <= now_usec(), f"URI {index}: {hits} hits, last used {used}"


def is_mortal(uri):
    """Whether its object may go without being asked for."""
    return bool(uri.base.ttl_msec) or is_evictable(uri.index)


def is_undone(newest, found):
    """Whether the object is an older one than the last that was acknowledged."""
    return newest is not None and found is not None and found.seq < newest.seq


class Reader(Client):
    """Gets all URIs in all modes, and holds some files across the crash."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.under_way = {}
        self.known = {}
        self.held = []

    def connect(self):
        self.under_way = {}
        return wire.Peer(self.reader, mode=self.random.choice(MODES))

    def work(self, peer):
        while True:
            if len(self.under_way) <= READ_DEPTH // 2:
                if self.is_ahead():
                    time.sleep(AHEAD_PAUSE_SECONDS)
                peer.send(*[self.next_request(peer) for _ in range(READ_DEPTH - len(self.under_way))])
            self.take(peer.receive())

    def is_ahead(self):
        """When the disk is slow the processors are not for gets alone."""
        return self.shared.answers[self.number] > GETS_PER_CHANGE * sum(self.shared.answers[:WRITERS])

    def next_request(self, peer):
        index = self.random.randrange(URIS)
        fields = [wire.uri(name_of(index))]
        offset = self.random.randrange(3000) if self.random.random() < 0.2 else None
        if offset is not None:
            fields.append(wire.range_(offset, self.random.choice((1, 1000, 100000, wire.U64_MAX))))
        stale_ok = self.random.random() < 0.2
        if stale_ok:
            fields.append(wire.field(wire.TAG_STALE_OK, must=False))
        known = self.known.get(index) if self.random.random() < 0.1 else None
        if known:
            fields.append(wire.field(wire.TAG_IF_NONE_MATCH, known))
        id_ = peer.new_id()
        self.count_get(index)
        self.under_way[id_] = (index, now_usec(), self.shared.floor[index], self.shared.loose[index], offset,
                               stale_ok, known)
        return wire.frame(wire.GET, id_, *fields, mode=self.random.choice(MODES))

    def take(self, reply):
        index, since, floor, is_loose, offset, stale_ok, known = self.under_way.pop(reply.id)
        self.count_answer(reply)
        is_loose = is_loose or self.shared.loose[index]
        kind = self.shared.kind[index]  # before sent: see Writer.publish()
        sent = self.shared.sent[index]
        what = f"URI {index}: {reply}, changes from {floor} to {sent}, kind {kind}"
        is_settled = floor == sent
        if is_loose and self.shared.dark[0]:
            is_settled, floor = False, 0
        if reply.status == wire.ABSENT:
            assert not is_settled or kind != Shared.PRESENT, f"lost: {what}"
            return
        info = reply.info
        if reply.status == wire.EXPIRED:
            assert not stale_ok and 0 < info.expires_usec <= now_usec(), what
            assert not is_settled or kind == Shared.MORTAL, what
            return
        assert not is_settled or kind != Shared.ABSENT, f"back: {what}"
        assert stale_ok or info.expires_usec == 0 or info.expires_usec > since, f"expired: {what}"
        if reply.status == wire.NOT_MODIFIED:
            assert known == info.etag, what
        elif reply.status == wire.BAD_RANGE:
            assert offset is not None and offset >= info.size, what
        else:
            assert reply.status == wire.OK, what
            self.take_body(reply, index, floor, sent, what)

    def take_body(self, reply, index, floor, sent, what):
        held = os.dup(reply.fd) if reply.fd is not None and len(self.held) < HELD_FILES else None
        try:
            put, set_ = verify_answer(reply, index)
        except OSError as error:
            reply.close()
            if held is not None:
                os.close(held)
            if error.errno == errno.EIO and self.shared.dark[0]:
                raise Dark from error
            raise
        assert floor <= max(put, set_) <= sent, f"put {put} set {set_}: {what}"
        self.etags.add(reply.info, index, put, set_)
        self.known[index] = reply.info.etag
        if held is not None:
            self.held.append((held, index, put, reply.info.size))

    def lost(self):
        return 0

    def compare(self):
        """What is held is as it was."""
        for fd, index, put, size in self.held:
            content = os.pread(fd, size + 1, 0)
            assert content == body_of(index, put, size), f"URI {index}, put {put}: a held file changed"
        self.release()

    def release(self):
        for fd, *_ in self.held:
            os.close(fd)
        self.held = []
