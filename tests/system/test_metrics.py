# SPDX-License-Identifier: LGPL-2.1-or-later
"""The counters as a monitoring system gets them."""

import time

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

PORT = 9919
# By the parser of prometheus-client: families with their types, samples with their labels.
PARSE = """
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        print(family.type, sample.name, labels or "-", int(sample.value))
"""


def ask(host, request):
    """The answer to what is sent to the metrics' socket: its head's lines, its body."""
    script = f'exec 3<>/dev/tcp/127.0.0.1/{PORT} && cat >&3 && cat <&3'
    answer = host.run("bash", "-c", script, input=request).stdout
    head, _, body = answer.partition("\n\n")
    return head.replace("\r", "").splitlines(), body


def scrape(host):
    lines, body = ask(host, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
    assert lines[0] == "HTTP/1.1 200 OK", lines
    assert "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8" in lines, lines
    assert f"Content-Length: {len(body)}" in lines, lines
    parsed = host.run("/usr/bin/python3", "-c", PARSE, input=body).stdout
    return {(name, labels): (kind, int(value))
            for kind, name, labels, value in map(str.split, parsed.splitlines())}


def test_scrape(host):
    host.start_again("objmapper.socket", "objmapper-publish.socket", "objmapper-metrics.socket")
    host.put("scraped", "x" * 5000)
    before = scrape(host)
    assert before["objmapper_store_objects", "-"] == ("gauge", 1), before
    assert before["objmapper_store_bytes", "-"] == ("gauge", 5000), before
    for _ in range(3):
        host.ctl("get", "scraped", "--mode=copy", user="reader")
    host.ctl("get", "absent", user="reader", check=False)
    after = scrape(host)

    def grown(*key):
        assert after[key][0] == "counter", key
        return after[key][1] - before.get(key, (None, 0))[1]

    assert grown("objmapper_requests_total", "verb=get") == 4
    assert grown("objmapper_bodies_total", "mode=copy") == 3
    assert grown("objmapper_bodies_bytes_total", "mode=copy") == 15000
    assert grown("objmapper_replies_total", "status=absent") == 1
    assert after["objmapper_get_duration_seconds_count", "mode=inline"][0] == "histogram", after
    assert after["objmapper_get_duration_seconds_bucket", "le=+Inf,mode=inline"][1] == 3, after
    assert ("objmapper_put_duration_seconds_bucket", "acknowledged=durable,le=0.001536") in after, after
    assert after["objmapper_store_commit_duration_seconds_count", "-"][1] == \
        after["objmapper_store_commits_total", "-"][1], after
    assert not [name for name, _ in after if "other" in name], "a counter that metrics does not know"


def test_starts_the_service(host):
    host.start_again("objmapper.socket", "objmapper-metrics.socket")
    assert not host.is_active()
    assert scrape(host)["objmapper_store_objects", "-"] == ("gauge", 1)
    assert host.is_active()


def test_other_requests(host):
    host.start_again("objmapper.socket", "objmapper-metrics.socket")
    for request, status in (("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
                            ("GET /metricsx HTTP/1.1\r\n\r\n", "404 Not Found"),
                            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
                            ("GET /metrics?name=x HTTP/1.0\n\n", "200 OK"),
                            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK"),
                            ("GET /metrics HTTP/1.1\r\n" + "X: y\r\n" * 5000, "431 Request Header Fields Too Large")):
        lines, body = ask(host, request)
        assert lines[0] == f"HTTP/1.1 {status}", (request[:80], lines)
        assert not body or not request.startswith("HEAD"), body
    # One who sends nothing is let go, and holds up nobody.
    silent = host.start("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}; cat <&3", stdout=-1, text=True)
    assert scrape(host)
    assert silent.communicate(timeout=30)[0].startswith("HTTP/1.1 408 Request Timeout")


def test_many_connections(host):
    """Who connects and says nothing, over and over, ends nothing; what comes after that is answered. None is logged."""
    host.start_again("objmapper.socket", "objmapper-metrics.socket")
    host.run("bash", "-c", f"for i in $(seq 600); do exec 3<>/dev/tcp/127.0.0.1/{PORT} && exec 3>&-; done", check=False)
    began = f"--since=@{time.time():.6f}"
    for _ in range(3):
        wait_until(lambda: is_answered(host))
    assert host.is_active("objmapper-metrics.socket")
    assert not [entry for entry in host.journal(began) if "objmapper-metrics@" in entry.get("UNIT", "")]


def is_answered(host):
    try:
        return scrape(host)
    except (AssertionError, IndexError):  # as many as may be are still being answered
        return None


def test_daemon_is_down(host):
    host.start_again("objmapper-metrics.socket")
    host.run("systemctl", "mask", "--runtime", "objmapper.service")
    try:
        lines, _ = ask(host, "GET /metrics HTTP/1.1\r\n\r\n")
        assert lines[0] == "HTTP/1.1 503 Service Unavailable", lines
    finally:
        host.run("systemctl", "unmask", "--runtime", "objmapper.service")
        host.run("systemctl", "stop", "objmapper-metrics.socket")


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
