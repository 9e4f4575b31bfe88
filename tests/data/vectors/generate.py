#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the golden vectors of protocol 1, from its description in objmapper-protocol(7) alone.

This knows nothing of src/protocol: what both agree on, two hands have written. Run it without arguments to
write the files beside it; with --check it says whether they are what it would write.

A file is blocks, separated by blank lines. A block's first line is its kind and name, then follow what the
bytes mean and, after "hex", the bytes, with comments from '#' on and XX*N for N times a byte.

message NAME     decodes to the fields that are said, the others being absent or zero; encodes to these bytes,
                 or to those after "again", where the former are not what an encoder of version 1 writes
refused NAME     "error bad" or "error unsupported", and "what", which says why; "error lost": can't be followed
metadata NAME    pairs; entries NAME: entries of a list's body; counters NAME: counters of a stats' body
refused-metadata, refused-entries, refused-counters NAME
fdpass NAME      a message of fdpass_send(): operation and payload
"""

import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

TYPES = dict(hello=1, get=2, stat=3, put=4, data=5, end=6, abort=7, set_metadata=8, remove=9, purge=10,
             list=11, stats=12, notice=13)
REPLY = 0x8000
FDPASS, COPY, SPLICE, AUTO = 1, 2, 3, 4
OK, NOT_MODIFIED = 0, 1
STATUS = dict(absent=16, exists=17, expired=18, too_large=19, no_space=20, busy=21, not_permitted=22,
              bad_request=23, unsupported=24, internal=25, conflict=26, bad_range=27, bad_checksum=28,
              aborted=29, read_only=30, draining=31, drained=32)
MUST = 0x8000
STREAM = 1
VISIBLE, DURABLE = 0x10, 0x20
TO_END = 2**64 - 1

# tag, layout: name of each number, its place and struct letter; or 'bytes'
FIELDS = {
    'hello': (1 | MUST, 32, [('min_version', 4, 'H'), ('max_version', 6, 'H'), ('mode', 8, 'B'), ('flags', 9, 'B'),
                             ('fds_per_batch', 10, 'H'), ('depth', 12, 'I'), ('features', 16, 'Q')]),
    'limits': (2, 72, [('version', 0, 'H'), ('min_version', 2, 'H'), ('mode', 4, 'B'), ('flags', 5, 'B'),
                       ('role', 6, 'B'), ('features', 8, 'Q'), ('store_id', 16, 'Q'), ('depth', 24, 'I'),
                       ('streams', 28, 'I'), ('uri_max', 32, 'I'), ('metadata_max', 36, 'I'),
                       ('object_max', 40, 'Q'), ('inline_max', 48, 'I'), ('fds_in_flight', 52, 'I'),
                       ('fds_per_batch', 56, 'H'), ('idle_usec', 64, 'Q')]),
    'uri': (3 | MUST, 'bytes'),
    'prefix': (4 | MUST, 'bytes'),
    'range': (5 | MUST, 16, [('offset', 0, 'Q'), ('size', 8, 'Q')]),
    'if_none_match': (6 | MUST, 24, [('store_id', 0, 'Q'), ('generation', 8, 'Q'), ('metadata_version', 16, 'Q')]),
    'if_absent': (7 | MUST, 0, []),
    'if_generation': (8 | MUST, 8, [(None, 0, 'Q')]),
    'stale_ok': (9, 0, []),
    'metadata': (10 | MUST, 'bytes'),
    'size': (11 | MUST, 8, [(None, 0, 'Q')]),
    'checksum': (12 | MUST, 8, [(None, 0, 'Q')]),
    'ttl': (13 | MUST, 8, [(None, 0, 'Q')]),
    'info': (14, 56, [('store_id', 0, 'Q'), ('generation', 8, 'Q'), ('metadata_version', 16, 'Q'), ('size', 24, 'Q'),
                      ('checksum', 32, 'Q'), ('stored_usec', 40, 'Q'), ('expires_usec', 48, 'Q')]),
    'usage': (15, 16, [('hits', 0, 'Q'), ('used_usec', 8, 'Q')]),
    'cursor': (16 | MUST, 'bytes'),
    'limit': (17 | MUST, 4, [(None, 0, 'I')]),
    'count': (18, 8, [(None, 0, 'Q')]),
    'text': (19, 'bytes'),
}
NAMES = {layout[0] & ~MUST: name for name, layout in FIELDS.items()}


class Raw(bytes):
    """A field's value as it is, whatever its layout says."""


def hexed(data):
    """bytes as hex; a long run of one byte as XX*N"""
    out, i = [], 0
    while i < len(data):
        n = 1
        while i + n < len(data) and data[i + n] == data[i]:
            n += 1
        if n > 16:
            out.append('%02x*%d' % (data[i], n))
            i += n
        else:
            out.append('%02x' % data[i])
            i += 1
    return out


def lines(data, comment=''):
    """lines of hex of one piece"""
    out, words = [], hexed(data)
    for i in range(0, len(words), 16):
        line = ' '.join(words[i:i + 16])
        out.append('%-48s# %s' % (line, comment) if comment and i == 0 else line)
    return out


def quoted(data):
    """bytes as text that a small parser reads"""
    words, i = [], 0
    while i < len(data):
        n = 1
        while i + n < len(data) and data[i + n] == data[i]:
            n += 1
        if n > 32:
            return None
        i += n
    for byte in data:
        words.append(chr(byte) if 0x20 < byte < 0x7f and byte not in b'\\"#' else '\\x%02x' % byte)
    return '"' + ''.join(words) + '"'


def value_text(data):
    return quoted(data) or ' '.join(hexed(data))


def field(name, value, tag=None):
    """one field: (bytes, hex lines, meaning lines)"""
    layout = FIELDS.get(name)
    if tag is None:
        tag = layout[0]
    meaning = []
    if isinstance(value, Raw) or layout is None:
        data = bytes(value)
        pieces = lines(data, 'value') if data else []
    elif layout[1] == 'bytes':
        data = bytes(value)
        pieces = lines(data, 'value') if data else []
        meaning.append('%s %s' % (name, value_text(data)))
    else:
        size, members = layout[1:]
        numbers = value if isinstance(value, dict) else {None: value}
        data = bytearray(size)
        pieces, at = [], 0
        if name == 'hello':
            data[0:4] = b'OBJM'
            pieces += lines(b'OBJM', 'magic')
            at = 4
        for member, place, letter in members:
            number = numbers.get(member, 0)
            struct.pack_into('<' + letter, data, place, number)
            if place > at:
                pieces += lines(bytes(place - at), 'zero')
            width = struct.calcsize('<' + letter)
            pieces += lines(data[place:place + width], member or 'value')
            at = place + width
            full = name if member is None else '%s.%s' % (name, member)
            if member is None or number:
                meaning.append('%s %s' % (full, hex(number) if number > 99999 else number))
        if at < size:
            pieces += lines(bytes(size - at), 'zero')
        data = bytes(data)
        if not meaning:
            meaning.append(name)
    head = struct.pack('<HHI', tag, 0, len(data))
    known = NAMES.get(tag & ~MUST, 'unknown')
    return (head + data,
            lines(head[0:2], 'tag: %s%s' % (known, ', must be understood' if tag & MUST else '')) +
            lines(head[2:4], 'zero') + lines(head[4:8], 'size') + pieces, meaning)


class Message:
    """one frame's head, field by field; change() makes a wrong one of it"""

    def __init__(self, frame, *fields, mode=0, flags=0, id=7, body=0, status=0, reserved=0, fd=(0, 0), size=None,
                 tail=b''):
        self.head = dict(type=frame, mode=mode, flags=flags, id=id, body_size=body, status=status,
                         fd_index=fd[0], fd_count=fd[1])
        self.reserved, self.size, self.tail = reserved, size, tail
        self.fields = [field(*f) for f in fields]

    def dump(self):
        body = b''.join(f[0] for f in self.fields) + self.tail
        h = self.head
        size = 32 + len(body) if self.size is None else self.size
        out = (lines(struct.pack('<I', size), 'head_size') + lines(struct.pack('<H', h['type']), 'type') +
               lines(bytes([h['mode']]), 'mode') + lines(bytes([h['flags']]), 'flags') +
               lines(struct.pack('<Q', h['id']), 'id') + lines(struct.pack('<Q', h['body_size']), 'body_size') +
               lines(struct.pack('<H', h['status']), 'status') +
               lines(struct.pack('<H', self.reserved), 'reserved') +
               lines(struct.pack('<H', h['fd_index']), 'fd_index') +
               lines(struct.pack('<H', h['fd_count']), 'fd_count'))
        for f in self.fields:
            out += f[1]
        if self.tail:
            out += lines(self.tail, 'more')
        return out

    def packed(self):
        """the same in few lines: the fixed part, then each field"""
        out = []
        for line in self.dump():
            words, _, comment = line.partition('#')
            if comment.startswith((' head_size', ' tag', ' more')):
                out.append([])
            out[-1] += words.split()
        return [' '.join(words) for words in out]

    def meaning(self):
        out = ['%s %s' % (k, hex(v) if v > 99999 or k == 'type' and v & REPLY else v)
               for k, v in self.head.items() if v]
        for f in self.fields:
            out += f[2]
        return out


def message(name, m, again=None):
    """again: the canonical message, when m's bytes are not"""
    out = ['message ' + name] + (again or m).meaning() + ['hex'] + m.dump()
    if again:
        out += ['again'] + again.dump()
    return out


def refused(name, error, what, m):
    return ['refused ' + name, 'error ' + error] + (['what ' + what] if what else []) + ['hex'] + m.packed()


def block(kind, name, items, data):
    return ['%s %s' % (kind, name)] + items + ['hex'] + data


def pair(key, value):
    return struct.pack('<HI', len(key), len(value)) + key + value


def metadata(*pairs):
    return b''.join(pair(k, v) for k, v in pairs)


INFO = dict(store_id=0x1122334455667788, generation=42, metadata_version=1, size=1048576,
            checksum=0x99aabbccddeeff00, stored_usec=0x0005f00d00000001, expires_usec=0)
SMALL = dict(INFO, size=5, expires_usec=0x0005f00d00989680)
ETAG = dict(store_id=0x1122334455667788, generation=42, metadata_version=1)
META = metadata((b'content-type', b'text/plain'), (b'vary', b''))
URI = b'http://example.org/a'
LIMITS = dict(version=1, min_version=1, mode=AUTO, role=1, store_id=0x1122334455667788, depth=256, streams=8,
              uri_max=4096, metadata_max=32768, object_max=TO_END, inline_max=16384, fds_in_flight=1024,
              fds_per_batch=253, idle_usec=600000000)
HELLO = dict(min_version=1, max_version=1, mode=AUTO)


def reply(name):
    return TYPES[name] | REPLY


def good():
    T = TYPES
    yield message('hello', Message(T['hello'], ('hello', HELLO), id=1))
    yield message('hello-all', Message(
        T['hello'], ('hello', dict(min_version=0x0102, max_version=0x0304, mode=SPLICE, flags=1, fds_per_batch=0x0506,
                                   depth=0x0708090a, features=0x0b0c0d0e0f101112)), id=0xf1f2f3f4f5f6f7f8))
    yield message('hello-reply', Message(reply('hello'), ('limits', LIMITS), id=1))
    yield message('hello-reply-all', Message(reply('hello'), ('limits', dict(
        version=0x0102, min_version=0x0101, mode=FDPASS, flags=0x81, role=1, features=0x0203040506070809,
        store_id=0x0a0b0c0d0e0f1011, depth=0x12131415, streams=0x16171819, uri_max=0x1a1b1c1d,
        metadata_max=0x1e1f2021, object_max=0x2223242526272829, inline_max=0x2a2b2c2d, fds_in_flight=0x2e2f3031,
        fds_per_batch=0x3233, idle_usec=0x3435363738393a3b)), id=1))
    yield message('hello-refused', Message(reply('hello'), ('limits', dict(version=1, min_version=1)),
                                           ('text', b'no common version'), id=1, status=STATUS['unsupported']))

    yield message('get', Message(T['get'], ('uri', URI)))
    yield message('get-all', Message(T['get'], ('uri', URI), ('range', dict(offset=4096, size=TO_END)),
                                     ('if_none_match', ETAG), ('stale_ok', {}), mode=COPY))
    yield message('get-modes', Message(T['get'], ('uri', b'\x01\xff /../'), mode=AUTO, id=TO_END))
    yield message('get-longest-uri', Message(T['get'], ('uri', b'u' * 4096)))
    yield message('get-reply-fdpass', Message(reply('get'), ('metadata', META), ('info', INFO), mode=FDPASS, fd=(0, 2)))
    yield message('get-reply-fdpass-last', Message(reply('get'), ('info', INFO), mode=FDPASS, id=8, fd=(252, 253)))
    yield message('get-reply-copy', Message(reply('get'), ('info', SMALL), mode=COPY, body=5))
    yield message('get-reply-empty', Message(reply('get'), ('info', dict(SMALL, size=0)), mode=COPY))
    yield message('get-reply-splice', Message(reply('get'), ('info', INFO), mode=SPLICE, body=1048576))
    yield message('get-reply-range', Message(reply('get'), ('range', dict(offset=4096, size=1044480)), ('info', INFO),
                                             mode=COPY, body=1044480))
    yield message('get-reply-not-modified', Message(reply('get'), ('metadata', META), ('info', INFO),
                                                    status=NOT_MODIFIED))
    yield message('get-reply-absent', Message(reply('get'), ('text', b'no such object'), status=STATUS['absent']))
    yield message('get-reply-expired', Message(reply('get'), ('info', SMALL), status=STATUS['expired']))
    yield message('get-reply-bad-range', Message(reply('get'), ('info', SMALL), ('text', b'5 bytes'),
                                                 status=STATUS['bad_range']))

    yield message('stat', Message(T['stat'], ('uri', URI), ('stale_ok', {})))
    yield message('stat-reply', Message(reply('stat'), ('metadata', META), ('info', INFO),
                                        ('usage', dict(hits=3, used_usec=0x0005f00d00000002))))
    yield message('stat-reply-absent', Message(reply('stat'), status=STATUS['absent']))

    yield message('put', Message(T['put'], ('uri', URI), body=5))
    yield message('put-all', Message(T['put'], ('uri', URI), ('if_generation', 42), ('metadata', META), ('size', 5),
                                     ('checksum', 0x99aabbccddeeff00), ('ttl', 10000), body=5))
    yield message('put-if-absent', Message(T['put'], ('uri', URI), ('if_absent', {})))
    yield message('put-stream', Message(T['put'], ('uri', URI), flags=STREAM, id=9))
    yield message('put-visible', Message(T['put'], ('uri', URI), flags=VISIBLE, id=9, body=5))
    yield message('put-durable', Message(T['put'], ('uri', URI), flags=DURABLE, id=9, body=5))
    yield message('put-stream-visible', Message(T['put'], ('uri', URI), flags=STREAM | VISIBLE, id=9))
    yield message('put-stream-size', Message(T['put'], ('uri', URI), ('size', 1 << 40), flags=STREAM, id=9))
    yield message('put-reply', Message(reply('put'), ('info', SMALL)))
    for status in ('exists', 'too_large', 'no_space', 'conflict', 'bad_checksum', 'aborted', 'read_only'):
        yield message('put-reply-' + status.replace('_', '-'), Message(
            reply('put'), ('text', status.encode()), status=STATUS[status]))
    yield message('data', Message(T['data'], id=9, body=65536))
    yield message('data-empty', Message(T['data'], id=9))
    yield message('data-reply', Message(reply('data'), ('text', b'no such stream'), id=9,
                                        status=STATUS['bad_request']))
    yield message('end', Message(T['end'], id=9))
    yield message('end-all', Message(T['end'], ('metadata', b''), ('checksum', 1), id=9))
    yield message('end-reply', Message(reply('end'), id=9, status=STATUS['bad_request']))
    yield message('abort', Message(T['abort'], id=9))
    yield message('abort-reply', Message(reply('abort'), id=9, status=STATUS['bad_request']))

    yield message('set-metadata', Message(T['set_metadata'], ('uri', URI), ('metadata', META)))
    yield message('set-metadata-if-generation', Message(T['set_metadata'], ('uri', URI), ('if_generation', 42),
                                                        ('metadata', b'')))
    yield message('set-metadata-largest', Message(
        T['set_metadata'], ('uri', URI), ('metadata', pair(b'k' * 255, b'v' * (32768 - 6 - 255)))))
    yield message('set-metadata-reply', Message(reply('set_metadata'), ('info', dict(INFO, metadata_version=2))))
    yield message('set-metadata-reply-not-permitted', Message(
        reply('set_metadata'), ('text', b'this is the socket of readers'), status=STATUS['not_permitted']))
    yield message('remove', Message(T['remove'], ('uri', URI), ('if_generation', TO_END)))
    yield message('remove-reply', Message(reply('remove'), ('info', INFO)))
    yield message('remove-reply-conflict', Message(reply('remove'), ('info', INFO), status=STATUS['conflict']))
    yield message('purge', Message(T['purge'], ('prefix', b'http://example.org/')))
    yield message('purge-all', Message(T['purge'], ('prefix', b'')))
    yield message('purge-reply', Message(reply('purge'), ('count', 1 << 33)))
    yield message('purge-reply-internal', Message(reply('purge'), status=STATUS['internal']))
    yield message('list', Message(T['list'], ('prefix', b'')))
    yield message('list-all', Message(T['list'], ('prefix', b'http://'), ('cursor', b'\0\xff opaque'), ('limit', 100)))
    yield message('list-longest-cursor', Message(T['list'], ('prefix', b''), ('cursor', b'c' * 8192)))
    yield message('list-reply', Message(reply('list'), ('count', 2), body=121))
    yield message('list-reply-more', Message(reply('list'), ('cursor', b'opaque'), ('count', 1000), body=8 << 20))
    yield message('list-reply-empty', Message(reply('list'), ('count', 0)))
    yield message('stats', Message(T['stats']))
    yield message('stats-reply', Message(reply('stats'), body=70))
    yield message('stats-reply-busy', Message(reply('stats'), ('text', b'later'), status=STATUS['busy']))
    yield message('notice-draining', Message(T['notice'], ('text', b'stopping'), id=0, status=STATUS['draining']))
    yield message('notice-drained', Message(T['notice'], id=0, status=STATUS['drained']))
    yield message('notice-busy', Message(T['notice'], id=0, status=STATUS['busy']))
    yield message('notice-reply', Message(reply('notice'), status=STATUS['bad_request']))

    # What a later version may send.
    yield message('longer-hello', Message(T['hello'], ('hello', Raw(
        struct.pack('<4sHHBBHIQ8s', b'OBJM', 1, 3, FDPASS, 0, 64, 32, 6, b'') + b'later version')), id=1),
        Message(T['hello'], ('hello', dict(min_version=1, max_version=3, mode=FDPASS, fds_per_batch=64, depth=32,
                                           features=6)), id=1))
    yield message('longer-info', Message(reply('put'), ('info', Raw(field('info', INFO)[0][8:] + b'more'))),
                  Message(reply('put'), ('info', INFO)))
    yield message('longer-limits', Message(reply('hello'), ('limits', Raw(field('limits', LIMITS)[0][8:] + b'\xff' * 9))),
                  Message(reply('hello'), ('limits', LIMITS)))
    yield message('longer-usage', Message(
        reply('stat'), ('info', INFO), ('usage', Raw(struct.pack('<QQQ', 1, 2, 3)))),
        Message(reply('stat'), ('info', INFO), ('usage', dict(hits=1, used_usec=2))))
    yield message('hello-gaps', Message(T['hello'], ('hello', Raw(
        struct.pack('<4sHHBBHIQ8s', b'OBJM', 1, 1, AUTO, 0, 0, 0, 0, b'ignored!'))), id=1),
        Message(T['hello'], ('hello', HELLO), id=1))
    yield message('unknown-field', Message(T['get'], (None, Raw(b'what?'), 0x1234), ('uri', URI), (None, Raw(b''), 20),
                                           (None, Raw(b''), 20), (None, Raw(b'0'), 0)),
                  Message(T['get'], ('uri', URI)))
    yield message('unknown-flags', Message(T['stats'], flags=0xf0))
    yield message('unknown-type', Message(14, ('text', b'any field'), ('uri', URI), mode=200, flags=0x0f, id=0, body=TO_END,
                                          status=9),
                  Message(14, ('uri', URI), ('text', b'any field'), mode=200, flags=0x0f, id=0, body=TO_END, status=9))
    yield message('unknown-reply', Message(0x7fff | REPLY, mode=9, status=2, fd=(1, 3)))
    yield message('unknown-status', Message(reply('get'), ('text', b'something new'), status=999))
    yield message('any-order', Message(T['put'], ('ttl', 1), ('metadata', META), ('uri', URI), body=1),
                  Message(T['put'], ('uri', URI), ('metadata', META), ('ttl', 1), body=1))
    yield message('must-bit-does-not-matter', Message(T['get'], ('stale_ok', {}, 9 | MUST), ('uri', URI, 3)),
                  Message(T['get'], ('uri', URI), ('stale_ok', {})))
    yield message('reserved', Message(T['stats'], reserved=0xffff), Message(T['stats']))


def bad():
    T = TYPES
    u, must = ('uri', URI), 'must be understood'
    yield refused('head-too-small', 'lost', None, Message(T['stats'], size=31))
    yield refused('head-too-large', 'lost', None, Message(T['stats'], size=65537))
    yield refused('head-hostile', 'lost', None, Message(T['stats'], size=2**32 - 1))
    yield refused('head-cut-in-field', 'bad', 'inside a field', Message(T['get'], u, tail=b'\x09\0\0\0\0\0\0'))
    yield refused('field-past-end', 'bad', 'longer than the head', Message(
        T['get'], u, tail=struct.pack('<HHI', 9, 0, 1)))
    yield refused('field-hostile', 'bad', 'longer than the head', Message(
        T['get'], u, tail=struct.pack('<HHI', 9, 0, 2**32 - 1)))
    yield refused('unknown-must-field', 'unsupported', must, Message(T['get'], u, (None, Raw(b'?'), 20 | MUST)))
    yield refused('unknown-must-tag-0', 'unsupported', must, Message(T['get'], u, (None, Raw(b''), MUST)))
    yield refused('unknown-must-tag-last', 'unsupported', must, Message(T['get'], u, (None, Raw(b''), 0xffff)))
    yield refused('unknown-type-must-field', 'unsupported', must, Message(99, (None, Raw(b''), 20 | MUST)))
    yield refused('unknown-type-bad-uri', 'bad', 'URI', Message(99, ('uri', b'')))
    yield refused('unknown-type-fd-index', 'bad', 'descriptor', Message(99, fd=(1, 1)))

    # every field: too short, too long where its size is fixed, twice
    needs = dict(hello=('hello', HELLO), limits=('limits', LIMITS))
    homes = {'hello': T['hello'], 'limits': reply('hello'), 'prefix': T['list'], 'cursor': T['list'],
             'limit': T['list'], 'range': T['get'], 'if_none_match': T['get'], 'stale_ok': T['get'],
             'info': reply('stat'), 'usage': reply('stat'), 'count': reply('purge'), 'text': reply('purge')}
    longest = dict(uri=4096, prefix=4096, metadata=32768, cursor=8192, text=1024)
    empty_allowed = ('prefix', 'metadata', 'text')
    for name, layout in FIELDS.items():
        tag, home = layout[0], homes.get(name, T['put'])
        title = name.replace('_', '-')
        if layout[1] == 'bytes':
            sample = {'metadata': META}.get(name, b'x')
            if name not in empty_allowed:
                yield refused('empty-' + title, 'bad', name.upper(), Message(home, (name, Raw(b''))))
            value = b'x' * (longest[name] + 1)
            if name == 'metadata':
                value = pair(b'k' * 255, b'v' * (32768 - 6 - 255 + 1))
            yield refused('too-long-' + title, 'bad', name.upper(), Message(home, (name, Raw(value))))
        else:
            sample = field(name, {} if layout[1] == 0 else HELLO if name == 'hello' else
                           LIMITS if name == 'limits' else 1 if layout[2][0][0] is None else {})[0][8:]
            if layout[1] > 0:
                yield refused('short-' + title, 'bad', name.upper(), Message(home, (name, Raw(sample[:-1]))))
            if name not in ('hello', 'limits', 'info', 'usage'):
                yield refused('long-' + title, 'bad', name.upper(), Message(home, (name, Raw(sample + b'\0'))))
        yield refused('twice-' + title, 'bad', 'twice', Message(home, (name, Raw(sample)), (name, Raw(sample), tag ^ MUST)))

    yield refused('uri-nul', 'bad', 'URI', Message(T['get'], ('uri', b'a\0b')))
    yield refused('uri-ends-in-nul', 'bad', 'URI', Message(T['stat'], ('uri', b'a\0')))
    yield refused('prefix-nul', 'bad', 'PREFIX', Message(T['purge'], ('prefix', b'\0')))
    yield refused('if-generation-0', 'bad', 'IF_GENERATION', Message(T['remove'], u, ('if_generation', 0)))
    yield refused('metadata-cut', 'bad', 'METADATA', Message(T['put'], u, ('metadata', META[:-1])))
    yield refused('metadata-empty-key', 'bad', 'METADATA', Message(T['put'], u, ('metadata', pair(b'', b'v'))))
    yield refused('hello-magic', 'bad', 'HELLO', Message(T['hello'], ('hello', Raw(
        struct.pack('<4sHHBBHIQ8s', b'OBJN', 1, 1, AUTO, 0, 0, 0, 0, b'')))))
    yield refused('hello-versions', 'bad', 'HELLO', Message(T['hello'], ('hello', dict(HELLO, min_version=2))))
    yield refused('hello-field-mode', 'unsupported', 'mode', Message(T['hello'], ('hello', dict(HELLO, mode=5))))
    yield refused('limits-versions', 'bad', 'LIMITS', Message(reply('hello'), ('limits', dict(LIMITS, min_version=2))))
    yield refused('limits-field-mode', 'unsupported', 'mode', Message(reply('hello'), ('limits', dict(LIMITS, mode=5))))

    # every request: what it needs, what it can't have
    samples = dict(hello=('hello', HELLO), uri=u, prefix=('prefix', b''), metadata=('metadata', META))
    required = dict(hello=['hello'], get=['uri'], stat=['uri'], put=['uri'], data=[], end=[], abort=[],
                    set_metadata=['uri', 'metadata'], remove=['uri'], purge=['prefix'], list=['prefix'], stats=[])
    alien = dict(hello='uri', get='metadata', stat='range', put='range', data='uri', end='uri', abort='metadata',
                 set_metadata='if_absent', remove='if_absent', purge='uri', list='count', stats='text')
    aliens = dict(samples, range=('range', dict(offset=0, size=1)), if_absent=('if_absent', {}), count=('count', 1),
                  text=('text', b'hi'))
    for verb, names in required.items():
        title = verb.replace('_', '-')
        fields = [samples[n] for n in names]
        for n in names:
            yield refused('%s-without-%s' % (title, n), 'bad', n.upper() + ' field is missing', Message(
                T[verb], *[samples[m] for m in names if m != n]))
        yield refused('%s-with-%s' % (title, alien[verb].replace('_', '-')), 'bad', 'no place', Message(
            T[verb], *(fields + [aliens[alien[verb]]])))
        yield refused(title + '-id-0', 'bad', 'id', Message(T[verb], *fields, id=0))
        yield refused(title + '-status', 'bad', 'status', Message(T[verb], *fields, status=16))
        yield refused(title + '-descriptor', 'bad', 'descriptor', Message(T[verb], *fields, fd=(0, 1)))
        yield refused(title + '-fd-index', 'bad', 'descriptor', Message(T[verb], *fields, fd=(1, 0)))
        yield refused(title + '-flag', 'unsupported', 'flag', Message(T[verb], *fields, flags=2 if verb == 'put' else 1))
        yield refused(title + '-unknown-mode', 'unsupported', 'mode', Message(T[verb], *fields, mode=5))
        if verb != 'get':
            yield refused(title + '-mode', 'bad', 'mode', Message(T[verb], *fields, mode=COPY))
        if verb not in ('put', 'data'):
            yield refused(title + '-body', 'bad', 'body', Message(T[verb], *fields, body=1))
    yield refused('put-both-conditions', 'bad', 'exclude', Message(T['put'], u, ('if_absent', {}), ('if_generation', 1)))
    yield refused('put-size', 'bad', 'SIZE', Message(T['put'], u, ('size', 6), body=5))
    yield refused('put-visible-durable', 'bad', 'exclude', Message(T['put'], u, flags=VISIBLE | DURABLE, body=5))
    yield refused('put-stream-body', 'bad', 'streamed', Message(T['put'], u, flags=STREAM, body=5))
    yield refused('notice-id', 'bad', 'id', Message(T['notice'], status=STATUS['draining']))
    yield refused('notice-body', 'bad', 'body', Message(T['notice'], id=0, body=1, status=STATUS['draining']))
    yield refused('notice-uri', 'bad', 'no place', Message(T['notice'], u, id=0, status=STATUS['draining']))

    # every reply likewise
    replies = dict(hello=[('limits', LIMITS)], get=[('info', SMALL)], stat=[('info', INFO), ('usage', {})],
                   put=[('info', INFO)], set_metadata=[('info', INFO)], remove=[('info', INFO)],
                   purge=[('count', 1)], list=[('count', 1)], stats=[])
    for verb, fields in replies.items():
        title = verb.replace('_', '-') + '-reply'
        mode = dict(mode=COPY, body=5) if verb == 'get' else {}
        for f in fields:
            yield refused('%s-without-%s' % (title, f[0]), 'bad', f[0].upper() + ' field is missing', Message(
                reply(verb), *[g for g in fields if g is not f], **mode))
        yield refused(title + '-with-uri', 'bad', 'no place', Message(reply(verb), u, *fields, **mode))
        yield refused(title + '-flag', 'unsupported', 'flag', Message(reply(verb), *fields, flags=1, **mode))
        yield refused(title + '-absent-with-count', 'bad', 'no place' if verb != 'get' else None, Message(
            reply(verb), ('count', 1), status=STATUS['absent']))
        yield refused(title + '-absent-body', 'bad', 'body', Message(reply(verb), body=1, status=STATUS['absent']))
        yield refused(title + '-absent-descriptor', 'bad', 'descriptor', Message(
            reply(verb), fd=(0, 1), status=STATUS['absent']))
        yield refused(title + '-absent-mode', 'bad', 'mode', Message(reply(verb), mode=COPY, status=STATUS['absent']))
        if verb != 'get':
            yield refused(title + '-mode', 'bad', 'mode', Message(reply(verb), *fields, mode=COPY))
            yield refused(title + '-descriptor', 'bad', 'descriptor', Message(reply(verb), *fields, fd=(0, 1)))
            yield refused(title + '-not-modified', 'bad', 'not answered', Message(
                reply(verb), *fields, status=NOT_MODIFIED))
        if verb not in ('get', 'list', 'stats'):
            yield refused(title + '-body', 'bad', 'body', Message(reply(verb), *fields, body=1))
    for verb in ('data', 'end', 'abort', 'notice'):
        yield refused(verb + '-reply-ok', 'bad', 'not answered', Message(reply(verb)))
    yield refused('list-reply-body', 'bad', 'page', Message(reply('list'), ('count', 1), body=(8 << 20) + 1))
    yield refused('list-reply-count', 'bad', 'page', Message(reply('list'), ('count', 1001), body=1))
    yield refused('stats-reply-body', 'bad', 'page', Message(reply('stats'), body=TO_END))
    info = ('info', INFO)
    yield refused('get-reply-no-mode', 'unsupported', 'mode', Message(reply('get'), info, body=1048576))
    yield refused('get-reply-auto', 'unsupported', 'mode', Message(reply('get'), info, mode=AUTO, body=1048576))
    yield refused('get-reply-fdpass-none', 'bad', 'descriptor', Message(reply('get'), info, mode=FDPASS))
    yield refused('get-reply-fdpass-body', 'bad', 'descriptor', Message(reply('get'), info, mode=FDPASS, fd=(0, 1), body=1))
    yield refused('get-reply-fdpass-range', 'bad', 'descriptor', Message(
        reply('get'), ('range', dict(offset=0, size=0)), info, mode=FDPASS, fd=(0, 1)))
    yield refused('get-reply-fdpass-index', 'bad', 'descriptor', Message(reply('get'), info, mode=FDPASS, fd=(2, 2)))
    yield refused('get-reply-copy-descriptor', 'bad', 'descriptor', Message(
        reply('get'), info, mode=COPY, fd=(0, 1), body=1048576))
    yield refused('get-reply-splice-descriptor', 'bad', 'descriptor', Message(
        reply('get'), info, mode=SPLICE, fd=(0, 1), body=1048576))
    yield refused('get-reply-short', 'bad', 'whole', Message(reply('get'), info, mode=COPY, body=1048575))
    yield refused('get-reply-long', 'bad', 'whole', Message(reply('get'), info, mode=COPY, body=1048577))
    for name, offset, size, body in (('size', 0, 5, 6), ('past-end', 1048570, 7, 7), ('offset', 1048577, 0, 0),
                                     ('wraps', TO_END, 2, 2), ('hostile', 1, TO_END, TO_END)):
        yield refused('get-reply-range-' + name, 'bad', 'RANGE', Message(
            reply('get'), ('range', dict(offset=offset, size=size)), info, mode=COPY, body=body))
    yield refused('get-reply-not-modified-body', 'bad', 'body', Message(reply('get'), info, body=1, status=NOT_MODIFIED))
    yield refused('get-reply-not-modified-range', 'bad', 'no place', Message(
        reply('get'), ('range', dict(offset=0, size=1)), info, status=NOT_MODIFIED))
    yield refused('get-reply-not-modified-bare', 'bad', 'INFO', Message(reply('get'), status=NOT_MODIFIED))


def entry(uri, info):
    packed = struct.pack('<7Q', *[info[k] for k in ('store_id', 'generation', 'metadata_version', 'size', 'checksum',
                                                    'stored_usec', 'expires_usec')])
    return struct.pack('<I', len(packed) + len(uri)) + packed + uri


def blocks():
    def pairs(*items):
        return ['pair %s %s' % (value_text(k), value_text(v)) for k, v in items]

    several = [(b'content-type', b'text/plain'), (b'link', b'\0\xff'), (b'link', b''), (b'k' * 255, b'v')]
    yield block('metadata', 'none', [], [])
    yield block('metadata', 'several', pairs(*several), sum((lines(pair(*p), 'pair') for p in several), []))
    yield block('refused-metadata', 'cut-in-sizes', [], lines(b'\1\0\0\0\0'))
    yield block('refused-metadata', 'empty-key', [], lines(pair(b'', b'v')))
    yield block('refused-metadata', 'long-key', [], lines(pair(b'k' * 256, b'')))
    yield block('refused-metadata', 'key-past-end', [], lines(pair(b'key', b'')[:-1]))
    yield block('refused-metadata', 'value-past-end', [], lines(pair(b'a', b'b') + pair(b'key', b'value')[:-1]))
    yield block('refused-metadata', 'hostile-value', [], lines(struct.pack('<HI', 1, 2**32 - 1) + b'k'))

    def entry_lines(uri, info):
        return ['entry %s %s' % (value_text(uri), ' '.join(hex(info[k]) for k in (
            'store_id', 'generation', 'metadata_version', 'size', 'checksum', 'stored_usec', 'expires_usec')))]

    yield block('entries', 'none', [], [])
    yield block('entries', 'two', entry_lines(URI, INFO) + entry_lines(b'b', SMALL),
                lines(entry(URI, INFO), 'entry') + lines(entry(b'b', SMALL), 'entry'))
    yield block('entries', 'longest', entry_lines(b'u' * 4096, INFO), lines(entry(b'u' * 4096, INFO)))
    whole = entry(b'b', SMALL)
    yield block('refused-entries', 'cut-in-size', [], lines(whole[:3]))
    yield block('refused-entries', 'cut', [], lines(whole + whole[:-1]))
    yield block('refused-entries', 'no-uri', [], lines(entry(b'', SMALL) + b'u'))
    yield block('refused-entries', 'smaller-than-info', [], lines(struct.pack('<I', 55) + whole[4:]))
    yield block('refused-entries', 'hostile-size', [], lines(struct.pack('<I', 2**32 - 1) + whole[4:]))
    yield block('refused-entries', 'nul', [], lines(entry(b'a\0', SMALL)))
    yield block('refused-entries', 'long-uri', [], lines(entry(b'u' * 4097, SMALL)))

    def counter(name, value):
        return struct.pack('<HQ', len(name), value) + name

    several = [(b'sessions', 3), (b'requests_get', 2**64 - 1), (b'n' * 64, 0)]
    yield block('counters', 'none', [], [])
    yield block('counters', 'several', ['counter %s %d' % (value_text(n), v) for n, v in several],
                sum((lines(counter(*c), 'counter') for c in several), []))
    yield block('refused-counters', 'cut-in-head', [], lines(counter(b'a', 1)[:9]))
    yield block('refused-counters', 'cut-in-name', [], lines(counter(b'ab', 1) + counter(b'ab', 1)[:-1]))
    yield block('refused-counters', 'no-name', [], lines(counter(b'', 1) + b'a'))
    yield block('refused-counters', 'long-name', [], lines(counter(b'n' * 65, 1)))
    yield block('refused-counters', 'hostile-size', [], lines(struct.pack('<HQ', 65535, 1) + b'a'))
    for name in (b'a b', b'a\n', b'\x7f', b'\xc3\xa9', b'\0'):
        yield block('refused-counters', 'name-' + name.hex(), [], lines(counter(name, 1)))


def fdpass():
    for name, operation, payload in (('empty', 0, b''), ('payload', 0x81828384, b'hello')):
        yield (['fdpass ' + name, 'operation %s' % hex(operation), 'payload ' + value_text(payload), 'hex'] +
               lines(struct.pack('<I', operation), 'operation') + lines(struct.pack('<I', len(payload)), 'size') +
               (lines(payload, 'payload') if payload else []))


FILES = {'messages.txt': good, 'refused.txt': bad, 'blocks.txt': blocks, 'fdpass.txt': fdpass}


def main():
    stale = 0
    for name, make in FILES.items():
        text = '# SPDX-License-Identifier: LGPL-2.1-or-later\n# Written by generate.py, which says what this means.\n\n'
        text += '\n\n'.join('\n'.join(b) for b in make()) + '\n'
        path = os.path.join(HERE, name)
        if '--check' in sys.argv[1:]:
            with open(path, encoding='ascii') as file:
                if file.read() != text:
                    print(name + ' is not what generate.py writes', file=sys.stderr)
                    stale = 1
        else:
            with open(path, 'w', encoding='ascii') as file:
                file.write(text)
    return stale


if __name__ == '__main__':
    sys.exit(main())
