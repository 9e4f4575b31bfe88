# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon of a test's own: sockets passed as the service manager passes them, store and log in a new folder."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import tap

DEADLINE_SECONDS = 60  # sanitizers on a busy machine are slow

# What the service manager does between fork and exec: descriptors from 3 on, and for whom they are.
LAUNCHER = """
import os, sys, time
n = int(sys.argv[1])
for i, fd in enumerate(sys.argv[2:2 + n]):
    os.dup2(int(fd), 3 + i)
    os.close(int(fd))
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LAUNCHED_NSEC"] = str(time.monotonic_ns())
os.execv(sys.argv[2 + n], sys.argv[2 + n:])
"""


def build_path(name):
    """A file of the build directory, which OBJMAPPER_BUILD names."""
    if "OBJMAPPER_BUILD" not in os.environ:
        sys.exit("OBJMAPPER_BUILD must name the build directory")
    return pathlib.Path(os.environ["OBJMAPPER_BUILD"]) / name


class Daemon:
    """with Daemon() as daemon: daemon.reader and daemon.publisher are the paths of its sockets

    settings: lines of the configuration file after [Server], or with sections of their own.
    environment: added to the daemon's.
    command: put before objmapperd; must become it and not start it, as ("strace", "-D", "-f", …) does.
    start: whether it runs at once; otherwise start() does it."""

    def __init__(self, *, settings="", environment=None, command=(), start=True):
        self.settings = settings
        self.environment = environment or {}
        self.command = command
        self.start_at_once = start
        self.process = None
        self.listeners = []

    def __enter__(self):
        # Not below /tmp, which may be small or in memory: what is stored is to reach a real file system.
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-", dir="/var/tmp"))
        self.store = self.base / "store"
        self.store.mkdir(mode=0o700)
        self.reader = str(self.base / "objmapper.sock")
        self.publisher = str(self.base / "publish.sock")
        self.config = self.base / "objmapper.conf"
        self.log_path = self.base / "log"
        self.configure(self.settings)
        try:
            self.listen()
            if self.start_at_once:
                self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, error, *_):
        try:
            if self.process and error:
                self.kill()
            elif self.process:
                self.stop()
        finally:
            self.close_listeners()
            shutil.rmtree(self.base, ignore_errors=True)

    def configure(self, settings):
        """Writes the configuration file; read at the next start or reload."""
        self.config.write_text(f"[Store]\nStoreDirectory={self.store}\n[Server]\n{settings}\n")

    def configure_store(self, settings):
        """The same with settings of the store."""
        self.config.write_text(f"[Store]\nStoreDirectory={self.store}\n{settings}\n")

    def listen(self):
        """Makes the sockets: they are there whether the daemon runs or not."""
        for path in (self.reader, self.publisher):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen(4096)
            # A high number, so that the launcher's descriptors 3 and 4 are free.
            high = fcntl.fcntl(listener, fcntl.F_DUPFD, 100)
            listener.close()
            self.listeners.append(high)

    def close_listeners(self):
        """Connecting is refused from then on; without a daemon nothing accepts any more."""
        for fd in self.listeners:
            os.close(fd)
        self.listeners = []
        for path in (self.reader, self.publisher):
            pathlib.Path(path).unlink(missing_ok=True)

    def start(self, wait=True):
        """Starts it; wait: until it says that it is ready."""
        assert self.process is None, "it runs already"
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.base / "notify"
        path.unlink(missing_ok=True)
        notify.bind(str(path))
        environment = {**os.environ, "LISTEN_FDS": str(len(self.listeners)), "LISTEN_FDNAMES": "reader:publisher",
                       "NOTIFY_SOCKET": str(path), "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.base}/no-bus",
                       **self.environment}
        command = [*self.command, str(build_path("src/daemon/objmapperd")), f"--config={self.config}"]
        command[0] = shutil.which(command[0]) or command[0]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, str(len(self.listeners)), *map(str, self.listeners), *command],
                pass_fds=self.listeners, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self._wait_ready(notify)
        notify.close()
        return self.process

    def _wait_ready(self, notify):
        notify.settimeout(0.1)
        for _ in range(DEADLINE_SECONDS * 10):
            try:
                if b"READY=1" in notify.recv(65536).split(b"\n"):
                    return
            except TimeoutError:
                if self.process.poll() is not None:
                    status, self.process = self.process.returncode, None
                    raise AssertionError(f"the daemon ended with {status}:\n{self.log()}") from None
        raise AssertionError(f"the daemon is not ready:\n{self.log()}")

    def stop(self):
        """SIGTERM, and it must end well: a sanitizer's finding is an exit status other than 0."""
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the daemon does not stop:\n{self.log()}") from None
        assert status == 0, f"the daemon ended with {status}:\n{self.log()}"

    def kill(self):
        """SIGKILL."""
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def restart(self):
        self.stop()
        self.start()

    def pause(self):
        """SIGSTOP; returns when none of its threads runs any more."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        self.process.send_signal(signal.SIGSTOP)
        while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.iterdir()):
            time.sleep(0.001)

    def resume(self):
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def log(self, size=8000):
        """The end of what it logged."""
        return self.log_path.read_bytes()[-size:].decode(errors="replace") if self.log_path.exists() else ""

    def launched(self):
        """When the program was executed, by time.monotonic()."""
        for variable in pathlib.Path(f"/proc/{self.process.pid}/environ").read_bytes().split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == b"LAUNCHED_NSEC":
                return int(value) / 1e9
        raise AssertionError("it was not launched yet")

    def fds(self):
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def open_files(self):
        """What its descriptors are, as readlink() tells; they may be closed meanwhile."""
        files = []
        for fd in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                files.append(os.readlink(fd))
        return files

    def ctl(self, *arguments, check=True, timeout=DEADLINE_SECONDS, **kwargs):
        """Runs objmapperctl against it. check: a failure is an AssertionError that shows it."""
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.PIPE)
        tool = build_path("src/ctl/objmapperctl")
        if "user" in kwargs:  # who may have no way into the build directory
            for file in (tool, build_path("src/client/libobjmapper.so.1")):
                shutil.copy(file, self.base)
            tool = self.base / tool.name
            kwargs["env"] = {**os.environ, "LD_LIBRARY_PATH": str(self.base)}
        result = subprocess.run([tool, f"--socket={self.reader}", f"--publish-socket={self.publisher}", *arguments],
                                check=False, timeout=timeout, **kwargs)
        if check and result.returncode != 0:
            raise AssertionError(f"objmapperctl {arguments}: exit status {result.returncode}\n"
                                 f"{result.stdout}\n{result.stderr}\n{self.log()}")
        return result


def need(*programs):
    """Skips the test when a program is missing."""
    for program in programs:
        if not shutil.which(program):
            raise tap.Skip(f"needs {program}")


def need_tracing():
    """Skips the test where strace is missing, or may not trace."""
    need("strace")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        raise tap.Skip("needs to be permitted to trace")
