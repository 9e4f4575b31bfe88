#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""nginx.py BUILD: requests per second of nginx with objmapper_pass, as a ratio of nginx with the same bodies as files,
for some sizes; the middle of several rounds in which they take turns."""

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
SECONDS = 2
ROUNDS = 3


def rate(nginx, path):
    """Requests per second."""
    said = subprocess.run(["wrk", "--threads", "1", "--connections", "16", "--duration", f"{SECONDS}s",
                           f"http://127.0.0.1:{nginx.port}{path}"], check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in said, said
    return float(re.search(r"Requests/sec:\s*([0-9.]+)", said)[1])


def main():
    with Daemon() as daemon:
        files = daemon.base / "files"
        files.mkdir()
        server = f"""keepalive_requests 1000000; access_log off;
                     location /files/ {{ root {daemon.base}; }}
                     location /objects/ {{ objmapper_key $uri; objmapper_pass unix:{daemon.reader}; }}"""
        with Nginx(server=server) as nginx:
            for name, size in SIZES.items():
                body = bytes_of(size)
                (files / name).write_bytes(body)
                daemon.ctl("put", f"/objects/{name}", input=body)
                ratios = []
                for _ in range(ROUNDS):
                    own = rate(nginx, f"/files/{name}")
                    objects = rate(nginx, f"/objects/{name}")
                    ratios.append(objects / own)
                print(f"{name:>4}: {objects:9.0f}/s with objmapper, {own:9.0f}/s from files: "
                      f"{statistics.median(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
