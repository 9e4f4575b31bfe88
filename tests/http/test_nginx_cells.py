#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each kind of request for each kind of response, by each protocol: what nginx answers on a miss, from a copy that
objmapper_store made, and from a publisher's object is what the origin itself answers."""

import contextlib
import gzip
import re
import subprocess
import threading

from nginx import Nginx, need_nginx  # puts tests/lib and tests/integration on the path too
from origin import Origin

import tap
from common import blob_files, bytes_of, wait_until
from daemon import DEADLINE_SECONDS, Daemon, need

HOST = "example.org"
PROTOCOLS = {
    "HTTP/1.1": ("http", "http.sock", "--http1.1"),
    "HTTP/2": ("http", "h2.sock", "--http2-prior-knowledge"),
    "HTTP/1.1 with TLS": ("https", "tls.sock", "--http1.1"),
    "HTTP/2 with TLS": ("https", "tls.sock", "--http2"),
}
FILES = {"/empty.bin": b"", "/one.bin": b"x", "/small.txt": bytes_of(1000, 2), "/large.bin": bytes_of(300_000, 3),
         "/zipped/file.txt": bytes_of(200_000, 5), "/chunked/page.html": bytes_of(100_000, 6).replace(b"<", b"-")}
RESPONSES = [*FILES, "/packed/file.txt", "/gone", "/moved"]
# What differs by protocol does not differ by response: these are asked for by all.
ALL_PROTOCOLS, FEW_PROTOCOLS = ("/small.txt", "/large.bin"), ("HTTP/1.1", "HTTP/2 with TLS")
HUGE = 100 << 20
ORIGIN = """
    root {root};
    add_header Cache-Control max-age=1000 always;
    add_header X-Two 1 always;
    add_header X-Two 2 always;
    location /chunked/ {{ ssi on; ssi_min_file_chunk 1; }}
    location /packed/ {{ gzip_static always; }}
    location /zipped/ {{ gzip on; gzip_vary on; gzip_min_length 1; gzip_types *; gzip_proxied any; gzip_http_version 1.0; }}
    location = /gone {{ return 410 "no more"; }}
    location = /moved {{ return 301 http://elsewhere/; }}
"""
SITE = """
    location / {{
        objmapper_pass unix:{reader};
        error_page 404 405 502 504 = @origin;
    }}
    location @origin {{
        proxy_pass http://127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        objmapper_store unix:{publisher};
        {more}
    }}"""
# What changes from answer to answer, or belongs to a connection.
BY_ITSELF = ("date", "age", "connection", "transfer-encoding")
# What a copy may have more: a length that the origin did not know, ranges that it does not offer.
OF_A_LENGTH = ("content-length", "accept-ranges")


def requests_for(whole):
    """Name, method and header fields of each kind of request; whole: what the origin answers to a GET."""
    ranges = {"the first byte": "0-0", "the middle": "10-19", "the end": "-5", "all but the beginning": "5-",
              "all": "0-", "several": "0-1,3-4,-2", "beyond": f"{len(whole.body)}-", "nonsense": "9-2"}
    yield "GET", "GET", {}
    yield "HEAD", "HEAD", {}
    yield "gzip welcome", "GET", {"Accept-Encoding": "gzip"}
    if whole.status != 200 or whole["accept-ranges"]:
        for name, value in ranges.items():
            yield name, "GET", {"Range": f"bytes={value}"}
        yield "HEAD of a range", "HEAD", {"Range": "bytes=0-0"}
        yield "If-Range of another", "GET", {"If-Range": '"x"', "Range": "bytes=0-1"}
    if whole.status == 200 and not whole["etag"]:
        return  # nginx compares what its filter then takes away
    yield "If-None-Match: *", "GET", {"If-None-Match": "*"}
    yield "If-None-Match of another", "GET", {"If-None-Match": '"x", W/"y"'}
    yield "If-Match of another", "GET", {"If-Match": '"x"'}
    yield "If-Modified-Since long ago", "GET", {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    yield "If-Unmodified-Since long ago", "GET", {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    if whole["etag"] and whole["accept-ranges"]:
        yield "If-Range", "GET", {"If-Range": whole["etag"], "Range": "bytes=0-1"}
    if whole["etag"]:
        yield "If-None-Match", "GET", {"If-None-Match": whole["etag"]}
        yield "If-None-Match with others", "HEAD", {"If-None-Match": f'"x", {whole["etag"]}'}
        yield "If-Match", "GET", {"If-Match": whole["etag"]}
    if whole["last-modified"]:
        yield "If-Modified-Since", "GET", {"If-Modified-Since": whole["last-modified"]}
    if whole["last-modified"] and whole["accept-ranges"]:
        yield "If-Range with a time", "GET", {"If-Range": whole["last-modified"], "Range": "bytes=0-1"}


class Fetched:
    """An answer as curl left it."""

    def __init__(self, head, body):
        blocks = head.read_bytes().decode("latin-1").strip().split("\r\n\r\n")
        line, *fields = blocks[-1].split("\r\n")
        self.status = int(line.split()[1])
        self.fields = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
        self.body = body.read_bytes() if body.exists() else b""

    def __getitem__(self, name):
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None

    def comparable(self, ignored):
        """With the boundary between several ranges, which is another each time, replaced."""
        fields = [field for field in self.fields if field[0] not in ignored]
        body = self.body
        boundary = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", self["content-type"] or "")
        if boundary:
            fields = [(name, value.replace(boundary[1], "*")) for name, value in fields]
            body = body.replace(boundary[1].encode(), b"*")
        if self.status in (412, 416):  # a page of nginx's own: what add_header adds there is never or twice
            fields = [field for field in fields if field[0].startswith("content-")]
        if self.status == 304:  # here nginx forgets gzip_vary
            fields = [field for field in fields if field[0] != "vary"]
        return self.status, sorted(fields), body


def curl_options(nginx, protocol, path):
    scheme, name, option = PROTOCOLS[protocol]
    return [option, "--insecure", "--unix-socket", str(nginx.base / name), f"{scheme}://{HOST}{path}"]


def fetch(nginx, protocol, requests):
    """Answers to requests, each a path, a method and header fields; on one connection where curl can do that."""
    folder = nginx.base / "fetched"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    commands = []
    for i, (path, method, fields) in enumerate(requests):
        options = [*curl_options(nginx, protocol, path), "--silent", "--show-error", "--max-time", str(DEADLINE_SECONDS),
                   "--dump-header", str(folder / f"{i}.head")]
        options += ["--head", "--output", "/dev/null"] if method == "HEAD" else ["--output", str(folder / f"{i}.body")]
        for name, value in fields.items():
            options += ["--header", f"{name}: {value}"]
        # curl 7.88 takes an old connection for one of HTTP/1.1 when it only knows that it is of HTTP/2.
        if commands and protocol != "HTTP/2":
            commands[-1] += ["--next", *options]
        else:
            commands.append(["curl", *options])
    for command in commands:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return [Fetched(folder / f"{i}.head", folder / f"{i}.body") for i in range(len(requests))]


def keys(daemon):
    return daemon.ctl("ls").stdout.decode().splitlines()


def wait_stored(daemon, path):
    wait_until(lambda: daemon.ctl("stat", f"http://{HOST}{path}", check=False).returncode == 0, f"{path} stored")


def publish(daemon, path, answer):
    pairs = [f":status={answer.status}"] + [f"{name}={value}" for name, value in answer.fields if name not in
                                            (*BY_ITSELF, *OF_A_LENGTH)]
    daemon.ctl("put", f"http://{HOST}{path}", *(option for pair in pairs for option in ("--meta", pair)),
               input=answer.body)


@contextlib.contextmanager
def site(port, more=""):
    with Daemon() as daemon:
        server = SITE.format(reader=daemon.reader, publisher=daemon.publisher, port=port, more=more)
        with Nginx(server=server, tls=True, http="objmapper_timeout 30s;") as nginx:
            yield daemon, nginx


@contextlib.contextmanager
def site_of_files():
    """An origin that is an nginx, so that it knows all of HTTP; and the nginx before it."""
    with Nginx(server="", tls=True) as origin:
        root = origin.base / "files"
        for path, body in FILES.items():
            file = root / path[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        (root / "packed").mkdir()
        (root / "packed/file.txt.gz").write_bytes(gzip.compress(bytes_of(100_000, 4)))
        origin.configure(server=ORIGIN.format(root=root))
        origin.reload()
        with site(origin.port) as (daemon, nginx):
            yield origin, daemon, nginx


def check(path, source, protocol, kinds, answers, expected, more=()):
    for (name, _, _), answer, right in zip(kinds, answers, expected):
        ignored = (*BY_ITSELF, *more, *(name for name in OF_A_LENGTH if right.status == 200 and not right[name]))
        got, wanted = answer.comparable(ignored), right.comparable(ignored)
        assert got == wanted, f"{path}, {name}, {source}, {protocol}:\n{got[:2]}\n{wanted[:2]}\n" \
                              f"{len(got[2])} and {len(wanted[2])} bytes"


def check_response(path, protocol, origin, daemon, nginx):
    (whole,) = fetch(origin, protocol, [(path, "GET", {})])
    kinds = list(requests_for(whole))
    expected = fetch(origin, protocol, [(path, method, fields) for _, method, fields in kinds])

    # A miss each, as each has a query of its own, which the origin ignores.
    tag = re.sub(r"\W", "", protocol)
    answers = fetch(nginx, protocol, [(f"{path}?{tag}{i}", method, fields)
                                      for i, (_, method, fields) in enumerate(kinds)])
    check(path, "miss", protocol, kinds, answers, expected)

    # A copy of each variant that there is.
    copy = f"{path}?{tag}0"
    wait_stored(daemon, copy)
    fetch(nginx, protocol, [(copy, "GET", {"Accept-Encoding": "gzip"})])
    if whole["vary"]:
        wait_until(lambda: sum(key.startswith(f"http://{HOST}{copy} ") for key in keys(daemon)) == 2, "both stored")
    answers = fetch(nginx, protocol, [(copy, method, fields) for _, method, fields in kinds])
    check(path, "hit", protocol, kinds, answers, expected)
    for (name, _, _), answer in zip(kinds, answers):
        assert answer["age"] is not None or answer.status == 412, f"{path}, {name}, {protocol}: not from objmapper: {answer.fields}"

    if whole["vary"]:
        return
    published = f"{path}?{tag}published"
    publish(daemon, published, whole)
    answers = fetch(nginx, protocol, [(published, method, fields) for _, method, fields in kinds])
    check(path, "published", protocol, kinds, answers, expected,
          more=[name for name in ("etag", "last-modified") if not whole[name]])
    assert all(answer["age"] is None for answer in answers)


def test_every_cell():
    with site_of_files() as (origin, daemon, nginx):
        for path in RESPONSES:
            for protocol in PROTOCOLS if path in ALL_PROTOCOLS else FEW_PROTOCOLS:
                check_response(path, protocol, origin, daemon, nginx)


def test_huge():
    with Nginx(server="") as origin, site(origin.port) as (daemon, nginx):
        body = bytes_of(HUGE)
        (origin.base / "huge").write_bytes(body)
        origin.configure(server=f"root {origin.base}; add_header Cache-Control max-age=1000;")
        origin.reload()
        for protocol in FEW_PROTOCOLS:
            path = "/huge?" + re.sub(r"\W", "", protocol)
            (miss,) = fetch(nginx, protocol, [(path, "GET", {})])
            wait_stored(daemon, path)
            hit, part, head = fetch(nginx, protocol, [(path, "GET", {}), (path, "GET", {"Range": "bytes=-1000000"}),
                                                      (path, "HEAD", {})])
            assert miss.body == hit.body == body and part.body == body[-1_000_000:], protocol
            assert part.status == 206 and head["content-length"] == str(HUGE) and hit["age"] is not None, protocol


@contextlib.contextmanager
def site_of_functions():
    """An origin whose answers a test writes."""
    with Origin() as origin, site(origin.port) as (daemon, nginx):
        yield origin, daemon, nginx


def test_streaming():
    """The client has what the origin has sent, while more is to come; and nothing is stored until it came."""
    first, second = bytes_of(100_000, 1), bytes_of(100_000, 2)

    def trickle(handler):
        chunked = "/chunked" in handler.path
        for part in (first, second):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            if part is first:
                go_on.wait(DEADLINE_SECONDS)
        handler.wfile.write(b"0\r\n\r\n" if chunked else b"")

    length = {"/length": ("Content-Length", "200000"), "/chunked": ("Transfer-Encoding", "chunked")}
    with site_of_functions() as (origin, daemon, nginx):
        for protocol in PROTOCOLS:
            for start, field in length.items():
                path, go_on = f"{start}?{re.sub(r'[^A-Z0-9]', '', protocol)}", threading.Event()
                origin.serve[path] = (200, [("Cache-Control", "max-age=1000"), field], trickle)
                with subprocess.Popen(["curl", "--silent", "--no-buffer", *curl_options(nginx, protocol, path)],
                                      stdout=subprocess.PIPE) as client:
                    assert client.stdout.read(90_000) == first[:90_000], protocol
                    assert daemon.ctl("stat", f"http://{HOST}{path}", check=False).returncode != 0
                    go_on.set()
                    assert client.stdout.read() == (first + second)[90_000:], protocol
                assert client.returncode == 0
                wait_stored(daemon, path)
                (hit,) = fetch(nginx, protocol, [(path, "GET", {})])
                assert hit.body == first + second and hit["age"] is not None, protocol


def test_origins_that_abort():
    """The client learns of it, and nothing is half-stored."""
    def abort(handler):
        handler.wfile.write((b"80000\r\n" if "/chunked" in handler.path else b"") + bytes_of(300_000))
        handler.close_connection = True
        handler.connection.shutdown(2)

    with site_of_functions() as (origin, daemon, nginx):
        for protocol in PROTOCOLS:
            for start, field in {"/length": ("Content-Length", "600000"),
                                 "/chunked": ("Transfer-Encoding", "chunked")}.items():
                path = f"{start}?{re.sub(r'[^A-Z0-9]', '', protocol)}"
                origin.serve[path] = (200, [("Cache-Control", "max-age=1000"), field], abort)
                result = subprocess.run(["curl", "--silent", *curl_options(nginx, protocol, path)], check=False,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
                assert result.returncode != 0 and bytes_of(300_000).startswith(result.stdout), protocol
        wait_until(lambda: blob_files(daemon) == 0, "nothing left over")
        assert keys(daemon) == []


def leave(nginx, protocol, path):
    """A client that is gone after the first bytes."""
    with subprocess.Popen(["curl", "--silent", "--no-buffer", *curl_options(nginx, protocol, path)],
                          stdout=subprocess.PIPE) as client:
        assert client.stdout.read(1000) == bytes_of(1000)
        client.kill()


def test_clients_that_abort():
    """On a miss nothing is half-stored, on a hit nothing is left open."""
    body = bytes_of(20 << 20)
    with site_of_functions() as (origin, daemon, nginx):
        origin.serve["/large"] = (200, [("Cache-Control", "max-age=1000")], body)
        for protocol in PROTOCOLS:
            leave(nginx, protocol, "/large")
        wait_until(lambda: blob_files(daemon) == 0, "nothing left over")
        assert keys(daemon) == []

        daemon.ctl("put", f"http://{HOST}/published", input=body)
        (whole,) = fetch(nginx, "HTTP/1.1", [("/published", "GET", {})])
        assert whole.body == body
        wait_until(lambda: nginx.clients() == 0, "the first gone")
        before = nginx.fds()
        for protocol in PROTOCOLS:
            for _ in range(5):
                leave(nginx, protocol, "/published")
        wait_until(lambda: nginx.fds() <= before, "everything given back")


def test_purged():
    """What is removed, or purged by prefix, is gone at once, and still after either has been started again."""
    def ask(path):
        return {fetch(nginx, protocol, [(path, "GET", {"Accept-Language": "de"})])[0].body for protocol in PROTOCOLS}

    with site_of_functions() as (origin, daemon, nginx):
        for path, fields in {"/a/one": [], "/a/two": [], "/a/varies": [("Vary", "Accept-Language")], "/b": []}.items():
            origin.serve[path] = (200, [("Cache-Control", "max-age=1000"), *fields], b"old")
            assert ask(path) == {b"old"}
            wait_stored(daemon, path)
        for path in list(origin.serve):
            origin.serve[path] = (200, [("Cache-Control", "no-store")], b"new")
            assert ask(path) == {b"old"}, path
        daemon.ctl("rm", f"http://{HOST}/a/one")
        assert ask("/a/one") == {b"new"} and ask("/a/two") == {b"old"} and ask("/b") == {b"old"}
        daemon.ctl("purge", f"http://{HOST}/a/")
        for restart in (lambda: None, daemon.restart, nginx.reload):
            restart()
            assert all(ask(path) == {b"new"} for path in ("/a/one", "/a/two", "/a/varies"))
            assert ask("/b") == {b"old"}


def test_with_threads():
    """Bodies read by nginx's threads, and without sendfile, are the same."""
    body = bytes_of(3_000_000)
    for how in ("aio threads;", "sendfile off;", "sendfile off; aio threads; output_buffers 2 32k;"):
        with Daemon() as daemon, Nginx(server=f"location / {{ objmapper_pass unix:{daemon.reader}; {how} }}",
                                       tls=True) as nginx:
            daemon.ctl("put", f"http://{HOST}/file", input=body)
            for protocol in PROTOCOLS:
                whole, part = fetch(nginx, protocol, [("/file", "GET", {}), ("/file", "GET", {"Range": "bytes=9-99999"})])
                assert whole.body == body and part.body == body[9:100_000], (how, protocol)


if __name__ == "__main__":
    need_nginx()
    need("curl", "openssl")
    tap.run(globals())
