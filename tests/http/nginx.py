# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine's nginx with this build's module, in a folder of its own."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/lib"), str(TOP / "tests/integration")]

from client import DEADLINE_SECONDS, Answer, Unix  # noqa: E402  pylint: disable=wrong-import-position
from common import wait_until  # noqa: E402  pylint: disable=wrong-import-position
import tap  # noqa: E402  pylint: disable=wrong-import-position
from daemon import build_path  # noqa: E402  pylint: disable=wrong-import-position

MODULE = "src/http/nginx/ngx_http_objmapper_module.so"
# Debian puts it where only root's path leads.
PROGRAM = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

CONFIGURATION = """
daemon off;
{user}
worker_processes {workers};
error_log {base}/error.log info;
pid {base}/nginx.pid;
load_module {module};
events {{ worker_connections 4096; }}
http {{
    default_type application/octet-stream;
    types {{ text/html html; text/plain txt; }}
    log_format test '$request_method $request_uri $status [$objmapper_status] [$objmapper_body] '
                    '[$objmapper_key] [$objmapper_time] [$objmapper_store] $bytes_sent';
    access_log {base}/access.log test;
    client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
    uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
    sendfile on;
    {http}
    server {{
        listen unix:{base}/http.sock;
        listen 127.0.0.1:{port};
        listen unix:{base}/h2.sock http2;
        listen unix:{base}/tls.sock ssl http2;
        {tls}
        server_name example.org;
        {server}
    }}
}}
"""


def need_nginx():
    """Skips all when there is no nginx, or no module was built for it."""
    if not PROGRAM or not build_path(MODULE).exists():
        tap.skip_all("needs nginx, and nginx-dev when it is built")


def free_port():
    """None of those that the kernel gives to whoever asks for any, now or in a moment."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Nginx:
    """with Nginx(server="location / { … }") as nginx: nginx.get("/path")

    server and http: lines of the configuration. user: of its workers, where it is started as root. command: put before
    nginx."""

    def __init__(self, *, server, http="", workers=1, tls=False, user="root", command=()):
        self.settings = {"server": server, "http": http, "workers": workers}
        self.user = user if os.geteuid() == 0 else None
        self.tls = tls
        self.command = command
        self.process = None

    def __enter__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-nginx-", dir="/var/tmp"))
        self.http = self.base / "http.sock"
        self.port = free_port()
        if self.tls:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                            "/CN=example.org", "-keyout", self.base / "key.pem", "-out", self.base / "cert.pem"],
                           check=True, stdin=subprocess.DEVNULL, capture_output=True)
        self.configure()
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, error, *_):
        try:
            if self.process:
                self.process.send_signal(signal.SIGQUIT if not error else signal.SIGTERM)
                try:
                    status = self.process.wait(DEADLINE_SECONDS)
                finally:
                    self.process.kill()
                    self.process.wait()
                assert error or status == 0, f"nginx ended with {status}:\n{self.log()}"
                assert error or not self.complaints(), self.complaints()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def configure(self, **settings):
        """Writes the configuration; read at the next reload."""
        self.settings.update(settings)
        tls = (f"ssl_certificate {self.base}/cert.pem; ssl_certificate_key {self.base}/key.pem;" if self.tls else "")
        text = CONFIGURATION.format(base=self.base, module=build_path(MODULE), tls=tls, port=self.port,
                                    user=f"user {self.user};" if self.user else "", **self.settings)
        if not self.tls:
            text = text.replace(f"listen unix:{self.base}/tls.sock ssl http2;", "")
        (self.base / "nginx.conf").write_text(text)

    def arguments(self, *more):
        return [PROGRAM, "-p", str(self.base), "-c", str(self.base / "nginx.conf"), *more]

    def start(self):
        with open(self.base / "error.log", "ab") as log:
            self.process = subprocess.Popen([*self.command, *self.arguments()], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        wait_until(lambda: self.process.poll() is not None or self.is_up(), "nginx is up")
        if self.process.poll() is not None:
            self.process = None
            raise AssertionError(f"nginx ended:\n{self.log()}")

    def is_up(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return (self.base / "nginx.pid").read_text().endswith("\n")
        return False

    def check(self):
        """What "nginx -t" says to the configuration that was written, when it refuses it."""
        result = subprocess.run(self.arguments("-t"), check=False, capture_output=True, text=True, timeout=60)
        return result.stderr if result.returncode else None

    def reload(self):
        """Returns when the workers of before are gone."""
        before = self.workers()
        os.kill(self.master(), signal.SIGHUP)
        wait_until(lambda: not set(before) & set(self.workers()) and self.workers(), "new workers alone")

    def master(self):
        return int((self.base / "nginx.pid").read_text())

    def workers(self):
        master = self.master()
        children = pathlib.Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return [int(child) for child in children]

    def fds(self):
        """How many descriptors its workers have open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers())

    def clients(self):
        """How many connections there are to its socket for HTTP/1.1."""
        lines = [line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines()]
        return sum(line[-1] == str(self.http) and line[3] == "00000000" for line in lines)

    def log(self, size=8000):
        path = self.base / "error.log"
        return path.read_bytes()[-size:].decode(errors="replace") if path.exists() else ""

    def access(self, count):
        """The last lines of the access log, when there are count: a request is logged after it is answered."""
        lines = []

        def enough():
            lines[:] = (self.base / "access.log").read_text().splitlines()
            return len(lines) >= count

        wait_until(enough, f"{count} requests logged")
        return lines

    def statuses(self, count):
        """$objmapper_status of each request."""
        return [line.split("[")[1].split("]")[0] for line in self.access(count)]

    def complaints(self):
        """What no test is to provoke: bugs and leaks, in nginx's words."""
        return [line for line in self.log(1 << 20).splitlines()
                if any(f"[{level}]" in line for level in ("emerg", "alert", "crit"))]

    def request(self, method, path, headers=None, body=None, connection=None, chunks=()):
        """One request, with exactly these header fields beside Host. chunks: bytes that follow the header as they are."""
        client = connection or Unix(self.http)
        client.putrequest(method, path, skip_accept_encoding=True, skip_host="Host" in (headers or {}))
        for name, value in (headers or {}).items():
            for one in value if isinstance(value, list) else [value]:
                client.putheader(name, one)
        if body is not None:
            client.putheader("Content-Length", str(len(body)))
        client.endheaders(body)
        for chunk in chunks:
            client.send(chunk)
        answer = Answer(client.getresponse())
        if not connection:
            client.close()
        return answer

    def get(self, path, **headers):
        """A GET; header fields as keywords, with "_" for "-"."""
        return self.request("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})

    def head(self, path, **headers):
        return self.request("HEAD", path, {name.replace("_", "-"): value for name, value in headers.items()})

    def curl(self, *arguments):
        """curl's standard output: what it fetched."""
        return subprocess.run(["curl", "--silent", "--show-error", "--max-time", str(DEADLINE_SECONDS), *arguments],
                              check=True, capture_output=True).stdout


def tls_client(nginx):
    """HTTP/1.1 over TLS on the socket for it."""
    context = ssl.create_default_context(cafile=str(nginx.base / "cert.pem"))
    client = Unix(nginx.base / "tls.sock")
    client.connect()
    client.sock = context.wrap_socket(client.sock, server_hostname="example.org")
    return client
