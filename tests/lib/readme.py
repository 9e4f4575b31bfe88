# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples of README.md, and its section about nginx followed on a booted machine."""

import pathlib
import re
import time

README = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
SECONDS = 60

ORIGIN = """\
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=1000")
        self.send_header("Content-Length", "15")
        self.end_headers()
        self.wfile.write(b"from the origin")

http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""


def examples(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run_example(host, text, timeout=120):
    """The lines as they are typed, stopped by the first that fails."""
    return host.run("sh", "-exc", text, timeout=timeout).stdout


def follow_nginx(host, folder=None):
    """folder: the source there, built and installed as the section says; None: that was done already."""
    install, use = (text for text in examples("sh") if "nginx" in text)
    (configuration,) = examples("nginx")
    path = re.match(r"# (\S+)\n", configuration)[1]
    if folder:
        run_example(host, f"cd {folder}\nexport DEBIAN_FRONTEND=noninteractive\n" +
                    install.replace("apt-get install", "apt-get install --yes --no-install-recommends"), timeout=900)
    else:
        run_example(host, "".join(line for line in install.splitlines(True)
                                  if not line.startswith(("apt-get ", "meson "))))
    host.path(path).write_text(configuration)
    assert run_example(host, use).endswith("hello\n")

    def get(target):
        shown = host.run("curl", "--silent", "--include", "--header", "Host: example.org", f"http://127.0.0.1{target}",
                         check=False).stdout
        return shown.rpartition("\n")[2] if " 200 " in shown else None, re.search(r"^Age: \d", shown, re.MULTILINE)

    def wait_until(condition):
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, "it did not come true in time"
            time.sleep(0.1)

    host.path("/root/origin.py").write_text(ORIGIN)
    host.run("systemd-run", "--unit=origin", "--collect", "python3", "/root/origin.py")
    wait_until(lambda: get("/page")[0] == "from the origin")
    wait_until(lambda: get("/page")[1])
    host.run("systemctl", "stop", "origin.service")
    for unit in (None, "nginx.service", "objmapper.service"):
        if unit:
            host.run("systemctl", "restart", unit)
        text, age = get("/page")
        assert text == "from the origin" and age, unit
        assert host.run("curl", "--silent", "--header", "Host: example.org", "http://127.0.0.1/hello.txt").stdout == "hello\n"
    host.run("systemctl", "stop", "nginx.service")
