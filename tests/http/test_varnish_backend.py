#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMOD's backends in the machine's Varnish: what they serve, and where they lead what they can't serve."""

import contextlib
import email.utils
import gzip
import hashlib
import json
import os
import re
import signal
import time

from varnish import TOP, Varnish, need_varnish  # puts tests/lib and tests/integration on the path too
from client import Unix
from load import Load
from origin import Origin

import tap
from common import bytes_of, stats, wait_until
from daemon import Daemon, build_path

HOST = "http://example.org"
SMALL, LARGE = bytes_of(1000, 2), bytes_of(300_000, 3)
CHUNK = 65536  # the least that Varnish fetches at once


def put(daemon, path, body, *pairs, ttl=None, host=HOST):
    """An object: pairs of its metadata as "key=value"."""
    options = [option for pair in pairs for option in ("--meta", pair)] + (["--ttl", ttl] if ttl else [])
    daemon.ctl("put", host + path, *options, input=body)


def copy_of(age, ttl, *more):
    """The pairs of a copy that is so many seconds old."""
    return (f":generated={time.time() - age:.6f}", f":ttl={ttl}", *more)


def vcl_of(daemon, more="", *, origin=None, arguments=""):
    """A VCL whose backend is the store; with an origin, that gets what the store does not have."""
    backend = f'backend origin {{ .host = "127.0.0.1"; .port = "{origin.port}"; }}' if origin else \
        "backend origin none;"
    used = "store.or(origin)" if origin else "store.backend()"
    return f"""
{backend}
sub vcl_init {{ new store = objmapper.store("{daemon.reader}"{arguments}); }}
sub vcl_backend_fetch {{ set bereq.backend = {used}; }}
{more}
"""


@contextlib.contextmanager
def served(more="", *, origin=None, arguments="", settings="", options=()):
    with Daemon(settings=settings) as daemon, \
            Varnish(vcl_of(daemon, more, origin=origin, arguments=arguments), options=options) as varnish:
        yield daemon, varnish


PASS = "sub vcl_recv { return (pass); }"

# ---- what is served ----


def test_bodies():
    """Of every size and way of delivery, fetched, from the cache and passed, with GET and HEAD."""
    bodies = {"/empty": b"", "/one": b"x", "/small": SMALL, "/inline": bytes_of(16384), "/file": LARGE,
              "/huge": bytes_of(100 << 20)}
    more = 'sub vcl_recv { if (req.http.pass) { return (pass); } }'
    with served(more, options=["-s", "malloc,300m"]) as (daemon, varnish):
        for path, body in bodies.items():
            put(daemon, path, body, "content-type=application/x-test")
            stat = daemon.ctl("stat", HOST + path).stdout.decode()
            for kind in ({}, {}, {"pass": "1"}):
                answer = varnish.get(path, **kind)
                assert answer.status == 200 and answer.body == body, (path, kind, answer)
                assert answer["content-type"] == "application/x-test", answer
                assert answer["content-length"] == str(len(body)), (path, answer)
                assert answer["etag"].strip('"') in stat, (answer["etag"], stat)
                assert email.utils.parsedate_to_datetime(answer["last-modified"]), answer
                head = varnish.ask("HEAD", path, kind)
                assert head.status == 200 and head.body == b"", (path, head)
                assert (head["content-length"], head["etag"]) == (str(len(body)), answer["etag"]), (path, head)
        wait_until(lambda: varnish.stat("MAIN.cache_hit") >= len(bodies), "they are counted")
        counters = varnish.counters()
        assert counters["hits"] == 3 * len(bodies) and counters["misses"] == 0, counters
        assert counters["bytes"] == 2 * sum(map(len, bodies.values())), counters


def test_head_first():
    """A HEAD that is not in the cache."""
    with served() as (daemon, varnish):
        put(daemon, "/x", LARGE)
        head = varnish.ask("HEAD", "/x")
        assert head.status == 200 and head["content-length"] == str(len(LARGE)) and head.body == b"", head
        assert varnish.get("/x").body == LARGE


def test_status_and_fields():
    with served() as (daemon, varnish):
        put(daemon, "/gone", b"gone\n", ":status=410 Left for good", "content-type=text/plain", "link=<a>", "link=<b>",
            "x-empty=", "internal/owner=me", "x-two=1", "connection=x-two", "transfer-encoding=chunked",
            "content-length=7", "age=77", "etag=W/\"own\"", "last-modified=Tue, 01 Jan 2019 00:00:00 GMT")
        answer = varnish.get("/gone")
        assert (answer.status, answer.reason, answer.body) == (410, "Left for good", b"gone\n"), answer
        assert [v for n, v in answer.fields if n == "link"] == ["<a>", "<b>"], answer
        assert answer["x-empty"] == "" and answer["x-two"] == "1" and answer["content-length"] == "5", answer
        assert answer["etag"] == 'W/"own"' and answer["last-modified"] == "Tue, 01 Jan 2019 00:00:00 GMT", answer
        assert answer["age"] == "0" and answer["transfer-encoding"] is None, answer  # Varnish's own Age
        assert not any("owner" in n or n.startswith(":") for n, _ in answer.fields), answer

        put(daemon, "/plain", b"", ":status=404")
        assert (varnish.get("/plain").status, varnish.get("/plain").reason) == (404, "Not Found")


def test_miss_and_methods():
    with served(PASS) as (daemon, varnish):
        assert varnish.get("/none").status == 404
        answer = varnish.ask("POST", "/none", {}, b"body")
        assert (answer.status, answer["allow"]) == (405, "GET, HEAD"), answer
        put(daemon, "/old", b"old", ttl="1ms")
        wait_until(lambda: varnish.get("/old").status == 404, "it is expired")
        assert varnish.counters()["misses"] >= 2


def test_uris():
    more = """sub vcl_backend_fetch { if (bereq.http.uri) { store.set_uri(bereq.http.uri); } }
              sub vcl_hash { hash_data(req.http.uri); }"""
    with served(more) as (daemon, varnish):
        put(daemon, "/a%20b?C=d&e", b"with query")
        put(daemon, "/", b"of another port", host="http://example.org:8080")
        put(daemon, "", b"plain", host="greetings/hello")
        assert varnish.get("/a%20b?C=d&e", host="Example.ORG:80").body == b"with query"
        assert varnish.get("/", host="example.org:8080").body == b"of another port"
        assert varnish.get("/", host="elsewhere").status == 404
        assert varnish.get("/x", uri="greetings/hello").body == b"plain"
        assert varnish.get("/y", uri="no/such").status == 404
        assert varnish.get("/" + "x" * 5000).status == 404
        assert varnish.get("/z", uri="u" * 5000).status == 404


def test_not_a_response():
    with served() as (daemon, varnish):
        for pair in (":status=abc", ":status=99", ":status=304", ":ttl=1", ":generated=1", ":grace=-1"):
            put(daemon, "/bad", b"x", pair)
            assert varnish.get("/bad").status == 503, pair
        assert "is no HTTP response: see objmapper-http(7)" in varnish.shown()
        assert varnish.counters()["errors"] == 6


def test_many_fields():
    """More than Varnish takes: an error, and nothing is left behind."""
    with served() as (daemon, varnish):
        put(daemon, "/many", LARGE, *(f"x-{i}=1" for i in range(100)))
        put(daemon, "/long", LARGE, *(f"x-{i}={'v' * 3000}" for i in range(10)))
        put(daemon, "/good", LARGE)
        assert varnish.get("/good").status == 200
        before = varnish.fds()
        for _ in range(5):
            assert varnish.get("/many").status == 503
        assert varnish.get("/long").status in (200, 503)
        wait_until(lambda: varnish.fds() <= before, "descriptors are closed")


# ---- conditions and ranges ----


def test_conditions():
    with served(PASS) as (daemon, varnish):
        put(daemon, "/x", SMALL)
        whole = varnish.get("/x")
        etag, modified = whole["etag"], whole["last-modified"]
        day = 24 * 3600
        at = email.utils.parsedate_to_datetime(modified).timestamp()
        before, after = (email.utils.formatdate(at + shift, usegmt=True) for shift in (-day, day))

        for fields in ({"If-None-Match": etag}, {"If-None-Match": f'"a", W/{etag}'}, {"If-None-Match": "*"},
                       {"If-Modified-Since": modified}, {"If-Modified-Since": after},
                       {"If-None-Match": etag, "If-Modified-Since": before}, {"If-None-Match": etag, "If-Match": etag}):
            for method in ("GET", "HEAD"):
                answer = varnish.ask(method, "/x", fields)
                assert (answer.status, answer.body, answer["etag"]) == (304, b"", etag), (fields, answer)
        for fields in ({"If-None-Match": '"other"'}, {"If-None-Match": "junk"}, {"If-Modified-Since": before},
                       {"If-None-Match": '"other"', "If-Modified-Since": after}, {"If-Modified-Since": "junk"},
                       {"If-Match": etag}, {"If-Match": "*"}, {"If-Unmodified-Since": modified}):
            answer = varnish.ask("GET", "/x", fields)
            assert (answer.status, answer.body) == (200, SMALL), (fields, answer)
        for fields in ({"If-Match": '"other"'}, {"If-Match": "W/" + etag}, {"If-Unmodified-Since": before}):
            assert varnish.ask("GET", "/x", fields).status == 412, fields
        assert varnish.counters()["unmodified"] == 14

        put(daemon, "/bad", b"no", ":status=500")
        assert varnish.get("/bad", if_none_match="*").status == 500


def test_ranges():
    """In the cache, where Varnish cuts, and passed, where the VMOD does."""
    size = len(LARGE)
    cases = {"bytes=0-0": (0, 1), "bytes=5-9": (5, 5), f"bytes={size - 1}-": (size - 1, 1), "bytes=-1": (size - 1, 1),
             f"bytes=100-{size * 2}": (100, size - 100), f"bytes=-{size * 2}": (0, size)}
    for more in ("", PASS):
        with served(more) as (daemon, varnish):
            put(daemon, "/x", LARGE)
            put(daemon, "/empty", b"")
            etag = varnish.get("/x")["etag"]
            for text, (offset, count) in cases.items():
                answer = varnish.get("/x", range=text)
                assert answer.status == 206 and answer.body == LARGE[offset:offset + count], (text, answer)
                assert answer["content-range"] == f"bytes {offset}-{offset + count - 1}/{size}", (text, answer)
            answer = varnish.get("/x", range=f"bytes={size}-")
            assert (answer.status, answer["content-range"]) == (416, f"bytes */{size}"), answer
            assert varnish.get("/x", range="bytes=0-0", if_range='"other"').body == LARGE
            assert varnish.get("/x", range="bytes=0-0", if_range=etag).body == LARGE[:1]
            # Varnish's own check of responses would not survive what a 416 says of an empty body's length.
            assert varnish.get("/empty", range="bytes=-5").status in (200, 416)
            assert varnish.get("/empty", range="bytes=0-").status in (200, 416)
            head = varnish.ask("HEAD", "/x", {"Range": "bytes=0-0"})
            assert (head.status, head["content-range"], head.body) == (206, f"bytes 0-0/{size}", b""), head


def test_revalidation():
    """An object that Varnish has and that is no longer fresh: 304 when it is still the same, the new one otherwise."""
    more = """sub vcl_backend_response { set beresp.ttl = 1ms; set beresp.grace = 0s; set beresp.keep = 1h;
                                         if (beresp.was_304) { set beresp.http.was-304 = "yes"; } }"""
    with served(more) as (daemon, varnish):
        put(daemon, "/x", LARGE)
        assert varnish.get("/x")["was-304"] is None
        time.sleep(0.01)
        answer = varnish.get("/x")
        assert answer["was-304"] == "yes" and answer.body == LARGE, answer
        assert varnish.counters()["unmodified"] == 1
        put(daemon, "/x", SMALL)
        time.sleep(0.01)
        answer = varnish.get("/x")
        assert answer["was-304"] is None and answer.body == SMALL, answer


# ---- copies of an origin's responses ----


def test_copies():
    """Age and freshness; what is beyond its grace is not there."""
    with served(PASS) as (daemon, varnish):
        put(daemon, "/fresh", b"f", *copy_of(100, 1000))
        answer = varnish.get("/fresh")
        assert answer.status == 200 and 100 <= int(answer["age"]) <= 160, answer
        assert answer["etag"] is None and answer["last-modified"] is None, answer
        put(daemon, "/stale", b"s", *copy_of(100, 10, ":grace=1000"))
        assert varnish.get("/stale").status == 200
        put(daemon, "/dead", b"d", *copy_of(100, 10, ":grace=10", ":keep=1000"))
        assert varnish.get("/dead").status == 404
        counters = varnish.counters()
        assert (counters["hits"], counters["stale"], counters["misses"]) == (2, 1, 1), counters


def test_age_counts():
    """Varnish counts a copy's age on."""
    with served() as (daemon, varnish):
        put(daemon, "/x", b"f", "cache-control=max-age=1000", *copy_of(100, 1000))
        for _ in range(2):
            assert 100 <= int(varnish.get("/x")["age"]) <= 160
        wait_until(lambda: varnish.stat("MAIN.cache_hit") == 1, "it is counted")


def variant(path, hashed):
    return f"{path} {hashlib.sha256(hashed.encode()).hexdigest()}"


def test_variants():
    with served(PASS) as (daemon, varnish):
        put(daemon, "/x", b"", ":vary=accept-language,x-kind")
        put(daemon, variant("/x", "accept-language:de\nx-kind\n"), b"deutsch", "vary=Accept-Language, X-Kind")
        put(daemon, variant("/x", "accept-language:en, fr\nx-kind:\n"), b"english")
        answer = varnish.get("/x", accept_language=" de\t")
        assert (answer.body, answer["vary"]) == (b"deutsch", "Accept-Language, X-Kind"), answer
        assert varnish.get("/x", accept_language="fr").status == 404
        assert varnish.get("/x").status == 404
        connection = Unix(varnish.socket)
        connection.putrequest("GET", "/x")
        for field in (("Accept-Language", "en"), ("X-Kind", ""), ("accept-language", "fr")):
            connection.putheader(*field)
        connection.endheaders()
        assert connection.getresponse().read() == b"english"
        connection.close()
        put(daemon, variant("/x", "accept-language:it\nx-kind\n"), b"", ":vary=accept-language")
        assert varnish.get("/x", accept_language="it").status == 404
        put(daemon, "/bad", b"", ":vary=a,,b")
        assert varnish.get("/bad").status == 503


# ---- filters ----


def test_gzip_and_esi():
    more = """sub vcl_backend_response { if (beresp.http.content-type ~ "html") { set beresp.do_esi = true; }
                                         if (beresp.http.x-zip) { set beresp.do_gzip = true; } }"""
    text = b"0123456789" * 10000
    with served(more) as (daemon, varnish):
        put(daemon, "/zip", text, "x-zip=1", "content-type=text/plain")
        put(daemon, "/zipped", gzip.compress(text), "content-encoding=gzip", "content-type=text/plain")
        put(daemon, "/page", b'<p><esi:include src="/part"/></p>', "content-type=text/html")
        put(daemon, "/part", b"part", "content-type=text/plain")
        for path in ("/zip", "/zipped"):
            for _ in range(2):
                answer = varnish.get(path, accept_encoding="gzip")
                assert answer["content-encoding"] == "gzip" and gzip.decompress(answer.body) == text, answer
                answer = varnish.get(path)
                assert answer["content-encoding"] is None and answer.body == text, answer
        assert varnish.get("/page").body == b"<p>part</p>"


# ---- other ways to the client ----


def test_http2():
    """Fetched, from the cache and passed."""
    more = 'sub vcl_recv { if (req.url ~ "^/pass") { return (pass); } }'
    with served(more, options=["-p", "feature=+http2"]) as (daemon, varnish):
        for path, body in {"/empty": b"", "/small": SMALL, "/large": LARGE, "/pass-small": SMALL,
                           "/pass-large": LARGE}.items():
            put(daemon, path, body, ":status=203", "x-own=1")
            for _ in range(2):
                head, got = varnish.get_http2(path)
                assert head.startswith("HTTP/2 203") and "\r\nx-own: 1\r\n" in head and got == body, (path, head)
                assert f"\r\ncontent-length: {len(body)}\r\n" in head, (path, head)
        assert varnish.counters()["hits"] == 7, "the rest came from the cache"


def test_streams():
    """Clients have the first bytes while Varnish lacks the last ones, also one who comes later, and one who is passed."""
    more = "sub vcl_recv { if (req.http.pass) { return (pass); } }"
    with Daemon() as daemon:
        gate = daemon.base / "gate"
        gate.touch()
        with Varnish(vcl_of(daemon, more), options=["-p", f"fetch_maxchunksize={CHUNK}b"],
                     command=["env", f"LD_PRELOAD={build_path('tests/http/libgate.so')}", f"GATE={gate}"]) as varnish:
            put(daemon, "/x", LARGE)
            try:
                clients = []
                for fields in ({}, {}, {"pass": "1"}):
                    connection = Unix(varnish.socket)
                    connection.request("GET", "/x", headers=fields)
                    response = connection.getresponse()
                    assert (response.status, response.getheader("content-length")) == (200, str(len(LARGE)))
                    assert response.read(CHUNK) == LARGE[:CHUNK]
                    clients.append((connection, response))
                counters = varnish.counters()
                assert (counters["hits"], counters["bytes"]) == (2, 2 * CHUNK), counters
            finally:
                gate.unlink()
            for connection, response in clients:
                assert response.read() == LARGE[CHUNK:]
                connection.close()
            assert varnish.get("/x").body == LARGE
            counters = varnish.counters()
            assert (counters["hits"], counters["bytes"]) == (2, 2 * len(LARGE)), counters


# ---- an origin behind it ----


def test_or():
    with Origin() as origin, served(origin=origin) as (daemon, varnish):
        put(daemon, "/here", LARGE)
        put(daemon, "/not-here", b"", ":status=404")
        assert varnish.get("/here").body == LARGE
        assert varnish.get("/not-here").status == 404
        assert not origin.requests
        assert varnish.get("/elsewhere").body == b"from the origin"
        assert [path for _, path, _ in origin.requests] == ["/elsewhere"]
        counters = varnish.counters()
        assert (counters["hits"], counters["misses"]) == (2, 1), counters


def test_or_leaves_passes_alone():
    """What is between one client and the origin is not answered from objmapper."""
    with Origin() as origin, served(PASS, origin=origin) as (daemon, varnish):
        put(daemon, "/x", b"stored")
        for method in ("GET", "POST"):
            assert varnish.ask(method, "/x").body == b"from the origin"
        assert varnish.counters()["hits"] == 0


def test_or_pipes():
    more = "sub vcl_recv { return (pipe); } sub vcl_pipe { set bereq.backend = store.or(origin); }"
    with Origin() as origin, served(more, origin=origin) as (daemon, varnish):
        put(daemon, "/x", b"stored")
        assert varnish.get("/x", connection="close").body == b"from the origin"


def test_or_stale():
    """A stale copy is served while the origin is sick."""
    with Origin() as origin, served(origin=origin) as (daemon, varnish):
        put(daemon, "/x", b"stale", *copy_of(100, 10, ":grace=1000"))
        assert varnish.get("/x").body == b"from the origin"
        varnish.adm("ban", "req.url", "~", ".")
        varnish.adm("backend.set_health", "origin", "sick")
        answer = varnish.get("/x")
        assert answer.body == b"stale" and int(answer["age"]) >= 100, answer
        assert varnish.get("/y").status == 503


# ---- trouble ----


def test_daemon_down():
    """What Varnish has is served, the rest goes to the origin; and objmapper is asked again when it is back."""
    with Origin() as origin, served(origin=origin) as (daemon, varnish):
        put(daemon, "/held", b"held")
        put(daemon, "/later", b"later")
        assert varnish.get("/held").body == b"held"
        daemon.stop()
        daemon.close_listeners()
        assert varnish.get("/held").body == b"held"
        assert varnish.get("/new").body == b"from the origin"
        assert varnish.counters()["errors"] == 1
        daemon.listen()
        daemon.start()
        assert varnish.get("/later").body == b"later"


def test_daemon_restarts_under_load():
    """No request fails while it is restarted again and again."""
    more = "sub vcl_recv { return (pass); }"
    with served(more, arguments=", timeout=20s") as (daemon, varnish):
        put(daemon, "/x", LARGE)
        with Load(varnish, {"/x": [LARGE]}, clients=4) as load:
            load.restart(daemon, 5)
        assert not load.failed, (len(load.failed), load.failed[0], varnish.shown()[-3000:])


def test_daemon_hangs():
    """Each request waits at most as long as it may; soon none waits, and it is asked again when it answers."""
    with Origin() as origin, served(origin=origin, arguments=", timeout=300ms") as (daemon, varnish):
        put(daemon, "/x", b"stored")
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            for i in range(3):
                assert varnish.get(f"/{i}").body == b"from the origin"
            assert varnish.counters()["timeouts"] == 3
            wait_until(lambda: varnish.get(f"/{time.monotonic()}").body == b"from the origin" and
                       varnish.counters()["not_asked"] > 0, "it is not asked any more")
            assert "not asked, as it did not answer in time" in varnish.shown()
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)

        def found():
            varnish.adm("ban", "req.url", "~", ".")
            return varnish.get("/x").body == b"stored"

        wait_until(found, "it is asked again")


def test_aborted_clients():
    """They leave nothing open."""
    with served(PASS) as (daemon, varnish):
        put(daemon, "/huge", bytes_of(20 << 20))
        assert varnish.get("/huge").status == 200
        before = varnish.fds()
        for _ in range(10):
            connection = Unix(varnish.socket)
            connection.request("GET", "/huge")
            connection.getresponse().read(1000)
            connection.close()
        wait_until(lambda: varnish.fds() <= before, "descriptors are closed")
        assert varnish.get("/huge").status == 200


# ---- life of a VCL ----


def test_reloads():
    """Stores come and go with their VCLs, under load, without leaving anything behind."""
    with Origin() as origin, served(origin=origin) as (daemon, varnish):
        bodies = {f"/{i}": [bytes_of(30000, i)] for i in range(20)}
        for path, body in bodies.items():
            put(daemon, path, body[0])
        wait_until(lambda: varnish.get("/0").status == 200, "it serves")
        with Load(varnish, bodies, clients=1) as load:
            name = "boot"
            before = None
            for _ in range(8):
                new = varnish.load(vcl_of(daemon, origin=origin))
                varnish.adm("ban", "req.url", "~", ".")
                varnish.adm("vcl.discard", name)
                name = new
                before = before or varnish.fds()
        assert not load.failed, load.failed[0]
        # A worker that idles holds on to the VCL that it used last, with its store.
        wait_until(lambda: varnish.get("/0") and varnish.fds() <= before + 10, "descriptors are closed")


def test_cold():
    """A cold VCL keeps no connections, and serves again when it is warm."""
    with served() as (daemon, varnish):
        put(daemon, "/x", b"x")
        assert varnish.get("/x").status == 200
        assert varnish.counters()["connections"] == 1
        varnish.load(vcl_of(daemon))
        varnish.adm("vcl.state", "boot", "cold")
        # It is, once no worker holds on to it any more.
        wait_until(lambda: varnish.get("/y") and re.search(r"cold +cold +0 +boot", varnish.adm("vcl.list")), "cold")
        assert stats(daemon)["sessions"] == 2, "only that of the other VCL, and the one that asks"
        varnish.adm("vcl.state", "boot", "warm")
        varnish.adm("vcl.use", "boot")
        varnish.adm("ban", "req.url", "~", ".")
        assert varnish.get("/x").status == 200


def test_refusals():
    """What a VCL has wrong is said when it is loaded."""
    with served() as (daemon, varnish):
        for arguments, complaint in (('"relative"', "socket must be an absolute path"),
                                     (f'"/{"x" * 200}"', "no path of a socket can be this"),
                                     ('"/x", timeout=0s', "timeout must be between")):
            try:
                varnish.load(f"backend default none; sub vcl_init {{ new store = objmapper.store({arguments}); }}")
            except AssertionError as error:
                assert complaint in str(error), error
            else:
                raise AssertionError(f"{arguments} was taken")
        put(daemon, "/x", b"x")
        varnish.load(vcl_of(daemon, 'sub vcl_backend_response { store.set_uri("x"); }'))
        assert varnish.get("/x").status == 503
        assert "set_uri() is for vcl_backend_fetch" in varnish.shown()


def test_logs():
    with served() as (daemon, varnish):
        put(daemon, "/x", b"x")
        etag = varnish.get("/x")["etag"].strip('"')
        varnish.get("/y")
        shown = varnish.shown()
        assert f"objmapper store: found {etag} http://example.org/x" in shown, shown
        assert "objmapper store: miss http://example.org/y" in shown, shown


def test_manual():
    """vmod_objmapper(3)'s example, and what it says of counters."""
    page = (TOP / "man/vmod_objmapper.3.rst").read_text()
    (example,) = re.findall(r"^    vcl 4\.1;\n\n    import objmapper;\n(.*?)^\S", page, re.MULTILINE | re.DOTALL)
    with Origin() as origin, Daemon() as daemon:
        vcl = example.replace("objmapper.store(", f'objmapper.store("{daemon.reader}", publisher="{daemon.publisher}", ')
        vcl = vcl.replace("8080", str(origin.port)).replace('"localhost"', '"localhost"; "0.0.0.0"')
        with Varnish(vcl) as varnish:
            put(daemon, "/x", b"published", "cache-control=max-age=1000")
            assert varnish.get("/x").body == b"published"
            assert varnish.get("/y").body == b"from the origin"
            wait_until(lambda: b"/y" in daemon.ctl("ls").stdout, "it is stored")
            put(daemon, "/x", b"published anew", "cache-control=max-age=1000")
            assert varnish.get("/x").body == b"published"
            assert varnish.ask("PURGE", "/x").status == 200
            assert varnish.get("/x").body == b"from the origin"
            assert varnish.ask("BAN", "/").status == 200
            assert daemon.ctl("ls").stdout == b""
            counters = set(varnish.counters())
            shown = json.loads(varnish.tool("varnishstat", "-j", "-f", "OBJMAPPER_STORAGE.*"))["counters"]
            counters |= {name.rsplit(".", 1)[1] for name in shown}
    told = page.split("\nCOUNTERS\n")[1].split("\nLOG\n")[0]
    lines = re.findall(r"^\*\*[a-z_*, ]+$", told, re.MULTILINE)
    assert counters == {name for line in lines for name in re.findall(r"\w+", line)}, (counters, lines)


need_varnish()
tap.run(globals())
