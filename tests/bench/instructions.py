#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""instructions.py BUILD [BASE]: what a request costs the daemon in its own instructions, counted by callgrind.

The same on a loaded machine as on an idle one, so that it can be a gate: no case may cost more than its limit, those of
the hot path call no lock, allocator or LMDB, and where BASE is the build of an earlier state none may have grown by
more than GROWTH_MAX. Tells the outcome as TAP, figures as comments, and writes BUILD/instructions.json.

Each case is one session of one worker; so many requests as its depth are sent at once, and all answered, before more
are sent. Counted is between two STATS requests, at which callgrind dumps what it has counted since the last; what such
a pair costs by itself is subtracted."""

import collections
import json
import os
import pathlib
import re
import shutil
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "integration")]

import tap  # noqa: E402, pylint: disable=wrong-import-position
import wire  # noqa: E402, pylint: disable=wrong-import-position
from daemon import Daemon  # noqa: E402, pylint: disable=wrong-import-position

GROWTH_MAX = 0.05
OBJECTS = 16
MARK = "request_stats"
UNWANTED = re.compile(r"pthread_mutex_lock|malloc|calloc|realloc|free|aligned_alloc|mdb_.*")
RARELY = 16  # once in so many requests: what comes by the minute, such as a new table to count gets in
NOISE = 3  # instructions of a request that say nothing


class Case:
    """count requests, depth at once. limit: instructions of a request that may not be exceeded. is_hot: nothing
    UNWANTED may be called. everywhere: the daemon's other threads count too."""

    def __init__(self, name, limit, ask, *, depth=1, count=256, is_hot=True, everywhere=False, status=wire.OK):
        self.name = name
        self.limit = limit
        self.ask = ask
        self.depth = depth
        self.count = count
        self.is_hot = is_hot
        self.everywhere = everywhere
        self.status = status


def get(name, mode):
    return lambda i: wire.frame(wire.GET, i + 1, wire.uri(name.format(i % OBJECTS)), mode=mode)


def put(size):
    body = bytes(size)
    return lambda i: wire.frame(wire.PUT, i + 1, wire.uri(f"put/{i:04}"), flags=wire.FLAG_DURABLE, body_size=size) + body


CASES = (
    Case("fdpass 64 KiB, depth 1", 2420, get("large/{:04}", wire.OP_FDPASS)),
    Case("fdpass 64 KiB, depth 128", 1660, get("large/{:04}", wire.OP_FDPASS), depth=128, count=1024),
    Case("inline 1 KiB, depth 1", 1660, get("small/{:04}", wire.OP_AUTO)),
    Case("inline 1 KiB, depth 64", 590, get("small/{:04}", wire.OP_AUTO), depth=64, count=1024),
    Case("copy 64 KiB, depth 1", 3450, get("large/{:04}", wire.OP_COPY)),
    Case("miss, depth 1", 4200, get("none/{:04}", wire.OP_AUTO), is_hot=False, status=wire.ABSENT),
    Case("durable put 1 KiB, depth 1", 7500, put(1000), count=64, is_hot=False, everywhere=True),
)


class Counter:
    """A daemon under callgrind."""

    def __init__(self, build, preload):
        os.environ["OBJMAPPER_BUILD"] = str(build)
        self.daemon = Daemon(settings="Workers=1", environment={"LD_PRELOAD": str(preload)}, start=False)

    def __enter__(self):
        self.daemon.__enter__()
        self.out = self.daemon.base / "callgrind.out"
        self.n_dumps = 0
        self.daemon.command = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={self.out}",
                               "--separate-threads=yes", f"--dump-before={MARK}", "--combine-dumps=no",
                               "--collect-systime=yes")
        self.daemon.start()
        self.control = wire.Peer(self.daemon.publisher, depth=1)
        return self

    def __exit__(self, *error):
        self.control.close()
        self.daemon.__exit__(*error)

    def dump(self):
        """Has what was counted since the last one written: per thread, what read_dump() returns."""
        assert self.control.ask(wire.STATS).status == wire.OK
        self.n_dumps += 1
        return [read_dump(path) for path in self.out.parent.glob(f"{self.out.name}.{self.n_dumps}-*")]

    def run(self, case, peer):
        for begin in range(0, case.count, case.depth):
            peer.send(*(case.ask(i) for i in range(begin, begin + case.depth)))
            for _ in range(case.depth):
                reply = peer.receive()
                assert reply.status == case.status, reply
                reply.close()

    def measure(self, case):
        """Instructions and system calls of a request, and the unwanted calls of all."""
        with wire.Peer(self.daemon.publisher, depth=case.depth) as peer:
            self.run(case, peer)
            self.run(case, peer)
            self.dump()
            self.dump()
            nothing = add_up(self.dump(), case.everywhere)
            self.run(case, peer)
            result = add_up(self.dump(), case.everywhere)
        result.subtract(nothing)
        own = sorted(((n / case.count, name[4:]) for name, n in result.items() if name.startswith("own ")), reverse=True)
        return {"instructions": result["instructions"] / case.count, "system_calls": result["system calls"] / case.count,
                "unwanted": {name[6:]: n for name, n in result.items() if n > 0 and name.startswith("calls ") and
                             UNWANTED.fullmatch(name[6:])},
                "functions": {name: round(n, 1) for n, name in own if n >= 0.1}}


def add_up(dump, everywhere):
    """What the threads counted, or the worker alone."""
    result = collections.Counter()
    for thread in dump:
        if everywhere or f"calls {MARK}" in thread or f"own {MARK}" in thread:
            result.update(thread)
    return result


def read_dump(path):
    """What a thread counted: "instructions", "system calls", "own FUNCTION": instructions in that function itself,
    "calls FUNCTION": how often it was called."""
    result, names, function, called = collections.Counter(), {}, None, None
    result["instructions"] = result["system calls"] = 0
    lines = iter(path.read_text(encoding="ascii", errors="replace").splitlines())
    for line in lines:
        match = re.match(r"(c?)fn=(\(\d+\))(?: (.*))?", line)
        if match:
            if match[3]:
                names[match[2]] = match[3].split("'")[0].split("@")[0]
            if match[1]:
                called = names[match[2]]
            else:
                function = names[match[2]]
        elif line.startswith("calls="):
            result[f"calls {called}"] += int(line[6:].split()[0])
            next(lines)  # what the called function cost
        elif line.startswith("totals:"):
            for name, number in zip(("instructions", "system calls"), line.split()[1:]):
                result[name] += int(number)
        elif line[:1] in "0123456789+-*" and len(line.split()) > 1:
            result[f"own {function}"] += int(line.split()[1])
    return result


def measure_all(build, preload):
    with Counter(build, preload) as counter:
        with wire.Peer(counter.daemon.publisher) as peer:
            for i in range(OBJECTS):
                peer.put(f"large/{i:04}", bytes(65536))
                peer.put(f"small/{i:04}", bytes(1024))
        return {case.name: counter.measure(case) for case in CASES}


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    if not shutil.which("valgrind"):
        tap.skip_all("there is no valgrind")
    begun = time.monotonic()
    preload = build / "tests/bench/libin-memory.so"
    found = measure_all(build, preload)
    base = measure_all(pathlib.Path(sys.argv[2]).resolve(), preload) if len(sys.argv) > 2 else {}
    (build / "instructions.json").write_text(json.dumps({"found": found, "base": base}, indent=2))

    print(f"1..{len(CASES)}")
    print(f"# {'a request':<26}{'instructions':>13}{'limit':>8}{'before':>10}{'system calls':>14}")
    for number, case in enumerate(CASES, 1):
        result, before = found[case.name], base.get(case.name)
        count = result["instructions"]
        print(f"# {case.name:<26}{count:>13.1f}{case.limit:>8}" +
              (f"{before['instructions']:>10.1f}" if before else f"{'':>10}") + f"{result['system_calls']:>14.3f}")
        wrong = []
        if count > case.limit:
            wrong.append(f"{count:.1f} instructions are more than {case.limit}")
        if before and count > before["instructions"] * (1 + GROWTH_MAX) + NOISE:
            wrong.append(f"{count:.1f} instructions were {before['instructions']:.1f} before")
        unwanted = {name: n for name, n in result["unwanted"].items() if n * RARELY > case.count}
        if case.is_hot and unwanted:
            wrong.append(f"{case.count} requests called " +
                         ", ".join(f"{name} {n} times" for name, n in unwanted.items()))
        tap.tell(number, case.name, wrong)
    print(f"# took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
