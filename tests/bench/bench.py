#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench.py BUILD: round trips of objmapper beside those of the bare kernel, interleaved, on one core.

Prints a table and writes BUILD/bench.json. A figure is the median over the rounds of the round's median."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from daemon import Daemon  # noqa: E402, pylint: disable=wrong-import-position

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
TRIPS = int(os.environ.get("BENCH_TRIPS", "20000"))
OBJECT_SIZE = 65536  # more than is sent inline: a file
URI = "bench/object"


def measure(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def describe_machine(core):
    model = next((line.partition(":")[2].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), platform.machine())
    return {"processor": model, "processors": os.cpu_count(), "core": core, "kernel": platform.release(),
            "load": os.getloadavg()[0]}


def main():
    build = pathlib.Path(sys.argv[1])
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})  # inherited by all that is measured
    machine = describe_machine(core)

    os.environ["OBJMAPPER_BUILD"] = str(build)
    with Daemon(settings="Workers=1") as daemon:
        file = daemon.base / "file"
        file.write_bytes(os.urandom(OBJECT_SIZE))
        daemon.ctl("put", URI, file)
        programs = build / "tests/bench"
        cases = {
            "echo": [programs / "raw", "echo", str(TRIPS)],
            "opened descriptor": [programs / "raw", "open", str(TRIPS), file],
            "objmapper fdpass": [programs / "get", "fdpass", str(TRIPS), daemon.reader, URI],
        }
        rounds = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, command in cases.items():
                rounds[name].append(measure(command))

    base = statistics.median(result["p50"] for result in rounds["opened descriptor"])
    report = {"machine": machine, "trips": TRIPS, "cases": {}}
    print(f"{machine['processor']}, core {core} of {machine['processors']}, Linux {machine['kernel']}, "
          f"load {machine['load']:.1f}; {ROUNDS} rounds of {TRIPS} trips\n")
    print(f"{'round trip':<20}{'median ns':>10}{'rounds':>16}{'p99 ns':>9}{'ratio':>7}")
    for name, results in rounds.items():
        p50 = sorted(result["p50"] for result in results)
        p99 = statistics.median(result["p99"] for result in results)
        median = statistics.median(p50)
        report["cases"][name] = {"median": median, "rounds": p50, "p99": p99, "ratio": median / base}
        print(f"{name:<20}{median:>10.0f}{f'{p50[0]}..{p50[-1]}':>16}{p99:>9.0f}{median / base:>7.2f}")
    print("\nratio: to the raw trip that answers with a freshly opened descriptor")
    (build / "bench.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
