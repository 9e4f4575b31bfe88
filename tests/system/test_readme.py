# SPDX-License-Identifier: LGPL-2.1-or-later
"""What README.md says, done as it says it: each shell example runs, in order, on a booted machine."""

import pathlib
import re

import container
import tap

container.enter_namespaces()

from host import Host, SOCKETS  # noqa: E402, pylint: disable=wrong-import-position
from readme import (README, examples, follow_nginx, follow_varnish,  # noqa: E402, pylint: disable=wrong-import-position
                    run_example)

TOP = pathlib.Path(__file__).resolve().parents[2]


def test_operator(host):
    host.run("systemctl", "stop", *SOCKETS, "objmapper.service")
    shown = run_example(host, examples("sh")[0].replace("journalctl ", "journalctl --sync; journalctl "))
    for word in ("hello\n", "Metadata:   content-type=text/plain\n", "objects put, ", '"store_objects": ',
                 "active (running)", "a{sv} ", " serves "):
        assert word in shown, f"no {word!r} in: {shown}"
    assert host.path("/tmp/copyright").read_bytes() == pathlib.Path("/usr/share/doc/base-files/copyright").read_bytes()


def test_service_author(host):
    (source,) = examples("c")
    host.path("/root/hello.c").write_text(source)
    shown = run_example(host, "cd /root\n" + examples("sh")[1])
    assert re.fullmatch(r"text/plain, descriptor \d+\nhello\n", shown), shown


def test_namespace(host):
    """The example's readers and publishers, and nobody else."""
    settings, _ = examples("ini")
    prefix = re.search("^Prefix=(.*)$", settings, re.MULTILINE)[1]
    host.ctl("put", prefix + "1", input="bytes")
    host.configure("50-readme", settings)
    assert host.ctl("get", prefix + "1", user="reader", check=False).returncode == 5
    host.run("usermod", "--append", "--groups=objmapper", "www-data")
    assert host.ctl("get", prefix + "1", user="www-data").stdout == "bytes"
    host.put(prefix + "2", "bytes", user="publisher")
    host.configure("50-readme", "")
    assert host.get(prefix + "2") == b"bytes"


def test_limits(host):
    """The example's settings are taken."""
    host.configure("50-readme", examples("ini")[1])
    assert "MaxBytes=200G" in host.ctl("cat-config").stdout  # how much is free here is not known: nothing is put
    host.configure("50-readme", "")


def test_varnish(host):
    """The section's commands and VCL on Debian's Varnish, as its unit runs it."""
    if not list(host.path("/usr/lib").glob("*/varnish/vmods/libvmod_objmapper.so")):
        raise tap.Skip("needs varnish, and libvarnishapi-dev of a supported version when it is built")
    follow_varnish(host)


def test_nginx(host):
    """The section's commands and configuration on Debian's nginx, as its unit runs it."""
    if not host.path("/usr/lib/nginx/modules/ngx_http_objmapper_module.so").exists():
        raise tap.Skip("needs nginx, nginx-dev when it is built, and curl")
    follow_nginx(host)


def test_all_examples_are_known(_):
    assert len(examples("sh")) == 5 and len(examples("c")) == 1 and len(examples("ini")) == 2
    assert len(examples("vcl")) == 1 and len(examples("nginx")) == 1
    assert README.count("\n```") == 22


def test_commands_in_sentences(host):
    host.run("systemctl", "enable", "objmapper.socket", "objmapper-publish.socket")
    host.run("systemctl", "reload", "objmapper.service")
    host.run("systemctl", "start", "objmapper@NAME.socket", "objmapper-publish@NAME.socket")
    host.ctl("--instance", "NAME", "put", "of/the/instance", "/etc/hostname")
    assert host.ctl("ls", "of/").stdout == ""


def test_what_is_named_is_there(host):
    for path in re.findall(r"\b(?:src/\w+|units|dbus|man|tests)/(?= )", README):
        assert (TOP / path).is_dir(), path
    for path in re.findall(r"`(?:\./)?(try|tests/run|LICENSE)", README):
        assert (TOP / path).is_file(), path
    for page, section in re.findall(r"`([a-z.-]+)\((\d)\)`", README):
        assert host.path(f"/usr/share/man/man{section}/{page}.{section}").exists(), f"{page}({section})"


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
