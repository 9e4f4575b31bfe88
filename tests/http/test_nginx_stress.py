#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mixed load through nginx on a store that is too small for it, while nginx reloads and the daemon restarts: nothing wrong,
nothing failed, nothing leaked. REQUESTS= how many requests (10000), LOAD_SEED= which ones."""

import json
import os
import pathlib
import random
import subprocess
import time

from nginx import Nginx, need_nginx  # puts tests/lib and tests/integration on the path too

import tap
from common import bytes_of, stats, wait_until
from daemon import Daemon, build_path

REQUESTS = int(os.environ.get("REQUESTS", "10000"))
SEED = int(os.environ.get("LOAD_SEED", time.time_ns() % 1_000_000))
ROUNDS = 20  # each with a reload
FILES, KEPT, AT_HAND = 1000, 250, 50
CONNECTIONS = 24

SERVER = """
    location / {{
        objmapper_pass unix:{reader};
        error_page 404 405 502 504 = @origin;
    }}
    location @origin {{
        proxy_pass http://origin;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        objmapper_store unix:{publisher};
    }}"""


def write_files(folder):
    """Many small ones, a few large."""
    numbers = random.Random(SEED)
    folder.mkdir()
    for i in range(FILES):
        size = int(min(numbers.paretovariate(0.7) * 300, 3_000_000)) if i else 0
        (folder / str(i)).write_bytes(bytes_of(size, numbers.randrange(256)))


def memory(pid):
    """Bytes that are the process's own."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


class Run:
    def __init__(self, nginx, folder, requests, seed):
        self.process = subprocess.Popen([build_path("tests/http/load"), str(nginx.port), folder, str(FILES), str(requests),
                                         str(CONNECTIONS), str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)

    def end(self):
        output, complaints = self.process.communicate(timeout=3600)
        assert self.process.returncode == 0, f"{output}\n{complaints}"
        return json.loads(output)


def test_mixed_load():
    print(f"# LOAD_SEED={SEED}")
    with Daemon(settings=f"[Store]\nMaxObjects={KEPT}") as daemon:
        folder = daemon.base / "files"
        write_files(folder)
        with Nginx(server=f"location / {{ root {folder}; add_header Cache-Control max-age=1000; }}") as origin, \
                Nginx(server=SERVER.format(reader=daemon.reader, publisher=daemon.publisher), workers=2,
                      http=f"objmapper_keep {AT_HAND}; upstream origin {{ server 127.0.0.1:{origin.port}; keepalive 32; }}") as nginx:
            totals, evicted = {}, 0
            for i in range(ROUNDS):
                run = Run(nginx, folder, REQUESTS // ROUNDS, SEED + i)
                nginx.reload()
                if i % 7 == 3:
                    evicted += stats(daemon)["evictions"]
                    daemon.restart()
                if i % 7 == 5:
                    daemon.ctl("purge", "http://example.org/1")
                for name, value in run.end().items():
                    totals[name] = totals.get(name, 0) + value
            evicted += stats(daemon)["evictions"]
            print(f"# {totals}, {evicted} evicted, {ROUNDS} reloads")
            assert evicted >= min(1000, REQUESTS // 20), evicted
            hits = sum(status == "HIT" for status in nginx.statuses(1))
            assert totals["requests"] / 10 < hits < totals["requests"], hits

            # The same worker processes from here on.
            def state():
                wait_until(lambda: stats(daemon)["sessions"] <= 1 + 2 * 2 * 4, "no sessions left over")
                return {"nginx": sum(map(memory, nginx.workers())), "daemon": memory(daemon.process.pid)}, \
                       {"nginx": nginx.fds(), "daemon": daemon.fds()}

            Run(nginx, folder, REQUESTS // 10, SEED + ROUNDS).end()
            memory_before, fds_before = state()
            for i in range(3):
                Run(nginx, folder, REQUESTS // 10, SEED + ROUNDS + 1 + i).end()
            memory_after, fds_after = state()
            print(f"# memory {memory_before} to {memory_after}, descriptors {fds_before} to {fds_after}")
            for name in memory_before:
                # What waits for the daemon differs from moment to moment, and is bounded.
                assert memory_after[name] <= memory_before[name] + (48 << 20), name
                assert fds_after[name] <= fds_before[name] + 2 * AT_HAND + 64, name


if __name__ == "__main__":
    need_nginx()
    tap.run(globals())
