#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds the golden vectors' test with all of src/protocol and src/fdpass for another kind of machine and runs
it there: cross.py KIND, where KIND is 32bit or big-endian. TAP; skipped where compiler or emulator is missing."""

import glob
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# The compiler, what runs the result, and the Debian packages that have both. The folder is for gcc-12-multilib:
# the link to the kernel's headers is in gcc-multilib, which can't be installed beside a cross compiler.
KINDS = {
    '32bit': (['gcc', '-m32', '-idirafter', '/usr/include/x86_64-linux-gnu'], [], 'gcc-N-multilib'),
    'big-endian': (['powerpc-linux-gnu-gcc', '-static'], ['qemu-ppc-static'],
                   'gcc-powerpc-linux-gnu and qemu-user-static'),
}
FLAGS = ['-std=gnu17', '-O2', '-g', '-Wall', '-Wextra', '-Werror', '-Wno-missing-field-initializers', '-D_GNU_SOURCE',
         '-D_FILE_OFFSET_BITS=64']


def works(compiler, emulator, folder):
    """Whether a program of nothing can be built and run."""
    program = os.path.join(folder, 'nothing')
    if not all(shutil.which(tool) for tool in compiler[:1] + emulator):
        return False
    source = '#include <stdio.h>\n#include <sys/socket.h>\nint main(void) { return puts("") < 0; }\n'
    built = subprocess.run(compiler + ['-x', 'c', '-', '-o', program], input=source, text=True, check=False,
                           stderr=subprocess.DEVNULL)
    if built.returncode != 0:
        return False
    try:
        return subprocess.run(emulator + [program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False).returncode == 0
    except OSError:
        return False


def main():
    compiler, emulator, packages = KINDS[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        if not works(compiler, emulator, folder):
            print('1..0 # SKIP needs %s' % packages)
            return 0

        program = os.path.join(folder, 'test-vectors')
        command = compiler + FLAGS + ['-I' + os.path.join(ROOT, 'src', room) for room in ('util', 'protocol', 'fdpass')]
        command += [os.path.join(ROOT, 'tests/unit/test-vectors.c')]
        command += sorted(glob.glob(os.path.join(ROOT, 'src/protocol/*.c')) + glob.glob(os.path.join(ROOT, 'src/fdpass/*.c')))
        print('# ' + shlex.join(command), flush=True)
        if subprocess.run(command + ['-o', program], check=False).returncode != 0:
            print('Bail out! does not build')
            return 1

        vectors = sorted(glob.glob(os.path.join(ROOT, 'tests/data/vectors/*.txt')))
        return subprocess.run(emulator + [program] + vectors, check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
