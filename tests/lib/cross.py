# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds C sources for machines of another word size or byte order, and runs the result."""

import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# The compiler, what can run the result, and the Debian packages that have both. The folder is for gcc-N-multilib:
# the link to the kernel's headers is in gcc-multilib, which can't be installed beside a cross compiler.
KINDS = {
    "32bit": (["gcc", "-m32", "-idirafter", "/usr/include/x86_64-linux-gnu"], [], "gcc-N-multilib"),
    "big-endian": (["powerpc-linux-gnu-gcc", "-static"], ["qemu-ppc-static", "qemu-ppc"],
                   "gcc-powerpc-linux-gnu and qemu-user-static"),
}
FLAGS = ["-std=gnu17", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-D_GNU_SOURCE",
         "-D_FILE_OFFSET_BITS=64"]


class Unavailable(Exception):
    """This machine can't build or run such programs; says what it needs."""


class Target:
    """A kind of machine, one of KINDS; Unavailable when a program for it can't be built and run here."""

    def __init__(self, kind):
        self.compiler, emulators, packages = KINDS[kind]
        self.emulator = [tool for tool in emulators if shutil.which(tool)][:1]
        if not self._works():
            raise Unavailable(f"needs {packages}")

    def _works(self):
        if not shutil.which(self.compiler[0]):
            return False
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "nothing")
            source = "#include <stdio.h>\n#include <sys/socket.h>\nint main(void) { return puts(\"\") < 0; }\n"
            if subprocess.run([*self.compiler, "-x", "c", "-", "-o", program], input=source, text=True, check=False,
                              stderr=subprocess.DEVNULL).returncode != 0:
                return False
            try:
                return subprocess.run([*self.emulator, program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      check=False).returncode == 0
            except OSError:
                return False

    def build(self, program, source, rooms):
        """Compiles source and all of the rooms into program. What a client needs of util is always there."""
        util = ROOT / "src/util"
        command = [*self.compiler, *FLAGS, "-o", program, f"-I{util}", str(ROOT / source),
                   str(util / "escape.c"), str(util / "write-all.c")]
        for room in rooms:
            command.append(f"-I{ROOT / 'src' / room}")
            command += sorted(map(str, (ROOT / "src" / room).glob("*.c")))
        print("# " + shlex.join(command), flush=True)
        subprocess.run(command, check=True)
