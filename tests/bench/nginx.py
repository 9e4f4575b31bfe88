#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""nginx.py BUILD: requests per second of nginx with objmapper_pass, as ratios of nginx with the same bodies as files,
without and with open_file_cache, for some sizes; one body asked for again and again, and many in turn; medians of several
rounds in which all take turns."""

import os
import pathlib
import re
import statistics
import subprocess
import sys

os.environ["OBJMAPPER_BUILD"] = os.path.realpath(sys.argv[1])
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "http"))

from nginx import Nginx  # noqa: E402  pylint: disable=wrong-import-position
from common import bytes_of  # noqa: E402  pylint: disable=wrong-import-position
from daemon import Daemon  # noqa: E402  pylint: disable=wrong-import-position

SIZES = {"1k": 1 << 10, "16k": 16 << 10, "64k": 64 << 10, "1M": 1 << 20, "10M": 10 << 20}
MANY = (1000, 4000)  # bodies of a size: what a worker keeps at hand, and more
MANY_SIZE = 64 << 10
SECONDS = float(os.environ.get("BENCH_SECONDS", "1"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
CONNECTIONS = 16
CONTESTANTS = ("objects", "files", "cached")

SCRIPT = """
local requests, turn = {}, 0
function init(args)
    for i = 1, args[2] do requests[i] = wrk.format("GET", args[1] .. (i - 1)) end
end
function request()
    turn = turn % #requests + 1
    return requests[turn]
end
"""


def rate(nginx, script, prefix, count):
    """Requests per second."""
    said = subprocess.run(["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{SECONDS:g}s",
                           "--script", script, f"http://127.0.0.1:{nginx.port}", "--", prefix, str(count)],
                          check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in said and "Socket errors" not in said, said
    return float(re.search(r"Requests/sec:\s*([0-9.]+)", said)[1])


def compare(nginx, script, name, count):
    rates = {contestant: [] for contestant in CONTESTANTS}
    for _ in range(ROUNDS):
        for contestant in CONTESTANTS:
            rates[contestant].append(rate(nginx, script, f"/{contestant}/{name}/", count))
    objects, files, cached = (statistics.median(rates[contestant]) for contestant in CONTESTANTS)
    print(f"{name:>5}{count:>6}{objects:>12.0f}{files:>12.0f}{objects / files:>8.2f}{cached:>12.0f}"
          f"{objects / cached:>8.2f}", flush=True)


def main():
    with Daemon() as daemon:
        server = f"""keepalive_requests 1000000; access_log off;
                     location /files/ {{ root {daemon.base}; }}
                     location /cached/ {{ alias {daemon.base}/files/; open_file_cache max={MANY[0]}; }}
                     location /objects/ {{ objmapper_key $uri; objmapper_pass unix:{daemon.reader}; }}"""
        with Nginx(server=server) as nginx:
            script = daemon.base / "many.lua"
            script.write_text(SCRIPT)
            print(f"requests per second over {CONNECTIONS} connections, medians of {ROUNDS} rounds of {SECONDS:g} s\n")
            print(f"{'size':>5}{'many':>6}{'objects':>12}{'files':>12}{'ratio':>8}{'and cache':>12}{'ratio':>8}")
            for name, size in SIZES.items():
                counts = (1, *MANY) if size <= MANY_SIZE else (1,)
                (daemon.base / "files" / name).mkdir(parents=True)
                for i in range(max(counts)):
                    file = daemon.base / "files" / name / str(i)
                    file.write_bytes(bytes_of(size, i))
                daemon.ctl("put", "--recursive", daemon.base / "files" / name, f"/objects/{name}/", timeout=600)
                for count in counts:
                    compare(nginx, script, name, count)


if __name__ == "__main__":
    main()
