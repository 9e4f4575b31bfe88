#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""lines.py BUILD LINES: what two workers share while they answer gets, counted.

LINES is a build of the daemon that tells what each of its threads reads and writes (lines.c). Two clients ask, each of a
worker of its own, for what is hot; so many requests as the depth are sent at once, and all answered, before more are
sent. Counted are writes to lines of memory that another thread touches too: each may cost that thread, and all others
that read the line, a trip to the memory of another core; locks taken; calls of the allocator. None of it depends on how
fast the machine is. What a get does is in every count, what comes once in so many seconds is not, nor what the kernel
makes of what else the machine does (a mount anywhere has a get that opens a file look it up again, by a job): where it
is too much, it is counted again, up to TRIES times, and the least is what counts. Tells the outcome as TAP, figures as
comments, and writes BUILD/lines.json."""

import collections
import json
import os
import pathlib
import pwd
import re
import socket
import subprocess
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "integration")]

import tap  # noqa: E402, pylint: disable=wrong-import-position
import wire  # noqa: E402, pylint: disable=wrong-import-position
from daemon import Daemon  # noqa: E402, pylint: disable=wrong-import-position

OBJECTS = 32
WORKERS = 2
ROUNDS = 128
RARELY = 1.0  # in 1,000 requests
TRIES = 8
PATIENCE = 1000  # times that is tried what takes its time
SHOWN = 8  # kinds of lines
USER = pwd.getpwuid(os.geteuid()).pw_name
RULES = (f'[Namespace all]\nPrefix=""\nReadUsers={USER}\nPublishUsers={USER}\n', "")
WITHOUT_OPENAT2 = ("", "LINES_NO_OPENAT2")
FASTER = ("[Store]\nCachePath={base}/faster\n", "")
LRU = ("[Store]\nPolicy=lru\n", "")
LIMITED = (("writes", "writes to shared lines"), ("locks", "locks"), ("allocations", "calls of the allocator"))


class Case:
    """Gets of that name and mode, depth at once. setup: of the daemon, the configuration and the environment; n_copied:
    that many files are to be in the faster folder first. writes_max: to shared lines, in 1,000 requests."""

    def __init__(self, title, name, mode, depth, setup=("", ""), *, n_copied=0, writes_max=RARELY):
        self.title = title
        self.name = name
        self.mode = mode
        self.depth = depth
        self.setup = setup
        self.n_copied = n_copied
        self.writes_max = writes_max

    @property
    def count(self):
        return WORKERS * ROUNDS * self.depth

    def frames(self):
        return b"".join(wire.frame(wire.GET, i + 1, wire.uri(f"{self.name}/{i % OBJECTS:04}"), mode=self.mode)
                        for i in range(self.depth))


CASES = (
    Case("copy 1 KiB, depth 32", "small", wire.OP_COPY, 32),
    Case("copy 1 KiB, depth 32, with rules", "small", wire.OP_COPY, 32, RULES),
    Case("fdpass 64 KiB, depth 32", "large", wire.OP_FDPASS, 32),
    Case("fdpass 64 KiB, depth 32, without openat2()", "large", wire.OP_FDPASS, 32, WITHOUT_OPENAT2),
    Case("copy 64 KiB, depth 1", "large", wire.OP_COPY, 1),
    Case("splice 64 KiB, depth 1", "large", wire.OP_SPLICE, 1),
    Case("fdpass 64 KiB, depth 32, CachePath=", "large", wire.OP_FDPASS, 32, FASTER, n_copied=OBJECTS),
    # Its order is that of all gets: there is one clock, and each object's place in a table has when it was.
    Case("copy 1 KiB, depth 32, Policy=lru", "small", wire.OP_COPY, 32, LRU, writes_max=2000 + RARELY),
)


class Counter:
    """A daemon that counts."""

    def __init__(self, build, settings, variable):
        os.environ["OBJMAPPER_BUILD"] = str(build)
        self.daemon = Daemon(settings=f"Workers={WORKERS}\n{settings}", environment={variable: "1"} if variable else {},
                             start=False)

    def __enter__(self):
        self.daemon.__enter__()
        (self.daemon.base / "faster").mkdir()
        self.daemon.configure(self.daemon.settings.replace("{base}", str(self.daemon.base)))
        with socket.socket(socket.AF_UNIX) as listener:
            path = str(self.daemon.base / "lines.sock")
            listener.bind(path)
            listener.listen(1)
            self.daemon.environment["LINES_SOCKET"] = path
            self.daemon.start()
            self.control = listener.accept()[0].makefile("rw")
        return self

    def __exit__(self, *error):
        self.control.close()
        self.daemon.__exit__(*error)

    def say(self, what):
        self.control.write(what)
        self.control.flush()

    def measure(self, case):
        peers = self.connect(case)
        run(case, peers)  # so that all is where it stays
        run(case, peers)
        for _ in range(PATIENCE):
            if len([path for path in (self.daemon.base / "faster").rglob("*") if len(path.name) == 16]) >= case.n_copied:
                break
            run(case, peers)
        results = []
        while len(results) < TRIES and not any(is_fine(case, result) for result in results):
            time.sleep(len(results) / 4)
            results.append(self.count(case, peers))
        for peer in peers:
            peer.close()
        return min(results, key=lambda result: sum(result[name] for name, _ in LIMITED))

    def connect(self, case):
        """A session of each worker: one that was just closed may have had both go to the same."""
        for _ in range(PATIENCE):
            peers = [wire.Peer(self.daemon.reader, depth=case.depth) for _ in range(WORKERS)]
            if self.count(case, peers):
                break
            for peer in peers:
                peer.close()
            time.sleep(0.1)
        return peers

    def count(self, case, peers):
        """None: not each worker was asked."""
        self.say("o")
        assert self.control.readline() == "begun\n"
        run(case, peers)
        self.say("c")
        return read_counts(self.control, Places(self.daemon.process.pid), case.count)


def run(case, peers):
    frames = case.frames()
    for _ in range(ROUNDS):
        for peer in peers:
            peer.send(frames)
        for peer in peers:
            for _ in range(case.depth):
                reply = peer.receive()
                assert reply.status == wire.OK, reply
                reply.close()


class Places:
    """Names places of the code."""

    def __init__(self, pid):
        self.maps = []
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"(\w+)-(\w+) \S+ (\w+) \S+ \d+ +(/.*)", line)
            if match:
                begin, end, offset = (int(match[i], 16) for i in (1, 2, 3))
                self.maps.append((begin, end, offset, match[4]))

    def names(self, codes):
        """code to "function (file:line)", of a return address."""
        result, asked = {}, collections.defaultdict(list)
        for code in codes:
            for begin, end, offset, path in self.maps:
                if begin <= code < end:
                    asked[path].append((code, code - begin + offset - 1))
        for path, pairs in asked.items():
            said = subprocess.run(["addr2line", "-f", "-i", "-a", "-e", path, *(hex(at) for _, at in pairs)], check=True,
                                  stdout=subprocess.PIPE, text=True).stdout
            for (code, _), text in zip(pairs, re.split(r"^0x.*\n", said, flags=re.MULTILINE)[1:]):
                function, where = text.splitlines()[:2]
                result[code] = f"{function} ({where.rpartition('/')[2].split(' ')[0]})"
        return result


def read_counts(lines, places, n_requests):
    """What was counted: of each kind in 1,000 requests, and the lines that are shared."""
    threads, counts, names, active = [], collections.Counter(), set(), collections.Counter()
    touched = collections.defaultdict(collections.Counter)  # line to (thread, deed, code)
    calls = collections.Counter()
    for line in lines:
        words = line.split()
        if words[0] == "end":
            break
        if words[0] == "thread":
            assert words[-1] == "0", "there was too much to count"
            threads.append(f"{' '.join(words[1:-1])} {len(threads)}")
            continue
        deed, where, code, n = words[0], *(int(word, 16) for word in words[1:3]), int(words[3])
        is_worker = threads[-1].startswith("worker")
        if deed in ("read", "write"):
            touched[where][threads[-1], deed, code] += n
            active[threads[-1]] += n
        elif is_worker:
            counts[deed] += n
            calls[deed, code] += n
            names.add(code)
    asked = [thread for thread in threads if thread.startswith("worker") and active[thread] >= n_requests]
    if len(asked) < WORKERS:
        return None

    shared = {}
    for where, deeds in touched.items():
        by = {thread for thread, *_ in deeds}
        writers = {thread for thread, deed, _ in deeds if deed == "write"}
        if len(by) > 1 and writers and any(thread in asked for thread in by):
            shared[where] = deeds
            names.update(code for _, _, code in deeds)
    names = places.names(names)

    def per_1000(n):
        return n * 1000 / n_requests

    def deeds_of(deeds):
        result = collections.Counter()
        for (thread, deed, code), n in deeds.items():
            result[thread, deed, names.get(code, "?")] += n
        return [{"thread": thread, "deed": deed, "place": place, "per_1000": per_1000(n)}
                for (thread, deed, place), n in result.most_common()]

    writes = sum(n for deeds in shared.values() for (_, deed, _), n in deeds.items() if deed == "write")
    return {"requests": n_requests, "lines": len(shared), "writes": per_1000(writes), "locks": per_1000(counts["lock"]),
            "waits": per_1000(counts["wait"]), "allocations": per_1000(counts["allocate"] + counts["free"]),
            "touched": len(touched),
            "shared": [deeds_of(deeds) for deeds in shared.values()],
            "calls": [{"deed": deed, "place": names.get(code, "?"), "per_1000": per_1000(n)}
                      for (deed, code), n in calls.most_common()]}


def measure_all(build):
    found, by_setup = {}, collections.defaultdict(list)
    for case in CASES:
        by_setup[case.setup].append(case)
    for setup, cases in by_setup.items():
        with Counter(build, *setup) as counter:
            with wire.Peer(counter.daemon.publisher) as peer:
                for i in range(OBJECTS):
                    peer.put(f"large/{i:04}", bytes(65536))
                    peer.put(f"small/{i:04}", bytes(1024))
            for case in cases:
                found[case.title] = counter.measure(case)
    return {case.title: {**found[case.title], "is_exempt": case.writes_max > RARELY} for case in CASES}


def limit(case, name):
    return case.writes_max if name == "writes" else RARELY


def is_fine(case, result):
    return all(result[name] <= limit(case, name) for name, _ in LIMITED)


def explain(case, result):
    """What is wrong, with the places of the code."""
    for name, what in LIMITED:
        if result[name] > limit(case, name):
            yield f"{result[name]:.1f} {what} in 1,000 requests are more than {limit(case, name):.0f}"
    if is_fine(case, result):
        return
    written = collections.Counter()
    for deeds in result["shared"]:
        if sum(deed["per_1000"] for deed in deeds if deed["deed"] == "write") > RARELY / 10:
            written["\n".join(f"  {deed['thread']} {deed['deed']}s it {deed['per_1000']:.1f} times: {deed['place']}"
                              for deed in deeds)] += 1
    for deeds, n in written.most_common(SHOWN):
        yield f"{n} lines:"
        yield from deeds.splitlines()
    for call in result["calls"]:
        if call["per_1000"] > RARELY:
            yield f"{call['deed']} {call['per_1000']:.1f} times: {call['place']}"


def main():
    build, lines_build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    begun = time.monotonic()
    found = measure_all(lines_build)
    (build / "lines.json").write_text(json.dumps(found, indent=2))

    print(f"1..{len(CASES)}")
    print(f"# {'two workers, 1,000 requests':<44}{'lines':>7}{'writes':>9}{'locks':>8}{'waits':>8}{'allocations':>13}")
    for number, case in enumerate(CASES, 1):
        title, result = case.title, found[case.title]
        print(f"# {title:<44}{result['lines']:>7}{result['writes']:>9.2f}{result['locks']:>8.2f}{result['waits']:>8.2f}"
              f"{result['allocations']:>13.2f}")
        tap.tell(number, title, list(explain(case, result)))
    print(f"# took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
