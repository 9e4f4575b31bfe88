# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message bus of a test's own."""

import json
import pathlib
import shutil
import subprocess
import tempfile

import tap

# As open as a bus can be: what the daemon itself refuses is to be seen, not the policy of a system.
CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  {settings}
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"""
NAME = "org.objmapper1"
PATH = "/org/objmapper1"
INTERFACE = "org.objmapper1.Manager"


class Bus:
    """with Bus() as bus: bus.address; everybody may connect, own every name and send everything"""

    def __init__(self, settings=""):
        self.settings = settings  # more of the bus's configuration

    def __enter__(self):
        if not shutil.which("dbus-daemon"):
            tap.skip_all("needs dbus-daemon")
        if not shutil.which("busctl"):
            tap.skip_all("needs busctl")
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-bus-", dir="/var/tmp"))
        self.base.chmod(0o755)
        self.address = f"unix:path={self.base}/bus"
        (self.base / "bus.conf").write_text(CONFIG.format(socket=self.base / "bus", settings=self.settings))
        self.process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self.base}/bus.conf", "--nofork", "--nopidfile", "--print-address"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if not self.process.stdout.readline():  # told when it listens
            self.__exit__()
            raise AssertionError("the bus does not start")
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def busctl(self, *arguments, uid=None, groups=(), timeout=60):
        """Runs busctl, as uid where given, in these groups and its own: a CompletedProcess."""
        in_groups = "--groups=" + ",".join(map(str, groups)) if groups else "--clear-groups"
        as_uid = ["setpriv", f"--reuid={uid}", f"--regid={uid}", in_groups] if uid else []
        return subprocess.run([*as_uid, "busctl", f"--address={self.address}", "--json=short", *arguments],
                              check=False, timeout=timeout, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)

    def call(self, method, *arguments, uid=None, name=NAME):
        """Calls a method of the manager: what it returned, without the types, or an AssertionError."""
        result = self.busctl("call", name, PATH, INTERFACE, method, *map(str, arguments), uid=uid)
        assert result.returncode == 0, result.stderr
        returned = json.loads(result.stdout)["data"] if result.stdout.strip() else []
        return returned[0] if returned else None

    def fail(self, method, *arguments, uid=None):
        """Calls a method that must fail: its error's text."""
        result = self.busctl("call", NAME, PATH, INTERFACE, method, *map(str, arguments), uid=uid)
        assert result.returncode != 0, result.stdout
        return result.stderr.removeprefix("Call failed: ").strip()
