# SPDX-License-Identifier: LGPL-2.1-or-later
"""The protocol, spoken by hand: for tests that send what no library would send.

Written from objmapper-protocol(7), not from the sources, so that it can disagree with them."""

import array
import os
import socket
import struct

MAGIC = 0x4D4A424F
HEAD_SIZE = 32
REPLY = 0x8000

HELLO, GET, STAT, PUT, DATA, END, ABORT = 1, 2, 3, 4, 5, 6, 7
SET_METADATA, REMOVE, PURGE, LIST, STATS, NOTICE = 8, 9, 10, 11, 12, 13

OP_DEFAULT, OP_FDPASS, OP_COPY, OP_SPLICE, OP_AUTO = 0, 1, 2, 3, 4

OK, NOT_MODIFIED = 0, 1
ABSENT, EXISTS, EXPIRED, TOO_LARGE, NO_SPACE, BUSY, NOT_PERMITTED, BAD_REQUEST, UNSUPPORTED, INTERNAL, CONFLICT, \
    BAD_RANGE, BAD_CHECKSUM, ABORTED, READ_ONLY, DRAINING, DRAINED = range(16, 33)

FLAG_STREAM, FLAG_VISIBLE, FLAG_DURABLE = 1, 0x10, 0x20
HELLO_ORDERED = 1
MUST = 0x8000

TAG_HELLO, TAG_LIMITS, TAG_URI, TAG_PREFIX, TAG_RANGE, TAG_IF_NONE_MATCH, TAG_IF_ABSENT, TAG_IF_GENERATION, \
    TAG_STALE_OK, TAG_METADATA, TAG_SIZE, TAG_CHECKSUM, TAG_TTL, TAG_INFO, TAG_USAGE, TAG_CURSOR, TAG_LIMIT, \
    TAG_COUNT, TAG_TEXT = range(1, 20)

U64_MAX = 2**64 - 1
TIMEOUT_SECONDS = 60


class Closed(Exception):
    """The server closed the connection."""


def field(tag, value=b"", must=True):
    """One field of a head."""
    return struct.pack("<HHI", tag | (MUST if must else 0), 0, len(value)) + value


def frame(type_, id_, *fields, mode=OP_DEFAULT, flags=0, body_size=0, head_size=None, status=0, fd_index=0,
          fd_count=0):
    """A whole head; head_size: what it says of itself, when that is to be a lie."""
    payload = b"".join(fields)
    size = HEAD_SIZE + len(payload) if head_size is None else head_size
    return struct.pack("<IHBBQQHHHH", size, type_, mode, flags, id_, body_size, status, 0, fd_index,
                       fd_count) + payload


def hello(id_=1, *, min_version=1, max_version=1, mode=OP_DEFAULT, flags=0, fds=0, depth=0, magic=MAGIC):
    value = struct.pack("<IHHBBHIQQ", magic, min_version, max_version, mode, flags, fds, depth, 0, 0)
    return frame(HELLO, id_, field(TAG_HELLO, value))


def uri(name):
    return field(TAG_URI, name if isinstance(name, bytes) else name.encode())


def prefix(name):
    return field(TAG_PREFIX, name if isinstance(name, bytes) else name.encode())


def u64(tag, value):
    return field(tag, struct.pack("<Q", value))


def range_(offset, size=U64_MAX):
    return field(TAG_RANGE, struct.pack("<QQ", offset, size))


def metadata(*pairs):
    block = b"".join(struct.pack("<HI", len(key), len(value)) + key + value for key, value in pairs)
    return field(TAG_METADATA, block)


class Info:
    """The INFO field."""

    def __init__(self, value):
        (self.store_id, self.generation, self.metadata_version, self.size, self.checksum, self.stored_usec,
         self.expires_usec) = struct.unpack_from("<7Q", value)
        self.etag = value[:24]


class Reply:
    """A frame that was received: its head, fields by tag (without the must bit), body and descriptor."""

    def __init__(self, head, payload):
        (self.head_size, self.type, self.mode, self.flags, self.id, self.body_size, self.status, _, self.fd_index,
         self.fd_count) = struct.unpack("<IHBBQQHHHH", head)
        self.fields = {}
        self.body = b""
        self.fd = None
        at = 0
        while at < len(payload):
            tag, _, size = struct.unpack_from("<HHI", payload, at)
            self.fields[tag & ~MUST] = payload[at + 8:at + 8 + size]
            at += 8 + size
        assert at == len(payload), "the fields don't fill the head"

    @property
    def info(self):
        return Info(self.fields[TAG_INFO])

    @property
    def text(self):
        return self.fields.get(TAG_TEXT, b"").decode()

    @property
    def count(self):
        return struct.unpack("<Q", self.fields[TAG_COUNT])[0]

    @property
    def range(self):
        return struct.unpack("<QQ", self.fields[TAG_RANGE])

    @property
    def limits(self):
        names = ("version", "min_version", "mode", "flags", "role", "features", "store_id", "depth", "streams",
                 "uri_max", "metadata_max", "object_max", "inline_max", "fds_in_flight", "fds_per_batch", "idle_usec")
        return dict(zip(names, struct.unpack_from("<HHBBBxQQIIIIQIIH6xQ", self.fields[TAG_LIMITS])))

    def content(self):
        """The object's bytes, however they came."""
        if self.fd is None:
            return self.body
        with open(self.fd, "rb", closefd=False) as file:
            return file.read()

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def __repr__(self):
        return (f"<type {self.type:#x} id {self.id} status {self.status} mode {self.mode} body {len(self.body)} "
                f"fd {self.fd_index}/{self.fd_count} {self.text!r}>")


class Peer:
    """A connection. greet: a hello is sent and its answer taken."""

    def __init__(self, path, *, greet=True, timeout=TIMEOUT_SECONDS, **hello_options):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.buffer = bytearray()
        self.exactly = False
        self.batches = []
        self.next_id = 1
        self.limits = None
        if greet:
            self.send(hello(self.new_id(), **hello_options))
            reply = self.receive()
            assert reply.type == HELLO | REPLY and reply.status == OK, reply
            self.limits = reply.limits

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for batch in self.batches:
            for fd in batch:
                os.close(fd)
        self.batches = []
        self.socket.close()

    def new_id(self):
        self.next_id += 1
        return self.next_id - 1

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def send_with_fds(self, data, fds):
        """One message with descriptors."""
        self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])

    def _fill(self, wanted):
        while len(self.buffer) < wanted:
            size = wanted - len(self.buffer) if self.exactly else 1 << 18
            data, control, flags, _ = self.socket.recvmsg(size, socket.CMSG_SPACE(253 * 4), socket.MSG_CMSG_CLOEXEC)
            assert not flags & socket.MSG_CTRUNC, "descriptors were lost"
            for level, type_, value in control:
                assert (level, type_) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                fds = array.array("i")
                fds.frombytes(value)
                self.batches.append(list(fds))
            if not data:
                raise Closed
            self.buffer += data

    def _take(self, size):
        self._fill(size)
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def receive(self, plain_body=False):
        """The next frame, whole. plain_body: no more than it is read, and the body without room for descriptors."""
        self.exactly = plain_body
        head = self._take(HEAD_SIZE)
        reply = Reply(head, self._take(struct.unpack_from("<I", head)[0] - HEAD_SIZE))
        if plain_body:
            assert not self.buffer
            while len(reply.body) < reply.body_size:
                reply.body += self.socket.recv(reply.body_size - len(reply.body))
        else:
            reply.body = self._take(reply.body_size)
        if reply.fd_count:
            batch = self.batches[0]
            if reply.fd_index == 0:
                assert len(batch) == reply.fd_count, f"{len(batch)} descriptors came, {reply.fd_count} were said"
            reply.fd = batch.pop(0)
            assert len(batch) == reply.fd_count - reply.fd_index - 1
            if not batch:
                self.batches.pop(0)
        return reply

    def ask(self, type_, *fields, body=b"", **options):
        """A request and the reply to it; nothing else may be under way."""
        id_ = self.new_id()
        self.send(frame(type_, id_, *fields, body_size=len(body), **options), body)
        reply = self.receive()
        assert reply.id == id_ and reply.type == type_ | REPLY, reply
        return reply

    def put(self, name, body, *fields):
        """Puts inline; the reply's INFO."""
        reply = self.ask(PUT, uri(name), *fields, body=body)
        assert reply.status == OK, reply
        return reply.info

    def get(self, name, *fields, mode=OP_DEFAULT):
        """An object's bytes."""
        reply = self.ask(GET, uri(name), *fields, mode=mode)
        assert reply.status == OK, reply
        content = reply.content()
        reply.close()
        return content

    def expect_closed(self):
        """Nothing comes any more but the end."""
        try:
            reply = self.receive()
        except (Closed, ConnectionResetError):
            return
        raise AssertionError(f"not closed but answered: {reply}")

    def is_alive(self):
        """Whether a request is answered."""
        return self.ask(STAT, uri("no such object")).status == ABSENT


def list_entries(body):
    """(Info, URI) of each entry of a list reply's body."""
    entries = []
    at = 0
    while at < len(body):
        size, = struct.unpack_from("<I", body, at)
        entries.append((Info(body[at + 4:at + 60]), body[at + 60:at + 4 + size]))
        at += 4 + size
    return entries


def counters(body):
    """The counters of a stats reply's body."""
    result = {}
    at = 0
    while at < len(body):
        size, value = struct.unpack_from("<HQ", body, at)
        result[body[at + 10:at + 10 + size].decode()] = value
        at += 10 + size
    return result
