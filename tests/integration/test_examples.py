# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a stranger does with the library: the examples are built against an installed copy by pkg-config alone, as C
and as C++, and run against a daemon."""

import atexit
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

import common
import tap
from daemon import Daemon, need

SIZES = {"e/small": 5, "e/big": 3_000_000, "e/empty": 0}


def output_of(command, **kwargs):
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    assert result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout!r}\n{result.stderr!r}"
    return result.stdout


class Installed:
    """The project, installed below a folder of its own, and a folder to build in."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="objmapper-", dir="/var/tmp")
        atexit.register(shutil.rmtree, self.folder)
        self.root = pathlib.Path(self.folder) / "root"
        output_of(["meson", "install", "-C", os.environ["OBJMAPPER_BUILD"], "--no-rebuild", "--quiet",
                   "--destdir", str(self.root)])
        self.pkg_config = next(self.root.rglob("objmapper.pc"))
        self.examples = next(self.root.rglob("examples"))
        self.library = next(self.root.rglob("libobjmapper.so.1")).parent

    def build(self, compiler, name):
        environment = {**os.environ, "PKG_CONFIG_LIBDIR": str(self.pkg_config.parent),
                       "PKG_CONFIG_SYSROOT_DIR": str(self.root)}
        flags = output_of(["pkg-config", "--cflags", "--libs", "objmapper"], env=environment, text=True)
        program = os.path.join(self.folder, name)
        output_of([*compiler, str(self.examples / f"{name}.c"), "-Wall", "-Wextra", "-Werror", *shlex.split(flags),
                   "-o", program])
        return program

    def run(self, daemon, compiler):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.library)}
        get, pipeline = self.build(compiler, "get"), self.build(compiler, "pipeline")
        for uri, size in SIZES.items():
            daemon.ctl("put", uri, input=common.bytes_of(size))
            assert output_of([get, uri, daemon.reader], env=environment) == common.bytes_of(size)

        absent = subprocess.run([get, "e/none", daemon.reader], check=False, env=environment, stderr=subprocess.PIPE)
        assert absent.returncode == 1 and b"get e/none: absent" in absent.stderr, absent

        lines = output_of([pipeline, daemon.reader, *list(SIZES) * 100], env=environment, text=True).splitlines()
        assert sorted(lines) == sorted([f"{uri} {size}" for uri, size in SIZES.items()] * 100), lines


def test_as_c(installed):
    with Daemon() as daemon:
        installed.run(daemon, ["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L"])


def test_as_cxx(installed):
    need("g++")
    with Daemon() as daemon:
        installed.run(daemon, ["g++", "-x", "c++"])


def test_symbols(installed):
    """The library exports what its header declares, and nothing else."""
    need("nm")
    symbols = output_of(["nm", "-D", "--defined-only", str(installed.library / "libobjmapper.so.1")], text=True)
    exported = {line.split()[-1] for line in symbols.splitlines()} - {"LIBOBJMAPPER_1"}
    assert all(name.startswith("objmapper_") and name.endswith("@@LIBOBJMAPPER_1") for name in exported), exported
    assert len(exported) > 60


if __name__ == "__main__":
    tap.run(globals(), Installed())
