# SPDX-License-Identifier: LGPL-2.1-or-later
"""An origin server whose answers a test decides."""

import http.server
import socketserver
import threading


class Origin:
    """with Origin() as origin: origin.serve["/path"] = (status, [(name, value), …], body)

    body: bytes, or a function that is given the handler and writes the body itself; in raw, one that writes all of the
    response. What is not in serve gets 200 and "from the origin"."""

    def __enter__(self):
        self.serve, self.raw = {}, {}
        self.requests = []
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def respond(self):
                size = int(self.headers.get("Content-Length", 0))
                self.rfile.read(size)
                origin.requests.append((self.command, self.path, dict(self.headers)))
                if self.path in origin.raw:
                    origin.raw[self.path](self)
                    return
                status, fields, body = origin.serve.get(self.path, (200, [], b"from the origin"))
                self.send_response_only(status)
                for name, value in fields:
                    self.send_header(name, value)
                if callable(body):
                    self.end_headers()
                    body(self)
                    return
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = respond

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            request_queue_size = 1024

            def handle_error(self, *_):
                pass  # clients that go away are part of the tests

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Connecting is refused from then on."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
        self.server = None
