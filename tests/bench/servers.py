# SPDX-License-Identifier: LGPL-2.1-or-later
"""The servers that the benchmark compares: objmapper as it is installed, the bare system calls, and the peers."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

import container
import daemon
import host

BUILD = daemon.build_path("")
LOAD = BUILD / "tests/bench/load"
RAW_SERVER = BUILD / "tests/bench/raw-server"
SOCKETS = ("objmapper.socket", "objmapper-publish.socket")
NGINX = """\
daemon off; user root; worker_processes 1; pid {base}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; sendfile_max_chunk 0; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 3600s;
    open_file_cache max=10000; open_file_cache_valid 3600s; open_file_cache_min_uses 1;
    client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
    uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
    server {{ listen unix:{base}/nginx.sock; root {files}; }}
}}
"""


def wait_for(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} does not come up")
        time.sleep(0.01)


def come_first(pid="self"):
    """What else the machine has to do waits for a process that is measured, as far as the kernel lets it."""
    try:
        pathlib.Path(f"/proc/{pid}/autogroup").write_text("-20")
    except OSError:
        pass


def pin(pid, *cores):
    """All threads of a process."""
    come_first(pid)
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            os.sched_setaffinity(int(task), cores)
        except ProcessLookupError:  # a thread that ended meanwhile
            pass


def accepts(path):
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
            return True
        except OSError:
            return False


class Process:
    """A server of one process, or of one child, in a session and a cgroup of its own, as a service is: the scheduler goes by
    the one, and each process that runs, and each wake-up, is accounted to the other."""

    def __init__(self, path, command, cgroup):
        self.path = pathlib.Path(path)
        cgroup.mkdir()
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True,
                                        preexec_fn=lambda: (cgroup / "cgroup.procs").write_text("0"))
        wait_for(lambda: accepts(self.path) or self.process.poll() is not None, command[0])
        if self.process.poll() is not None:
            raise RuntimeError(f"{command} ended with {self.process.returncode}")

    def pids(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def pin(self, *cores):
        for pid in self.pids():
            pin(pid, *cores)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Objmapper:
    """The installed daemon, with its units, in a booted container."""

    def __init__(self, files):
        self.host = host.Host(binds={files: "/files"}, files={"/etc/objmapper/objmapper.conf.d/bench.conf": "[Server]\nWorkers=1\n"})

    def __enter__(self):
        self.host.__enter__()
        self.restart()
        self.host.ctl("put", "--recursive", "/files", "", timeout=300)
        return self

    def __exit__(self, *error):
        self.host.__exit__(*error)

    def restart(self, settings="[Server]\nWorkers=1\n", service=None):
        """service: lines of a drop-in of the unit."""
        self.host.path("/etc/objmapper/objmapper.conf.d/bench.conf").write_text(settings)
        drop_in = self.host.path("/run/systemd/system/objmapper.service.d/bench.conf")
        if service or drop_in.exists():
            drop_in.parent.mkdir(parents=True, exist_ok=True)
            drop_in.write_text(f"[Service]\n{service or ''}\n")
            self.host.run("systemctl", "daemon-reload")
        self.host.run("systemctl", "stop", *SOCKETS, "objmapper.service")
        self.host.run("systemctl", "reset-failed")
        self.host.run("systemctl", "start", *SOCKETS, "objmapper.service")

    @property
    def path(self):
        return self.host.path("/run/objmapper/objmapper.sock")

    def cgroup(self, name):
        """Where that of a service of this name would be."""
        own = re.search(r"^0::/(.*)", pathlib.Path(f"/proc/{self.pids()[0]}/cgroup").read_text(), re.MULTILINE)[1]
        return container.cgroup2_path() / pathlib.Path(own).parent / f"{name}.service"

    def pids(self):
        for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
            try:
                if comm.read_text().strip() == "objmapperd":
                    return [int(comm.parent.name)]
            except OSError:
                pass
        raise RuntimeError("there is no daemon")

    def pin(self, *cores):
        pin(self.pids()[0], *cores)

    def workers(self):
        """Ids of the workers' threads."""
        task = pathlib.Path(f"/proc/{self.pids()[0]}/task")
        return [int(path.name) for path in task.iterdir() if (path / "comm").read_text().strip() == "worker"]


def fill(protocol, path, files):
    """Sets all files of a folder, as memcached or redis does it."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        for file in sorted(files.iterdir()):
            body, name = file.read_bytes(), file.name.encode()
            if protocol == "memcached":
                peer.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (name, len(body), body))
            else:
                peer.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(name), name, len(body), body))
            answer = peer.recv(100)
            if answer not in (b"STORED\r\n", b"+OK\r\n"):
                raise RuntimeError(f"{protocol}: {answer}")


class Servers:
    """All of them, each filled with the files of a folder."""

    def __init__(self, base, files):
        self.base, self.files, self.running = base, files, {}

    def __enter__(self):
        try:
            self.objmapper = Objmapper(self.files).__enter__()
            self.running["objmapper"] = self.objmapper
            self._start_peers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *error):
        for name, server in self.running.items():
            if name != "objmapper":
                server.stop()
        if "objmapper" in self.running:
            self.running["objmapper"].__exit__(*error)

    def _start_peers(self):
        base = self.base
        self._start("memcached", base / "memcached.sock", [
            "memcached", "-u", "root", "-s", base / "memcached.sock", "-t", "1", "-m", "8192", "-I", "128m", "-c", "4096", "-R", "1000"])
        fill("memcached", base / "memcached.sock", self.files)
        self._start("redis", base / "redis.sock", [
            "redis-server", "--port", "0", "--unixsocket", base / "redis.sock", "--save", "", "--maxclients", "4096",
            "--dir", base, "--enable-debug-command", "no"])
        fill("redis", base / "redis.sock", self.files)
        (base / "nginx.conf").write_text(NGINX.format(base=base, files=self.files))
        self._start("nginx", base / "nginx.sock", [shutil.which("nginx") or "/usr/sbin/nginx", "-c", base / "nginx.conf", "-p", base])

    def _start(self, name, path, command):
        self.running[name] = Process(path, command, self.objmapper.cgroup(f"bench-{name}"))

    def raw(self, kind, size=None, count=1, send_buffer=None):
        """A raw server, started at its first use."""
        name = f"{kind}-{size}-{send_buffer}"
        if name not in self.running:
            command = [RAW_SERVER, self.base / name, kind]
            if size is not None:
                command += [self.files / f"o{size}-", count]
                if send_buffer:
                    command.append(send_buffer)
            self._start(name, self.base / name, command)
        return self.running[name]
