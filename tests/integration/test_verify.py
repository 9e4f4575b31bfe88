# SPDX-License-Identifier: LGPL-2.1-or-later
"""What objmapperctl does over D-Bus. verify: what is wrong is named, repaired, and logged; others go on meanwhile."""

import os
import re
import signal
import subprocess

from common import wait_until
from ctl import BUSY, DONE, FAILED, NO_DAEMON, USAGE, on_terminal  # puts tests/lib on the path too

import tap
from bus import INTERFACE, NAME, PATH, Bus
from daemon import Daemon, build_path

BIG = bytes(range(256)) * 100
QUARANTINED = re.compile(r"\d{8}T\d{6}Z")
SLOW = 20_000  # bytes a second


def blobs(daemon):
    """The files of bodies, oldest first."""
    return sorted(path for path in (daemon.store / "blobs").rglob("*") if path.is_file())


def quarantine(daemon):
    folder = daemon.store / "quarantine"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def flip(path):
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Place:
    """A bus and a daemon on it, with three objects that have a file each, and a small one."""

    def __enter__(self):
        self.bus = Bus().__enter__()
        try:
            self.daemon = Daemon(environment={"DBUS_SYSTEM_BUS_ADDRESS": self.bus.address}).__enter__()
        except BaseException:
            self.bus.__exit__(None, None, None)
            raise
        for uri in ("first", "second", "third"):
            self.daemon.ctl("put", uri, input=BIG + uri.encode())
        self.daemon.ctl("put", "small", input=b"small")
        return self

    def __exit__(self, *error):
        try:
            self.daemon.__exit__(*error)
        finally:
            self.bus.__exit__(*error)

    def command(self, *arguments, uid=None):
        as_uid = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        return [*as_uid, str(build_path("src/ctl/objmapperctl")), *arguments]

    def verify(self, *arguments, **kwargs):
        return self.run("verify", *arguments, **kwargs)

    def run(self, *arguments, status=0, uid=None):
        """(lines of standard output, standard error) of objmapperctl, which must exit with this status."""
        result = subprocess.run(self.command(*arguments, uid=uid), env=self.environment(), check=False,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                timeout=60)
        assert result.returncode == status, (result.returncode, result.stdout, result.stderr, self.daemon.log())
        return result.stdout.splitlines(), result.stderr

    def environment(self):
        return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address}

    def verify_error(self):
        """What a verification is refused with; "" when it is not."""
        result = self.bus.busctl("call", NAME, PATH, INTERFACE, "Verify", "a{sv}", "1", "rate", "t", str(1 << 40))
        return result.stderr

    def start(self, *arguments, **kwargs):
        """A verification that is under way. A second one that is refused tells; but it may come first."""
        while True:
            process = subprocess.Popen(self.command("verify", *arguments), env=self.environment(),
                                       stdin=subprocess.DEVNULL, **kwargs)
            wait_until(lambda p=process: p.poll() is not None or "A verification is under way." in self.verify_error(),
                       "it runs")
            if process.poll() is None:
                return process
            process.communicate()


def test_clean(place):
    lines, said = place.verify()
    assert lines == ["4 objects, 75.0 KiB checked; 0 problems found, 0 repaired"], lines
    assert not said, said
    assert "The store was verified: 4 objects, 0 problems found, 0 repaired." in place.daemon.log()
    assert place.verify("--repair")[0] == lines
    assert not quarantine(place.daemon)


def test_damage(place):
    """What an operator does: look, repair, look again."""
    first, second, third = blobs(place.daemon)
    flip(first)
    second.chmod(0o600)
    os.truncate(second, 1000)
    third.unlink()
    stray = place.daemon.store / "blobs" / "not\x1bours"
    stray.write_text("x")

    wrong = [f"first: its body has a wrong checksum (blobs/{first.parent.name}/{first.name})",
             f"second: its body has a wrong size (blobs/{second.parent.name}/{second.name})",
             f"third: its body is missing (blobs/{third.parent.name}/{third.name})",
             "blobs/not\\x1bours: it is not the store's"]
    lines, said = place.verify(status=FAILED)
    assert lines[:-1] == wrong, lines
    assert lines[-1].startswith("4 objects, ") and lines[-1].endswith("4 problems found, 0 repaired"), lines
    assert "--repair" in said, said
    assert first.exists() and stray.exists()
    log = place.daemon.log()
    for line in wrong:
        assert line in log, (line, log)

    lines, said = place.verify("--repair")
    assert lines[-1].endswith("4 problems found, 4 repaired") and not said, (lines, said)
    for line, before, after in zip(lines, wrong, ("; moved to quarantine/", "; moved to quarantine/",
                                                  "; the object was removed", "; moved to quarantine/")):
        assert line.startswith(before + after), line
    assert [QUARANTINED.sub("", name) for name in quarantine(place.daemon)] == [
        first.name + ".", second.name + ".", "not\x1bours."], quarantine(place.daemon)

    assert place.verify()[0][-1].startswith("1 objects, ")
    assert place.daemon.ctl("ls").stdout == b"small\n"
    assert place.daemon.ctl("get", "small").stdout == b"small"
    for uri in ("first", "second", "third"):
        assert place.daemon.ctl("get", uri, check=False).returncode == 3
        place.daemon.ctl("put", uri, input=BIG)
    place.daemon.restart()
    assert len(quarantine(place.daemon)) == 3  # a start leaves it alone
    assert place.verify()[0][-1].endswith("0 problems found, 0 repaired")


def test_report_on_the_bus(place):
    """What programs get: every field, and the options' errors."""
    flip(blobs(place.daemon)[0])
    report = place.bus.call("Verify", "a{sv}", 0)
    assert {name: value["data"] for name, value in report.items() if name != "findings"} == {
        "checked": 4, "bytes": 3 * len(BIG) + 16 + 5 + len(BIG) + 5, "problems": 1, "repaired": 0,
        "sums-compared": True, "findings-omitted": 0}, report
    (finding,) = report["findings"]["data"]
    assert finding[:2] == ["checksum", "first"] and finding[3] is False, finding
    report = place.bus.call("Verify", "a{sv}", 2, "repair", "b", "true", "rate", "t", 1 << 40)
    assert report["repaired"]["data"] == 1, report

    for option, what in (("repair t 1", '"repair" has to be of type b'), ("rate t 0", "\"rate\" can't be 0"),
                         ("shiny b true", 'Unknown option "shiny"')):
        said = place.bus.fail("Verify", "a{sv}", 1, *option.split())
        assert said.startswith("Verify: ") and what in said, said


def test_not_permitted(place):
    if os.geteuid() != 0:
        raise tap.Skip("needs root")
    said = place.bus.fail("Verify", "a{sv}", 0, uid=65534)
    assert said.startswith("Verify is not permitted to uid 65534"), said


def test_one_at_a_time_while_others_go_on(place):
    """At 20 kB a second it takes four: time for all else."""
    process = place.start(f"--rate={SLOW}", stdout=subprocess.PIPE, text=True)
    assert place.daemon.ctl("get", "second").stdout == BIG + b"second"
    place.daemon.ctl("put", "second", input=b"replaced")
    place.daemon.ctl("rm", "third")
    place.daemon.configure_store("MaxObjects=100\nCacheSize=1M\nPolicy=lru\n[Namespace of]\nPrefix=of/\nMaxObjects=1")
    place.bus.call("Reload")
    assert place.bus.call("GetStats")["store_objects"]["data"] == 3
    assert process.communicate(timeout=60)[0].endswith("0 problems found, 0 repaired\n")
    assert process.returncode == 0
    place.verify()


def test_caller_that_leaves(place):
    process = place.start("--rate=1")
    process.send_signal(signal.SIGINT)
    process.wait(60)
    wait_until(lambda: "was cancelled after" in place.daemon.log(), "it is cancelled")
    place.verify()


def test_stop_of_the_daemon(place):
    """It does not wait for the end of a verification."""
    process = place.start("--rate=1", stderr=subprocess.PIPE, text=True)
    place.daemon.restart()
    said = process.communicate(timeout=60)[1]
    assert "cancelled" in said, said
    assert process.returncode == BUSY
    place.verify()


def test_progress(place):
    """A bar on a terminal, from the signals that come to the caller alone."""
    status, shown = on_terminal(place.command("verify", f"--rate={SLOW}"), stdout=subprocess.DEVNULL,
                                env={**place.environment(), "TERM": "xterm"})
    assert status == DONE, shown
    bars = re.findall(rb"\[([#.]+)\] +(\d+)%  (\d+)/4  [0-9.]+ (?:B|KiB)", shown)
    assert len(bars) >= 2 and 0 < int(bars[-1][1]) < 100, shown


def test_no_bus_and_no_daemon(place):
    env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={place.daemon.base}/no-bus"}
    result = subprocess.run(place.command("verify"), env=env, check=False, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == NO_DAEMON and "can't reach the system bus" in result.stderr, result
    for arguments, status, what in ((("--instance=other",), NO_DAEMON, "objmapper@other.service"),
                                    (("--instance=a b",), USAGE, "--instance"),
                                    (("--socket=/nowhere",), USAGE, "D-Bus"), (("--rate=0",), USAGE, "--rate"),
                                    (("--rate=1X",), USAGE, "--rate"), (("URI",), USAGE, "usage")):
        _, said = place.verify(*arguments, status=status)
        assert what in said, said
    place.daemon.stop()
    _, said = place.verify(status=NO_DAEMON)
    assert "no daemon on the system bus" in said and "objmapper.service" in said, said
    place.daemon.start()


def test_pin(place):
    assert place.run("pin", "first", "small") == ([], "")
    assert place.bus.call("GetStats")["pinned_objects"]["data"] == 2
    place.verify()
    _, said = place.run("unpin", "nothing", "small", status=3)
    assert said.startswith("objmapperctl: nothing: "), said
    assert place.bus.call("GetStats")["pinned_objects"]["data"] == 1
    for arguments, what in (((b"\xff",), "UTF-8"), (("",), "0 bytes"), (("--socket=/nowhere", "a"), "D-Bus"), ((), "usage")):
        _, said = place.run("pin", *arguments, status=USAGE)
        assert what in said, said


def in_a_place(function):
    """Each test gets a bus, a daemon and a store of its own."""
    def run():
        with Place() as place:
            function(place)
    return run


tap.run({name: in_a_place(test) for name, test in list(globals().items()) if name.startswith("test_")})
