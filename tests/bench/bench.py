#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench.py BUILD [OUT]: objmapper beside the bare system calls, memcached, redis and nginx, in one run on one machine.

objmapper is the installed daemon with its units, in a booted container, asked through libobjmapper; the others listen
on Unix sockets, and are asked by a client that does as little as can be done. Objects and files are the same for all.
All figures of a group are measured in turn, round by round; what is told is the median of the rounds, and ratios of
medians. Writes OUT/report.json, OUT/report.md and OUT/*.svg (OUT: tests/bench/report), and prints the report; into
tests/bench/report, the figures of README.md and objmapper-tuning(7) too.

BENCH_ROUNDS=: rounds (5). BENCH_MSEC=: time of one measurement (200). BENCH_GROUPS=: those that are measured; what the
report has of the others stays."""

import dataclasses
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "integration")]
if len(sys.argv) > 1:
    os.environ["OBJMAPPER_BUILD"] = str(pathlib.Path(sys.argv[1]).resolve())
os.environ["SYSTEMD_SECCOMP"] = "0"  # a machine's services have no filter of a container before their own

import container  # noqa: E402, pylint: disable=wrong-import-position

container.enter_namespaces()

import contention  # noqa: E402, pylint: disable=wrong-import-position
import lines  # noqa: E402, pylint: disable=wrong-import-position
import report  # noqa: E402, pylint: disable=wrong-import-position
import servers as servers_  # noqa: E402, pylint: disable=wrong-import-position
import wire  # noqa: E402, pylint: disable=wrong-import-position

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
MSEC = int(os.environ.get("BENCH_MSEC", "200"))
SIZES = {100: 64, 1 << 10: 64, 16 << 10: 64, 64 << 10: 64, 1 << 20: 8, 64 << 20: 1}
PEERS = ("memcached", "redis", "nginx")
KIB, K64, MIB, M64 = 1 << 10, 64 << 10, 1 << 20, 64 << 20
STOCK, LARGE = 212992, 4 << 20
REPORT = TESTS / "bench/report"
DESCRIPTORS = servers_.BUILD / "tests/bench/descriptors"
COUNTING = servers_.BUILD.parent / "lines"  # lines.py
WMEM_MAX = pathlib.Path("/proc/sys/net/core/wmem_max")
IDLE = 10000


@dataclasses.dataclass
class Figure:
    """What one client gets from one server. cores: the client's and the server's."""
    group: str
    who: str
    size: int
    server: object
    protocol: str
    depth: int = 1
    connections: int = 1
    options: tuple = ()
    cores: tuple = (1, 1)
    msec: int = MSEC

    @property
    def key(self):
        return f"{self.group}|{self.who}|{self.size}|{self.depth}|{self.connections}"

    def measure(self):
        self.server.pin(self.cores[1])
        return load(self.protocol, self.server, self.size, "-d", self.depth, "-c", self.connections, "-t", self.msec,
                    *self.options, core=self.cores[0])


def load_command(protocol, server, size, *options, core):
    return [str(part) for part in (
        "taskset", "--cpu-list", core, servers_.LOAD, protocol, server.path, "-n", f"o{size}-", "-k", SIZES[size], "-s", size,
        "-p", " ".join(map(str, server.pids())), *options)]


def load(*args, core):
    return json.loads(subprocess.run(load_command(*args, core=core), check=True, stdout=subprocess.PIPE).stdout)


def run(figures, results):
    """Measures them in turn, after each was asked once so that all is in memory."""
    for figure in figures:
        dataclasses.replace(figure, msec=60).measure()
    for _ in range(ROUNDS):
        for figure in figures:
            results.setdefault(figure.key, []).append(figure.measure())
    print(f"{figures[0].group}: {len(figures)} figures, {ROUNDS} rounds", file=sys.stderr, flush=True)


# ---- what is measured ----


def trips(s):
    """One request at a time, one core; and two."""
    def figure(who, size, server, protocol, *options, cores=(1, 1)):
        return Figure("trip", who, size, server, protocol, options=options, cores=cores)

    yield figure("raw echo", 100, s.raw("echo"), "echo")
    yield figure("raw opened", K64, s.raw("open", K64, SIZES[K64]), "raw-fd")
    yield figure("objmapper fdpass", K64, s.objmapper, "objmapper", "-m", "fdpass")
    for size in (100, KIB, 16 << 10, K64):
        yield figure("raw inline", size, s.raw("inline", size, SIZES[size]), "raw")
        yield figure("objmapper copy", size, s.objmapper, "objmapper", "-m", "copy")
        for peer in PEERS:
            yield figure(peer, size, s.running[peer], peer)
    yield figure("objmapper fdpass, read", K64, s.objmapper, "objmapper", "-m", "fdpass", "-f")
    yield figure("raw opened, awaited likewise", K64, s.raw("open", K64, SIZES[K64]), "raw-fd", "-y")
    for peer in PEERS:
        yield figure(f"{peer}, awaited likewise", KIB, s.running[peer], peer, "-y")
    apart = {"cores": (0, 1)}
    yield figure("raw opened, two cores", K64, s.raw("open", K64, SIZES[K64]), "raw-fd", **apart)
    yield figure("objmapper fdpass, two cores", K64, s.objmapper, "objmapper", "-m", "fdpass", **apart)
    yield figure("objmapper copy, two cores", KIB, s.objmapper, "objmapper", "-m", "copy", **apart)
    for peer in PEERS:
        yield figure(f"{peer}, two cores", KIB, s.running[peer], peer, **apart)
        yield figure(f"{peer}, two cores, awaited likewise", KIB, s.running[peer], peer, "-y", **apart)


def depths(s):
    """Many requests at once, one core."""
    for depth in (8, 32, 64, 128):
        yield Figure("depth", "raw opened", K64, s.raw("open", K64, SIZES[K64]), "raw-fd", depth)
        yield Figure("depth", "objmapper fdpass", K64, s.objmapper, "objmapper", depth, options=("-m", "fdpass"))
        yield Figure("depth", "objmapper fdpass, read", K64, s.objmapper, "objmapper", depth, options=("-m", "fdpass", "-f"))
        yield Figure("depth", "raw inline", KIB, s.raw("inline", KIB, SIZES[KIB]), "raw", depth)
        yield Figure("depth", "objmapper copy", KIB, s.objmapper, "objmapper", depth, options=("-m", "copy"))
        for peer in PEERS:
            for size in (KIB, K64):
                yield Figure("depth", peer, size, s.running[peer], peer, depth)


def batches(s):
    """The same gets by one call each, and by one call for all."""
    for depth in (8, 64):
        for size, mode in ((KIB, "copy"), (K64, "fdpass")):
            for who, options in ((f"{mode}, submitted one by one", ("-1",)), (f"{mode}, objmapper_get_many()", ())):
                yield Figure("batch", who, size, s.objmapper, "objmapper", depth, options=("-m", mode, *options))


def connections(s):
    """One request at a time on each of many connections, one core."""
    for n in (10, 100, 1000):
        yield Figure("connections", "raw inline", KIB, s.raw("inline", KIB, SIZES[KIB]), "raw", 1, n)
        yield Figure("connections", "objmapper copy", KIB, s.objmapper, "objmapper", 1, n, ("-m", "copy"))
        for peer in PEERS:
            yield Figure("connections", peer, KIB, s.running[peer], peer, 1, n)


def large(s, wmem):
    """Large bodies, client and server each on a core of its own; into memory, or to /dev/null by splice."""
    name = f"large-{wmem}"
    for size in (MIB, M64):
        def figure(who, server, protocol, *options):
            return Figure(name, who, size, server, protocol, options=options, cores=(0, 1), msec=2 * MSEC)  # pylint: disable=cell-var-from-loop

        count = SIZES[size]
        yield figure("raw write", s.raw("write", size, count, wmem), "raw")
        yield figure("raw splice", s.raw("splice", size, count, wmem), "raw", "-o")
        yield figure("raw pipe", s.raw("pipe", size, count), "raw-pipe")
        yield figure("raw pipe, spliced on", s.raw("pipe", size, count), "raw-pipe", "-o")
        yield figure("raw opened, read", s.raw("open", size, count), "raw-fd", "-f")
        yield figure("raw opened, sent on", s.raw("open", size, count), "raw-fd", "-o")
        yield figure("objmapper copy", s.objmapper, "objmapper", "-m", "copy")
        yield figure("objmapper splice, spliced on", s.objmapper, "objmapper", "-m", "splice", "-o")
        yield figure("objmapper fdpass, read", s.objmapper, "objmapper", "-m", "fdpass", "-f")
        yield figure("objmapper fdpass, sent on", s.objmapper, "objmapper", "-m", "fdpass", "-o")
        for peer in PEERS:
            yield figure(peer, s.running[peer], peer)
            yield figure(f"{peer}, spliced on", s.running[peer], peer, "-o")
        if size == MIB:  # more of them than of larger ones are waited for
            yield figure("memcached, awaited likewise", s.running["memcached"], "memcached", "-y")
            yield figure("nginx, spliced on, awaited likewise", s.running["nginx"], "nginx", "-o", "-y")


def run_large(s, results):
    before = WMEM_MAX.read_text()
    try:
        for wmem in (LARGE, STOCK):
            WMEM_MAX.write_text(str(wmem))
            run(list(large(s, wmem)), results)
    finally:
        WMEM_MAX.write_text(before)


# ---- two workers ----


ASKED = (("copy", KIB, ("-m", "copy")), ("fdpass", K64, ("-m", "fdpass")))


def run_workers(s, results, extra):
    """One worker and a client of its own on a core; and the same twice, on two. Then what the two share."""
    extra["locks"] = {"why_not": contention.why_not(), "waits": {}}
    for round_ in range(ROUNDS):
        for n in (1, 2):
            s.objmapper.restart(f"[Server]\nWorkers={n}\n")
            warm_up(s)
            for who, size, options in ASKED:
                results.setdefault(f"workers|{who}, {n}|{size}|32|{n}", []).append(ask_on_cores(s, n, size, options))
            if round_ == 0 and not extra["locks"]["why_not"]:
                for who, size, options in ASKED:
                    extra["locks"]["waits"][f"{who}, {n}"] = count_waits(s, n, size, options)
            print(f"workers: round {round_ + 1}, {n}", file=sys.stderr, flush=True)
    s.objmapper.restart()
    warm_up(s)
    extra["descriptors"] = {name: measure_descriptors(*arguments) for name, arguments in (
        ("one", (1, "shared")), ("two", (2, "shared")), ("two apart", (2, "apart")))}
    if (COUNTING / "src/daemon/objmapperd").exists():
        extra["lines"] = {title: {name: count for name, count in result.items() if not isinstance(count, list)}
                          for title, result in lines.measure_all(COUNTING).items()}


def measure_descriptors(n, tables):
    """How many n cores make and close in a second of their time, at least and at most."""
    nsec = [json.loads(subprocess.run([DESCRIPTORS, str(n), tables, str(MSEC)], check=True, stdout=subprocess.PIPE).stdout)["nsec"]
            for _ in range(2 * ROUNDS)]
    return [n * 1e9 / max(nsec), n * 1e9 / min(nsec)]


def count_waits(s, n, size, options):
    """For locks of the kernel, in 1,000 requests, by place."""
    path = s.base / "perf.data"
    with contention.recorded(s.objmapper.pids()[0], path):
        answer = ask_on_cores(s, n, size, options)
    waits = contention.read(path)
    path.unlink()
    return {place: n * 1000 / answer["n"] for place, n in waits.most_common()}


def ask_on_cores(s, n, size, options):
    """A client on each core, each with a worker of its own there: the one that is found to work for it."""
    pid = s.objmapper.pids()[0]
    idle = set(s.objmapper.workers())
    for worker in idle:
        os.sched_setaffinity(worker, range(n))
    begin, clients = cpu_nsec(pid), []
    for core in range(n):
        before = {worker: thread_nsec(pid, worker) for worker in idle}
        clients.append(subprocess.Popen(load_command("objmapper", s.objmapper, size, "-d", 32, "-t", 4 * MSEC, *options, core=core),
                                        stdout=subprocess.PIPE))
        servers_.wait_for(lambda: any(thread_nsec(pid, worker) > before[worker] + 1e6 for worker in idle), "a worker")  # pylint: disable=cell-var-from-loop
        worker = max(idle, key=lambda worker: thread_nsec(pid, worker) - before[worker])  # pylint: disable=cell-var-from-loop
        os.sched_setaffinity(worker, {core})
        idle.remove(worker)
    answers = [json.loads(client.communicate()[0]) for client in clients]
    took = cpu_nsec(pid) - begin
    return {"rate": sum(answer["rate"] for answer in answers), "p50": statistics.mean(answer["p50"] for answer in answers),
            "batch": max(answer["batch"] for answer in answers), "p99": max(answer["p99"] for answer in answers), "p999": max(answer["p999"] for answer in answers),
            "n": sum(answer["n"] for answer in answers), "server_usec": took / 1000 / sum(answer["n"] for answer in answers)}


def thread_nsec(pid, thread):
    return int(pathlib.Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])


def ran_and_waited(pid, tids=None):
    """What threads of a process ran, and were ready to run while something else did, in nanoseconds; all of them, or some."""
    paths = [path for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat") if tids is None or int(path.parent.name) in tids]
    return [sum(numbers) for numbers in zip(*(map(int, path.read_text().split()[:2]) for path in paths))]


def cpu_nsec(pid):
    return ran_and_waited(pid)[0]


def warm_up(s):
    for size in SIZES:
        load("objmapper", s.objmapper, size, "-t", 100, core=1)


# ---- settings ----

SETTINGS = (
    # name, of the configuration, of the unit
    ("as shipped", "", None),
    ("CacheSize=0", "[Store]\nCacheSize=0\n", None),
    ("InlineMax=0", "InlineMax=0\n", None),
    ("InlineMax=128K", "InlineMax=128K\n", None),
    ("LimitNOFILE=256", "", "LimitNOFILE=256"),
    ("RestrictSUIDSGID=yes", "", "RestrictSUIDSGID=yes"),
)


def run_settings(s, results):
    """One thing after the other set otherwise than it is shipped."""
    asked = (("auto", KIB, 64, 1), ("auto", K64, 32, 1), ("fdpass", K64, 128, 1), ("fdpass", K64, 32, 32))
    for _ in range(ROUNDS):
        for name, settings, service in SETTINGS:
            s.objmapper.restart(f"[Server]\nWorkers=1\n{settings}", service)
            for mode, size, depth, n in asked:
                figure = Figure("settings", f"{name}: {mode}", size, s.objmapper, "objmapper", depth, n, ("-m", mode))
                dataclasses.replace(figure, msec=60).measure()
                results.setdefault(figure.key, []).append(figure.measure())
    s.objmapper.restart()
    warm_up(s)


# ---- a mixed load, idle sessions, what is cold, others' clients ----


def histogram(s, name):
    """How many took up to how many microseconds, by the daemon."""
    counters = json.loads(s.objmapper.host.ctl("stats", "--json", "--all").stdout)
    return {int(key.rpartition("_")[2]): value for key, value in counters.items()
            if re.fullmatch(f"{name}_usec_le_[0-9]+", key)}


def percentile(before, after, part):
    """The bound that so many did not exceed: the counts are cumulative."""
    grown = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    total = max(grown.values())
    return next(bound for bound, n in grown.items() if n >= part * total)


def run_mixed(s, extra):
    """1,000 sessions at once: 800 get small hot objects, 100 splice 1 MiB, 100 put 16 KiB. And the same with a daemon that has the
    processors before all others, which tells what of it is the daemon's own."""
    extra["mixed"] = measure_mixed(s, None)
    extra["mixed first"] = measure_mixed(s, "CPUSchedulingPolicy=rr\nCPUSchedulingPriority=1")
    s.objmapper.restart()
    warm_up(s)


def measure_mixed(s, service):
    s.objmapper.restart("[Server]\nWorkers=0\n", service)
    warm_up(s)
    s.objmapper.pin(0, 1)
    publish = s.objmapper.host.path("/run/objmapper/publish.sock")
    command = load_command("objmapper", s.objmapper, KIB, "-c", 800, "-m", "copy", "-t", 10 * MSEC, core="0,1")
    msec = ROUNDS * (10 * MSEC + 1000) + 2000
    others = [load_command("objmapper", s.objmapper, MIB, "-c", 100, "-m", "splice", "-t", msec, core="0,1"),
              load_command("objmapper", s.objmapper, 16 << 10, "-c", 100, "-u", "-t", msec, core="0,1")]
    others[1][others[1].index(str(s.objmapper.path))] = str(publish)
    running = [subprocess.Popen(other, stdout=subprocess.PIPE) for other in others]
    time.sleep(1)
    rounds = [mixed_round(s, command) for _ in range(ROUNDS)]
    splices, puts = (json.loads(other.communicate()[0]) for other in running)
    return {**{name: {part: statistics.median(one[name][part] for one in rounds) for part in rounds[0][name]} for name in rounds[0]},
            "splices": splices, "puts": puts}


def mixed_round(s, command):
    """What the small gets came to, by their client and by the server; and what parts of a processor were used meanwhile by the
    threads of the daemon, and waited for."""
    pid, workers = s.objmapper.pids()[0], s.objmapper.workers()
    before, begun = histogram(s, "get_inline"), time.monotonic()
    all_before, workers_before = ran_and_waited(pid), ran_and_waited(pid, workers)
    gets = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    all_, workers_ = ran_and_waited(pid), ran_and_waited(pid, workers)
    took = (time.monotonic() - begun) * 1e9
    after = histogram(s, "get_inline")
    ran, waited = ((now - then) / took for now, then in zip(workers_, workers_before))
    return {"gets": gets, "server": {name: percentile(before, after, part) for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))},
            "workers": {"ran": ran, "waited": waited}, "others": {"ran": (all_[0] - all_before[0]) / took - ran}}


def rss_kib(pid):
    return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def run_idle(s, extra):
    """Sessions that have said hello, and nothing more; and a working load beside them."""
    s.objmapper.restart("[Server]\nWorkers=1\nMaxConnectionsPerUser=20000\nMaxConnections=20000\n")
    warm_up(s)
    s.objmapper.pin(1)
    pid = s.objmapper.pids()[0]
    alone = load("objmapper", s.objmapper, KIB, "-m", "copy", "-t", 1000, core=1)
    before, sessions = rss_kib(pid), []
    import resource  # pylint: disable=import-outside-toplevel
    resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + 1000, max(IDLE + 1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    for _ in range(IDLE):
        sessions.append(wire.Peer(str(s.objmapper.path)))
    time.sleep(2)
    beside = load("objmapper", s.objmapper, KIB, "-m", "copy", "-t", 1000, core=1)
    after = rss_kib(pid)
    extra["idle"] = {"sessions": len(sessions), "rss_before_kib": before, "rss_after_kib": after,
                     "bytes_per_session": (after - before) * 1024 / len(sessions), "alone": alone, "beside": beside}
    for session in sessions:
        session.close()
    s.objmapper.restart()
    warm_up(s)


def forget(folder):
    subprocess.run(["sync", "--file-system", folder], check=True)
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def run_cold(s, results):
    """64 KiB each once, after none of it is in memory: files of objmapper and of nginx; the disk is the same."""
    blobs = s.objmapper.host.base / "state/blobs"
    for _ in range(ROUNDS):
        for who, server, protocol, folder, options in (
                ("objmapper copy", s.objmapper, "objmapper", blobs, ("-m", "copy")),
                ("objmapper fdpass, read", s.objmapper, "objmapper", blobs, ("-m", "fdpass", "-f")),
                ("nginx", s.running["nginx"], "nginx", s.files, ())):
            server.pin(1)
            forget(folder)
            results.setdefault(f"cold|{who}|{K64}|1|1", []).append(
                load(protocol, server, K64, "-r", SIZES[K64], *options, core=1))


def run_clients(s, extra):
    """The client that asks the peers, beside redis-benchmark, in turn."""
    path = s.running["redis"].path
    rates = {"redis-benchmark": [], "load": []}
    s.running["redis"].pin(1)
    for _ in range(ROUNDS):
        said = subprocess.run(["taskset", "--cpu-list", "1", "redis-benchmark", "-s", path, "-c", "1", "-P", "64", "-n", "400000", "-q",
                               "GET", "o1024-0000"], check=True, stdout=subprocess.PIPE, text=True).stdout
        rates["redis-benchmark"].append(float(re.findall(r"([0-9.]+) requests per second", said)[-1]))
        rates["load"].append(load("redis", s.running["redis"], KIB, "-d", 64, "-t", MSEC, core=1)["rate"])
    extra["clients"] = {name: statistics.median(values) for name, values in rates.items()}


# ---- the run ----


def describe_machine():
    model = next((line.partition(":")[2].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), platform.machine())
    versions = {}
    for name, command in (("memcached", ["memcached", "-V"]), ("redis", ["redis-server", "--version"]), ("nginx", ["nginx", "-v"]),
                          ("systemd", ["systemctl", "--version"])):
        said = subprocess.run(command, check=False, capture_output=True, text=True)
        versions[name] = re.search(r"\d+(\.\d+)+|\d+", said.stdout + said.stderr)[0]
    return {"processor": model, "processors": os.cpu_count(), "kernel": platform.release(), "versions": versions,
            "load": round(os.getloadavg()[0], 2), "rounds": ROUNDS, "msec": MSEC, "day": time.strftime("%Y-%m-%d", time.gmtime())}


GROUPS = {
    "trip": lambda s, results, extra: run(list(trips(s)), results),
    "depth": lambda s, results, extra: run(list(depths(s)), results),
    "batch": lambda s, results, extra: run(list(batches(s)), results),
    "connections": lambda s, results, extra: run(list(connections(s)), results),
    "large": lambda s, results, extra: run_large(s, results),
    "workers": lambda s, results, extra: run_workers(s, results, extra),
    "settings": lambda s, results, extra: run_settings(s, results),
    "cold": lambda s, results, extra: run_cold(s, results),
    "clients": lambda s, results, extra: run_clients(s, extra),
    "idle": lambda s, results, extra: run_idle(s, extra),
    "mixed": lambda s, results, extra: run_mixed(s, extra),
}


def make_files(folder):
    folder.mkdir()
    for size, count in SIZES.items():
        for i in range(count):
            (folder / f"o{size}-{i:04}").write_bytes(os.urandom(size))


def main():
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else REPORT
    wanted = os.environ.get("BENCH_GROUPS", " ".join(GROUPS)).split()
    results, extra, begun = {}, {}, time.monotonic()
    if os.getpgrp() != os.getpid():
        os.setsid()
    servers_.come_first()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="objmapper-bench-", dir="/var/tmp") as base:
        base = pathlib.Path(base)
        base.chmod(0o755)
        make_files(base / "files")
        with servers_.Servers(base, base / "files") as s:
            warm_up(s)
            for name in wanted:
                GROUPS[name](s, results, extra)
    machine["took_seconds"] = round(time.monotonic() - begun)
    data = {"machine": machine, "figures": report.summarize(results), "extra": extra}
    if len(wanted) < len(GROUPS):
        report.merge(out, data)
    report.write(out, data)
    if report.is_whole(data) and out == REPORT:
        report.write_readme(TESTS.parent / "README.md", data)
        report.write_tuning(TESTS.parent / "man/objmapper-tuning.7.rst", data)
    print(report.as_markdown(data))


if __name__ == "__main__":
    main()
