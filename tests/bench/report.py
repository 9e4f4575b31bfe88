# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the benchmark found, for people: tables in Markdown and plots in SVG, made of report.json alone."""

import json
import re
import statistics
import textwrap

import svg

PEERS = ("memcached", "redis", "nginx")
NAMES = {100: "100 B", 1024: "1 KiB", 16384: "16 KiB", 65536: "64 KiB", 1 << 20: "1 MiB", 64 << 20: "64 MiB"}
STOCK, LARGE = 212992, 4 << 20
IN_README = ("1. fdpass", "2. ", "3. 1 KiB inline, depth 1: time of a trip, to memcached", "3. 1 KiB inline, depth 64",
             "4. 64 MiB into memory, stock", "4. 64 MiB passed on by splice, stock")


def summarize(results):
    """key to what the rounds came to: the median of each number, and between what the rate was."""
    figures = {}
    for key, rounds in results.items():
        depth, connections = map(int, key.split("|")[3:])
        for one in rounds:
            one["steady"] = depth * 1e9 / one["batch"] if connections == 1 else one["rate"]
        numbers = {name: statistics.median(one[name] for one in rounds) for name in ("rate", "steady", "p50", "p99", "p999", "server_usec")}
        rates = sorted(one["steady"] for one in rounds)
        figures[key] = {**numbers, "rate_min": rates[0], "rate_max": rates[-1]}
    return figures


class Figures:
    """Finds them by what they are of."""

    def __init__(self, data):
        self.figures = data["figures"]

    def get(self, group, who, size, depth=1, connections=1):
        return self.figures[f"{group}|{who}|{size}|{depth}|{connections}"]

    def rate(self, *what):
        return self.get(*what)["steady"]

    def p50(self, *what):
        return self.get(*what)["p50"]

    def best_peer(self, size, also_depth_1=True):
        """The most requests per second that a peer reaches, at whatever depth."""
        rates = [self.rate("depth", peer, size, depth) for peer in PEERS for depth in (8, 32, 64, 128)]
        if also_depth_1:
            rates += [self.rate("trip", peer, size) for peer in PEERS]
        return max(rates)

    def best_large(self, wmem, size, suffix):
        return max(self.rate(f"large-{wmem}", peer + suffix, size) for peer in PEERS)

    def best_of(self, ways, wmem, size):
        return max(self.rate(f"large-{wmem}", way, size) for way in ways)


# How large bodies come: (where to, how a peer's figures of it end, objmapper's ways, those of the bare system calls)
LARGE_WAYS = (
    ("into memory", "", ("objmapper copy", "objmapper fdpass, read"), ("raw write", "raw pipe", "raw opened, read")),
    ("passed on by splice", ", spliced on", ("objmapper splice, spliced on", "objmapper fdpass, sent on"),
     ("raw splice", "raw pipe, spliced on", "raw opened, sent on")),
)


def claims(data):
    """(what, the ratio, what is aimed at, whether more is better; of some: what the bare system calls come to)"""
    f, extra = Figures(data), data["extra"]
    k, k64, mib, m64 = 1024, 65536, 1 << 20, 64 << 20
    yield ("1. fdpass, depth 1: time of a trip, to the raw opened descriptor's",
           f.p50("trip", "objmapper fdpass", k64) / f.p50("trip", "raw opened", k64), 1.20, False)
    yield ("2. fdpass, depth 128: requests/s, to the raw opened descriptors'",
           f.rate("depth", "objmapper fdpass", k64, 128) / f.rate("depth", "raw opened", k64, 128), 0.80, True)
    best = f.best_peer(k64)
    ours = max(f.rate("depth", "objmapper fdpass", k64, depth) for depth in (8, 32, 64, 128))
    read = max(f.rate("depth", "objmapper fdpass, read", k64, depth) for depth in (8, 32, 64, 128))
    yield "2. 64 KiB, descriptor in hand: requests/s, to the best peer's at its best depth", ours / best, 3.0, True
    yield "2. 64 KiB, descriptor read and closed: the same", read / best, 1.5, True
    for peer in ("memcached", "redis"):
        yield (f"3. 1 KiB inline, depth 1: time of a trip, to {peer}'s",
               f.p50("trip", "objmapper copy", k) / f.p50("trip", peer, k), 1.0, False)
    yield ("3. 1 KiB inline, depth 64: requests/s, to redis's",
           f.rate("depth", "objmapper copy", k, 64) / f.rate("depth", "redis", k, 64), 1.2, True)
    yield ("3. 1 KiB inline, depth 64: requests/s, to memcached's",
           f.rate("depth", "objmapper copy", k, 64) / f.rate("depth", "memcached", k, 64), 5.0, True)
    for wmem, what in ((LARGE, "4 MiB buffers"), (STOCK, "stock wmem_max")):
        group = f"large-{wmem}"
        yield (f"4. copy of 64 MiB, {what}: to the raw write",
               f.rate(group, "objmapper copy", m64) / f.rate(group, "raw write", m64), 0.90, True)
        yield (f"4. splice of 64 MiB, {what}: to the raw splice",
               f.rate(group, "objmapper splice, spliced on", m64) / f.rate(group, "raw splice", m64), 0.90, True)
        aim = 1.5 if wmem == LARGE else 1.0
        for size in (mib, m64):
            for where, suffix, ours, bare in LARGE_WAYS:
                peer = f.best_large(wmem, size, suffix)
                yield (f"4. {NAMES[size]} {where}, {what}: to the best peer", f.best_of(ours, wmem, size) / peer, aim, True,
                       f.best_of(bare, wmem, size) / peer)
    for who, size in (("copy", k), ("fdpass", k64)):
        one, two = f.get("workers", f"{who}, 1", size, 32, 1), f.get("workers", f"{who}, 2", size, 32, 2)
        yield (f"5. two workers, {who}: requests per CPU-second of the server, to one worker's",
               one["server_usec"] / two["server_usec"], 0.85, True)
    if "lines" in extra:
        yield ("5. two workers, 1,000 gets: writes to lines that another thread touches, locks and calls of the allocator",
               round(max(sum(one[name] for name in ("writes", "locks", "allocations")) for one in extra["lines"].values()
                         if not one["is_exempt"]), 2), 0.0, False)
    for who, waits in kernel_waits(extra):
        if who.endswith(", 2"):
            yield f"5. two workers, 1,000 gets, {who.partition(',')[0]}: waits for locks of the kernel", round(sum(waits.values()), 2), 0.0, False
    mixed = extra["mixed"]
    yield "6. 1,000 mixed sessions, small gets: p99.9 to p50, by the client", mixed["gets"]["p999"] / mixed["gets"]["p50"], 5.0, False
    yield "6. the same, by the server", mixed["server"]["p999"] / mixed["server"]["p50"], 5.0, False
    yield "8. user memory of an idle session, in 4 KiB", extra["idle"]["bytes_per_session"] / 4096, 1.0, False
    for size, mode in ((k, "copy"), (k64, "fdpass")):
        yield (f"10. objmapper_get_many() of 64, {mode} of {NAMES[size]}: requests/s, to gets submitted one by one",
               f.rate("batch", f"{mode}, objmapper_get_many()", size, 64) /
               f.rate("batch", f"{mode}, submitted one by one", size, 64), 1.0, True)
    yield ("10. 64 MiB into memory at a stock wmem_max, by a passed file: to the copy on the socket",
           f.rate(f"large-{STOCK}", "objmapper fdpass, read", m64) / f.rate(f"large-{STOCK}", "objmapper copy", m64), 1.0, True)
    yield ("10. 64 MiB passed on at a stock wmem_max, by a passed file: to the splice on the socket",
           f.rate(f"large-{STOCK}", "objmapper fdpass, sent on", m64) /
           f.rate(f"large-{STOCK}", "objmapper splice, spliced on", m64), 1.0, True)
    yield ("The peers' client, redis at depth 64: to redis-benchmark",
           extra["clients"]["load"] / extra["clients"]["redis-benchmark"], 1.0, True)


def kernel_waits(extra):
    return extra["locks"]["waits"].items() if "locks" in extra else ()


def table(head, rows):
    return "\n".join([f"| {' | '.join(head)} |", "|" + " --- |" * len(head)] +
                     [f"| {' | '.join(map(str, row))} |" for row in rows]) + "\n"


def number(n):
    if n >= 1e6:
        return f"{n / 1e6:.2f}M"
    return f"{n / 1e3:.1f}k" if n >= 1e4 else f"{n:,.0f}"


def usec(nsec):
    return f"{nsec / 1000:.1f}"


def group_table(data, group):
    rows = []
    for key, figure in data["figures"].items():
        of, who, size, depth, connections = key.split("|")
        if of == group:
            rows.append((who, NAMES[int(size)], depth, connections, number(figure["steady"]),
                         f"{number(figure['rate_min'])} to {number(figure['rate_max'])}", number(figure["rate"]), usec(figure["p50"]), usec(figure["p99"]),
                         usec(figure["p999"]), number(1e6 / figure["server_usec"]) if figure["server_usec"] > 0 else "-",
                         f"{figure['steady'] * int(size) / 1e9:.2f}"))
    return table(("", "size", "depth", "connections", "requests/s", "of the rounds", "by the clock", "p50 µs", "p99 µs", "p99.9 µs",
                  "per CPU-second of the server", "GB/s"), rows)


TITLES = (
    ("trip", "One request at a time", "Client and server on one core, or on one each (\"two cores\"). "
     "libobjmapper looks for an answer for up to 40 µs before it sleeps; the others do so where it says "
     "\"awaited likewise\"."),
    ("depth", "Many requests at once", "One connection, one core; so many are sent at once, and all answered before more are sent."),
    ("batch", "Many gets by one call", "The same gets submitted one by one and by objmapper_get_many(), which uses memory again."),
    ("connections", "Many connections", "One request at a time on each, one core."),
    (f"large-{LARGE}", "Large bodies, net.core.wmem_max of 4 MiB", "Client and server each on a core; into memory, or to "
     "/dev/null by splice (\"spliced on\"; \"sent on\": by sendfile from the passed file)."),
    (f"large-{STOCK}", "Large bodies, a stock net.core.wmem_max", "As before, with 212,992 bytes."),
    ("workers", "Two workers", "A client on each core, with the worker that it was dealt to, depth 32; requests/s of all."),
    ("settings", "Settings", "One worker and its client on one core; all as shipped but for one thing. auto of 64 KiB is an open file, where InlineMax= does not say otherwise."),
    ("cold", "From the disk", "64 objects, each once, after none of them is in memory."),
)


NOTES = """What keeps an aim from being reached, as far as it is known:

- Large bodies (4): where the bare calls do not reach an aim either, the last column says so. At 1 MiB each get opens its
  file, which nginx has open.
- Two workers that open files (5) have one table of descriptors, of which one at a time takes or gives back a number; *What
  two workers share* has what follows.
- The mixed load (6): three clients, two workers and the threads that put share two processors that have nothing to spare.
  *1,000 sessions of many kinds* has how long the workers were ready to run and did not: whoever is answered then is late.
  By the server a request's time begins when epoll tells of it: of those that it tells of together the last waits for the
  others, which is most of the p50; that the worker lost the processor among them is most of the p99.9. With a daemon that
  has the processors before all others, told there too, both are microseconds: then one piece of a large body, which the
  same thread sends, is more than five times a p50.
"""


def claim_row(what, value, aim, more, bare=None):
    reached = value >= aim if more else value <= aim
    beyond = bare is not None and bare < aim
    return (what, f"**{value:.2f}**", f"{'≥' if more else '≤'} {aim:.2f}", "yes" if reached else "no, nor do they" if beyond else "no",
            "" if bare is None else f"{bare:.2f}")


def wait_text(data):
    """What is libobjmapper's way to wait, and not the daemon's doing."""
    f, group, size = Figures(data), f"large-{LARGE}", 1 << 20
    trips = [f"{peer} {f.p50('trip', 'objmapper copy', 1024) / f.p50('trip', f'{peer}, awaited likewise', 1024):.2f}" for peer in PEERS]
    spliced = f.best_of(LARGE_WAYS[1][2], LARGE, size) / f.rate(group, "nginx, spliced on, awaited likewise", size)
    read = f.best_of(LARGE_WAYS[0][2], LARGE, size) / f.rate(group, "memcached, awaited likewise", size)
    text = ("- libobjmapper looks for an answer for up to 40 µs before it sleeps, as clients of the others do not. Asked by a client that does so as well, "
            f"the ratio of (1) is {f.p50('trip', 'objmapper fdpass', 65536) / f.p50('trip', 'raw opened, awaited likewise', 65536):.2f}, those of (3) at depth 1 are {', '.join(trips)}; those of (4), for 1 MiB with 4 MiB buffers, {read:.2f} into memory (memcached) and "
            f"{spliced:.2f} passed on by splice (nginx).")
    return textwrap.fill(text, 118, subsequent_indent="  ") + "\n"


def pipe_text(data):
    """Why no pipe is passed."""
    f = Figures(data)
    rows = [f"{NAMES[size]} {where} {f.rate(f'large-{STOCK}', pipe, size) / f.best_of(ours, STOCK, size):.2f}"
            for size in (1 << 20, 64 << 20)
            for (where, _, ours, _), pipe in zip(LARGE_WAYS, ("raw pipe", "raw pipe, spliced on"))]
    text = ("- A pipe whose read end is passed, into which the file is spliced, is bound by no socket buffer. The bare calls that do it come to "
            f"these rates, at a stock wmem_max, to the better of what objmapper does: {', '.join(rows)}. objmapper does not offer it: a "
            "passed file is not bound either, and can be read again.")
    return textwrap.fill(text, 118, subsequent_indent="  ") + "\n"


def shared_text(data):
    """What two workers share, and what follows from it."""
    f, extra, text = Figures(data), data["extra"], []
    if "lines" in extra:
        text.append("Counted in 1,000 hot gets, in a daemon that tells what each of its threads reads and writes (tests/bench/lines.py, which is "
                    "a test too): lines of memory that one thread writes and another touches, writes to these lines, locks that were taken, "
                    "those of them that another thread had, calls of the allocator.\n\n" +
                    table(("", "lines", "writes", "locks", "waits", "allocator"),
                          [(who, one["lines"], *(f"{one[name]:.2f}" for name in ("writes", "locks", "waits", "allocations")))
                           for who, one in extra["lines"].items()]))
    if kernel_waits(extra):
        text.append("Locks of the kernel that another thread had when the installed daemon wanted them, in 1,000 gets (perf, "
                    "lock:contention_begin; without those of the scheduler, and of interrupts), and who took them:\n\n" +
                    table(("", "waits", "most of them"), [
                        (f"{who} {'worker' if who.endswith('1') else 'workers'}", f"{sum(waits.values()):.3f}",
                         "; ".join(f"{place}: {n:.3f}" for place, n in list(waits.items())[:3])) for who, waits in kernel_waits(extra)]))
    elif "locks" in extra:
        text.append(f"Waits for locks of the kernel could not be counted here: {extra['locks']['why_not']}.\n")
    if "descriptors" in extra:
        one, two, apart = (" to ".join(map(number, extra["descriptors"][name])) for name in ("one", "two", "two apart"))
        least = extra["descriptors"]["two"][0]
        copy, fdpass = (f.rate("workers", f"{who}, 1", size, 32, 1) for who, size in (("copy", 1024), ("fdpass", 65536)))
        waits = dict(kernel_waits(extra))
        text.append(f"""What follows for 16 cores, which were not at hand:

- In user space each worker writes to lines of its own, as far as the first table says 0: there, 16 workers hold up each
  other no more than two. Policies other than the default note each get where all workers do: when an object was got last,
  among all gets, or how often.
- Copies: {waits_text(waits, 'copy')}So 16 workers, each with its clients on its core, are expected to come to about 16 times one: {number(16 * copy)} a second.
- Open files: {waits_text(waits, 'fdpass')}It is the lock of the process's table of descriptors, taken to open and to close each file.
  It bounds what one process can do: threads that do nothing but make descriptors and close them, 32 at a time, came to
  {one} a second alone, two of them to {two} with one table, and to {apart} with one each. The least
  of that is when the lock goes to and fro between the cores all the time, as it does when more than two want it: {number(least)} a second are what
  {least / fdpass:.0f} workers come to at the rate of one, {number(fdpass)}. More workers are not expected to open more files than that, and
  before they are that many they wait: n workers n - 1 times as often as two.
- The same opening also counts references of the folder's descriptor up and down, which all threads share, and a message
  with descriptors takes one lock of all Unix sockets (known from the kernel's source; credentials, which are counted
  likewise, each worker has of its own). Neither is among the locks above unless that table says so.
""")
    return "\n".join(text)


def waits_text(waits, who):
    if f"{who}, 2" not in waits:
        return ""
    one, two = (sum(waits[f"{who}, {n}"].values()) for n in (1, 2))
    return f"two workers waited for a lock of the kernel {two:.2f} times in 1,000 gets, one {one:.2f} times. "


def as_markdown(data):
    machine, extra = data["machine"], data["extra"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    text = [f"""# Measured

Written by `tests/run bench` on {machine['day']} in {machine['took_seconds']} s; report.json has every number.

{machine['processor']}, {machine['processors']} processors, Linux {machine['kernel']}, {versions}; load before: {machine['load']}.
{machine['rounds']} rounds, in each of which all figures of a group are measured in turn, for {machine['msec']} ms each (large bodies
twice that). A figure is the median of the rounds. Requests/s of one connection are those of the median batch of its depth, so that
what else the machine did in between counts little; "by the clock" is all of it. objmapper is the installed daemon with its units, asked through libobjmapper; memcached,
redis and nginx (keep-alive, sendfile, open_file_cache) listen on Unix sockets. Absolute figures are this machine's; the ratios are what counts.
"""]
    if is_whole(data):
        text.append("## Ratios\n\n" + table(("what", "ratio", "aim", "reached", "the best of the bare calls"),
                                            [claim_row(*claim) for claim in claims(data)]) + "\n" + NOTES + wait_text(data) + pipe_text(data))
        text += [f"![{title}]({name}.svg)\n" for name, title, _ in plots(data)]
    for group, title, explanation in TITLES:
        if any(key.startswith(f"{group}|") for key in data["figures"]):
            text.append(f"## {title}\n\n{explanation}\n\n{group_table(data, group)}")
        if group == "workers" and "locks" in extra:
            text.append("## What two workers share\n\n" + shared_text(data))
    if "mixed" in extra:
        mixed, first = extra["mixed"], extra["mixed first"]
        text.append("## 1,000 sessions of many kinds\n\n800 get objects of 1 KiB, 100 splice 1 MiB, 100 put 16 KiB, all at once, each as fast as it is "
                    "answered; two workers on both cores, which the clients share.\n\n" +
                    table(("small gets", "p50 µs", "p99 µs", "p99.9 µs", "per second"), [
                        ("by the clients", usec(mixed["gets"]["p50"]), usec(mixed["gets"]["p99"]), usec(mixed["gets"]["p999"]), number(mixed["gets"]["rate"])),
                        ("by the server, from the socket to it", *(mixed["server"][name] for name in ("p50", "p99", "p999")), "")]) +
                    f"\nBeside them {number(mixed['splices']['rate'])} splices and {number(mixed['puts']['rate'])} durable puts a second. "
                    f"Of each second the workers ran {mixed['workers']['ran'] * 1000:.0f} ms and were ready for {mixed['workers']['waited'] * 1000:.0f} ms "
                    f"while something else had the processor; the daemon's other threads, which put, ran {mixed['others']['ran'] * 1000:.0f} ms; "
                    f"the client of the small gets ran {mixed['gets']['ran'] * 1000:.0f} ms and was ready for {mixed['gets']['waited'] * 1000:.0f} ms.\n\n"
                    f"The same with a daemon that has the processors before all others (CPUSchedulingPolicy=rr, which the unit does not have: its "
                    f"threads that put and tidy would go first, too): by the server p50 {first['server']['p50']} µs, p99 {first['server']['p99']} "
                    f"µs, p99.9 {first['server']['p999']} µs; {number(first['gets']['rate'])} small gets, {number(first['splices']['rate'])} splices "
                    f"and {number(first['puts']['rate'])} puts a second.\n")
    if "idle" in extra:
        idle = extra["idle"]
        text.append(f"## Idle sessions\n\n{idle['sessions']:,} sessions that said hello and nothing more: memory of the daemon (RssAnon) "
                    f"{idle['rss_before_kib']:,} KiB before, {idle['rss_after_kib']:,} KiB with them, "
                    f"{idle['bytes_per_session']:.0f} bytes each. Gets of 1 KiB beside them: p50 {usec(idle['beside']['p50'])} µs, "
                    f"p99.9 {usec(idle['beside']['p999'])} µs; without them {usec(idle['alone']['p50'])} µs, {usec(idle['alone']['p999'])} µs.\n")
    if "clients" in extra:
        text.append(f"## The client of the peers\n\nredis, 1 KiB, depth 64: {number(extra['clients']['load'])} requests/s asked by the client of this suite, "
                    f"{number(extra['clients']['redis-benchmark'])} by redis-benchmark.\n")
    return "\n".join(text)


def plots(data):
    """(file, title, the SVG)"""
    f = Figures(data)
    depths = (8, 32, 64, 128)
    for name, size, title, ours in (
            ("depth-64k", 65536, "64 KiB: requests per second by depth", ("raw opened", "objmapper fdpass", "objmapper fdpass, read")),
            ("depth-1k", 1024, "1 KiB: requests per second by depth", ("raw inline", "objmapper copy"))):
        lines = {who: [f.rate("depth", who, size, depth) for depth in depths] for who in (*ours, *PEERS)}
        yield name, title, svg.lines(title, depths, lines)
    trips = {who: f.p50("trip", who, 1024) / 1000 for who in ("raw inline", "objmapper copy", *PEERS)}
    trips |= {f"{who}, 64 KiB": f.p50("trip", who, 65536) / 1000 for who in ("raw opened", "objmapper fdpass", *PEERS)}
    yield "trip", "One request at a time: µs", svg.bars("One request at a time: µs (1 KiB, 64 KiB)", trips)
    for wmem, what in ((LARGE, "4 MiB buffers"), (STOCK, "a stock wmem_max")):
        rates = {who: f.rate(f"large-{wmem}", who, 64 << 20) * (64 << 20) / 1e9 for who in (
            "raw write", "objmapper copy", *PEERS, "raw splice", "objmapper splice, spliced on", *(f"{peer}, spliced on" for peer in PEERS),
            "objmapper fdpass, read", "objmapper fdpass, sent on", "raw pipe")}
        yield f"large-{wmem}", f"64 MiB, {what}: GB/s", svg.bars(f"64 MiB, {what}: GB/s", rates)


def merge(folder, data):
    """Adds what an earlier report has of groups that are not measured now."""
    try:
        earlier = json.loads((folder / "report.json").read_text())
    except FileNotFoundError:
        return
    groups = {key.split("|")[0] for key in data["figures"]}
    data["figures"] = {key: figure for key, figure in earlier["figures"].items() if key.split("|")[0] not in groups} | data["figures"]
    data["extra"] = earlier["extra"] | data["extra"]
    data["machine"]["took_seconds"] += earlier["machine"]["took_seconds"]


def is_whole(data):
    return {"trip", "depth", "batch", "workers", "settings", f"large-{STOCK}"} <= {key.split("|")[0] for key in data["figures"]} and \
        {"mixed", "idle", "clients"} <= set(data["extra"])


def write_readme(path, data):
    """Some ratios, where README has them."""
    rows = [(what.partition(" ")[2], f"{value:.2f}") for what, value, *_ in claims(data) if what.startswith(IN_README)]
    text = re.sub(r"(<!-- measured:.*? -->\n).*?(<!-- end -->)", lambda match: match[1] + table(("what", "ratio"), rows) + match[2],
                  path.read_text(), flags=re.DOTALL)
    path.write_text(text)


def tuning(data):
    """(name, text) of what objmapper-tuning(7) has of the figures."""
    f = Figures(data)
    k, k64, m64, stock, large = 1024, 65536, 64 << 20, f"large-{STOCK}", f"large-{LARGE}"

    def many(who, size):
        return f.rate("depth", f"objmapper {who}", size, 64) / f.rate("trip", f"objmapper {who}", size)

    def batch(mode, size):
        return f.rate("batch", f"{mode}, objmapper_get_many()", size, 64) / f.rate("batch", f"{mode}, submitted one by one", size, 64)

    def large_ratio(of, to):
        return f.rate(*of, m64) / f.rate(*to, m64)

    def each_of_two(who, size):
        return f.get("workers", f"{who}, 1", size, 32, 1)["server_usec"] / f.get("workers", f"{who}, 2", size, 32, 2)["server_usec"]

    def setting(name, *what, of="steady"):
        return f.get("settings", f"{name}: {what[0]}", *what[1:])[of] / f.get("settings", f"as shipped: {what[0]}", *what[1:])[of]

    yield "batch", (f"64 at once by one call, to one after the other: {many('copy', k):.2f} times as many copies of 1 KiB a second, "
                    f"{many('fdpass', k64):.2f} times as many open files of 64 KiB. To 64 that are submitted one by one and are in flight "
                    f"together: {batch('copy', k):.2f} and {batch('fdpass', k64):.2f} times.")
    yield "mode", (f"64 MiB at a stock **net.core.wmem_max**: into memory from the passed file at "
                   f"{large_ratio((stock, 'objmapper fdpass, read'), (stock, 'objmapper copy')):.2f} times the rate of a copy on the socket; "
                   f"passed on from it at {large_ratio((stock, 'objmapper fdpass, sent on'), (stock, 'objmapper splice, spliced on')):.2f} "
                   "times that of a splice on the socket.")
    yield "wmem", (f"How much that helps depends on the kernel and on who receives. Measured, 64 MiB come at "
                   f"{large_ratio((large, 'objmapper copy'), (stock, 'objmapper copy')):.2f} times the rate of the stock limit as a copy, at "
                   f"{large_ratio((large, 'objmapper splice, spliced on'), (stock, 'objmapper splice, spliced on')):.2f} times spliced. "
                   "What comes as an open file does not depend on it.")
    waits = dict(kernel_waits(data["extra"]))
    yield "workers", (f"In one second of processor time, each of two workers on two processors answers {each_of_two('copy', k):.2f} times as many "
                      f"gets of 1 KiB, and {each_of_two('fdpass', k64):.2f} times as many of open files, as one that is alone." +
                      (f" In 1,000 gets, a worker found a lock of the kernel taken {sum(waits['copy, 2'].values()):.2f} and "
                       f"{sum(waits['fdpass, 2'].values()):.2f} times." if waits else ""))
    yield "inline", (f"Bodies of 64 KiB, 32 at once, with ``InlineMax=128K``: at {setting('InlineMax=128K', 'auto', k64, 32):.2f} times the rate of "
                     "open files that are closed unread. Reading them whole, open files come at "
                     f"{f.rate('depth', 'objmapper fdpass, read', k64, 32) / f.rate('depth', 'objmapper fdpass', k64, 32):.2f} times that rate.")
    yield "cache", (f"With ``CacheSize=0``: {setting('CacheSize=0', 'auto', k, 64):.2f} times as many copies of 1 KiB a second, 64 at once, and "
                    f"{setting('CacheSize=0', 'fdpass', k64, 128):.2f} times as many open files, 128 at once, all of them in the page cache.")
    yield "nofile", (f"32 sessions that ask for 32 files each at once, with ``LimitNOFILE=256``: "
                     f"{setting('LimitNOFILE=256', 'fdpass', k64, 32, 32):.2f} times the rate.")
    yield "confinement", (f"Open files, 128 at once: {setting('RestrictSUIDSGID=yes', 'fdpass', k64, 128):.2f} times the rate, at "
                          f"{setting('RestrictSUIDSGID=yes', 'fdpass', k64, 128, of='server_usec'):.2f} times the daemon's processor time for "
                          "each.")


def write_tuning(path, data):
    """The figures of the manual page, each where its name is."""
    page = path.read_text()
    for name, text in tuning(data):
        lines = "\n".join(textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False))
        page, n = re.subn(rf"(\.\. measured: {name}\n\n).*?(\n\.\. end\n)", lambda match: f"{match[1]}{lines}\n{match[2]}",  # pylint: disable=cell-var-from-loop
                          page, flags=re.DOTALL)
        assert n == 1, f"{path} has no place for {name}"
    path.write_text(page)


def write(folder, data):
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / "report.md").write_text(as_markdown(data) + "\n")
    for name, _, drawing in plots(data) if is_whole(data) else ():
        (folder / f"{name}.svg").write_text(drawing)
