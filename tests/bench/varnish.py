#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""varnish.py BUILD: what a body out of objmapper costs varnishd with the VMOD's storage, as ratios of the same director with
malloc storage: processor time and memory of misses, and the rate of hits. The middle of several rounds in which both take
turns."""

import os
import pathlib
import re
import statistics
import subprocess
import sys

os.environ["OBJMAPPER_BUILD"] = os.path.realpath(sys.argv[1])
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "http"))

from varnish import Varnish  # noqa: E402  pylint: disable=wrong-import-position
from common import bytes_of  # noqa: E402  pylint: disable=wrong-import-position
from daemon import Daemon  # noqa: E402  pylint: disable=wrong-import-position

MISSES = {"10 MiB": (10 << 20, 20), "200 MiB": (200 << 20, 3)}  # bytes, and how many different ones
HITS = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "10 MiB": 10 << 20}
SECONDS = 2
ROUNDS = 5

VCL = """
backend none none;
sub vcl_init {{ new store = objmapper.store("{daemon.reader}", publisher="{daemon.publisher}"); }}
sub vcl_backend_fetch {{ set bereq.backend = store.backend(); }}
sub vcl_backend_response {{ {storage} }}
"""


def cpu_seconds(varnish):
    """Of the worker process's threads, which all stay."""
    return sum(int(path.read_text().split()[0])
               for path in pathlib.Path(f"/proc/{varnish.child()}/task").glob("*/schedstat")) / 1e9


def anonymous(varnish):
    status = pathlib.Path(f"/proc/{varnish.child()}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024


def fetch(varnish, path):
    subprocess.run(["curl", "--silent", "--fail", "--output", "/dev/null", "--unix-socket", varnish.socket,
                    "http://example.org" + path], check=True)


def miss(varnish, name, count):
    """Processor seconds and bytes of memory for so many misses."""
    varnish.restart()
    fetch(varnish, "/warm")
    cpu, memory = cpu_seconds(varnish), anonymous(varnish)
    for i in range(count):
        fetch(varnish, f"/{name.replace(' ', '')}/{i}")
    return cpu_seconds(varnish) - cpu, anonymous(varnish) - memory


def rate(varnish, path):
    """Requests per second that find it in Varnish."""
    said = subprocess.run(["wrk", "--threads", "1", "--connections", "16", "--duration", f"{SECONDS}s",
                           f"http://127.0.0.1:{varnish.port}{path}"], check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in said, said
    return float(re.search(r"Requests/sec:\s*([0-9.]+)", said)[1])


def main():
    with Daemon() as daemon:
        daemon.ctl("put", "http://example.org/warm", input=b"x")
        for name, (size, count) in MISSES.items():
            for i in range(count):
                daemon.ctl("put", f"http://example.org/{name.replace(' ', '')}/{i}", input=bytes_of(size, i))
        options = ["-s", "malloc,2g", "-a", "tcp=127.0.0.1:0"]
        malloc = Varnish(VCL.format(daemon=daemon, storage=""), options=options)
        mapped = Varnish(VCL.format(daemon=daemon, storage="set beresp.storage = store.storage();"), options=options)
        with malloc, mapped:
            for name, (_, count) in MISSES.items():
                pairs = [(miss(malloc, name, count), miss(mapped, name, count)) for _ in range(ROUNDS)]
                cpu = statistics.median(b[0] / a[0] for a, b in pairs)
                memory = statistics.median(b[1] / a[1] for a, b in pairs)
                print(f"{name:>8} missed: {cpu:.2f} of the processor time, {memory * 100:.1f} % of the memory", flush=True)
            for varnish in (malloc, mapped):
                varnish.port = int(re.search(r"tcp 127\.0\.0\.1 (\d+)", varnish.adm("debug.listen_address"))[1])
            for name, size in HITS.items():
                path = f"/hit/{size}"
                for varnish in (malloc, mapped):
                    daemon.ctl("put", f"http://127.0.0.1:{varnish.port}{path}", "--meta", "cache-control=max-age=1000",
                               input=bytes_of(size))
                ratios = [rate(mapped, path) / rate(malloc, path) for _ in range(ROUNDS)]
                print(f"{name:>8} hit: {statistics.median(ratios):.2f} of the rate", flush=True)


if __name__ == "__main__":
    main()
