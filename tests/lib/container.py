# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real systemd, booted in a container over an overlay of this machine's root (or of OBJMAPPER_TEST_ROOT).

A test file that uses it begins with enter_namespaces(), so that whatever happens to it, the kernel ends the
container and unmounts everything when it ends."""

import json
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

BOOT_SECONDS = 60
TARGET = """\
[Unit]
Requires=sysinit.target dbus.socket
After=sysinit.target dbus.socket
"""
# Slow at boot, or of no use in a container that serves one test.
MASKED = ("systemd-binfmt", "systemd-hwdb-update", "systemd-journal-catalog-update",
          "systemd-networkd", "systemd-random-seed", "systemd-resolved", "systemd-udevd", "ldconfig")


def enter_namespaces():
    """Goes on in mount and PID namespaces of its own; skips the file where that can't be."""
    if os.environ.get("OBJMAPPER_TEST_NAMESPACES"):
        return
    if os.geteuid() != 0:
        tap.skip_all("needs root")
    if not shutil.which("systemd-nspawn"):
        tap.skip_all("needs systemd-nspawn (systemd-container)")
    os.environ["OBJMAPPER_TEST_NAMESPACES"] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child",
                          "--mount-proc", sys.executable, *sys.argv])


class Container:
    """with Container() as host: host.run("systemctl", …)

    install: a meson build directory whose installation the container gets.
    users: name to list of groups, for users that the tests run commands as.
    network: share this machine's network instead of having none.
    files: path in the container to text, written before the boot.
    state: a folder of this machine to be its /var/lib/objmapper, where it is not to be a new one.
    binds: folders of this machine to where the container has them, read-only.
    broker: the bus is dbus-broker, not dbus-daemon."""

    def __init__(self, *, root=None, install=None, users=None, network=False, files=None, state=None, binds=None,
                 boot=True, broker=False):
        self.root = root or os.environ.get("OBJMAPPER_TEST_ROOT", "/")
        self.install = install
        self.users = users or {}
        self.network = network
        self.files = files or {}
        self.state = state
        self.binds = binds or {}
        self.boot = boot
        self.broker = broker
        self.leader = None
        self.nspawn = None
        self.cgroups = []

    def __enter__(self):
        # Layers on a tmpfs: fast, and gone with the namespace. What the daemon stores goes to a real file system.
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-container-", dir="/var/tmp"))
        self.layers = self.base / "layers"
        self.merged = self.layers / "root"
        try:
            self._make_root()
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        if self.nspawn:
            self.nspawn.kill()
            self.nspawn.wait()
        if self.leader:
            try:
                os.kill(self.leader, signal.SIGKILL)  # the init of its PID namespace: all in it end
            except ProcessLookupError:
                pass
        subprocess.run(["umount", "--recursive", "--lazy", self.layers], stderr=subprocess.DEVNULL, check=False)
        for cgroup in self.cgroups:
            remove_cgroup(cgroup)
        shutil.rmtree(self.base, ignore_errors=True)

    def _make_root(self):
        self.layers.mkdir()
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", self.layers)
        for name in ("upper", "work", "root"):
            (self.layers / name).mkdir()
        mount("-t", "overlay", "overlay", self.merged, "-o",
              f"lowerdir={self.root},upperdir={self.layers}/upper,workdir={self.layers}/work")

        units = self.merged / "etc/systemd/system"
        units.mkdir(parents=True, exist_ok=True)
        (units / "test.target").write_text(TARGET)
        for name in MASKED:
            (units / f"{name}.service").unlink(missing_ok=True)
            (units / f"{name}.service").symlink_to("/dev/null")
        # The package of dbus-broker makes it the bus of the machine.
        for alias in (units / "dbus.service", self.merged / "etc/systemd/user/dbus.service"):
            alias.unlink(missing_ok=True)
        if self.broker:
            (units / "dbus.service").symlink_to("/lib/systemd/system/dbus-broker.service")
        for name, text in self.files.items():
            path = self.merged / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if self.install:
            subprocess.run(["meson", "install", "-C", self.install, "--no-rebuild", "--quiet",
                            "--destdir", self.merged], check=True, stdout=subprocess.DEVNULL)
        lines = [f"u {user} - - /home/{user} /bin/sh\n" + "".join(f"m {user} {group}\n" for group in groups)
                 for user, groups in self.users.items()]
        (self.merged / "etc/sysusers.d").mkdir(exist_ok=True)
        (self.merged / "etc/sysusers.d/test.conf").write_text("".join(lines))
        subprocess.run(["systemd-sysusers", f"--root={self.merged}"], check=True, stderr=subprocess.DEVNULL)

    def _start(self):
        env = dict(os.environ)
        unified = cgroup2_path()
        self._own_cgroups(unified)
        if unified != pathlib.Path("/sys/fs/cgroup"):
            env["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
        state = self.state or self.base / "state"
        state.mkdir(exist_ok=True)
        (self.merged / "var/lib/objmapper").mkdir(exist_ok=True)
        command = ["systemd-nspawn", "--quiet", "--directory", self.merged, "--register=no", "--keep-unit",
                   "--link-journal=no", "--timezone=off", f"--bind={state}:/var/lib/objmapper",
                   *(f"--bind-ro={outside}:{inside}" for outside, inside in self.binds.items()),
                   "--console=pipe", "--rlimit=RLIMIT_NOFILE=1024:524288"]
        command += ["--resolv-conf=copy-host"] if self.network else ["--private-network", "--resolv-conf=off"]
        if self.boot:
            command += ["--boot", "--notify-ready=yes", "systemd.unit=test.target", "systemd.firstboot=no"]
        else:
            command += ["sleep", "infinity"]

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            env["NOTIFY_SOCKET"] = str(self.base / "notify")
            ready.bind(env["NOTIFY_SOCKET"])
            ready.settimeout(BOOT_SECONDS)
            self.console = open(self.base / "console", "w+b")
            self.nspawn = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=self.console,
                                           stderr=subprocess.STDOUT, preexec_fn=self._join_cgroups)
            try:
                while True:
                    lines = ready.recv(4096).decode().splitlines()
                    for line in lines:
                        if line.startswith("X_NSPAWN_LEADER_PID="):
                            self.leader = int(line.partition("=")[2])
                    if "READY=1" in lines:
                        self.booted = time.time()
                        break
            except TimeoutError:
                raise RuntimeError(f"the container did not boot:\n{self.read_console()}") from None

    def _own_cgroups(self, unified):
        """Makes cgroups for the container alone: containers that share one would end each other's services."""
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                mounted = unified
            elif controllers == "name=systemd":
                mounted = pathlib.Path("/sys/fs/cgroup/systemd")
            else:
                continue
            cgroup = mounted / path.lstrip("/") / self.base.name
            cgroup.mkdir()
            self.cgroups.append(cgroup)

    def _join_cgroups(self):
        for cgroup in self.cgroups:
            (cgroup / "cgroup.procs").write_text("0")

    def read_console(self):
        self.console.seek(0)
        return self.console.read().decode(errors="replace")

    def path(self, inside):
        """The path by which this process sees a file of the container."""
        return pathlib.Path(f"/proc/{self.leader}/root") / inside.lstrip("/")

    def command(self, *command, user=None):
        """The command line that runs command in the container, as root or as user."""
        as_user = [f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        return ["nsenter", f"--target={self.leader}", "--all", "--root", "--wd", "--", "env", "-i", "LANG=C.UTF-8",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/",
                *(["setpriv", *as_user, "--"] if user else []), *map(str, command)]

    def run(self, *command, user=None, check=True, timeout=60, text=True, **kwargs):
        """Runs a command in the container and waits. check: a failure is an AssertionError that shows it."""
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        result = subprocess.run(self.command(*command, user=user), check=False, timeout=timeout, text=text,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: exit status {result.returncode}\n"
                                 f"{result.stdout[-4000:]}{result.stderr[-4000:]}")
        return result

    def start(self, *command, user=None, **kwargs):
        """Starts a command in the container: a Popen. It has to be waited for."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.command(*command, user=user), **kwargs)

    def property(self, unit, name):
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def log(self, *options, **kwargs):
        """What journalctl shows, nothing of what was logged until now left out."""
        self.run("journalctl", "--sync", **kwargs)
        return self.run("journalctl", "--no-pager", *options, **kwargs).stdout

    def journal(self, *matches):
        """The journal's entries that match, as dicts."""
        return [json.loads(line) for line in self.log("--output=json", "--all", *matches).splitlines()]

    def tell(self, lines=40):
        """The end of the journal since the boot was done, for the report of a failure."""
        return self.log(f"--since=@{self.booted:.0f}", "--lines", lines, check=False)


def remove_cgroup(cgroup):
    deadline = time.monotonic() + 5
    for path, _, _ in os.walk(cgroup, topdown=False):
        while True:
            try:
                os.rmdir(path)
                break
            except OSError:  # something in it is still dying
                if time.monotonic() > deadline:
                    return
                time.sleep(0.01)


def mount(*args):
    subprocess.run(["mount", *args], check=True)


def cgroup2_path():
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, path, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(path)
    tap.skip_all("needs a mounted cgroup2")
    return None
