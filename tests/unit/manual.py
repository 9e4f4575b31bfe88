#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds objmapper-protocol(7) to the header and to the golden vectors: its numbers, and its example's bytes; and
what is written of the daemon's messages, and of its interface on the bus, to what there is."""

import os
import re
import sys
from xml.etree import ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests/data/vectors'))
sys.dont_write_bytecode = True

import generate  # pylint: disable=wrong-import-position

failures = 0


def check(good, what):
    global failures
    if not good:
        print('manual: ' + what, file=sys.stderr)
        failures += 1


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


def enum(header, name, prefix):
    """what an enum of the header says: {name: value}"""
    body = re.search(r'enum %s \{(.*?)\};' % name, header, re.DOTALL).group(1)
    found = re.findall(r'^\s+%s([A-Z_]+) = (\w+),' % prefix, body, re.MULTILINE)
    return {n: int(v, 0) for n, v in found if n != 'REPLY'}


def section(page, title):
    return re.search(r'^%s\n=+\n(.*?)(?=^[A-Z ]+\n=+\n|\Z)' % title, page, re.DOTALL | re.MULTILINE).group(1)


def hex_bytes(lines):
    out = b''
    for line in lines:
        for word in line.partition('#')[0].split():
            byte, _, times = word.partition('*')
            out += bytes([int(byte, 16)]) * int(times or 1)
    return out


def check_messages():
    """Every kind of message is in the manual and in the catalog, and the other way round."""
    header = {i: n for n, i in re.findall(r'^#define MESSAGE_(\w+) +"([0-9a-f]{32})"$',
                                          read('src/server/message-ids.h'), re.MULTILINE)}
    listed = re.findall(r'^\| ([0-9a-f]{32}) ', section(read('man/objmapperd.8.rst'), 'JOURNAL'), re.MULTILINE)
    catalog = re.findall(r'^-- ([0-9a-f]{32})\nSubject: .+\nDefined-By: objmapper\nDocumentation: man:.+\n\n\S',
                         read('units/objmapper.catalog'), re.MULTILINE)
    for place, found in (('objmapperd(8)', listed), ('units/objmapper.catalog', catalog)):
        check(sorted(found) == sorted(set(found)), '%s tells of a message twice' % place)
        for number in set(header) - set(found):
            check(False, '%s does not tell of MESSAGE_%s %s' % (place, header[number], number))
        for number in set(found) - set(header):
            check(False, '%s tells of %s, which is no message' % (place, number))


def signature(member):
    """A method or signal of the interface as the manual writes it: NAME(t arg, ...) → t arg, ..."""
    args = [(arg.get('direction', 'in'), '%s %s' % (arg.get('type'), arg.get('name'))) for arg in member.findall('arg')]
    ins, outs = ([text for direction, text in args if direction == which] for which in ('in', 'out'))
    return '%s(%s)%s' % (member.get('name'), ', '.join(ins), ' → ' + ', '.join(outs) if outs else '')


def check_bus():
    """What the interface on the bus has, its errors and polkit's actions are in the manual, and nothing else is."""
    page = read('man/org.objmapper1.5.rst')
    interface = ElementTree.fromstring(read('dbus/org.objmapper1.Manager.xml')).find('interface')
    for tag, title in (('method', 'METHODS'), ('signal', 'SIGNALS')):
        described = re.findall(r'``(\w+\([^`]*)``', '\n'.join(re.findall(r'^``.*', section(page, title), re.MULTILINE)))
        check(sorted(described) == sorted(map(signature, interface.findall(tag))), '%s are %s, in the interface %s' % (
            title, sorted(described), sorted(map(signature, interface.findall(tag)))))

    described = sorted(re.findall(r'``(\w+)`` \(([^)]+)\)(?=,|$)', section(page, 'PROPERTIES'), re.MULTILINE))
    wanted = sorted((member.get('name'), member.get('type')) for member in interface.findall('property'))
    check(described == wanted, 'PROPERTIES are %s, in the interface %s' % (described, wanted))

    described = re.findall(r'^\*(org\.objmapper1\.Error\.\w+)\*$', section(page, 'ERRORS'), re.MULTILINE)
    used = re.findall(r'^#define BUS_ERROR_\w+ +"([\w.]+)"$', read('src/bus/error.h'), re.MULTILINE)
    check(sorted(described) == sorted(used), 'ERRORS are %s, in the code %s' % (sorted(described), sorted(used)))

    rows = dict(re.findall(r'^\*(org\.objmapper1\.[\w-]+)\* +(``.*``)$', section(page, 'PERMISSIONS'), re.MULTILINE))
    actions = re.findall(r'<action id="([\w.-]+)">', read('dbus/org.objmapper1.policy'))
    check(sorted(rows) == sorted(actions), 'the actions are %s, those of polkit %s' % (sorted(rows), sorted(actions)))
    check(sorted(re.findall(r'"(org\.objmapper1\.[\w-]+)"', read('src/bus/authority.c'))) == sorted(actions),
          "the code's actions are not polkit's")
    said = re.findall(r'^``(\w+)\((?:(?!^``).)*?Action\s+\*(org\.objmapper1\.[\w-]+)\*', section(page, 'METHODS'),
                      re.MULTILINE | re.DOTALL)
    for method, action in said:
        check('``%s``' % method in rows.get(action, ''), '%s has another action in the table' % method)
    check({action for _, action in said} == set(actions), 'METHODS name the actions %s' % said)


def main():
    page = read('man/objmapper-protocol.7.rst')
    header = read('src/protocol/protocol.h')

    for title, name, prefix in (('TYPES', 'proto_type', 'PROTO_'), ('STATUS', 'proto_status', 'PROTO_'),
                                ('MODES', 'proto_mode', 'OP_')):
        rows = {n: int(v) for v, n in re.findall(r'^    +(\d+)  ([A-Z_]+)\b', section(page, title), re.MULTILINE)}
        check(rows == enum(header, name, prefix), '%s are %s, in the header %s' % (
            title, rows, enum(header, name, prefix)))

    rows = {}
    for tag, must, name, size in re.findall(r'^    +(\d+)  (\+?) +([A-Z_]+) +(\d+)?', section(page, 'FIELDS'),
                                            re.MULTILINE):
        rows[name] = (int(tag), must == '+')
        layout = generate.FIELDS.get(name.lower())
        check(layout and layout[0] == int(tag) | (generate.MUST if must else 0), 'the tag of ' + name)
        check(layout and (layout[1] == 'bytes' or str(layout[1]) == size), 'the size of ' + name)
    check({n: t for n, (t, _) in rows.items()} == enum(header, 'proto_tag', 'PROTO_TAG_'), 'FIELDS are %s' % rows)

    vectors = {}
    for block in read('tests/data/vectors/messages.txt').split('\n\n'):
        lines = block.strip().split('\n')
        if lines[0].startswith('message '):
            lines = lines[:lines.index('again')] if 'again' in lines else lines
            vectors[lines[0].split()[1]] = hex_bytes(lines[lines.index('hex') + 1:])
    examples = re.findall(r'^\.\. vector: (\S+)\n\n::\n\n((?:    .*\n)+)', page, re.MULTILINE)
    check(len(examples) >= 4, 'no example')
    for name, lines in examples:
        check(hex_bytes(lines.split('\n')) == vectors.get(name), 'the bytes of the example %s' % name)

    check_messages()
    check_bus()
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
