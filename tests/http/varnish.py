# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine's varnishd with this build's VMOD, in a folder of its own."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/lib"), str(TOP / "tests/integration")]

from common import wait_until  # noqa: E402  pylint: disable=wrong-import-position
import tap  # noqa: E402  pylint: disable=wrong-import-position
from client import DEADLINE_SECONDS, Answer, Unix  # noqa: E402  pylint: disable=wrong-import-position
from daemon import build_path  # noqa: E402  pylint: disable=wrong-import-position

MODULE = "src/http/varnish/libvmod_objmapper.so"
# Debian puts it where only root's path leads.
PROGRAM = shutil.which("varnishd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def need_varnish():
    """Skips all when there is no Varnish, or no VMOD was built for it."""
    if not PROGRAM or not build_path(MODULE).exists():
        tap.skip_all("needs varnish, and libvarnishapi-dev when it is built")


class Varnish:
    """with Varnish(vcl) as varnish: varnish.get("/path")

    vcl: without its first line and without the import. options: of varnishd. command: put before varnishd."""

    def __init__(self, vcl, *, options=(), command=()):
        self.vcl = vcl
        self.options = options
        self.command = command
        self.process = None
        self.loaded = 0

    def __enter__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-varnish-", dir="/var/tmp"))
        self.base.chmod(0o755)
        self.socket = self.base / "http.sock"
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, error, *_):
        try:
            if self.process:
                panic = "" if error else self.adm("panic.show", check=False)
                self.stop()
                assert error or "Panic at" not in panic, panic
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def write_vcl(self, vcl):
        path = self.base / f"{self.loaded}.vcl"
        path.write_text(f'vcl 4.1;\nimport objmapper from "{build_path(MODULE)}";\n{vcl}\n')
        self.loaded += 1
        return path

    def start(self):
        path = self.write_vcl(self.vcl)
        self.socket.unlink(missing_ok=True)
        jail = ["-j", "none"] if os.geteuid() == 0 else []
        with open(self.base / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, PROGRAM, "-F", *jail, "-n", self.base / "work", "-a", self.socket, "-f", path,
                 "-p", "vsl_space=4M", "-p", "thread_pool_min=20", *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.is_up, "varnishd is up")

    def is_up(self):
        assert self.process.poll() is None, self.log()
        return "Child in state running" in self.adm("status", check=False)

    def stop(self):
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE_SECONDS)
        finally:
            process.kill()
            process.wait()

    def restart(self):
        self.stop()
        self.start()

    def log(self):
        return (self.base / "log").read_text(errors="replace")[-4000:]

    def tool(self, name, *arguments, check=True):
        result = subprocess.run([name, "-n", self.base / "work", *arguments], check=False, capture_output=True,
                                text=True, timeout=DEADLINE_SECONDS, stdin=subprocess.DEVNULL)
        if check and result.returncode != 0:
            raise AssertionError(f"{name} {arguments}: {result.stdout}{result.stderr}\n{self.log()}")
        return result.stdout

    def adm(self, *command, check=True):
        """A command of varnishd's command line."""
        return self.tool("varnishadm", *command, check=check)

    def load(self, vcl):
        """Loads a VCL and uses it. Its name; an AssertionError tells why it was refused."""
        path = self.write_vcl(vcl)
        name = f"vcl{self.loaded}"
        self.adm("vcl.load", name, str(path))
        self.adm("vcl.use", name)
        return name

    def counters(self, name="store"):
        """What the VMOD counts for a store."""
        counters = json.loads(self.tool("varnishstat", "-j", "-f", f"OBJMAPPER.*.{name}.*"))["counters"]
        return {key.rsplit(".", 1)[1]: value["value"] for key, value in counters.items()}

    def stat(self, name):
        """A counter of varnishd's own."""
        return json.loads(self.tool("varnishstat", "-j", "-f", name))["counters"][name]["value"]

    def shown(self):
        """The log of requests."""
        return self.tool("varnishlog", "-d", "-g", "raw")

    def child(self):
        """The process id of the worker process."""
        return int(re.search(r"\d+", pathlib.Path(
            f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())[0])

    def fds(self):
        return len(os.listdir(f"/proc/{self.child()}/fd"))

    def ask(self, method, path, fields=(), body=None):
        connection = Unix(self.socket)
        try:
            connection.request(method, path, body, dict(fields))
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **fields):
        """fields: names with _ for -."""
        return self.ask("GET", path, {name.replace("_", "-"): value for name, value in fields.items()})

    def get_http2(self, path):
        """By HTTP/2, whose answer this is: its head as text with names in lower case, and the body."""
        result = subprocess.run(["curl", "--silent", "--show-error", "--include", "--http2-prior-knowledge", "--unix-socket",
                                 self.socket, "http://example.org" + path], check=True, capture_output=True,
                                stdin=subprocess.DEVNULL, timeout=DEADLINE_SECONDS)
        head, _, body = result.stdout.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/2 "), head
        return head.decode(), body
