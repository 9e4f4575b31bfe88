#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long things take, as the daemon counts it: everything once, in the histogram where it belongs."""

import json
import time

import ctl
import daemon as daemon_lib
import tap
import wire

HISTOGRAMS = ("get_fdpass", "get_copy", "get_splice", "get_inline", "get_bodiless", "put_durable", "put_visible",
              "remove", "job_wait", "bulk_job_wait", "store_wait", "store_commit")
SMALL, LARGE = b"s" * 1000, b"l" * 300000
PAUSE_SECONDS = 0.3


def read(peer):
    return wire.counters(peer.ask(wire.STATS).body)


def buckets(counters, name):
    """(bound, count up to it), as they come."""
    start = f"{name}_usec_le_"
    return [(int(key[len(start):]), value) for key, value in counters.items() if key.startswith(start)]


def grown(before, after):
    """How many were counted meanwhile, by histogram, without those that were not; waits are left out."""
    found = {name: after[f"{name}_usec_count"] - before[f"{name}_usec_count"] for name in HISTOGRAMS if "_wait" not in name}
    return {name: n for name, n in found.items() if n and name != "store_commit"}


def test_form(daemon):
    with wire.Peer(daemon.reader) as peer:
        counters = read(peer)
    bounds = sorted([2 << i for i in range(24)] + [3 << i for i in range(23)])
    for name in HISTOGRAMS:
        found = buckets(counters, name)
        assert [bound for bound, _ in found] == bounds, (name, found)
        counts = [count for _, count in found] + [counters[f"{name}_usec_count"]]
        assert counts == sorted(counts), (name, counts)
    assert counters["store_commit_usec_count"] == counters["store_commits"], counters


def test_start(daemon):
    before = time.time() * 1e6
    with wire.Peer(daemon.reader) as peer:
        first = read(peer)["start_time_usec"]
    daemon.restart()
    with wire.Peer(daemon.reader) as peer:
        second = read(peer)["start_time_usec"]
    assert before - 60e6 < first < before < second < time.time() * 1e6, (before, first, second)
    usec = f"{second // 10**6}.{second % 10**6:06}"
    assert f"objmapper_start_time_seconds {usec}" in ctl.run(*ctl.sockets(daemon), "metrics").stdout.decode().splitlines()


def test_by_mode(daemon):
    with wire.Peer(daemon.publisher) as peer:
        start = read(peer)
        peer.put("small", SMALL)
        peer.put("large", LARGE)
        reply = peer.ask(wire.PUT, wire.uri("seen"), body=SMALL, flags=wire.FLAG_VISIBLE)
        assert reply.status == wire.OK, reply
        before = read(peer)
        assert grown(start, before) == {"put_durable": 2, "put_visible": 1}, grown(start, before)
        for mode, name, times in ((wire.OP_AUTO, "small", 1), (wire.OP_AUTO, "large", 2), (wire.OP_FDPASS, "large", 4),
                                  (wire.OP_COPY, "large", 8), (wire.OP_SPLICE, "large", 16), (wire.OP_COPY, "small", 32)):
            for _ in range(times):
                peer.get(name, mode=mode)
        etag = peer.ask(wire.STAT, wire.uri("small")).info.etag
        assert peer.ask(wire.GET, wire.uri("small"), wire.field(wire.TAG_IF_NONE_MATCH, etag)).status == wire.NOT_MODIFIED
        assert peer.ask(wire.GET, wire.uri("absent")).status == wire.ABSENT
        assert peer.ask(wire.REMOVE, wire.uri("small")).status == wire.OK
        assert peer.ask(wire.REMOVE, wire.uri("small")).status == wire.ABSENT
        after = read(peer)
    expected = {"get_fdpass": 6, "get_copy": 8, "get_splice": 16, "get_inline": 33, "get_bodiless": 2, "remove": 1}
    assert grown(before, after) == expected, grown(before, after)
    assert after["store_wait_usec_count"] > start["store_wait_usec_count"], after
    assert not [name for name, value in after.items() if name.endswith("_waiting") and value], "all is answered"


def test_pipelined(daemon):
    """Answers that go out together are counted one by one."""
    with wire.Peer(daemon.publisher) as peer:
        peer.put("small", SMALL)
        peer.put("large", LARGE)
        before = read(peer)
        names = ["small", "absent", "large", "small"] * 75
        peer.send(*(wire.frame(wire.GET, peer.new_id(), wire.uri(name)) for name in names[:250]))
        for _ in names[:250]:
            peer.receive().close()
        after = read(peer)
    expected = {"get_inline": names[:250].count("small"), "get_bodiless": names[:250].count("absent"),
                "get_fdpass": names[:250].count("large")}
    assert grown(before, after) == expected, grown(before, after)


def test_duration(daemon):
    """A body that the client does not take for a while took that long."""
    body = b"x" * 32_000_000
    with wire.Peer(daemon.publisher) as peer, wire.Peer(daemon.reader, mode=wire.OP_COPY) as slow:
        peer.put("body", body)
        before = read(peer)
        began = time.monotonic()
        slow.send(wire.frame(wire.GET, slow.new_id(), wire.uri("body")))
        time.sleep(PAUSE_SECONDS)
        assert grown(before, read(peer)) == {}
        assert slow.receive().body == body
        most_usec = (time.monotonic() - began) * 1e6
        after = read(peer)
    assert grown(before, after) == {"get_copy": 1}, grown(before, after)
    took = after["get_copy_usec_sum"] - before["get_copy_usec_sum"]
    assert PAUSE_SECONDS * 1e6 <= took <= most_usec, (took, most_usec)
    below = {bound: count for bound, count in buckets(after, "get_copy")}
    was = dict(buckets(before, "get_copy"))
    for bound, count in below.items():
        assert count - was[bound] == (took <= bound), (bound, took)


def test_shown(daemon):
    """Percentiles rather than bounds, unless they are asked for; the metrics have them all."""
    with wire.Peer(daemon.reader) as peer:
        raw = read(peer)
    sockets = ctl.sockets(daemon)
    every = json.loads(ctl.run(*sockets, "stats", "--json", "--all").stdout)
    assert list(every) == list(raw)
    shown = json.loads(ctl.run(*sockets, "stats", "--json").stdout)
    assert not [name for name in shown if "_le_" in name], shown
    for name in HISTOGRAMS:
        p50, p99 = shown[f"{name}_usec_p50"], shown[f"{name}_usec_p99"]
        assert p50 <= p99, shown
        found = buckets(every, name)
        if shown[f"{name}_usec_count"] > 0 and found[-1][1] == shown[f"{name}_usec_count"]:
            for part, value in ((0.5, p50), (0.99, p99)):
                bound = next(bound for bound, count in found if count >= part * shown[f"{name}_usec_count"])
                assert bound / 2 <= value <= bound, (name, part, value, found)
    # The answers to the questions themselves are all that differs.
    metrics = ctl.run(*sockets, "metrics").stdout.decode().splitlines()
    assert f'objmapper_get_duration_seconds_count{{mode="splice"}} {every["get_splice_usec_count"]}' in metrics
    assert (f'objmapper_get_duration_seconds_bucket{{mode="splice",le="0.000768"}} {every["get_splice_usec_le_768"]}'
            in metrics), metrics
    usec = every["put_visible_usec_sum"]
    assert f'objmapper_put_duration_seconds_sum{{acknowledged="visible"}} {usec // 10**6}.{usec % 10**6:06}' in metrics
    assert f'objmapper_remove_duration_seconds_count {every["remove_usec_count"]}' in metrics


with daemon_lib.Daemon() as the_daemon:
    tap.run(globals(), the_daemon)
