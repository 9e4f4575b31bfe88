#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the library exports, what its header declares and what the manual says are the same, word for word."""

import glob
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def text_of(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def declarations(text):
    """Name to declaration, functions and types of functions, whitespace apart."""
    text = re.sub(r'/\*.*?\*/', '', text, flags=re.DOTALL)
    text = re.sub(r'OBJMAPPER_API\b', '', text)
    found = {}
    for match in re.finditer(r'(?:^|(?<=;)|(?<=\n))\s*((?:typedef )?(?:const )?(?:int|void|char|size_t|uint64_t)\b[^;{}#]*?'
                             r'\(?\*?(objmapper_\w+)\)?\s*\([^;]*\));', text):
        words = re.sub(r'\s+', ' ', match[1])
        found[match[2]] = re.sub(r' ?([(),*]) ?', r'\1', words)
    return found


def main():
    header = declarations(text_of(os.path.join(ROOT, 'src/client/objmapper.h')))
    manual = {}
    for page in glob.glob(os.path.join(ROOT, 'man/*.3.rst')):
        for name, declaration in declarations(text_of(page).split('DESCRIPTION')[0]).items():
            if name in manual:
                sys.exit(f'{name} is declared on two pages')
            manual[name] = declaration
    exported = set(re.findall(r'^ +(objmapper_\w+);', text_of(os.path.join(ROOT, 'src/client/libobjmapper.sym')),
                              flags=re.MULTILINE))

    differing = [name for name in header.keys() | manual.keys() if header.get(name) != manual.get(name)]
    for name in sorted(differing):
        print(f'{name}:\n  the header says {header.get(name)}\n  the manual says {manual.get(name)}')
    functions = {name for name, declaration in header.items() if not declaration.startswith('typedef')}
    if functions != exported:
        print(f'declared or exported, but not both: {sorted(functions ^ exported)}')
    if len(functions) < 60:
        print(f'only {len(functions)} functions were found: this test does not see the header')

    return 1 if differing or functions != exported or len(functions) < 60 else 0


if __name__ == '__main__':
    sys.exit(main())
