#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cases for varnishtest(1), each with a daemon of its own; those who know Varnish read and write these."""

import functools
import os
import pathlib
import subprocess

from varnish import MODULE, PROGRAM, need_varnish  # puts tests/lib and tests/integration on the path too

import tap
from daemon import Daemon, build_path

HERE = pathlib.Path(__file__).parent
SECONDS = 60


def run(case):
    with Daemon() as daemon:
        tool = f"{build_path('src/ctl/objmapperctl')} --socket={daemon.reader} --publish-socket={daemon.publisher}"
        macros = {"module": build_path(MODULE), "reader": daemon.reader, "publisher": daemon.publisher, "objmapperctl": tool}
        path = os.environ.get("PATH", "") + ":" + os.path.dirname(PROGRAM)
        result = subprocess.run(
            ["varnishtest", "-t", str(SECONDS), *(f"-D{name}={value}" for name, value in macros.items()), case],
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env={**os.environ, "PATH": path, "TMPDIR": daemon.base}, timeout=SECONDS + 30)
        assert result.returncode == 0, result.stdout[-20000:]


need_varnish()
tap.run({f"test_{case.stem}": functools.partial(run, case) for case in sorted(HERE.glob("varnish_*.vtc"))})
