# SPDX-License-Identifier: LGPL-2.1-or-later
"""File systems of a test's own, on loop devices, whose power can be cut."""

import ctypes
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import time

import tap

KINDS = ("ext4", "xfs")
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
CLONE_NEWNS = 0x20000
UNMOUNT_SECONDS = 30  # whoever was killed a moment ago still closes its files


def need():
    """Skips the test where no file systems are to be had. What this process mounts goes away with it."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root, to mount")
    for program in ("mkfs.ext4", "mkfs.xfs"):
        if not shutil.which(program):
            raise tap.Skip(f"needs {program}")
    if not pathlib.Path("/dev/loop-control").exists():
        raise tap.Skip("needs loop devices")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) < 0:
        raise tap.Skip(f"needs mounts of its own: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


def run(*command, check=True, **kwargs):
    result = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, **kwargs)
    if check and result.returncode != 0:
        raise AssertionError(f"{command}: exit status {result.returncode}\n{result.stdout}")
    return result


class Throttle:
    """What is attached reads no more than so many bytes a second from the disk that path is on."""

    GROUPS = pathlib.Path("/sys/fs/cgroup")

    def __init__(self, path, rate):
        device = os.stat(path).st_dev
        self.device = f"{os.major(device)}:{os.minor(device)}"
        self.rate = rate

    def __enter__(self):
        name = f"objmapper-{os.getpid()}"
        try:
            if (self.GROUPS / "blkio").exists():
                self.path = self.GROUPS / "blkio" / name
                file, limit = "blkio.throttle.read_bps_device", f"{self.device} {self.rate}"
            else:
                self.path = self.GROUPS / name
                file, limit = "io.max", f"{self.device} rbps={self.rate}"
                (self.GROUPS / "cgroup.subtree_control").write_text("+io", encoding="ascii")
            self.path.mkdir()
            (self.path / file).write_text(limit, encoding="ascii")
        except OSError as error:
            raise tap.Skip(f"needs a control group that can slow a disk down: {error}") from error
        return self

    def attach(self, process):
        (self.path / "cgroup.procs").write_text(str(process.pid), encoding="ascii")

    def __exit__(self, *_):
        self.path.rmdir()


class Disk:
    """with Disk(kind) as disk: disk.path is where it is mounted."""

    def __init__(self, kind, *, mbytes=512, options=""):
        self.kind = kind
        self.mbytes = mbytes
        self.options = options
        self.is_mounted = False

    def __enter__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-disk-", dir="/var/tmp"))
        self.image = self.base / "image"
        self.path = self.base / "mount"
        self.path.mkdir()
        try:
            with open(self.image, "wb") as image:
                image.truncate(self.mbytes << 20)
            self.format()
            self.mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def format(self):
        if self.kind == "ext4":
            run("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        else:
            # Below 300 MiB mkfs.xfs wants to be told that this is a test.
            run("mkfs.xfs", "-q", "-f", self.image,
                env={**os.environ, "TEST_DIR": "1", "TEST_DEV": "1", "QA_CHECK_FS": "1"})

    def __exit__(self, *_):
        try:
            if self.is_mounted:
                self.unmount()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def mount(self):
        run("mount", "-t", self.kind, "-o", ",".join(filter(None, ("loop", self.options))), self.image, self.path)
        self.is_mounted = True

    def device(self):
        """The name of its loop device."""
        return pathlib.Path(run("findmnt", "--noheadings", "--output", "SOURCE", self.path).stdout.strip()).name

    def unmount(self):
        end = time.monotonic() + UNMOUNT_SECONDS
        while (result := run("umount", self.path, check=False)).returncode != 0:
            if time.monotonic() > end:
                raise AssertionError(f"{result.stdout}{run('fuser', '-vm', self.path, check=False).stdout}")
            time.sleep(0.02)
        self.is_mounted = False

    def cut_power(self):
        """From now on nothing reaches the disk, not even what lies in the log's buffers; mount() shows what did."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)
