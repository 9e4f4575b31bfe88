# SPDX-License-Identifier: LGPL-2.1-or-later
"""org.objmapper1.Manager as python-dbus has it."""

import os
import sys

import tap

try:
    import dbus
    import dbus.bus
    import dbus.lowlevel
except ImportError:
    # A Python of one's own does not have what the system's has.
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    tap.skip_all("needs python3-dbus")

from bus import INTERFACE, NAME, PATH  # pylint: disable=wrong-import-position

ERROR = "org.objmapper1.Error."
NONE = dbus.Dictionary({}, signature="sv")
NO_METADATA = dbus.Dictionary({}, signature="ss")


class Manager:
    """Calls over one connection, as python-dbus has them."""

    def __init__(self, address):
        self.address = address
        self.connection = dbus.bus.BusConnection(address)

    def call(self, method, signature, *arguments):
        return self.connection.call_blocking(NAME, PATH, INTERFACE, method, signature, arguments, timeout=60)

    def failure(self, method, signature, *arguments):
        """The error of a call that must fail: its name and its text."""
        try:
            returned = self.call(method, signature, *arguments)
        except dbus.DBusException as failure:
            return failure.get_dbus_name(), failure.get_dbus_message()
        raise AssertionError(f"{method} returned {returned!r}")

    def fail(self, error, method, signature, *arguments):
        """The text of the error, which must be this one."""
        name, text = self.failure(method, signature, *arguments)
        assert name == ERROR + error, (name, text)
        return text

    def put(self, uri, data, metadata=NO_METADATA, **options):
        options = dbus.Dictionary({name.replace("_", "-"): value for name, value in options.items()}, signature="sv")
        return str(self.call("PutBytes", "saya{ss}a{sv}", uri, dbus.ByteArray(data), metadata, options))

    def refuse(self, error, uri, data=b"", metadata=NO_METADATA, **options):
        """A put that must fail."""
        options = dbus.Dictionary({name.replace("_", "-"): value for name, value in options.items()}, signature="sv")
        return self.fail(error, "PutBytes", "saya{ss}a{sv}", uri, dbus.ByteArray(data), metadata, options)

    def info(self, uri):
        return self.call("GetInfo", "sa{sv}", uri, NONE)
