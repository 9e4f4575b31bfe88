# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples of README.md, and its sections about HTTP servers followed on a booted machine."""

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


def install_example(host, text, folder):
    """folder: the source there, built and installed as the example says; None: that was done already."""
    if folder:
        run_example(host, f"cd {folder}\nexport DEBIAN_FRONTEND=noninteractive\n" +
                    text.replace("apt-get install", "apt-get install --yes --no-install-recommends"), timeout=900)
    else:
        run_example(host, "".join(line for line in text.splitlines(True)
                                  if not line.startswith(("apt-get ", "meson "))))


def wait_until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.1)


def start_origin(host):
    host.path("/root/origin.py").write_text(ORIGIN)
    host.run("systemd-run", "--unit=origin", "--collect", "python3", "/root/origin.py")


def follow_varnish(host, folder=None):
    """A hit, and again after Varnish has been started anew without the origin. folder: as for install_example()."""
    (commands,) = (text for text in examples("sh") if "vcache" in text)
    install, separator, use = commands.partition("systemctl ")
    install_example(host, install, folder)
    (vcl,) = examples("vcl")
    host.path("/etc/varnish/default.vcl").write_text(vcl)
    start_origin(host)
    run_example(host, separator + use)
    host.run("objmapperctl", "put", "http://example.org/logo.png", "--meta", "content-type=image/png", input="bytes")

    def get(target):
        url = "http://127.0.0.1:6081" + target
        return host.run("python3", "-c", "import urllib.request as u; "
                        f"r = u.urlopen(u.Request({url!r}, headers={{'Host': 'example.org'}})); "
                        "print(r.headers['content-type'], r.read().decode())", check=False).stdout

    wait_until(lambda: get("/logo.png") == "image/png bytes\n")
    wait_until(lambda: get("/page") == "None from the origin\n")
    get("/page")
    assert "objmapper store: found " in host.run("varnishlog", "-d", "-g", "raw").stdout
    assert re.search(r"MAIN.cache_hit +[1-9]", host.run("varnishstat", "-1").stdout)
    wait_until(lambda: "http://example.org/page" in host.run("objmapperctl", "ls").stdout)
    host.run("systemctl", "stop", "origin.service")
    host.run("systemctl", "restart", "varnish.service")
    wait_until(lambda: get("/logo.png") == "image/png bytes\n")
    assert get("/page") == "None from the origin\n"
    host.run("systemctl", "stop", "varnish.service")


def follow_nginx(host, folder=None):
    """A hit, and again after each has been started anew without the origin. folder: as for install_example()."""
    install, use = (text for text in examples("sh") if "nginx" in text)
    (configuration,) = examples("nginx")
    path = re.match(r"# (\S+)\n", configuration)[1]
    install_example(host, install, folder)
    host.path(path).write_text(configuration)
    assert run_example(host, use).endswith("hello\n")

    def get(target):
        shown = host.run("curl", "--silent", "--include", "--header", "Host: example.org", f"http://127.0.0.1{target}",
                         check=False).stdout
        return shown.rpartition("\n")[2] if " 200 " in shown else None, re.search(r"^Age: \d", shown, re.MULTILINE)

    start_origin(host)
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
