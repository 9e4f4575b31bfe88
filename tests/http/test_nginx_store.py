#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""objmapper_store in the machine's nginx: what passes is kept, and served without the origin."""

import contextlib
import email.utils
import gzip
import http.client
import os
import signal
import threading
import time

from nginx import Nginx, need_nginx  # puts tests/lib and tests/integration on the path too
from client import Unix
from origin import Origin

import tap
from common import blob_files, bytes_of, wait_until
from daemon import Daemon, need

HOST = "http://example.org"
FRESH = ("Cache-Control", "max-age=1000")


def site(daemon, origin, more=""):
    return f"""
    location / {{
        objmapper_pass unix:{daemon.reader};
        error_page 404 405 502 504 = @origin;
    }}
    location @origin {{
        proxy_pass http://127.0.0.1:{origin.port};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        objmapper_store unix:{daemon.publisher};
        {more}
    }}"""


@contextlib.contextmanager
def cached(more="", **options):
    with Origin() as origin, Daemon() as daemon, Nginx(server=site(daemon, origin, more), **options) as nginx:
        yield origin, daemon, nginx


def keys(daemon):
    """Those of objects that are on the disk: what was put later is listed later."""
    return daemon.ctl("ls").stdout.decode().splitlines()


def has(daemon, path):
    return daemon.ctl("stat", HOST + path, check=False).returncode == 0


def wait_stored(daemon, path):
    wait_until(lambda: has(daemon, path), f"{path} stored")


def same(first, second):
    """What a client sees of a miss and of the hit after it, but for what changes by itself."""
    assert (first.status, first.reason, first.body) == (second.status, second.reason, second.body), (first, second)
    by_itself = ("age", "date", "server", "connection", "transfer-encoding", "content-length", "accept-ranges")
    assert sorted(f for f in first.fields if f[0] not in by_itself) == \
           sorted(f for f in second.fields if f[0] not in by_itself), (first, second)


def chunks(*parts):
    """A body of unknown length."""
    def write(handler):
        for part in parts:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")
    return write


def test_miss_and_hit():
    """The same from the origin and from objmapper, of every kind; and when both daemon and origin were away."""
    with cached() as (origin, daemon, nginx):
        text = ("Content-Type", "text/plain; charset=utf-8")
        origin.serve = {
            "/empty": (200, [FRESH], b""),
            "/one": (200, [FRESH, text], b"x"),
            "/small?a=b": (200, [FRESH, text, ("ETag", '"e"'), ("X-Two", "1"), ("X-Two", "2"),
                                 ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")], bytes_of(1000)),
            "/large": (200, [FRESH], bytes_of(100 << 20)),
            "/chunked": (200, [FRESH, ("Transfer-Encoding", "chunked")], chunks(b"abc", bytes_of(300_000), b"z")),
            "/gzip": (200, [FRESH, ("Content-Encoding", "gzip")], gzip.compress(bytes_of(100_000))),
            "/gone": (410, [FRESH, text], b"no more"),
            "/moved": (301, [FRESH, ("Location", "http://elsewhere/")], b""),
        }
        misses = {path: nginx.get(path) for path in origin.serve}
        for path in misses:
            wait_stored(daemon, path)
        asked = len(origin.requests)
        origin.serve = {}
        daemon.restart()
        nginx.reload()
        for path, miss in misses.items():
            hit = nginx.get(path)
            same(miss, hit)
            assert int(hit["age"]) <= 60
            head = nginx.head(path)
            assert head.status == hit.status and head["content-length"] == str(len(miss.body)), head
        assert len(origin.requests) == asked
        assert nginx.get("/large", Range="bytes=5-9").body == bytes_of(100 << 20)[5:10]
        assert nginx.get("/small?a=b", If_None_Match='"e"').status == 304


def test_what_is_not_kept():
    with cached() as (origin, daemon, nginx):
        origin.serve = {
            "/no-freshness": (200, [], b"x"),
            "/no-store": (200, [("Cache-Control", "max-age=9, no-store")], b"x"),
            "/private": (200, [("Cache-Control", 'max-age=9, private="x, y"')], b"x"),
            "/no-cache": (200, [("Cache-Control", "no-cache, max-age=9")], b"x"),
            "/cookie": (200, [FRESH, ("Set-Cookie", "a=b")], b"x"),
            "/vary-all": (200, [FRESH, ("Vary", "Accept, *")], b"x"),
            "/no-content": (204, [FRESH], b""),
            "/old": (200, [("Cache-Control", "max-age=10"), ("Age", "10")], b"x"),
            "/expired": (200, [("Expires", "0")], b"x"),
            "/shared": (200, [("Cache-Control", "max-age=1000, s-maxage=0")], b"x"),
        }
        for path in origin.serve:
            assert nginx.get(path).status in (200, 204), path
        origin.serve.update({path: (200, [FRESH], b"y") for path in ("/head", "/post", "/user", "/asked", "/last")})
        nginx.head("/head")
        nginx.request("POST", "/post", body=b"form")
        nginx.get("/user", Authorization="Basic x")
        nginx.get("/asked", Cache_Control="no-store")
        nginx.get("/last")
        wait_stored(daemon, "/last")
        wait_until(lambda: keys(daemon) == [HOST + "/last"], "the last alone is listed")

        origin.serve["/user"] = (200, [("Cache-Control", "public, max-age=9")], b"y")
        nginx.get("/user", Authorization="Basic x")
        wait_stored(daemon, "/user")


def test_requests_with_a_body():
    """The origin's answer may depend on it, and it is no part of the key."""
    with Origin() as origin, Daemon() as daemon:
        server = (f"location / {{ proxy_pass http://127.0.0.1:{origin.port}; proxy_set_header Host $host;"
                  f" objmapper_store unix:{daemon.publisher}; }}")
        with Nginx(server=server) as nginx:
            origin.serve.update({path: (200, [FRESH], b"x") for path in ("/a", "/b", "/last")})
            nginx.request("GET", "/a", body=b"what the answer may depend on")
            nginx.request("GET", "/b", {"Transfer-Encoding": "chunked"}, chunks=[b"3\r\nabc\r\n0\r\n\r\n"])
            nginx.get("/last")
            wait_stored(daemon, "/last")
            wait_until(lambda: keys(daemon) == [HOST + "/last"], "the last alone is listed")
            assert len(origin.requests) == 3


def test_freshness():
    def meta(path):
        wait_stored(daemon, path)
        return daemon.ctl("stat", HOST + path).stdout.decode()

    with cached("objmapper_store_valid 7s;") as (origin, daemon, nginx):
        now = time.time()
        origin.serve = {
            "/a": (200, [("Cache-Control", "s-maxage=50, max-age=5, stale-while-revalidate=9, stale-if-error=30"),
                         ("Age", "20")], b"x"),
            "/b": (200, [("Date", email.utils.formatdate(now, usegmt=True)),
                         ("Expires", email.utils.formatdate(now + 300, usegmt=True))], b"x"),
            "/c": (200, [], b"x"),
            "/d": (200, [("Connection", "X-Hop"), ("X-Hop", "1"), ("X-Accel-Expires", "3"), ("X-Kept", "2"), FRESH], b"x"),
            "/e": (302, [], b"x"),
            "/f": (200, [("Cache-Control", "max-age=50, stale-if-error=30, must-revalidate")], b"x"),
            "/g": (200, [("Cache-Control", "max-age=50, stale-if-error=30, proxy-revalidate")], b"x"),
        }
        for path in origin.serve:
            nginx.get(path)
        text = meta("/a")
        assert ":ttl" in text and "50" in text and ":grace" in text and "30" in text, text
        assert 20 <= int(nginx.get("/a")["age"]) <= 49
        assert "300" in meta("/b") and "7" in meta("/c")
        text = meta("/d").lower()
        assert "x-kept" in text and "x-hop" not in text and "x-accel" not in text, text
        assert ":grace" not in meta("/f") and ":grace" not in meta("/g")
        assert not has(daemon, "/e")  # a redirect for now says nothing about how long


def test_stale_when_the_origin_is_gone():
    with Origin() as origin, Daemon() as daemon:
        server = site(daemon, origin, "recursive_error_pages on; error_page 502 504 = @stale;") \
                 .replace("location / {", "location / { recursive_error_pages on;") + \
            f"location @stale {{ objmapper_pass unix:{daemon.reader}; objmapper_stale on; }}"
        with Nginx(server=server) as nginx:
            origin.serve["/a"] = (200, [("Cache-Control", "max-age=1, stale-if-error=1000")], b"kept")
            assert nginx.get("/a").body == b"kept"
            wait_stored(daemon, "/a")
            origin.stop()
            wait_until(lambda: nginx.get("/a")["age"] not in (None, "0"), "stale")
            answer = nginx.get("/a")
            assert answer.status == 200 and answer.body == b"kept", answer
            wait_until(lambda: "STALE" in nginx.statuses(1), "served stale")


def test_variants():
    with cached() as (origin, daemon, nginx):
        for language in ("de", "en"):
            origin.serve["/v"] = (200, [FRESH, ("Vary", "X-Other, Accept-Language"), ("Vary", "accept-language")],
                                  language.encode())
            assert nginx.get("/v", Accept_Language=language).body == language.encode()
            wait_until(lambda n=len(origin.requests): len(keys(daemon)) == n + 1, "variant and index stored")
        origin.serve = {}
        for language in ("de", "en"):
            assert nginx.get("/v", Accept_Language=language).body == language.encode()
        assert nginx.get("/v", Accept_Language="fr").body == b"from the origin"
        assert "accept-language,x-other" in daemon.ctl("stat", HOST + "/v").stdout.decode()
        daemon.ctl("purge", HOST + "/v")
        assert nginx.get("/v", Accept_Language="de").body == b"from the origin"


def test_origin_that_aborts():
    """Nothing half-stored."""
    with cached() as (origin, daemon, nginx):
        def too_short(handler):
            handler.wfile.write(bytes_of(600_000))
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(2)

        origin.serve["/length"] = (200, [FRESH, ("Content-Length", "1000000")], too_short)
        origin.serve["/chunked"] = (200, [FRESH, ("Transfer-Encoding", "chunked")],
                                    lambda handler: (handler.wfile.write(b"ff000\r\n"), too_short(handler)))
        for path in origin.serve:
            with contextlib.suppress(OSError, http.client.HTTPException):
                nginx.get(path)
        origin.serve = {"/whole": (200, [FRESH], b"x")}
        nginx.get("/whole")
        wait_stored(daemon, "/whole")
        wait_until(lambda: keys(daemon) == [HOST + "/whole"], "the whole one alone is listed")
        wait_until(lambda: blob_files(daemon) == 0, "nothing left over")


def test_client_that_aborts():
    with cached() as (origin, daemon, nginx):
        origin.serve["/large"] = (200, [FRESH], bytes_of(100 << 20))
        for _ in range(5):
            client = Unix(nginx.http)
            client.request("GET", "/large")
            response = client.getresponse()
            response.read(100_000)
            response.close()
            client.close()
        wait_until(lambda: blob_files(daemon) == 0, "given up")
        assert keys(daemon) == []
        assert nginx.get("/large").body == bytes_of(100 << 20)
        wait_stored(daemon, "/large")


def test_http2():
    need("curl")
    with cached() as (origin, daemon, nginx):
        body = bytes_of(20 << 20)
        origin.serve["/large"] = (200, [FRESH], body)
        for _ in range(2):
            assert nginx.curl("--http2-prior-knowledge", "--unix-socket", nginx.base / "h2.sock",
                              HOST + "/large") == body
            wait_stored(daemon, "/large")
            origin.serve = {}


def test_slow_client():
    """The body goes by way of nginx's temporary file."""
    with cached() as (origin, daemon, nginx):
        body = bytes_of(20 << 20)
        origin.serve["/large"] = (200, [FRESH], body)
        client = Unix(nginx.http)
        client.request("GET", "/large")
        response = client.getresponse()
        got = response.read(1000)
        wait_until(lambda: any("/t2/" in line for line in fd_targets(nginx)), "spilled")
        got += response.read()
        client.close()
        assert got == body
        wait_stored(daemon, "/large")
        origin.serve = {}
        assert nginx.get("/large").body == body


def test_reason_phrases():
    """What can't be an object's is left out."""
    def answer(reason):
        return lambda handler: handler.wfile.write(b"HTTP/1.1 200 " + reason + b"\r\nContent-Length: 1\r\n"
                                                   b"Cache-Control: max-age=1000\r\n\r\nx")
    with cached() as (origin, daemon, nginx):
        for path, reason, kept in (("/a", b"All right", "All right"), ("/b", b"A\x01B", "OK"), ("/c", b"", "OK")):
            origin.raw[path] = answer(reason)
            nginx.get(path)
            wait_stored(daemon, path)
            origin.raw.clear()
            hit = nginx.get(path)
            assert hit.body == b"x" and hit.reason == kept, hit


def fd_targets(nginx):
    targets = []
    for pid in nginx.workers():
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                targets.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return targets


def test_daemon_away():
    """Its trouble is none of the client's."""
    with cached("objmapper_timeout 500ms;", http="objmapper_timeout 500ms;") as (origin, daemon, nginx):
        body = bytes_of(20 << 20)
        origin.serve["/large"] = (200, [FRESH], body)
        daemon.pause()
        began = time.monotonic()
        assert nginx.get("/large").body == body
        assert time.monotonic() - began < 20
        daemon.resume()
        daemon.stop()
        daemon.close_listeners()
        assert nginx.get("/large").body == body
        daemon.listen()
        daemon.start()
        assert keys(daemon) == []
        assert nginx.get("/large").body == body
        wait_stored(daemon, "/large")
        before = nginx.fds()
        for i in range(30):
            origin.serve[f"/{i}"] = (200, [FRESH], bytes_of(100_000, i))
            nginx.get(f"/{i}")
            wait_stored(daemon, f"/{i}")
        wait_until(lambda: nginx.fds() <= before + 4, "nothing left open")


def test_reload_while_the_daemon_is_slow():
    """A worker that is to leave ends the response that waits for the daemon."""
    def in_two(handler):
        handler.wfile.write(body[:100_000])
        go_on.wait(60)
        for at in range(100_000, len(body), 1 << 16):  # no faster than the client, until that is slowed down
            handler.wfile.write(body[at:at + (1 << 16)])
            time.sleep(0.002)

    body, go_on = bytes_of(15 << 20), threading.Event()  # more than sockets hold
    with cached(http="objmapper_timeout 60s;") as (origin, daemon, nginx):
        origin.serve["/large"] = (200, [FRESH, ("Content-Length", str(len(body)))], in_two)
        (old,) = nginx.workers()
        client = Unix(nginx.http)
        client.request("GET", "/large")
        response = client.getresponse()
        got = response.read(50_000)
        wait_until(lambda: blob_files(daemon) > 0, "the put begun")
        daemon.pause()
        go_on.set()
        rest = []
        reader = threading.Thread(target=lambda: rest.append(response.read()))
        reader.start()
        time.sleep(2)  # it comes to wait for the daemon
        assert not rest
        os.kill(nginx.master(), signal.SIGHUP)
        wait_until(lambda: set(nginx.workers()) - {old}, "a new worker")
        time.sleep(0.5)  # the old one would leave now
        daemon.resume()
        reader.join()
        client.close()
        assert got + b"".join(rest) == body
        wait_until(lambda: old not in nginx.workers(), "the old one gone")


def test_more_than_the_daemon_takes():
    """What waits for it is bounded, by number and by size, and the responses are none the worse."""
    def puts():
        return sum("[PUT]" in line for line in nginx.access(1))

    with cached("proxy_max_temp_file_size 0;", http="objmapper_timeout 60s;") as (origin, daemon, nginx):
        daemon.stop()  # the sockets stay
        origin.serve = {f"/{i}": (200, [FRESH], b"x") for i in range(600)}
        connection = Unix(nginx.http)
        nginx.configure(server=site(daemon, origin, "proxy_max_temp_file_size 0;").replace(
            f"objmapper_pass unix:{daemon.reader};", "return 404;"))
        nginx.reload()
        for path in origin.serve:
            assert nginx.request("GET", path, connection=connection).body == b"x"
        connection.close()
        nginx.access(600)
        assert puts() == 512, puts()

        nginx.reload()  # they are forgotten
        body = bytes_of(900_000)
        origin.serve = {f"/large/{i}": (200, [FRESH], body) for i in range(60)}
        for path in origin.serve:
            assert nginx.get(path).body == body
        nginx.access(660)
        assert 512 + 30 <= puts() <= 512 + 45, puts()
        daemon.start()
        origin.serve["/last"] = (200, [FRESH], b"x")
        wait_until(lambda: nginx.get("/last") and has(daemon, "/last"), "stored again")


def test_configuration():
    with cached() as (_, daemon, nginx):
        for more, words in {"objmapper_store x;": "needs a socket", "objmapper_store_valid x;": "invalid value",
                            "objmapper_store off; objmapper_store off;": "is duplicate"}.items():
            nginx.configure(server=f"location / {{ {more} }}")
            said = nginx.check()
            assert said and words in said, (more, said)
        nginx.configure(server=f"objmapper_store unix:{daemon.publisher}; location / {{ objmapper_store off; }}")
        assert nginx.check() is None


if __name__ == "__main__":
    need_nginx()
    tap.run(globals())
