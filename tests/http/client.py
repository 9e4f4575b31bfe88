# SPDX-License-Identifier: LGPL-2.1-or-later
"""HTTP/1.1 as a client of a server's Unix socket."""

import http.client
import socket

DEADLINE_SECONDS = 60


class Unix(http.client.HTTPConnection):
    """A connection to the socket at path."""

    def __init__(self, path, timeout=DEADLINE_SECONDS):
        super().__init__("example.org", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    """A response as it came: fields is a list of pairs with names in lower case."""

    def __init__(self, response):
        self.status = response.status
        self.reason = response.reason
        self.fields = [(name.lower(), value) for name, value in response.getheaders()]
        self.body = response.read()

    def __getitem__(self, name):
        """The field's value, None when it is not there; several are joined."""
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None

    def __repr__(self):
        return f"{self.status} {self.reason} {self.fields} {self.body[:80]!r}"
