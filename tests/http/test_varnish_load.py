#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Varnish with its storage in objmapper under a mixed load that evicts from both, while VCLs come and go.

Environment: REQUESTS= how many (1500), LOAD_SEED= replays."""

import functools
import http.client
import os
import pathlib
import random
import re
import threading
import time

from varnish import Varnish, need_varnish  # puts tests/lib and tests/integration on the path too
from client import Unix
from origin import Origin

import tap
from common import bytes_of, stats, wait_until
from daemon import Daemon

REQUESTS = int(os.environ.get("REQUESTS", "1500"))
SEED = int(os.environ.get("LOAD_SEED", time.time_ns() % 1_000_000))
RELOADS = 20 if REQUESTS >= 100_000 else 5
THREADS = 6
URLS = 600

VCL = """
backend origin {{ .host = "127.0.0.1"; .port = "{origin.port}"; }}
sub vcl_init {{
    new store = objmapper.store("{daemon.reader}", publisher="{daemon.publisher}", timeout=20s, memory=14MB, mapped=8MB);
}}
sub vcl_recv {{
    if (req.method == "PURGE") {{
        if (!store.purge()) {{ return (synth(503)); }}
        return (purge);
    }}
    if (req.method == "BAN") {{
        if (!store.ban_prefix(req.url)) {{ return (synth(503)); }}
        return (synth(200));
    }}
}}
sub vcl_backend_fetch {{ set bereq.backend = store.or(origin); }}
sub vcl_backend_response {{
    if (beresp.http.x-esi) {{ set beresp.do_gzip = true; }}
    set beresp.storage = store.storage();
}}
"""


def size_of(i):
    """Most are small, some are mapped, a few come in many pieces."""
    return random.Random(i).choice((0, 1, 700, 5000, 20000, 60000, 70000, 150000, 400000, 1500000 if i % 10 == 0 else 30000))


@functools.cache
def body_of(i):
    return bytes_of(size_of(i), i)


class Load:
    """What one thread asks for, on connections that are kept."""

    def __init__(self, varnish, seed, count, failures):
        self.varnish = varnish
        self.random = random.Random(seed)
        self.count = count
        self.failures = failures
        self.connection = None
        self.done = 0

    def connect(self):
        self.connection = self.connection or Unix(self.varnish.socket)
        return self.connection

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def ask(self, method, i, **fields):
        connection = self.connect()
        connection.request(method, f"/{i % 10}/{i}", headers=fields)
        return connection.getresponse()

    def one(self):
        i = min(self.random.randrange(URLS), self.random.randrange(URLS))
        kind = self.random.random()
        if kind < 0.01:
            answer = self.ask("PURGE", i)
            answer.read()
            return answer.status == 200
        if kind < 0.011:
            connection = self.connect()
            connection.request("BAN", f"/{i % 10}/")
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200
        body = body_of(i)
        if kind < 0.05:
            answer = self.ask("HEAD", i)
            return answer.read() == b"" and answer.status == 200 and answer.getheader("Content-Length") == str(len(body))
        if kind < 0.09 and len(body) > 10:
            first = self.random.randrange(len(body))
            answer = self.ask("GET", i, Range=f"bytes={first}-")
            return answer.status == 206 and answer.read() == body[first:]
        if kind < 0.11:
            answer = self.ask("GET", i)
            answer.read(self.random.randrange(len(body) + 1))
            self.close()
            return answer.status == 200
        answer = self.ask("GET", i)
        return answer.read() == body and answer.status == 200

    def run(self):
        for _ in range(self.count):
            try:
                if not self.one():
                    self.failures.append("a wrong answer")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                self.close()
            self.done += 1
        self.close()


def memory_of(varnish):
    """Resident bytes of the worker process that belong to no file."""
    status = pathlib.Path(f"/proc/{varnish.child()}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024


def mappings_of(varnish):
    return len(pathlib.Path(f"/proc/{varnish.child()}/maps").read_text().splitlines())


def test_mixed_load():
    print(f"# seed {SEED}, {REQUESTS} requests", flush=True)
    with Origin() as origin, Daemon() as daemon:
        daemon.stop()
        daemon.configure_store("MaxBytes=12M")
        daemon.start()
        for i in range(URLS):
            origin.serve[f"/{i % 10}/{i}"] = (200, [("Cache-Control", "max-age=1000"), ("ETag", f'"{i}"')], body_of(i))
        with Varnish(VCL.format(origin=origin, daemon=daemon),
                     options=["-p", "nuke_limit=500", "-p", "lru_interval=0"]) as varnish:
            failures = []
            loads = [Load(varnish, SEED + i, REQUESTS // THREADS, failures) for i in range(THREADS)]
            threads = [threading.Thread(target=load.run) for load in loads]
            for thread in threads:
                thread.start()

            name, after_first = "boot", None
            for i in range(1, RELOADS + 1):
                share = REQUESTS * i // (RELOADS + 1)
                wait_until(lambda share=share: sum(load.done for load in loads) >= share, "the load goes on", 3600)
                new = varnish.load(VCL.format(origin=origin, daemon=daemon))
                varnish.adm("vcl.discard", name)
                name = new
                if i == RELOADS // 2:
                    after_first = (varnish.fds(), mappings_of(varnish), memory_of(varnish))
            for thread in threads:
                thread.join()
            assert not failures, (len(failures), failures[:5], varnish.shown()[-3000:])

            nuked, evicted = varnish.stat("MAIN.n_lru_nuked"), stats(daemon)["evictions"]
            wanted = min(1000, REQUESTS // 30)
            print(f"# {nuked} evicted in Varnish, {evicted} in objmapper", flush=True)
            assert nuked >= wanted and evicted >= wanted, (nuked, evicted)
            assert varnish.stat("MAIN.n_object") < URLS * 3

            print(f"# descriptors, mappings, memory: {after_first}, then "
                  f"{varnish.fds(), mappings_of(varnish), memory_of(varnish)}", flush=True)
            wait_until(lambda: varnish.fds() <= after_first[0] + 40, "descriptors are closed")
            wait_until(lambda: mappings_of(varnish) <= after_first[1] + 300, "mappings are given back")
            wait_until(lambda: memory_of(varnish) <= after_first[2] + (32 << 20), "memory is given back")


need_varnish()
tap.run(globals())
