#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMOD's storage in the machine's Varnish: what is fetched is kept in objmapper, byte for byte, and lives on there."""

import contextlib
import gzip
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

from varnish import Varnish, need_varnish  # puts tests/lib and tests/integration on the path too
from client import Unix
from origin import Origin

import tap
from common import blob_files, bytes_of, stats, wait_until
from daemon import Daemon

HOST = "http://example.org"
SMALL, LARGE = bytes_of(1000, 2), bytes_of(300_000, 3)
CACHED = ("Cache-Control", "max-age=1000")


def vcl_of(daemon, origin, more="", *, arguments=""):
    """A VCL that keeps in objmapper what the origin answers, and serves what is there."""
    return f"""
backend origin {{ .host = "127.0.0.1"; .port = "{origin.port}"; }}
sub vcl_init {{
    new store = objmapper.store("{daemon.reader}", publisher="{daemon.publisher}"{arguments});
}}
sub vcl_backend_fetch {{ set bereq.backend = store.or(origin); }}
{more}
sub vcl_backend_response {{ set beresp.storage = store.storage(); }}
"""


@contextlib.contextmanager
def kept(more="", *, arguments="", settings="", options=(), command=()):
    with Origin() as origin, Daemon(settings=settings) as daemon, \
            Varnish(vcl_of(daemon, origin, more, arguments=arguments), options=options, command=command) as varnish:
        yield origin, daemon, varnish


def metadata(daemon, uri):
    """An object's pairs as a list; None: there is no object."""
    result = daemon.ctl("stat", "--json", uri, check=False)
    return result.stdout.decode() if result.returncode == 0 else None


def stored(daemon, path):
    """The body that objmapper has."""
    result = daemon.ctl("get", HOST + path, check=False)
    return result.stdout if result.returncode == 0 else None


def test_basic():
    with kept() as (origin, daemon, varnish):
        for path, body in {"/small": SMALL, "/large": LARGE, "/empty": b"", "/one": b"x"}.items():
            origin.serve[path] = (200, [CACHED, ("Content-Type", "text/plain"), ("X-Own", "1")], body)
            for _ in range(2):
                answer = varnish.get(path)
                assert answer.status == 200 and answer.body == body, answer
            assert stored(daemon, path) == body, varnish.shown()[-6000:]
        print(varnish.counters("store"), varnish.tool("varnishstat", "-1", "-f", "OBJMAPPER_STORAGE.*"))
        origin.stop()
        varnish.restart()
        for path, body in {"/small": SMALL, "/large": LARGE, "/empty": b"", "/one": b"x"}.items():
            for _ in range(2):
                answer = varnish.get(path)
                assert answer.status == 200 and answer.body == body, answer
                assert answer["x-own"] == "1", answer
        print(varnish.tool("varnishstat", "-1", "-f", "OBJMAPPER_STORAGE.*"))


need_varnish()
tap.run(globals())
