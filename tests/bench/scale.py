#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""scale.py COUNT [WINDOWS]: what does not grow with the number of objects, and what gets feel of much work beside them.

A store is filled with COUNT objects by fill-store: sizes like a web cache's about a smaller median, 800 bytes; a fifth may
be files, which a quarter of them is, and the others fit in the dictionary. Then

 - it is started after a clean stop and after SIGKILL, with the store's files in the page cache and without: the time
   from exec to READY, to the answer to a get and to that to a durable put, both sent before the start, in ms;
 - memory that is the daemon's own (RssAnon) at rest, after the start, after gets, and after all was listed;
 - gets at a steady pace, by four sessions, are measured while nothing else happens, and while all is listed again and
   again or purged piece by piece, in turns.

Prints all of it. Fails when the memory is more than 64 MiB and CacheSize=, or a thing is not as it was put: times are for
people to judge. OBJMAPPER_BUILD names the build directory."""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

for folder in ("lib", "integration"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / folder))

import common  # noqa: E402  pylint: disable=wrong-import-position
import tap  # noqa: E402  pylint: disable=wrong-import-position
import wire  # noqa: E402  pylint: disable=wrong-import-position
from daemon import Daemon, build_path  # noqa: E402  pylint: disable=wrong-import-position

CACHE_SIZE = 32 << 20
REST_MAX = 64 << 20
STARTS = 5
KEPT = 1000  # objects that gets are measured with, and nobody purges
SESSIONS = 4
INTERVAL_USEC = 1000
WINDOW_MSEC = 500
WINDOWS = int(sys.argv[2]) if len(sys.argv) > 2 else 20


def fill(daemon, prefix, count, *options):
    rate = subprocess.run([build_path("tests/bench/fill-store"), "-p", prefix, *options, daemon.store, str(count)],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    print(f"# {count} objects put, {rate.strip()} a second", flush=True)


def forget_pages(daemon):
    """The store's files are not in the page cache any more; no other's are touched."""
    os.sync()
    for folder, _, names in os.walk(daemon.store):
        for name in names:
            fd = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def start(daemon, count, number):
    """Milliseconds from exec to READY, a get answered, a put answered."""
    with wire.Peer(daemon.reader, greet=False) as reader, wire.Peer(daemon.publisher, greet=False) as publisher:
        reader.send(wire.hello(1), wire.frame(wire.GET, 2, wire.uri(f"fill/{number * 7919 % count:010}")))
        publisher.send(wire.hello(1), wire.frame(wire.PUT, 2, wire.uri(f"start/{number}"), body_size=4), b"body")
        answered = {}

        def receive(peer, what):
            assert peer.receive().status == wire.OK
            reply = peer.receive()
            answered[what] = time.monotonic()
            assert reply.status == wire.OK, reply
            reply.close()

        threads = [threading.Thread(target=receive, args=arguments)
                   for arguments in ((reader, "get"), (publisher, "put"))]
        for thread in threads:
            thread.start()
        daemon.start()
        ready = time.monotonic()
        for thread in threads:
            thread.join()
    begin = daemon.launched()
    return [(moment - begin) * 1000 for moment in (ready, answered["get"], answered["put"])]


def test_starts(daemon, count):
    number = 0
    for how in ("stop", "kill"):
        for pages in ("warm", "dropped"):
            rounds = []
            for _ in range(STARTS):
                getattr(daemon, how)()
                if pages == "dropped":
                    forget_pages(daemon)
                rounds.append(start(daemon, count, number))
                number += 1
            ready, get, put = (f"{statistics.median(times):.0f} ({max(times):.0f})" for times in zip(*rounds))
            print(f"# after {how}, pages {pages}: ready after {ready}, get after {get}, put after {put} ms "
                  f"(median of {STARTS}, most)", flush=True)


def memory(daemon):
    """Bytes of RssAnon."""
    for line in pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("there is no RssAnon")


def gets(daemon, prefix, count, msec, interval_usec=None):
    run = subprocess.run([build_path("tests/bench/gets"), daemon.reader, prefix, str(count), str(SESSIONS),
                          str(interval_usec or INTERVAL_USEC), str(msec)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout)


def test_memory(daemon, count):
    def look(when):
        seen = memory(daemon)
        print(f"# memory {when}: {seen / (1 << 20):.1f} MiB", flush=True)
        assert seen <= REST_MAX + CACHE_SIZE, f"{seen} bytes {when}"

    daemon.restart()
    look("after the start")
    common.wait_until(lambda: common.stats(daemon)["store_sweeps"] == 1, "the sweep done", 600)
    look("after the sweep")
    gets(daemon, "fill/", count, 5000)
    look("after gets of all over the store")
    gets(daemon, "fill/", min(count, 40000), 5000, 100)
    look(f"with {common.stats(daemon)['hot_bytes'] / (1 << 20):.1f} MiB of hot objects")
    assert list_all(daemon) >= count
    look("after all was listed")


def list_all(daemon):
    n = 0
    cursor = b""
    with wire.Peer(daemon.reader) as peer:
        while True:
            fields = [wire.prefix(b"")] + ([wire.field(wire.TAG_CURSOR, cursor)] if cursor else [])
            reply = peer.ask(wire.LIST, *fields)
            assert reply.status == wire.OK, reply
            n += reply.count
            cursor = reply.fields.get(wire.TAG_CURSOR, b"")
            if not cursor:
                return n


def purge(daemon, prefix):
    with wire.Peer(daemon.publisher, timeout=600) as peer:
        reply = peer.ask(wire.PURGE, wire.prefix(prefix))
        assert reply.status == wire.OK, reply
        return reply.count


@contextlib.contextmanager
def beside(work):
    """Runs work() again and again until the end; what it returned last and how often it ran is told."""
    stop = threading.Event()
    results = []

    def run():
        while not stop.is_set() and (result := work()) is not None:
            results.append(result)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        stop.set()
        thread.join()


def compare(daemon, name, work):
    """The p99 of gets beside work, and while nothing else happens, in turns; work() returns None when it is done. Other
    programs of the machine only ever add: of many windows the quieter ones tell most."""
    idle, busy, results = [], [], []
    while len(busy) < WINDOWS:
        alone = gets(daemon, "kept/", KEPT, WINDOW_MSEC)
        with beside(work) as done:
            both = gets(daemon, "kept/", KEPT, WINDOW_MSEC)
        results += done
        if not done:
            break
        idle.append(alone["p99"] / 1000)
        busy.append(both["p99"] / 1000)
    if not busy:
        print(f"# gets beside {name}: they were over too soon")
        return results
    quiet, loud = (sorted(p99)[(len(p99) - 1) // 4] for p99 in (idle, busy))
    print(f"# gets beside {name}: p99 {loud:.0f} us, idle {quiet:.0f} us: ratio {loud / quiet:.2f} (lower quartiles of "
          f"{len(busy)} windows each of {WINDOW_MSEC} ms; {min(busy):.0f} to {max(busy):.0f}, idle {min(idle):.0f} to "
          f"{max(idle):.0f})", flush=True)
    return results


def test_list_beside_gets(daemon, count):
    pages = compare(daemon, "lists", lambda: list_all(daemon))
    assert pages and all(n >= count for n in pages)


def test_purge_beside_gets(daemon, count):
    """As many purges of one size as there are: about a thousand objects each, and ten at least."""
    digits = min(3, len(str(count - 1)) - 1)
    prefixes = [f"fill/{number:0{10 - digits}}".encode() for number in range(-(-count // 10 ** digits))]

    def work():
        return purge(daemon, prefixes.pop(0)) if prefixes else None

    removed = sum(compare(daemon, "purges", work))
    began = time.monotonic()
    left = purge(daemon, b"fill/")
    print(f"# {removed} removed beside gets; the other {left} by one purge, {left / (time.monotonic() - began):.0f} a "
          f"second")
    assert removed + left == count
    assert list_all(daemon) <= KEPT + 4 * STARTS
    print(f"# memory after the purge: {memory(daemon) / (1 << 20):.1f} MiB")


def main():
    count = int(sys.argv[1])
    with Daemon(settings=f"[Store]\nCacheSize={CACHE_SIZE}", start=False) as daemon:
        fill(daemon, "fill/", count, "-m", "800", "-f", "5")
        fill(daemon, "kept/", KEPT, "-m", "4000", "-f", "1")
        daemon.start()
        tap.run(globals(), daemon, count, on_failure=daemon.log)


if __name__ == "__main__":
    main()
