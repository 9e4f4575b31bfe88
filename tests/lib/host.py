# SPDX-License-Identifier: LGPL-2.1-or-later
"""A booted machine with objmapper installed: what the system tests share."""

import time

import container
import daemon

BUILD = daemon.build_path("")
SOCKETS = ("objmapper.socket", "objmapper-publish.socket")
# One user for each thing that a user may be allowed.
USERS = {"reader": ["objmapper"], "publisher": ["objmapper-publish"], "stranger": []}


class Host(container.Container):
    """users: more of them, each with its groups, which are made."""

    def __init__(self, *, users=None, **kwargs):
        super().__init__(install=BUILD, users={**USERS, **(users or {})}, **kwargs)

    def stop(self):
        self.run("systemctl", "stop", *SOCKETS, "objmapper.service")
        self.run("systemctl", "reset-failed")

    def start_again(self, *sockets):
        """Sockets alone are active, as after a boot; what was stored stays."""
        self.stop()
        self.run("systemctl", "start", *(sockets or SOCKETS))

    def is_active(self, unit="objmapper.service"):
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"

    def ctl(self, *args, user="root", **kwargs):
        return self.run("objmapperctl", *args, user=user, **kwargs)

    def put(self, uri, data, user="root"):
        self.ctl("put", uri, user=user, input=data, text=isinstance(data, str))

    def get(self, uri, *args, user="reader"):
        return self.ctl("get", uri, *args, user=user, text=False).stdout

    def busctl(self, method, *args, **kwargs):
        return self.run("busctl", "call", "org.objmapper1", "/org/objmapper1", "org.objmapper1.Manager",
                        method, *args, **kwargs)

    def configure(self, name, settings):
        """Writes a drop-in of the configuration, or removes it when there are no settings, and reloads."""
        path = self.path(f"/etc/objmapper/objmapper.conf.d/{name}.conf")
        path.parent.mkdir(parents=True, exist_ok=True)
        if settings:
            path.write_text(settings)
        else:
            path.unlink(missing_ok=True)
        self.run("systemctl", "reload", "objmapper.service")

    def test_program(self, name):
        """A program of tests/system, as the container can run it."""
        inside = f"/usr/local/bin/{name}"
        if not self.path(inside).exists():
            self.path(inside).write_bytes((BUILD / "tests/system" / name).read_bytes())
            self.path(inside).chmod(0o755)
        return inside


def wait_until(condition, seconds=60):
    """Waits for condition() to be true, and returns what it is then."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError("it did not come true in time")
        time.sleep(0.02)
    return value
