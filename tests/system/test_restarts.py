# SPDX-License-Identifier: LGPL-2.1-or-later
"""What clients of the library see of restarts: nothing but a wait. The units as they are shipped.

RESTARTS= and KILLS= in the environment say how many; as quickly as the start limit of the unit lets them."""

import os
import re
import time

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

RESTARTS = int(os.environ.get("RESTARTS", "30"))
KILLS = int(os.environ.get("KILLS", "10"))
RATE = 500  # of each kind of request, five kinds
STARTS_PER_SECOND = 5  # StartLimitBurst=50 in StartLimitIntervalSec=10s


def under_load(host, n, disturb):
    """Calls disturb() n times while clients ask: what they saw."""
    load = host.start(host.test_program("load"), str(RATE), stdin=-1, stdout=-1, stderr=-1, text=True)
    assert load.stdout.readline() == "started\n", load.communicate()
    for _ in range(n):
        began = time.monotonic()
        disturb()
        time.sleep(max(0, began + 1.05 / STARTS_PER_SECOND - time.monotonic()))
    output, errors = load.communicate(timeout=60)
    print(f"# {n} times: {output.strip()}")
    assert load.returncode == 0, output + errors[-2000:]
    numbers = re.match(r"(\d+) requests, (\d+) puts, 0 failed, 0 wrong, longest (\d+) ms, (\d+) a second", output)
    assert int(numbers[2]) > n, output
    assert host.is_active()


def main_pid(host):
    return host.property("objmapper.service", "MainPID")


def test_restarts(host):
    host.start_again()
    under_load(host, RESTARTS, lambda: host.run("systemctl", "restart", "objmapper.service"))


def test_kills(host):
    host.start_again()

    def kill():
        before = main_pid(host)
        host.run("systemctl", "kill", "--signal=KILL", "objmapper.service")
        wait_until(lambda: host.is_active() and main_pid(host) not in ("0", before))

    under_load(host, KILLS, kill)


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
