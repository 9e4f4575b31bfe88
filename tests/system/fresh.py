#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""fresh.py RELEASE: a fresh clone in a bare Debian of that release, with and without a booted systemd.

The roots are made by debootstrap and kept in /var/tmp/objmapper-roots: remove that folder to have new ones."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))

import container  # noqa: E402, pylint: disable=wrong-import-position
import readme  # noqa: E402, pylint: disable=wrong-import-position
import tap  # noqa: E402, pylint: disable=wrong-import-position

container.enter_namespaces()

ROOTS = pathlib.Path("/var/tmp/objmapper-roots")
MODES = ("fdpass", "copy", "splice", "auto")
# What lint says depends on the release of its tools: they are those of Debian 12.
SUITES = {"bookworm": ()}
OTHER_SUITES = ("unit", "integration", "system", "http", "fuzz")
release = sys.argv[1]


def make_root(name, *packages):
    """A bare root with git and the packages; the one of an earlier run when there is one."""
    root = ROOTS / name
    if not root.exists():
        ROOTS.mkdir(exist_ok=True)
        unfinished = tempfile.mkdtemp(prefix=name, dir=ROOTS)
        log = ROOTS / f"{name}.log"
        with open(log, "wb") as output:
            subprocess.run(["debootstrap", "--variant=minbase", "--include=" + ",".join(("git", *packages)),
                            release, unfinished], check=True, stdout=output, stderr=output)
        os.chmod(unfinished, 0o755)
        try:
            os.rename(unfinished, root)
        except OSError:  # another run was faster
            shutil.rmtree(unfinished)
    return root


class BareMachine:
    """with BareMachine(root) as machine: machine.run(…): commands in an overlay of root, no service manager."""

    def __init__(self, root):
        self.root = root

    def __enter__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-bare-", dir="/var/tmp"))
        layers = self.base / "layers"
        layers.mkdir()
        container.mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", layers)
        for name in ("upper", "work", "root"):
            (layers / name).mkdir()
        self.merged = layers / "root"
        container.mount("-t", "overlay", "overlay", self.merged, "-o",
                        f"lowerdir={self.root},upperdir={layers}/upper,workdir={layers}/work")
        for name in ("proc", "sys", "dev"):
            container.mount("--rbind", f"/{name}", self.merged / name)
        # Stores, and containers in this one, want a real file system.
        (self.base / "tmp").mkdir(mode=0o1777)
        container.mount("--bind", self.base / "tmp", self.merged / "var/tmp")
        shutil.copy("/etc/resolv.conf", self.merged / "etc/resolv.conf")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "--recursive", "--lazy", self.base / "layers"], check=False)
        shutil.rmtree(self.base, ignore_errors=True)

    def path(self, inside):
        return self.merged / inside.lstrip("/")

    def run(self, *command, timeout, **environment):
        result = subprocess.run(
            ["chroot", self.merged, "env", "-i", "HOME=/root", "LANG=C.UTF-8", *(f"{k}={v}" for k, v in
             environment.items()), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=timeout)
        assert result.returncode == 0, f"{command}: exit status {result.returncode}\n{result.stdout[-20000:]}"
        return result


def clone(machine):
    # Not straight into a container: git would take the way through /proc/PID/root for one of this machine.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        subprocess.run(["git", "-c", f"safe.directory={TOP}", "-c", f"safe.directory={TOP}/.git", "clone", "--quiet",
                        TOP, f"{folder}/objmapper"], check=True)
        shutil.copytree(f"{folder}/objmapper", machine.path("/root/objmapper"), symlinks=True)


def check_try(output):
    for mode in MODES:
        rows = re.findall(rf"^try/\w+ +{mode} .* yes ", output, re.MULTILINE)
        assert len(rows) == 2, output


def installed(machine):
    """What is in /usr, and the packages."""
    return set(machine.run("sh", "-c", "find /usr -xdev; dpkg-query --show", timeout=60).stdout.splitlines())


def try_and_undo(machine, check=None):
    """./try, again as if something had gone wrong, and --undo, which leaves nothing but the store."""
    before = installed(machine)
    clone(machine)
    for _ in range(2):
        check_try(machine.run("/root/objmapper/try", timeout=900).stdout)
    if check:
        check(machine)
    machine.run("/root/objmapper/try", "--undo", timeout=300)
    assert installed(machine) == before, installed(machine) ^ before
    machine.run("/root/objmapper/try", "--undo", timeout=300)


def test_try_without_service_manager():
    with BareMachine(make_root(release)) as machine:
        try_and_undo(machine)


def check_service(machine):
    assert machine.run("systemctl", "is-active", "objmapper.service").stdout.strip() == "active"
    machine.run("busctl", "call", "org.objmapper1", "/org/objmapper1", "org.objmapper1.Manager", "GetStats")


def test_try_with_systemd():
    root = make_root(f"{release}-systemd", "systemd-sysv", "dbus", "libpam-systemd")
    with container.Container(root=str(root), network=True) as machine:
        try_and_undo(machine, check_service)
        assert machine.run("systemctl", "is-active", "objmapper.service", check=False).stdout.strip() == "inactive"


def follow(section):
    """A section of README from a machine with nothing but objmapper."""
    root = make_root(f"{release}-systemd", "systemd-sysv", "dbus", "libpam-systemd")
    with container.Container(root=str(root), network=True) as machine:
        machine.path("/etc/hosts").write_text("127.0.0.1 localhost\n")  # Debian's installer writes it, debootstrap does not
        clone(machine)
        check_try(machine.run("/root/objmapper/try", timeout=900).stdout)
        section(machine, "/root/objmapper")


def test_varnish():
    follow(readme.follow_varnish)


def test_nginx():
    follow(readme.follow_nginx)


def test_suites():
    with BareMachine(make_root(release)) as machine:
        clone(machine)
        result = machine.run("/root/objmapper/.ci/run", *SUITES.get(release, OTHER_SUITES), timeout=3600,
                             FUZZ_SECONDS="5")
        print(f"# {result.stdout.splitlines()[-1]}")


tap.run(globals())
