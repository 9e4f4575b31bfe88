# SPDX-License-Identifier: LGPL-2.1-or-later
"""libobjmapper against a daemon: test_library.py PROGRAM, which is library.c; or test_library.py KIND, which builds
it and the library for another kind of machine and runs it there."""

import atexit
import subprocess
import sys
import tempfile
import time

import common  # noqa: F401  pylint: disable=unused-import
import cross
import tap
from daemon import Daemon

def build(kind):
    """The command that runs the program, built for kind."""
    folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
    atexit.register(folder.cleanup)
    try:
        target = cross.Target(kind)
    except cross.Unavailable as reason:
        tap.skip_all(reason)

    program = f"{folder.name}/library"
    target.build(program, "tests/integration/library.c", ["protocol", "fdpass", "client"])
    return [*target.emulator, program]


PROGRAM = build(sys.argv[1]) if sys.argv[1] in cross.KINDS else sys.argv[1:]


def run(daemon, command, prefix=()):
    result = subprocess.run([*prefix, *PROGRAM, command, daemon.reader, daemon.publisher], check=False, timeout=240,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}\n{daemon.log()}"


def test_all():
    with Daemon() as daemon:
        run(daemon, "all")


def test_depth():
    with Daemon() as daemon:
        run(daemon, "depth")
    with Daemon(settings="MaxPipeline=3\nMaxDescriptorsInFlight=2") as daemon:
        run(daemon, "depth")


def test_few_descriptors():
    """Depth 64 with hardly any descriptor left: each object has its own bytes all the same."""
    with Daemon() as daemon:
        run(daemon, "depth", prefix=["sh", "-c", 'ulimit -n 16; exec "$@"', "sh"])


def test_starts_on_demand():
    """The client waits in the backlog of a socket whose daemon is not running yet."""
    with Daemon(start=False) as daemon:
        with subprocess.Popen([*PROGRAM, "depth", daemon.reader, daemon.publisher], stderr=subprocess.PIPE,
                              text=True) as process:
            time.sleep(0.2)
            assert process.poll() is None, process.stderr.read()
            daemon.start()
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors


def test_survive():
    """Stopped, killed and started again in the middle of everything."""
    with Daemon() as daemon:
        with subprocess.Popen([*PROGRAM, "survive", daemon.reader, daemon.publisher], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout.readline() == "ready\n", process.stderr.read()
                for number in range(12):
                    time.sleep(0.05 + number * 0.02)
                    if number % 2:
                        daemon.kill()
                    else:
                        daemon.stop()
                    daemon.start()
                output, errors = process.communicate(input="", timeout=120)
            finally:
                process.kill()
            assert process.returncode == 0, f"{errors}\n{daemon.log()}"
            print(f"# {output.strip()}")
            assert int(output.split()[0]) > 0


if __name__ == "__main__":
    tap.run(globals())
