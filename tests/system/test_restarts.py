# SPDX-License-Identifier: LGPL-2.1-or-later
"""What clients of the library see of restarts: nothing but a wait. The units as they are shipped, the store on a
disk of its own, whose reads are counted.

RESTARTS= and KILLS= in the environment say how many; as quickly as the start limit of the unit lets them, and as the
clients come to ask as often as they have to beside them: a busy machine takes longer."""

import os
import pathlib
import re
import time

import container
import tap

container.enter_namespaces()

import disk  # noqa: E402, pylint: disable=wrong-import-position
from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

RESTARTS = int(os.environ.get("RESTARTS", "30"))
KILLS = int(os.environ.get("KILLS", "10"))
RATE = 500  # of each kind of request, five kinds
LEAST_RATE = 1000  # of all together
CATCH_UP_SECONDS = 60
STARTS_PER_SECOND = 5  # StartLimitBurst=50 in StartLimitIntervalSec=10s


class Load:
    """with Load(host) as load: … clients ask meanwhile; load.told is what they saw, in words, load.puts how many puts."""

    def __init__(self, host):
        self.process = host.start(host.test_program("load"), str(RATE), stdin=-1, stdout=-1, stderr=-1, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "started\n", self.process.communicate()
        self.began = time.monotonic()
        return self

    def is_on_time(self):
        """Whether there have been enough requests so far."""
        self.process.stdin.write("?")
        self.process.stdin.flush()
        count = int(self.process.stdout.readline().removesuffix(" so far\n"))
        return count >= 1.05 * LEAST_RATE * (time.monotonic() - self.began)

    def __exit__(self, *_):
        output, errors = self.process.communicate(timeout=60)
        self.told = output.strip()
        assert self.process.returncode == 0, output + errors[-2000:]
        numbers = re.match(r"\d+ requests, (\d+) puts, 0 failed, 0 wrong, longest \d+ ms, (\d+) a second", output)
        self.puts = int(numbers[1])
        assert int(numbers[2]) >= LEAST_RATE, output


def main_pid(host):
    return host.property("objmapper.service", "MainPID")


def restart(host):
    host.run("systemctl", "restart", "objmapper.service")


def kill(host):
    before = main_pid(host)
    host.run("systemctl", "kill", "--signal=KILL", "objmapper.service")
    wait_until(lambda: host.is_active() and main_pid(host) not in ("0", before))


def sectors_read():
    """Of the store's disk, since it was made."""
    return int(pathlib.Path(f"/sys/block/{DISK.device()}/stat").read_text().split()[2])


def disturb_often(host, n, disturb):
    """Everything that the clients ask for is in the page cache, and stays there."""
    host.start_again()
    # What the file system reads of its own tables when files are made is not what is counted here.
    pathlib.Path(f"/dev/{DISK.device()}").read_bytes()
    counts = []
    with Load(host) as load:
        before = sectors_read()
        for _ in range(n):
            began = time.monotonic()
            disturb(host)
            time.sleep(max(0, began + 1.05 / STARTS_PER_SECOND - time.monotonic()))
            wait_until(load.is_on_time, CATCH_UP_SECONDS)
            now = sectors_read()
            counts.append(now - before)
            before = now
    n_reading = sum(count > 0 for count in counts)
    print(f"# {n} times: {load.told}; the disk was read after {n_reading} of them, {sum(counts)} sectors")
    assert load.puts > n, load.told
    # Not after all, nor many: a kernel may take pages back at any time (DAMON does), and that is no restart's doing.
    assert n_reading <= n / 5, counts
    assert host.is_active()


def test_restarts(host):
    disturb_often(host, RESTARTS, restart)


def test_kills(host):
    disturb_often(host, KILLS, kill)


def test_reads_are_counted(host):
    """What is not in the page cache is read from the disk after a restart, and that is seen; what is, is not."""
    host.put("kept", b"x" * 1_000_000)
    for drop in (False, True):
        host.run("systemctl", "stop", "objmapper.service")
        for path in host.path("/var/lib/objmapper/blobs").rglob("*") if drop else ():
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = sectors_read()
        assert len(host.get("kept")) == 1_000_000
        n_read = sectors_read() - before
        assert (n_read >= 1_000_000 // 512) == drop, n_read


try:
    disk.need()
except tap.Skip as reason:
    tap.skip_all(reason)
with disk.Disk("ext4", mbytes=256) as DISK, Host(state=DISK.path) as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
