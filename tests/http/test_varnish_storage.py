#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMOD's storage in the machine's Varnish: what is fetched is kept in objmapper, byte for byte, and lives on there."""

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import threading
import time

from varnish import Varnish, need_varnish  # puts tests/lib and tests/integration on the path too
from client import Unix
from load import Load
from origin import Origin

import tap
from common import blob_files, bytes_of, wait_until
from daemon import Daemon

HOST = "http://example.org"
SMALL, LARGE = bytes_of(1000, 2), bytes_of(300_000, 3)
CACHED = ("Cache-Control", "max-age=1000")


def vcl_of(daemon, origin, more="", *, arguments=""):
    """A VCL that keeps in objmapper what the origin answers, and serves what is there."""
    return f"""
backend origin {{ .host = "127.0.0.1"; .port = "{origin.port}"; }}
sub vcl_init {{
    new store = objmapper.store("{daemon.reader}", publisher="{daemon.publisher}"{arguments});
}}
sub vcl_backend_fetch {{ set bereq.backend = store.or(origin); }}
{more}
sub vcl_backend_response {{ set beresp.storage = store.storage(); }}
"""


@contextlib.contextmanager
def kept(more="", *, arguments="", settings="", options=(), command=()):
    with Origin() as origin, Daemon(settings=settings) as daemon, \
            Varnish(vcl_of(daemon, origin, more, arguments=arguments), options=options, command=command) as varnish:
        yield origin, daemon, varnish


def stored(daemon, path):
    """The body that objmapper has; None: there is no such object."""
    result = daemon.ctl("get", HOST + path, check=False)
    return result.stdout if result.returncode == 0 else None


def unpacked(daemon, path):
    """The body that objmapper has for clients that take gzip, unpacked."""
    body = stored(daemon, f"{path} {hashlib.sha256(b'accept-encoding:gzip' + bytes([10])).hexdigest()}") or \
        stored(daemon, path)
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


def wait_stored(daemon, path, body):
    """The client has its last byte before objmapper has."""
    wait_until(lambda: stored(daemon, path) == body, f"{path} is stored")


def uris(daemon, prefix=""):
    """Those of objects that are on the disk: what was put later is listed later."""
    return daemon.ctl("ls", prefix).stdout.decode().split("\n")[:-1]


def holdings(varnish):
    """What the storage counts."""
    counters = json.loads(varnish.tool("varnishstat", "-j", "-f", "OBJMAPPER_STORAGE.store.*"))["counters"]
    return {key.rsplit(".", 1)[1]: value["value"] for key, value in counters.items()}


def check(answer, status, fields, body):
    """That an answer is the origin's."""
    assert answer.status == status and answer.body == body, answer
    for name, value in fields:
        assert answer[name.lower()] == value, (name, answer)


def chunked(*pieces, pause=None):
    """A body of the origin's in chunks; pause: called after the first."""
    def write(handler):
        for i, piece in enumerate(pieces):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if i == 0 and pause:
                pause()
        handler.wfile.write(b"0\r\n\r\n")
    return write


CHUNKED = ("Transfer-Encoding", "chunked")

# ---- the same as the origin's, whatever the way ----


def test_bodies():
    """Of every size and form: while they are fetched, from Varnish, from objmapper, and after a restart without origin."""
    huge = bytes_of(100 << 20)
    fields = [CACHED, ("Content-Type", "text/x-test"), ("X-Own", "a, b"), ("ETag", '"1"'),
              ("Last-Modified", "Tue, 01 Jan 2019 00:00:00 GMT")]
    bodies = {"/empty": b"", "/one": b"x", "/small": SMALL, "/edge": bytes_of(65536), "/large": LARGE, "/huge": huge}
    with kept(options=["-s", "malloc,300m"]) as (origin, daemon, varnish):
        for path, body in bodies.items():
            origin.serve[path] = (200, fields, body)
        origin.serve["/chunked"] = (200, [*fields, CHUNKED], chunked(LARGE[:7], LARGE[7:100000], LARGE[100000:]))
        origin.serve["/none"] = (404, fields, b"not here")
        bodies |= {"/chunked": LARGE, "/none": b"not here"}
        for path, body in bodies.items():
            status = 404 if path == "/none" else 200
            for _ in range(2):
                check(varnish.get(path), status, fields, body)
            head = varnish.ask("HEAD", path)
            check(head, status, fields, b"")
            assert head["content-length"] == str(len(body)), head
            wait_stored(daemon, path, body)
        assert len(origin.requests) == len(bodies), "the second time each came from Varnish"
        wait_until(lambda: holdings(varnish)["mappings"] == 4, "what is large is mapped")
        held = holdings(varnish)
        assert held["mapped"] == 65536 + 2 * len(LARGE) + len(huge) and held["memory"] < 1 << 20, held
        assert held["stored"] == len(bodies) and held["failed"] == 0, held

        origin.stop()
        varnish.restart()
        for path, body in bodies.items():
            for _ in range(2):
                check(varnish.get(path), 404 if path == "/none" else 200, fields, body)
        held = holdings(varnish)
        assert held["stored"] == 0 and held["taken"] == 4, held
        assert held["mapped"] == 65536 + 2 * len(LARGE) + len(huge) and held["memory"] < 1 << 20, held


def test_ranges_and_conditions():
    fields = [CACHED, ("ETag", '"1"'), ("Last-Modified", "Tue, 01 Jan 2019 00:00:00 GMT")]
    with kept() as (origin, daemon, varnish):
        for path, body in {"/small": SMALL, "/large": LARGE}.items():
            origin.serve[path] = (200, fields, body)
            for wanted in ("bytes=5-9", "bytes=-10", f"bytes={len(body) - 3}-"):  # the first one is a miss
                answer = varnish.get(path, range=wanted)
                first, last = map(int, answer["content-range"].split(" ")[1].split("/")[0].split("-"))
                assert answer.status == 206 and answer.body == body[first:last + 1], (wanted, answer)
            wait_stored(daemon, path, body)
            assert varnish.get(path, range=f"bytes={len(body)}-").status == 416
            for condition in ({"if_none_match": '"1"'}, {"if_modified_since": fields[2][1]}):
                answer = varnish.get(path, **condition)
                assert (answer.status, answer.body) == (304, b""), answer
            assert varnish.get(path, if_none_match='"2"').body == body


def test_origin_says_unmodified():
    """What Varnish has kept and the origin confirms is stored anew, with its new freshness."""
    def answer(handler):
        handler.wfile.write(LARGE)

    more = "sub vcl_backend_response { set beresp.grace = 0s; set beresp.keep = 1h; }"
    with kept(more) as (origin, daemon, varnish):
        origin.serve["/x"] = (200, [("Cache-Control", "max-age=1"), ("ETag", '"1"'), ("X-Own", "old"),
                                    ("Content-Length", str(len(LARGE)))], answer)
        assert varnish.get("/x").body == LARGE
        wait_stored(daemon, "/x", LARGE)
        origin.serve["/x"] = (304, [("Cache-Control", "max-age=1000"), ("ETag", '"1"'), ("X-Own", "new")], b"")
        wait_until(lambda: varnish.get("/x")["x-own"] == "new", "it is fetched anew")
        assert varnish.get("/x").body == LARGE
        wait_until(lambda: holdings(varnish)["stored"] == 2, "it is stored anew")
        origin.stop()
        varnish.restart()
        check(varnish.get("/x"), 200, [("X-Own", "new")], LARGE)


def test_gzip_and_esi():
    more = """sub vcl_backend_response { if (beresp.http.content-type ~ "html") { set beresp.do_esi = true; }
                                         if (beresp.http.x-zip) { set beresp.do_gzip = true; }
                                         if (beresp.http.x-unzip) { set beresp.do_gunzip = true; } }"""
    text = b"".join(b"line %d\n" % i for i in range(100000))
    page = b"<p>" + text + b'<esi:include src="/part"/></p>'
    zipped = gzip.compress(text)
    html = [CACHED, ("Content-Type", "text/html")]
    with kept(more) as (origin, daemon, varnish):
        origin.serve |= {"/zip": (200, [CACHED, ("X-Zip", "1")], text),
                         "/zipped": (200, [CACHED, ("Content-Encoding", "gzip")], zipped),
                         "/unzip": (200, [CACHED, ("Content-Encoding", "gzip"), ("X-Unzip", "1")], zipped),
                         "/page": (200, html, page),
                         "/zipped-page": (200, [*html, ("Content-Encoding", "gzip")], gzip.compress(page)),
                         "/zip-page": (200, [*html, ("X-Zip", "1")], page),
                         "/part": (200, [CACHED], b"part")}
        wanted = {path: text for path in ("/zip", "/zipped", "/unzip")} | \
            {path: b"<p>" + text + b"part</p>" for path in ("/page", "/zipped-page", "/zip-page")}
        for restarted in (False, True):
            for path, body in wanted.items():
                for _ in range(2):
                    assert varnish.get(path).body == body, path
                    answer = varnish.get(path, accept_encoding="gzip")
                    plain = gzip.decompress(answer.body) if answer["content-encoding"] == "gzip" else answer.body
                    assert plain == body, path
            if not restarted:
                wait_until(lambda: holdings(varnish)["stored"] == 7, "all are stored")
                for path in wanted:
                    assert unpacked(daemon, path) == (page if "page" in path else text), path
                origin.stop()
                varnish.restart()
        held = holdings(varnish)
        assert held["stored"] == 0 and held["taken"] >= 3, held


def test_http2():
    with kept(options=["-p", "feature=+http2"]) as (origin, daemon, varnish):
        origin.serve["/x"] = (200, [CACHED, ("X-Own", "1")], LARGE)
        for _ in range(2):
            head, body = varnish.get_http2("/x")
            assert head.startswith("HTTP/2 200") and "x-own: 1" in head and body == LARGE, head
            wait_stored(daemon, "/x", LARGE)


def test_streams():
    """A client has the first bytes while the origin still holds back the last ones, also one who comes later."""
    go = threading.Event()
    with kept() as (origin, daemon, varnish):
        origin.serve["/x"] = (200, [CACHED, CHUNKED], chunked(LARGE[:100000], LARGE[100000:], pause=go.wait))
        try:
            clients = []
            for _ in range(3):
                connection = Unix(varnish.socket)
                connection.request("GET", "/x")
                response = connection.getresponse()
                assert response.read(100000) == LARGE[:100000]
                clients.append((connection, response))
            assert stored(daemon, "/x") is None
        finally:
            go.set()
        for connection, response in clients:
            assert response.read() == LARGE[100000:]
            connection.close()
        wait_stored(daemon, "/x", LARGE)
        assert len(origin.requests) == 1
        wait_until(lambda: holdings(varnish)["memory"] < 20000, "the memory of the fetch is given back")


def test_aborted_clients():
    """The fetch goes on without them, and what they hold of it is given back."""
    body = bytes_of(20 << 20)
    with kept() as (origin, daemon, varnish):
        for i in range(5):
            origin.serve[f"/{i}"] = (200, [CACHED], body)
            connection = Unix(varnish.socket)
            connection.request("GET", f"/{i}")
            connection.getresponse().read(1000)
            connection.close()
            wait_stored(daemon, f"/{i}", body)
        wait_until(lambda: holdings(varnish)["memory"] < 100000 and holdings(varnish)["mappings"] == 5, "all are mapped")


def test_aborted_origin():
    """Nothing of a response that breaks off stays behind."""
    def break_off(handler):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(LARGE), LARGE))
        handler.wfile.flush()
        time.sleep(0.1)
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    with kept() as (origin, daemon, varnish):
        origin.serve["/chunked"] = (200, [CACHED, CHUNKED], break_off)
        origin.serve["/length"] = (200, [CACHED, ("Content-Length", str(len(LARGE) * 2))], break_off)
        for path in ("/chunked", "/length"):
            for _ in range(3):
                try:
                    answer = varnish.get(path)
                    assert answer.status == 503, answer
                except (http.client.IncompleteRead, ConnectionError):
                    pass
        wait_until(lambda: holdings(varnish)["objects"] == 0, "Varnish gives them up")
        assert holdings(varnish)["memory"] == 0 and holdings(varnish)["mapped"] == 0
        assert uris(daemon) == [] and holdings(varnish)["stored"] == 0
        wait_until(lambda: blob_files(daemon) == 0, "nothing is left in the store")
        origin.serve["/length"] = (200, [CACHED], LARGE)
        assert varnish.get("/length").body == LARGE


# ---- what is stored, and what is not ----


def test_metadata():
    more = "sub vcl_backend_response { set beresp.ttl = 100s; set beresp.grace = 50s; set beresp.keep = 25s; }"
    with kept(more) as (origin, daemon, varnish):
        origin.serve["/x"] = (410, [("Age", "30"), ("Connection", "X-Hop"), ("X-Hop", "1"), ("Link", "<a>"), ("Link", "<b>"),
                                    ("Keep-Alive", "timeout=5")], b"gone")
        before = time.time()
        assert varnish.get("/x").status == 410
        wait_stored(daemon, "/x", b"gone")
        stat = daemon.ctl("stat", HOST + "/x").stdout.decode()
        pairs = dict(re.findall(r"(:[a-z]+)[=: ]+([^\n]*)", stat))
        assert ":status" in stat and "410 Gone" in stat and stat.count("<a>") == stat.count("<b>") == 1, stat
        assert "x-hop" not in stat and "keep-alive" not in stat and "\nage" not in stat, stat
        assert abs(float(pairs[":generated"]) - (before - 30)) < 20 and ":ttl" in pairs, pairs


def test_not_stored():
    """Passed, private, with cookies, authorised, of no time to live, and to other methods."""
    more = """sub vcl_recv { if (req.http.pass) { return (pass); } if (req.http.hash) { return (hash); } }
              sub vcl_backend_response { if (beresp.http.x-force) { set beresp.ttl = 100s; set beresp.uncacheable = false;
                                                                    set beresp.storage = store.storage();
                                                                    return (deliver); } }"""
    force = [CACHED, ("X-Force", "1")]
    with kept(more) as (origin, daemon, varnish):
        origin.serve |= {"/cookie": (200, [*force, ("Set-Cookie", "a=b")], SMALL),
                         "/private": (200, [("Cache-Control", "max-age=10, private"), force[1]], SMALL),
                         "/no-store": (200, [("Cache-Control", "no-store, max-age=10"), force[1]], SMALL),
                         "/star": (200, [*force, ("Vary", "Accept, *")], SMALL),
                         "/authorized": (200, [*force], SMALL),
                         "/public": (200, [("Cache-Control", "public, max-age=100"), force[1]], SMALL),
                         "/no-content": (204, [*force], b""),
                         "/zero": (200, [("Cache-Control", "max-age=0")], SMALL),
                         "/passed": (200, [CACHED], SMALL),
                         "/after": (200, [CACHED], SMALL)}
        for path in origin.serve:
            fields = {"/authorized": {"authorization": "x", "hash": "1"}, "/public": {"authorization": "x", "hash": "1"},
                      "/passed": {"pass": "1"}}.get(path, {})
            assert varnish.get(path, **fields).status in (200, 204), path
        assert varnish.ask("POST", "/posted", {}, b"x").status == 200
        wait_until(lambda: holdings(varnish)["stored"] == 2, "the others are stored")
        wait_until(lambda: len(uris(daemon)) == 2, "they are on the disk")
        assert sorted(uris(daemon)) == [HOST + "/after", HOST + "/public"], uris(daemon)
        assert holdings(varnish)["failed"] == 0
        assert "not stored, as it sets a cookie" in varnish.shown()


def test_not_written_back():
    """What came from objmapper stays as it is there, also what is said not to be there, and what fails."""
    with kept("sub vcl_backend_fetch { if (bereq.http.alone) { set bereq.backend = store.backend(); } }") as \
            (origin, daemon, varnish):
        daemon.ctl("put", HOST + "/published", "--meta", "cache-control=max-age=1000", "--meta", "internal/owner=me",
                   input=LARGE)
        before = daemon.ctl("stat", HOST + "/published").stdout
        assert varnish.get("/published").body == LARGE
        assert varnish.get("/nothing", alone="1").status == 404
        origin.stop()
        assert varnish.get("/failing").status == 503
        held = holdings(varnish)
        assert held["stored"] == held["failed"] == 0 and held["taken"] == 1, held
        after = daemon.ctl("stat", HOST + "/published").stdout
        assert [line for line in before.splitlines() if b"its" not in line and b"sed" not in line] == \
            [line for line in after.splitlines() if b"its" not in line and b"sed" not in line]
        assert uris(daemon) == [HOST + "/published"]


def test_variants():
    """They are found again by what the origin's Vary names; clients that can't take gzip get it unpacked."""
    with kept() as (origin, daemon, varnish):
        def answer(handler):
            body = b"in " + handler.headers.get("Accept-Language", "none").encode()
            handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

        origin.serve["/x"] = (200, [CACHED, CHUNKED, ("Vary", "Accept-Language, Accept-Encoding")], answer)
        wanted = {"de": b"in de", "fr": b"in fr"}
        for language, body in wanted.items():
            for _ in range(2):
                assert varnish.get("/x", accept_language=language).body == body
        assert varnish.get("/x").body == b"in none"
        wait_until(lambda: len(uris(daemon)) == 4, "an index and three variants")
        stat = daemon.ctl("stat", HOST + "/x").stdout.decode()
        assert "accept-encoding,accept-language" in stat, stat
        digest = hashlib.sha256(b"accept-encoding:gzip\naccept-language:de\n").hexdigest()
        assert stored(daemon, f"/x {digest}") == b"in de"

        origin.stop()
        varnish.restart()
        for language, body in wanted.items():
            answer = varnish.get("/x", accept_language=language)
            assert (answer.body, answer["vary"]) == (body, "Accept-Language, Accept-Encoding"), answer
        assert varnish.get("/x").body == b"in none"
        assert varnish.get("/x", accept_language="it").status == 503


def test_times_go_on():
    """Age and time to live after a restart, whatever the VCL says of new responses; grace while the origin is gone."""
    more = """sub vcl_backend_response { set beresp.storage = store.storage();
                                         set beresp.ttl = 1000s; set beresp.grace = 1h; return (deliver); }
              sub vcl_deliver { set resp.http.x-ttl = obj.ttl; set resp.http.x-grace = obj.grace; }"""
    with kept(more) as (origin, daemon, varnish):
        varnish.get("/x")
        wait_stored(daemon, "/x", b"from the origin")
        time.sleep(1.2)
        origin.stop()
        varnish.restart()
        answer = varnish.get("/x")
        assert float(answer["x-ttl"]) < 998.9 and int(answer["age"]) >= 1 and answer["x-grace"] == "3600.000", answer
        assert answer.body == b"from the origin"
        daemon.ctl("put", HOST + "/stale", "--meta", f":generated={time.time() - 100:.6f}", "--meta", ":ttl=10",
                   "--meta", ":grace=3600", input=SMALL)
        varnish.adm("backend.set_health", "origin", "sick")
        answer = varnish.get("/stale")
        assert answer.body == SMALL and int(answer["age"]) >= 100, answer


def test_many_fields():
    """More than an object's metadata takes: served, not stored."""
    with kept(options=["-p", "http_resp_hdr_len=40k", "-p", "http_resp_size=80k", "-p", "workspace_backend=256k",
                       "-p", "workspace_client=256k"]) as (origin, daemon, varnish):
        origin.serve["/x"] = (200, [CACHED, ("X-Long", "v" * 33000)], SMALL)
        assert varnish.get("/x").body == SMALL
        assert varnish.get("/x").body == SMALL
        wait_until(lambda: holdings(varnish)["failed"] == 1, "it is counted")
        assert uris(daemon) == []


# ---- trouble ----


def test_daemon_down():
    """Responses are served as ever, from memory; and stored again when it is back."""
    with kept() as (origin, daemon, varnish):
        for path in ("/small", "/large", "/later"):
            origin.serve[path] = (200, [CACHED], LARGE if path == "/large" else SMALL)
        daemon.stop()
        daemon.close_listeners()
        for _ in range(2):
            assert varnish.get("/small").body == SMALL
            assert varnish.get("/large").body == LARGE
        wait_until(lambda: holdings(varnish)["failed"] == 2, "they are counted")
        held = holdings(varnish)
        assert held["mapped"] == 0 and held["memory"] >= len(SMALL) + len(LARGE), held
        daemon.listen()
        daemon.start()
        assert varnish.get("/later").body == SMALL
        wait_stored(daemon, "/later", SMALL)
        assert varnish.get("/large").body == LARGE


def test_daemon_dies_in_the_middle():
    """The response goes on; the daemon's successor gets it whole."""
    go = threading.Event()
    body = bytes_of(3 << 20)
    with kept(arguments=", timeout=30s") as (origin, daemon, varnish):
        origin.serve["/x"] = (200, [CACHED, CHUNKED], chunked(body[:2 << 20], body[2 << 20:], pause=go.wait))
        try:
            connection = Unix(varnish.socket)
            connection.request("GET", "/x")
            response = connection.getresponse()
            assert response.read(1 << 20) == body[:1 << 20]
            daemon.kill()
            daemon.start()
        finally:
            go.set()
        assert response.read() == body[1 << 20:]
        connection.close()
        wait_stored(daemon, "/x", body)
        assert varnish.get("/x").body == body


def test_daemon_restarts_under_load():
    """No response fails, and none is wrong."""
    with kept(arguments=", timeout=20s") as (origin, daemon, varnish):
        bodies = {f"/{i}": [bytes_of(1000 + 20000 * i, i)] for i in range(20)}
        for path, body in bodies.items():
            origin.serve[path] = (200, [CACHED], body[0])
        with Load(varnish, bodies, clients=4) as load:
            load.restart(daemon, 6, before=lambda: varnish.adm("ban", "req.url", "~", "."))
        assert not load.failed, (len(load.failed), load.failed[0], varnish.shown()[-3000:])


def test_daemon_hangs():
    """Nobody waits longer than the timeout, and soon nobody waits."""
    with kept(arguments=", timeout=300ms") as (origin, daemon, varnish):
        go = threading.Event()
        origin.serve["/begun"] = (200, [CACHED, CHUNKED], chunked(LARGE, LARGE, pause=go.wait))
        connection = Unix(varnish.socket)
        connection.request("GET", "/begun")
        response = connection.getresponse()
        assert response.read(len(LARGE)) == LARGE
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            go.set()
            assert response.read() == LARGE
            connection.close()
            for i in range(10):
                assert varnish.get(f"/{i}").body == b"from the origin"
            wait_until(lambda: holdings(varnish)["failed"] == 11, "they are counted")
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)

        def again():
            path = f"/{time.monotonic()}"
            assert varnish.get(path).body == b"from the origin"
            time.sleep(0.1)
            return stored(daemon, path) is not None

        wait_until(again, "it is asked again")


class Relay:
    """Between a store and the readers' socket at path: answers to the first connection that asks are held until there
    is a second request."""

    def __init__(self, path, to):
        self.to, self.requests = to, 0
        self.first = None
        self.second = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near, far = self.listener.accept()[0], socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                far.connect(self.to)
                threading.Thread(target=self.ask, args=(near, far), daemon=True).start()
                threading.Thread(target=self.answer, args=(near, far), daemon=True).start()

    def ask(self, near, far):
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                self.requests += data.count(HOST.encode())
                if self.requests == 1:
                    self.first = self.first or near
                elif self.requests > 1:
                    self.second.set()
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def answer(self, near, far):
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if near is self.first:
                    self.second.wait()
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)

    def close(self):
        self.second.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_daemon_hangs_at_the_end():
    """When the time is over with the object put but not its index, nobody waits for that, and it is asked again."""
    with Origin() as origin, Daemon() as daemon:
        path = str(daemon.base / "relay.sock")
        relay = Relay(path, daemon.reader)
        try:
            with Varnish(f"""
                    backend origin {{ .host = "127.0.0.1"; .port = "{origin.port}"; }}
                    sub vcl_init {{
                        new store = objmapper.store("{path}", publisher="{daemon.publisher}", timeout=3s);
                    }}
                    sub vcl_backend_response {{ set beresp.storage = store.storage(); }}""") as varnish:
                origin.serve["/x"] = (200, [CACHED, ("Vary", "Accept-Language")], SMALL)
                assert varnish.get("/x", accept_language="de").body == SMALL
                wait_until(lambda: holdings(varnish)["stored"] + holdings(varnish)["failed"] == 1, "it is over")
                assert holdings(varnish)["stored"] == 1, varnish.shown()[-3000:]
                wait_until(lambda: len(uris(daemon)) == 2 and HOST + "/x" in uris(daemon), "both are on the disk")
                assert relay.requests == 2
        finally:
            relay.close()


def test_store_is_full():
    """What objmapper refuses is served from memory."""
    with kept(settings="[Store]\nMaxObjectSize=100K") as (origin, daemon, varnish):
        origin.serve["/large"] = (200, [CACHED], LARGE)
        for _ in range(3):
            assert varnish.get("/large").body == LARGE
        wait_until(lambda: holdings(varnish)["failed"] == 1, "it is counted")
        assert "not stored" in varnish.shown()


def test_no_memory():
    """What is used least goes; what alone is too much fails, and nothing else does."""
    with kept(arguments=", memory=4MB") as (origin, daemon, varnish):
        bodies = {f"/{i}": bytes_of(30000, i) for i in range(200)}
        for path, body in bodies.items():
            origin.serve[path] = (200, [CACHED], body)
        for path, body in bodies.items():
            assert varnish.get(path).body == body
        assert varnish.stat("MAIN.n_lru_nuked") > 50
        held = holdings(varnish)
        assert held["memory"] <= 4_000_000 * 1.05 and held["objects"] < 150, held
        # What Varnish's workers counted is added up when there is something to do.
        wait_until(lambda: varnish.get("/199").body and varnish.stat("MAIN.n_object") == holdings(varnish)["objects"],
                   "those that went are counted")
        for path, body in bodies.items():
            assert varnish.get(path).body == body
        assert len(origin.requests) == len(bodies), "what Varnish gave up is still in objmapper"

        origin.serve["/huge"] = (200, [CACHED], bytes_of(10 << 20))
        try:
            assert varnish.get("/huge").status == 503
        except http.client.IncompleteRead:
            pass
        assert varnish.get("/0").body == bodies["/0"]


def test_mappings_are_bounded():
    """By bytes: what is used least goes, and is found in objmapper again."""
    with kept(arguments=", mapped=2MB") as (origin, daemon, varnish):
        bodies = {f"/{i}": bytes_of(300_000, i) for i in range(30)}
        for path, body in bodies.items():
            origin.serve[path] = (200, [CACHED], body)
        for _ in range(2):
            for path, body in bodies.items():
                assert varnish.get(path).body == body
                wait_stored(daemon, path, body)
        held = holdings(varnish)
        assert held["mapped"] <= 2 << 20 and held["mappings"] <= 7, held
        assert len(origin.requests) == len(bodies)
        wait_until(lambda: varnish.stat("MAIN.n_object") == held["objects"], "those that went are counted")


# ---- invalidation ----

INVALIDATING = """
sub vcl_recv {
    if (req.method == "PURGE") {
        if (!store.purge()) { return (synth(503, "Not purged")); }
        return (purge);
    }
    if (req.method == "BAN") {
        if (!store.ban_prefix(req.url)) { return (synth(503, "Not banned")); }
        return (synth(200, "Banned"));
    }
}
"""


def test_purge():
    """One URL with all its variants: gone from both at once, and after a restart of either."""
    with kept(INVALIDATING) as (origin, daemon, varnish):
        for path in ("/x", "/xy", "/z"):
            origin.serve[path] = (200, [CACHED, ("Vary", "Accept-Language")], b"old " * 30000)
            for language in ("de", "fr"):
                assert varnish.get(path, accept_language=language).body == b"old " * 30000
        wait_until(lambda: len(uris(daemon)) == 9, "all are stored")
        for path in ("/x", "/xy", "/z"):
            origin.serve[path] = (200, [CACHED, ("Vary", "Accept-Language")], b"new")
        assert varnish.ask("PURGE", "/x", {"Host": "EXAMPLE.org:80"}).status == 200
        assert not [uri for uri in uris(daemon) if uri.split()[0] == HOST + "/x"], uris(daemon)
        varnish.ask("PURGE", "/x")  # the same under the name that Varnish hashes
        for language in ("de", "fr"):
            assert varnish.get("/x", accept_language=language).body == b"new"
        assert varnish.get("/xy", accept_language="de").body == b"old " * 30000
        varnish.ask("PURGE", "/z")
        daemon.kill()
        daemon.start()
        varnish.restart()
        assert varnish.get("/z", accept_language="de").body == b"new"
        assert varnish.get("/xy", accept_language="de").body == b"old " * 30000
        assert holdings(varnish)["invalidated"] == 0


def test_ban_prefix():
    with kept(INVALIDATING) as (origin, daemon, varnish):
        paths = ("/a/1", "/a/2", "/a.b/1", "/b/a/1")
        for path in paths:
            for host in ("example.org", "other.org"):
                assert varnish.get(path, host=host).body == b"from the origin"
        wait_until(lambda: len(uris(daemon)) == 8, "all are stored")
        for path in paths:
            origin.serve[path] = (200, [CACHED], b"new")
        assert varnish.ask("BAN", "/a/").status == 200
        for restarted in (False, True):
            for path in paths:
                for host in ("example.org", "other.org"):
                    banned = path.startswith("/a/") and host == "example.org"
                    assert varnish.get(path, host=host).body == (b"new" if banned else b"from the origin"), (path, host)
            if not restarted:
                varnish.restart()
        assert varnish.ask("BAN", "/a.").status == 200
        assert varnish.get("/a.b/1").body == b"new" and varnish.get("/b/a/1").body == b"from the origin"


def test_invalidation_of_what_is_fetched():
    """What was begun before an invalidation is not stored after it."""
    for method, path in (("PURGE", "/a/x"), ("BAN", "/a/")):
        go = threading.Event()
        with kept(INVALIDATING) as (origin, daemon, varnish):
            origin.serve["/a/x"] = (200, [CACHED, CHUNKED], chunked(LARGE, LARGE, pause=go.wait))
            connection = Unix(varnish.socket)
            try:
                connection.request("GET", "/a/x")
                response = connection.getresponse()
                assert response.read(len(LARGE)) == LARGE
                assert varnish.ask(method, path).status == 200
            finally:
                go.set()
            assert response.read() == LARGE
            connection.close()
            wait_until(lambda: holdings(varnish)["failed"] == 1, "it is given up")
            assert uris(daemon) == []
            origin.serve["/a/x"] = (200, [CACHED], b"new")
            assert varnish.get("/a/x").body == b"new"


def test_invalidation_without_daemon():
    """The VCL is told."""
    with kept(INVALIDATING) as (_, daemon, varnish):
        daemon.stop()
        daemon.close_listeners()
        assert varnish.ask("PURGE", "/x").status == 503
        assert varnish.ask("BAN", "/x").status == 503


# ---- life of a VCL ----


def test_objects_outlive_their_vcl():
    """Also the module does; a store of the same sockets finds their storage again."""
    with kept() as (origin, daemon, varnish):
        origin.serve["/x"] = (200, [CACHED], LARGE)
        assert varnish.get("/x").body == LARGE
        wait_stored(daemon, "/x", LARGE)
        varnish.load(f'backend origin {{ .host = "127.0.0.1"; .port = "{origin.port}"; }}')
        varnish.adm("vcl.discard", "boot")
        for _ in range(3):
            assert varnish.get("/x").body == LARGE
        varnish.load(vcl_of(daemon, origin, arguments=", memory=5MB"))
        assert holdings(varnish)["objects"] == 1
        varnish.adm("ban", "req.url", "~", ".")
        assert varnish.get("/x").body == LARGE
        wait_until(lambda: holdings(varnish)["objects"] == 1, "the banned one is freed")


def test_no_read_of_a_body():
    """Between objmapper and the client no byte of a body passes through a buffer of Varnish's."""
    log = "/var/tmp/objmapper-varnish-strace"
    with kept(command=["strace", "-D", "-f", "-qq", "-o", log, "-e", "trace=read,readv,pread64,preadv,recvfrom,recvmsg"]) as \
            (origin, daemon, varnish):
        origin.stop()
        body = bytes_of(4 << 20)
        daemon.ctl("put", HOST + "/x", "--meta", "cache-control=max-age=1000", input=body)
        for _ in range(2):
            assert varnish.get("/x").body == body
        assert holdings(varnish)["taken"] == 1
    sizes = [int(size) for size in re.findall(r" = (\d+)$", pathlib.Path(log).read_text(), re.MULTILINE)]
    os.unlink(log)
    assert sizes and max(sizes) < 1 << 20 and sum(size for size in sizes if size > 65536) < len(body), max(sizes)


need_varnish()
tap.run(globals())
