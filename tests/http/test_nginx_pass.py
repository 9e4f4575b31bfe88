#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""objmapper_pass in the machine's nginx: what it serves, and where it leads what it can't serve."""

import contextlib
import email.utils
import gzip
import hashlib
import os
import re
import signal
import socket
import subprocess
import textwrap
import threading
import time

from nginx import TOP, Nginx, need_nginx, tls_client  # puts tests/lib and tests/integration on the path too
from client import Unix
from load import Load
from origin import Origin

import tap
from common import bytes_of, stats, wait_until
from daemon import Daemon, need

HOST = "http://example.org"
SMALL, LARGE = bytes_of(1000, 2), bytes_of(300_000, 3)
FALL_THROUGH = "error_page 404 405 502 504 = @origin;"


def put(daemon, path, body, *pairs, ttl=None, host=HOST):
    """An object: pairs of its metadata as "key=value"."""
    options = [option for pair in pairs for option in ("--meta", pair)] + (["--ttl", ttl] if ttl else [])
    daemon.ctl("put", host + path, *options, input=body)


def location(daemon, more="", path="/"):
    return f"location {path} {{ objmapper_pass unix:{daemon.reader}; {more} }}"


def at_origin(origin):
    return f"location @origin {{ proxy_pass http://127.0.0.1:{origin.port}; proxy_set_header Host $host; }}"


@contextlib.contextmanager
def served(more="", *, settings="", origin=None, **options):
    """A daemon, and an nginx whose "/" is passed to it; with an origin, what it can't answer goes there."""
    with Daemon(settings=settings) as daemon:
        server = location(daemon, more + (FALL_THROUGH if origin else "")) + (at_origin(origin) if origin else "")
        with Nginx(server=server, **options) as nginx:
            yield daemon, nginx


# ---- what is served ----

def test_bodies():
    """Of every size and way of delivery, with GET and HEAD."""
    bodies = {"/empty": b"", "/one": b"x", "/small": SMALL, "/inline": bytes_of(16384), "/file": LARGE,
              "/huge": bytes_of(100 << 20)}
    with served() as (daemon, nginx):
        for path, body in bodies.items():
            put(daemon, path, body)
            answer = nginx.get(path)
            assert (answer.status, answer.reason) == (200, "OK"), answer
            assert answer.body == body and answer["content-length"] == str(len(body)), path
            head = nginx.head(path)
            assert head.status == 200 and head.body == b"", head
            assert [field for field in head.fields if field[0] != "date"] == \
                   [field for field in answer.fields if field[0] != "date"]
        ways = [line.split("[")[2].split("]")[0] for line in nginx.access(12) if line.startswith("GET")]
        assert ways == ["memory"] * 4 + ["file"] * 2, ways


def test_status_and_fields():
    with served() as (daemon, nginx):
        put(daemon, "/a", b"gone", ":status=410 Long gone", "content-type=text/plain; charset=utf-8", "x-two=1",
            "x-two=2", "cache-control=max-age=5", "date=Mon, 01 Jan 2024 00:00:00 GMT", "server=elsewhere",
            "location=/relative", "connection=close", "transfer-encoding=chunked", "content-length=99",
            "keep-alive=x", "accept-ranges=bytes", "age=7", ":unknown=x", "internal/owner=me", "x-evil=a\r\nx-injected: b", "x-tab=a\tb")
        answer = nginx.get("/a")
        assert (answer.status, answer.reason, answer.body) == (410, "Long gone", b"gone"), answer
        assert answer["x-two"] == "1, 2" and answer["cache-control"] == "max-age=5"
        assert answer["content-type"] == "text/plain; charset=utf-8"
        assert answer["date"] == "Mon, 01 Jan 2024 00:00:00 GMT" and answer["server"] == "elsewhere"
        assert answer["location"] == "/relative" and answer["x-tab"] == "a\tb"
        put(daemon, "/ranges", b"some", "accept-ranges=bytes")
        assert nginx.get("/ranges")["accept-ranges"] == "bytes" and answer["accept-ranges"] is None
        assert answer["content-length"] == "4" and answer["connection"] == "keep-alive"  # that is nginx's own
        for name in ("transfer-encoding", "keep-alive", "age", ":unknown", "internal/owner", "x-evil", "x-injected"):
            assert answer[name] is None, name


def test_publishers_object():
    """It gets what it lacks: an ETag, a time, a type by its name."""
    with served() as (daemon, nginx):
        put(daemon, "/page.html", SMALL)
        answer = nginx.get("/page.html")
        etag = re.search(rb"etag\W+([0-9a-f-]+)", daemon.ctl("stat", HOST + "/page.html").stdout, re.IGNORECASE)
        assert answer["etag"] == f'"{etag[1].decode()}"', answer
        assert abs(email.utils.parsedate_to_datetime(answer["last-modified"]).timestamp() - time.time()) < 60
        assert answer["content-type"] == "text/html" and answer["age"] is None

        put(daemon, "/own.html", SMALL, 'etag="mine"', "last-modified=Mon, 01 Jan 2024 00:00:00 GMT",
            "content-type=image/png")
        answer = nginx.get("/own.html")
        assert answer["etag"] == '"mine"' and answer["last-modified"] == "Mon, 01 Jan 2024 00:00:00 GMT"
        assert answer["content-type"] == "image/png"


def test_copies():
    """A cache's copy: its Age, its end, and nothing added."""
    now = time.time()
    with served() as (daemon, nginx):
        put(daemon, "/fresh", SMALL, f":generated={now - 100:.6f}", ":ttl=1000")
        answer = nginx.get("/fresh")
        assert answer.status == 200 and answer.body == SMALL
        assert 100 <= int(answer["age"]) <= 160, answer
        assert answer["etag"] is None and answer["last-modified"] is None and answer["content-type"] is None

        put(daemon, "/stale", SMALL, f":generated={now - 100:.6f}", ":ttl=50", ":grace=1000")
        put(daemon, "/dead", SMALL, f":generated={now - 100:.6f}", ":ttl=50", ":grace=10")
        put(daemon, "/future", SMALL, f":generated={now + 1000:.6f}", ":ttl=50")
        assert nginx.get("/stale").status == 404 and nginx.get("/dead").status == 404
        assert nginx.get("/future")["age"] == "0"

        nginx.configure(server=location(daemon, "objmapper_stale on;"))
        nginx.reload()
        answer = nginx.get("/stale")
        assert answer.status == 200 and int(answer["age"]) >= 100, answer
        assert nginx.get("/dead").status == 404 and nginx.get("/fresh").status == 200
        assert nginx.statuses(7) == ["HIT", "EXPIRED", "EXPIRED", "HIT", "STALE", "EXPIRED", "HIT"]


def test_what_is_no_response():
    with Origin() as origin, served(origin=origin) as (daemon, nginx):
        for path, pairs in {"/half": [":generated=1"], "/half-too": [":ttl=5"], "/status": [":status=206"],
                            "/status-too": [":status=20x"], "/nan": [":generated=x", ":ttl=5"]}.items():
            put(daemon, path, SMALL, *pairs)
            assert nginx.get(path).body == b"from the origin", path
        assert nginx.statuses(5) == ["ERROR"] * 5


def test_variants():
    def variant(fields):
        lines = "".join(f"{name}:{value}\n" if value is not None else f"{name}\n" for name, value in fields)
        return f"/v {hashlib.sha256(lines.encode()).hexdigest()}"

    with Origin() as origin, served(origin=origin) as (daemon, nginx):
        put(daemon, "/v", b"", ":vary=accept-encoding,accept-language")
        put(daemon, variant([("accept-encoding", None), ("accept-language", "de")]), b"Deutsch", "vary=x")
        put(daemon, variant([("accept-encoding", "gzip, br"), ("accept-language", None)]), LARGE)
        put(daemon, variant([("accept-encoding", ""), ("accept-language", None)]), b"empty")
        put(daemon, variant([("accept-encoding", "loop"), ("accept-language", None)]), b"", ":vary=accept-language")
        answer = nginx.get("/v", Accept_Language=" de ")
        assert answer.body == b"Deutsch" and answer["vary"] == "x"
        assert nginx.get("/v", accept_encoding=["gzip", "br"]).body == LARGE
        assert nginx.get("/v", Accept_Encoding="").body == b"empty"
        assert nginx.head("/v", Accept_Language="de").status == 200
        assert nginx.get("/v").body == b"from the origin"
        assert nginx.get("/v", Accept_Encoding="loop").body == b"from the origin"
        put(daemon, "/bad", b"", ":vary=not a list")
        assert nginx.get("/bad").body == b"from the origin"


def test_ranges():
    with served() as (daemon, nginx):
        for path, body in (("/small", SMALL), ("/file", LARGE)):
            put(daemon, path, body, 'etag="v1"')
            answer = nginx.get(path, Range="bytes=10-19")
            assert answer.status == 206 and answer.body == body[10:20], answer
            assert answer["content-range"] == f"bytes 10-19/{len(body)}"
            assert nginx.get(path, Range="bytes=-7").body == body[-7:]
            assert nginx.get(path, Range=f"bytes={len(body) - 3}-").body == body[-3:]
            answer = nginx.get(path, Range=f"bytes={len(body)}-")
            assert answer.status == 416 and answer["content-range"] == f"bytes */{len(body)}", answer

            answer = nginx.get(path, Range="bytes=0-4,100-109,-5")
            assert answer.status == 206, answer
            boundary = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", answer["content-type"])[1].encode()
            parts = answer.body.split(b"--" + boundary)[1:-1]
            assert [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts] == \
                   [body[:5], body[100:110], body[-5:]]

            assert nginx.get(path, Range="bytes=0-4", If_Range='"v1"').body == body[:5]
            assert nginx.get(path, Range="bytes=0-4", If_Range='"v2"').body == body
            assert nginx.head(path, Range="bytes=0-4")["content-length"] == "5"


def test_conditions():
    with served() as (daemon, nginx):
        put(daemon, "/a", LARGE)
        first = nginx.get("/a")
        for fields in ({"If_None_Match": first["etag"]}, {"If_None_Match": f'"x", {first["etag"]}'},
                       {"If_Modified_Since": first["last-modified"]}):
            answer = nginx.get("/a", **fields)
            assert answer.status == 304 and answer.body == b"" and answer["etag"] == first["etag"], answer
            assert nginx.head("/a", **fields).status == 304
        assert nginx.get("/a", If_None_Match='"x"').body == LARGE
        assert nginx.get("/a", If_Match='"x"').status == 412
        assert nginx.get("/a", If_Match=first["etag"]).status == 200
        put(daemon, "/a", SMALL)
        assert nginx.get("/a", If_None_Match=first["etag"]).body == SMALL


def test_gzip():
    with served("gzip on; gzip_types *; gzip_min_length 1;") as (daemon, nginx):
        for path, body in (("/small.txt", SMALL), ("/file.txt", LARGE)):
            put(daemon, path, body)
            answer = nginx.get(path, Accept_Encoding="gzip")
            assert answer["content-encoding"] == "gzip" and gzip.decompress(answer.body) == body, answer
            assert answer["etag"].startswith('W/"') and nginx.get(path).body == body
        packed = gzip.compress(LARGE)
        put(daemon, "/packed", packed, "content-encoding=gzip", "content-type=text/plain")
        answer = nginx.get("/packed", Accept_Encoding="gzip")
        assert answer["content-encoding"] == "gzip" and answer.body == packed


def test_http2_and_tls():
    need("curl", "openssl")
    with served(tls=True) as (daemon, nginx):
        put(daemon, "/small", SMALL)
        put(daemon, "/file", LARGE)
        for path, body in (("/small", SMALL), ("/file", LARGE)):
            for options in (("--http2-prior-knowledge", "--unix-socket", nginx.base / "h2.sock", HOST + path),
                            ("--http2", "--insecure", "--unix-socket", nginx.base / "tls.sock",
                             "https://example.org" + path)):
                assert nginx.curl(*options) == body
                assert nginx.curl("--write-out", "%{http_version}", "--output", "/dev/null", *options) == b"2"
                assert nginx.curl("--range", "100-199", *options) == body[100:200]
                assert b"HTTP/2 200" in nginx.curl("--head", *options)
            client = tls_client(nginx)
            assert nginx.request("GET", path, connection=client).body == body
            client.close()
        assert set(nginx.statuses(18)) == {"HIT"}

        put(daemon, "/a", b"port", host="http://example.org:8080")
        for options in (("--http2-prior-knowledge", "--unix-socket", nginx.base / "h2.sock", "http://example.org:8080/a"),
                        ("--http2", "--insecure", "--unix-socket", nginx.base / "tls.sock", "https://example.org:8080/a")):
            assert nginx.curl(*options) == b"port"


def test_subrequests():
    with served("ssi on; ssi_types *;") as (daemon, nginx):
        put(daemon, "/page.html", b'<!--#include virtual="/one.txt" -->+<!--#include virtual="/none.txt" -->+'
                                  b'<!--#include virtual="/two.txt" -->')
        put(daemon, "/one.txt", LARGE)
        put(daemon, "/two.txt", b"")
        put(daemon, "/none.txt", SMALL)
        assert nginx.get("/page.html").body == LARGE + b"+" + SMALL + b"+"


# ---- keys ----

def test_key_by_rule():
    with served() as (daemon, nginx):
        put(daemon, "/a?b=%20c", b"plain")
        put(daemon, "/a", b"port", host="http://example.org:8080")
        assert nginx.request("GET", "/a?b=%20c", {"Host": "EXAMPLE.org:80"}).body == b"plain"
        assert nginx.request("GET", "http://Example.ORG/a?b=%20c", {"Host": "ignored"}).body == b"plain"
        assert nginx.request("GET", "/a", {"Host": "example.org:8080"}).body == b"port"
        assert nginx.request("GET", "http://example.org:8080/a", {"Host": "ignored"}).body == b"port"
        assert nginx.request("GET", "/a", {"Host": "example.org"}).status == 404
        with socket.socket(socket.AF_UNIX) as old:  # no Host at all: the server's name
            old.connect(str(nginx.http))
            old.sendall(b"GET /a?b=%20c HTTP/1.0\r\n\r\n")
            assert old.makefile("rb").read().endswith(b"plain")
        assert f"[{HOST}/a?b=%20c]" in nginx.access(1)[0]


def test_key_by_expression():
    with served("objmapper_key files$uri$is_args$args;") as (daemon, nginx):
        put(daemon, "/a", SMALL, host="files")
        assert nginx.get("/a").body == SMALL and nginx.get("/a?b").status == 404
        assert nginx.get("/%61").body == SMALL
        for path in ("/" + "a" * 4096, "/a%20b", "/a%7f"):  # can't be the URI of an object
            assert nginx.get(path).status == 404
        assert nginx.statuses(6) == ["HIT", "MISS", "HIT", "BYPASS", "BYPASS", "BYPASS"]


# ---- what can't be answered ----

def test_fall_through():
    with Origin() as origin, served(origin=origin) as (daemon, nginx):
        put(daemon, "/here", SMALL)
        assert nginx.get("/here").body == SMALL and not origin.requests
        answer = nginx.get("/missing")
        assert answer.status == 200 and answer.body == b"from the origin"
        assert nginx.head("/missing").status == 200
        answer = nginx.request("POST", "/here", body=b"a form")
        assert answer.body == b"from the origin" and origin.requests[-1][0] == "POST"
        put(daemon, "/not-found", b"kept", ":status=404")
        assert (nginx.get("/not-found").status, nginx.get("/not-found").body) == (404, b"kept")
        assert nginx.statuses(6) == ["HIT", "MISS", "MISS", "-", "HIT", "HIT"]
        put(daemon, "/short", SMALL, ttl="1ms")
        wait_until(lambda: nginx.get("/short").body == b"from the origin", "expired")
        wait_until(lambda: nginx.statuses(7)[-1] in ("EXPIRED", "MISS"), "it is logged")


def test_without_fall_through():
    with served("objmapper_timeout 200ms;") as (daemon, nginx):
        assert nginx.get("/missing").status == 404
        assert nginx.request("POST", "/missing", body=b"").status == 405
        daemon.pause()
        assert nginx.get("/missing").status == 504
        daemon.resume()
        daemon.stop()
        daemon.close_listeners()
        assert nginx.get("/missing").status == 502


def test_daemon_down():
    """Said once, and answered again as soon as it is back."""
    with Origin() as origin, served(origin=origin) as (daemon, nginx):
        put(daemon, "/a", LARGE)
        assert nginx.get("/a").body == LARGE
        daemon.stop()
        daemon.close_listeners()
        for _ in range(20):
            assert nginx.get("/a").body == b"from the origin"
        assert nginx.log().count("[error]") == 1 and daemon.reader in nginx.log(), nginx.log()
        daemon.listen()
        daemon.start()
        wait_until(lambda: nginx.get("/a").body == LARGE, "answered again")
        assert "answers again" in nginx.log()


def test_daemon_slow():
    """Bounded by the time-out, for many at once; what was late disturbs nobody."""
    with Origin() as origin, served("objmapper_timeout 300ms;", origin=origin) as (daemon, nginx):
        put(daemon, "/a", LARGE)
        assert nginx.get("/a").body == LARGE
        daemon.pause()
        bodies = []

        def fetch():
            bodies.append(nginx.get("/a").body)

        began = time.monotonic()
        threads = [threading.Thread(target=fetch) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bodies == [b"from the origin"] * 50
        assert time.monotonic() - began < 20
        daemon.resume()
        wait_until(lambda: nginx.get("/a").body == LARGE, "answered again")
        times = [float(line.split("[")[4].split("]")[0]) for line in nginx.access(52) if "[TIMEOUT]" in line]
        assert len(times) >= 50 and all(0.25 < seconds < 5 for seconds in times), times


def test_not_permitted():
    """The daemon refuses it to the workers: that is no miss, and is said."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root")
    settings = f"[Namespace closed]\nPrefix={HOST}/closed/\nReadUsers=root\n"
    with Origin() as origin, served(settings=settings, origin=origin, user="nobody nogroup") as (daemon, nginx):
        for path in (daemon.base, daemon.reader):
            os.chmod(path, 0o777)
        put(daemon, "/closed/a", SMALL)
        put(daemon, "/a", SMALL)
        assert nginx.get("/a").body == SMALL
        assert nginx.get("/closed/a").body == b"from the origin"
        assert nginx.statuses(2) == ["HIT", "ERROR"] and "not permitted" in nginx.log(), nginx.log()
        os.chmod(daemon.base, 0o700)
        nginx.reload()
        assert nginx.get("/a").body == b"from the origin"
        assert "not permitted to enter" in nginx.log(), nginx.log()


def test_failures_are_not_logged_one_by_one():
    """Also where others are answered in between."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root")
    settings = f"[Namespace closed]\nPrefix={HOST}/closed/\nReadUsers=root\n"
    with served(settings=settings, user="nobody nogroup") as (daemon, nginx):
        for path in (daemon.base, daemon.reader):
            os.chmod(path, 0o777)
        put(daemon, "/a", SMALL)
        for _ in range(50):
            assert nginx.get("/a").body == SMALL
            assert nginx.get("/closed/a").status == 502
        said = re.findall(r"\[(error|notice)\].*objmapper:.*", nginx.log(1 << 20))
        assert 1 <= said.count("error") <= 5 and said.count("notice") <= 5, said


def test_clients_that_leave():
    """While they wait, and in the middle of a body: nothing is left over."""
    with served("objmapper_timeout 60s;", http="objmapper_connections 1; objmapper_keep 0;") as (daemon, nginx):
        put(daemon, "/huge", bytes_of(20 << 20))
        put(daemon, "/small", SMALL)
        assert nginx.get("/small").body == SMALL
        wait_until(lambda: nginx.clients() == 0, "the first gone")
        before = nginx.fds()
        daemon.pause()
        waiting = []
        for path in ["/huge", "/small"] * 20:
            client = Unix(nginx.http)
            client.request("GET", path)
            waiting.append(client)
        wait_until(lambda: nginx.fds() >= before + len(waiting), "all accepted")
        for client in waiting:
            client.close()
        wait_until(lambda: nginx.fds() <= before, "given up")
        daemon.resume()
        for _ in range(40):
            client = Unix(nginx.http)
            client.request("GET", "/huge")
            response = client.getresponse()
            response.read(100_000)
            response.close()
            client.close()
        assert nginx.get("/small").body == SMALL
        wait_until(lambda: nginx.fds() <= before, "everything given back")


# ---- life ----

def test_pool():
    """Many requests travel on few connections, and several are used when they are many."""
    with Daemon() as daemon, Nginx(server=location(daemon), http="objmapper_connections 3;", workers=2) as nginx:
        put(daemon, "/a", SMALL)
        with Load(nginx, {"/a": [SMALL]}, clients=16) as load:
            load.wait(500)
        assert not load.failed, load.failed[:3]
        assert 1 <= stats(daemon)["sessions"] - 1 <= 2, stats(daemon)["sessions"]

        daemon.pause()
        waiting = []
        for _ in range(400):
            client = Unix(nginx.http)
            client.request("GET", "/a")
            waiting.append(client)
        daemon.resume()
        for client in waiting:
            assert client.getresponse().read() == SMALL
            client.close()
        assert 2 < stats(daemon)["sessions"] - 1 <= 6, stats(daemon)["sessions"]


def test_restarts_of_the_daemon():
    """Under load: every answer is right, none is a failure."""
    with Daemon() as daemon, Nginx(server=location(daemon, "objmapper_timeout 30s;"), workers=2) as nginx:
        bodies = {"/small": [SMALL], "/file": [LARGE]}
        for path, body in bodies.items():
            put(daemon, path, body[0])
        with Load(nginx, bodies) as load:
            for _ in range(5):
                load.wait(100)
                daemon.restart()
            load.wait(100)
        assert not load.failed, load.failed[:3]


def test_reloads_of_nginx():
    """Under load: the workers of before answer what they had begun, and leave."""
    with Daemon() as daemon, Nginx(server=location(daemon), workers=2) as nginx:
        bodies = {"/small": [SMALL], "/file": [LARGE]}
        for path, body in bodies.items():
            put(daemon, path, body[0])
        with Load(nginx, bodies) as load:
            for _ in range(5):
                load.wait(100)
                nginx.reload()
            load.wait(100)
        assert not load.failed, load.failed[:3]
        wait_until(lambda: stats(daemon)["sessions"] <= 1 + 2, "the sessions of the workers of before ended")


def test_sendfile():
    """A large body is sent from the descriptor that was passed, and read by nobody."""
    need("strace")
    with Daemon() as daemon:
        with Nginx(server=location(daemon)) as nginx:
            put(daemon, "/file", bytes_of(3_000_000))
            put(daemon, "/small", SMALL)
            assert nginx.get("/small").body == SMALL
            trace = nginx.base / "trace"
            with subprocess.Popen(["strace", "-f", "-o", trace, "-p", str(nginx.workers()[0])],
                                  stderr=subprocess.PIPE) as tracer:
                tracer.stderr.readline()  # attached
                for _ in range(2):
                    assert nginx.get("/file").body == bytes_of(3_000_000)
                wait_until(lambda: re.search(r"(close\((.|\n)*){2}", trace.read_text()), "traced")
                tracer.send_signal(signal.SIGINT)
            text = trace.read_text()
            passed = re.findall(r"recvmsg\(.*SCM_RIGHTS, cmsg_data=\[(\d+)\]", text)
            assert len(passed) == 1, text  # kept from the first to the second
            sent = re.findall(rf"sendfile\(\d+, {passed[0]}, .*\) = (\d+)", text)
            assert sum(map(int, sent)) == 2 * 3_000_000, text
            assert not re.search(rf"\b(p?read(64|v)?|mmap)\((.*, )?{passed[0]}, ", text), text


def test_what_is_kept():
    """It is confirmed by the daemon at each request, and bounded."""
    with Daemon() as daemon, Nginx(server=location(daemon), http="objmapper_keep 5;") as nginx:
        def confirmed():
            return stats(daemon)["replies_not_modified"]

        put(daemon, "/small", SMALL)
        put(daemon, "/file", LARGE)
        for path, body in (("/small", SMALL), ("/file", LARGE)):
            before = confirmed()
            for _ in range(3):
                assert nginx.get(path).body == body
            assert confirmed() == before + 2
            assert nginx.head(path)["content-length"] == str(len(body))
            daemon.ctl("set-meta", HOST + path, "x-new=1")
            assert nginx.get(path)["x-new"] == "1"
            put(daemon, path, body[::-1])
            assert nginx.get(path).body == body[::-1]
            daemon.restart()
            assert nginx.get(path).body == body[::-1]
            daemon.ctl("rm", HOST + path)
            assert nginx.get(path).status == 404
            put(daemon, path, body, ttl="1ms")
            wait_until(lambda path=path: nginx.get(path).status == 404, "expired")
            put(daemon, path, body)
            assert nginx.get(path).body == body
            daemon.ctl("purge", HOST + path)
            assert nginx.get(path).status == 404

        wait_until(lambda: nginx.clients() == 0, "all gone")
        before = nginx.fds()
        for i in range(50):
            put(daemon, f"/{i}", bytes_of(100_000, i))
            for _ in range(2):
                assert nginx.get(f"/{i}").body == bytes_of(100_000, i)
        wait_until(lambda: nginx.fds() <= before + 5, "no more kept than may be")
        with Load(nginx, {f"/{i}": [bytes_of(100_000, i)] for i in range(10)}, clients=8) as load:
            load.wait(500)
        assert not load.failed, load.failed[:3]
        wait_until(lambda: nginx.fds() <= before + 5, "no more kept than may be")

        nginx.configure(http="objmapper_keep 0;")
        nginx.reload()
        before = confirmed()
        for _ in range(2):
            assert nginx.get("/1").body == bytes_of(100_000, 1)
        assert confirmed() == before


def test_configuration_errors():
    with Daemon() as daemon, Nginx(server="") as nginx:
        for server, words in {
                "location / { objmapper_pass /run/x.sock; }": "needs a socket as unix:/path",
                "location / { objmapper_pass unix:x.sock; }": "needs a socket as unix:/path",
                f"location / {{ objmapper_pass unix:/{'x' * 108}; }}": "too long for a socket",
                "location / { objmapper_pass unix:/x; objmapper_pass unix:/x; }": "is duplicate",
                "objmapper_pass unix:/x;": "not allowed here",
        }.items():
            nginx.configure(server=server)
            said = nginx.check()
            assert said and words in said, (server, said)
        nginx.configure(server="", http="objmapper_connections 0;")
        assert "must be" in nginx.check()
        nginx.configure(http="", server=location(daemon, "if ($arg_x) { set $x 1; } limit_except GET { deny all; }"))
        assert nginx.check() is None
        nginx.reload()
        put(daemon, "/a?x=1", SMALL)
        assert nginx.get("/a?x=1").body == SMALL


def test_manual():
    """Its example, with this test's paths and ports."""
    page = (TOP / "man/ngx_http_objmapper_module.8.rst").read_text()
    text = textwrap.dedent(re.search(r"^    log_format(.|\n)*?^    }$", page, re.MULTILINE)[0])
    with Origin() as origin, Daemon() as daemon, Nginx(server="") as nginx:
        for there, here in {"/run/objmapper/objmapper.sock": daemon.reader,
                            "/run/objmapper/publish.sock": daemon.publisher, "127.0.0.1:8080": f"127.0.0.1:{origin.port}",
                            "/var/log/nginx/objmapper.log": f"{nginx.base}/example.log",
                            "listen 80;": f"listen unix:{nginx.base}/example.sock;"}.items():
            assert there in text, there
            text = text.replace(there, here)
        nginx.configure(http=text)
        nginx.reload()
        put(daemon, "/hello.txt", b"hello\n")

        def ask(path):
            client = Unix(nginx.base / "example.sock")
            return nginx.request("GET", path, connection=client).body

        assert ask("/hello.txt") == b"hello\n" and ask("/else") == b"from the origin"
        wait_until(lambda: len((nginx.base / "example.log").read_text().splitlines()) == 2, "logged")
        log = (nginx.base / "example.log").read_text()
        assert re.search(r'"GET /hello.txt HTTP/1.1" 200 6 HIT memory \d', log), log
        assert re.search(r'"GET /else HTTP/1.1" 200 15 MISS  ?\d', log) or "200 15 MISS - " in log, log


if __name__ == "__main__":
    need_nginx()
    tap.run(globals())
