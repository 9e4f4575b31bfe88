#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""puts.py BUILD: what puts reach, and what gets of another session notice of them.

Small ones go, many at a time, into a store of a million objects; beside them stand files that are made and synced one
by one on the same disk. A large one comes from a file; beside it stands cp and a sync of the copy. All is done in
turn, round by round, and gets are timed before, and while it is done. Prints a table and writes BUILD/puts.json.

BENCH_ROUNDS=, BENCH_OBJECTS=: rounds (7), objects that are there (1000000)."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from daemon import Daemon  # noqa: E402, pylint: disable=wrong-import-position

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
OBJECTS = int(os.environ.get("BENCH_OBJECTS", "1000000"))
SMALL = 1024
SMALL_PUTS = 20000
SYNCED_FILES = 1000
LARGE = 1 << 30
GETS = 20000
GET_SIZE = 65536
GETS_MSEC_MAX = 60000
NAME = "bench/object"  # and a number


class Bench:
    """All rounds on one daemon."""

    def __init__(self, daemon, programs):
        self.daemon = daemon
        self.programs = programs
        self.files = daemon.base / "files"
        self.files.mkdir()
        self.large = daemon.base / "large"
        self.n_prefixes = 0
        self.figures = {}

    def note(self, name, figure):
        self.figures.setdefault(name, []).append(figure)
        return figure

    def program(self, name, *arguments):
        return json.loads(subprocess.run([self.programs / name, *map(str, arguments)], check=True,
                                         stdout=subprocess.PIPE).stdout)

    def put_command(self, kind, count, connections):
        self.n_prefixes += 1
        return ("put", kind, count, SMALL, connections, self.daemon.publisher, f"small/{self.n_prefixes}/")

    def gets(self):
        return self.program("load", "-m", "fdpass", "-n", NAME, "-s", GET_SIZE, "-r", GETS, "-t", GETS_MSEC_MAX,
                            "objmapper", self.daemon.reader)["p99"] / 1000

    def gets_during(self, start):
        """The gets' p99 while what start() begins, again and again, is under way."""
        process, p99 = start(), []
        try:
            for _ in range(3):
                if process.poll() is not None:
                    process = start()
                p99.append(self.gets())
        finally:
            process.kill()
            process.wait()
        return statistics.median(p99)

    def start_small(self):
        command = self.put_command("durable", 10**9, 1)
        return subprocess.Popen([self.programs / command[0], *map(str, command[1:])], stdout=subprocess.DEVNULL)

    def start_large(self):
        ctl = self.programs.parent.parent / "src/ctl/objmapperctl"
        return subprocess.Popen([ctl, f"--publish-socket={self.daemon.publisher}", "put", "large", self.large])

    def small(self):
        base = self.note("synced files", self.program("sync-files", SYNCED_FILES, SMALL, self.files)["rate"])
        for name, kind, connections in (("durable", "durable", 1), ("durable, 4 connections", "durable", 4),
                                        ("visible", "visible", 1)):
            rate = self.note(name, self.program(*self.put_command(kind, SMALL_PUTS, connections))["rate"])
            self.note(f"{name}: ratio", rate / base)

    def stream(self):
        os.sync()  # what the disk has still to do from before is nobody's here
        begin = time.monotonic()
        subprocess.run(["cp", "--reflink=never", self.large, self.files / "copy"], check=True)
        subprocess.run(["sync", self.files / "copy"], check=True)
        copied = self.note("cp and sync", time.monotonic() - begin)
        (self.files / "copy").unlink()

        os.sync()
        begin = time.monotonic()
        self.daemon.ctl("put", "large", self.large, timeout=600)
        put = self.note("put", time.monotonic() - begin)
        self.note("put: ratio", copied / put)

    def round(self):
        idle = self.note("gets, idle", self.gets())
        self.small()
        self.note("gets, small puts: ratio", self.note("gets, small puts", self.gets_during(self.start_small)) / idle)
        self.stream()
        self.note("gets, large puts: ratio", self.note("gets, large puts", self.gets_during(self.start_large)) / idle)


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    os.environ["OBJMAPPER_BUILD"] = str(build)
    with Daemon(start=False) as daemon:
        programs = build / "tests/bench"
        subprocess.run([programs / "fill-store", daemon.store, str(OBJECTS)], check=True, stdout=subprocess.DEVNULL)
        daemon.start()
        bench = Bench(daemon, programs)
        with open(bench.large, "wb") as file:
            for _ in range(LARGE >> 20):
                file.write(os.urandom(1 << 20))
        small = daemon.base / "small"
        small.write_bytes(os.urandom(GET_SIZE))
        daemon.ctl("put", f"{NAME}0000", small)
        for _ in range(ROUNDS):
            bench.round()

    units = {"cp and sync": "s", "put": "s", "gets, idle": "µs p99", "gets, small puts": "µs p99",
             "gets, large puts": "µs p99"}
    print(f"{ROUNDS} rounds, {OBJECTS} objects, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':<32}{'median':>10}{'rounds':>24}")
    for name, figures in bench.figures.items():
        unit = "×" if name.endswith("ratio") else units.get(name, "/s")
        digits = 0 if unit == "/s" else 2
        spread = f"{min(figures):.{digits}f}..{max(figures):.{digits}f}"
        print(f"{name:<32}{statistics.median(figures):>10.{digits}f}{spread:>24} {unit}")
    print("\nratio: of puts to synced files, of the copy's time to the put's, of gets' p99 to the idle one of the same "
          "round")
    (build / "puts.json").write_text(json.dumps(bench.figures, indent=2))


if __name__ == "__main__":
    main()
