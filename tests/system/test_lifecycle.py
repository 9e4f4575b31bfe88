# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the units start, stop, reload and admit, as an operator sees it."""

import json
import os
import re

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

STARTED = "6c6a3082ec134ca495153d995b3e30ab"
STOPPED = "2df766812db14845965883c7f8397bbe"
RELOAD_REFUSED = "7fb4cf477afc4e9aa054e5102bd30849"
DROP_IN = "/run/systemd/system/objmapper.service.d/test.conf"


def test_first_get_starts_the_service(host):
    host.start_again("objmapper.socket")
    assert not host.is_active()
    absent = host.ctl("get", "absent", user="reader", check=False)
    assert absent.returncode != 0 and "absent" in absent.stderr, absent
    assert host.is_active()
    # The service brought the other socket too.
    host.put("first", "bytes")
    assert host.get("first") == b"bytes"


def test_first_put_starts_the_service(host):
    host.start_again("objmapper-publish.socket")
    assert not host.is_active()
    host.put("publish-first", "bytes", user="publisher")
    assert host.is_active("objmapper.socket")
    assert host.get("publish-first") == b"bytes"


def test_bus_starts_the_service(host):
    host.start_again()
    assert not host.is_active()
    reply = host.busctl("GetStats").stdout
    assert reply.startswith("a{sv}") and '"store_objects"' in reply, reply
    assert host.is_active()

    host.start_again()
    assert not host.is_active()
    host.busctl("PutBytes", "saya{ss}a{sv}", "over/the/bus", "3", "1", "2", "3", "1", "key", "value", "0")
    assert host.get("over/the/bus") == b"\1\2\3"


def test_bus_changes_are_for_root(host):
    refused = host.busctl("PutBytes", "saya{ss}a{sv}", "by/a/user", "1", "1", "0", "0", user="publisher",
                          check=False)
    assert refused.returncode != 0
    assert host.ctl("stat", "by/a/user", check=False).returncode != 0


def test_stop_loses_nothing(host):
    host.start_again()
    # Puts one object after the other until one fails, and tells the number of each that was acknowledged.
    putting = host.start("sh", "-c", 'i=0; while echo "body $i" | objmapperctl put "stop/$i"; '
                         "do echo $i; i=$((i + 1)); done", stdout=-1, stderr=-1, text=True)
    for _ in range(20):
        assert putting.stdout.readline()
    host.run("systemctl", "stop", "objmapper.socket", "objmapper-publish.socket", "objmapper.service")
    acknowledged = 20 + len(putting.communicate(timeout=60)[0].split())

    host.start_again()
    for i in range(acknowledged):
        assert host.get(f"stop/{i}") == b"body %d\n" % i


def test_client_waits_for_the_service(host):
    host.start_again()
    host.put("waiting", "bytes")
    host.run("systemctl", "stop", "objmapper.service")
    host.path(DROP_IN).parent.mkdir(parents=True, exist_ok=True)
    host.path(DROP_IN).write_text("[Service]\nExecStartPre=/bin/sh -c 'until test -e /var/lib/objmapper/go; "
                                  "do sleep 0.05; done'\n")
    host.run("systemctl", "daemon-reload")
    try:
        clients = [host.start(*command, user=user, stdout=-1, stderr=-1) for user, command in (
            ("reader", ("objmapperctl", "get", "waiting")),
            ("publisher", ("objmapperctl", "put", "waited", "/etc/hostname")))]
        wait_until(lambda: host.property("objmapper.service", "ActiveState") == "activating")
        assert [client.poll() for client in clients] == [None, None]
        host.path("/var/lib/objmapper/go").touch()
        for client in clients:
            output, errors = client.communicate(timeout=30)
            assert client.returncode == 0, errors
        assert host.get("waiting") == b"bytes"
        assert host.get("waited") == host.path("/etc/hostname").read_bytes()
    finally:
        host.path("/var/lib/objmapper/go").touch()
        host.path(DROP_IN).unlink()
        host.run("systemctl", "daemon-reload")


def test_unreadable_dictionary(host):
    """It dies of it, says so, and is started again."""
    host.start_again()
    for i in range(20):
        host.put(f"small/{i}", f"{i}" * 500)
    host.run("systemctl", "stop", "objmapper.service")
    data, copy = "/var/lib/objmapper/dictionary/data.mdb", "/var/lib/objmapper/dictionary.copy"
    host.run("cp", "--preserve", data, copy)
    host.path(DROP_IN).parent.mkdir(parents=True, exist_ok=True)
    host.path(DROP_IN).write_text("[Service]\n"
                                  f"ExecStartPre=/bin/sh -c 'test ! -e {copy} || mv {copy} {data}'\n")
    try:
        host.run("systemctl", "start", "objmapper.service")
        assert host.get("small/7") == b"7" * 500
        host.run("systemctl", "daemon-reload")
        process = host.property("objmapper.service", "MainPID")
        os.truncate(host.path(data), 8192)
        host.ctl("get", "small/11", check=False)
        wait_until(lambda: host.is_active() and host.property("objmapper.service", "MainPID") not in ("0", process))
        for i in range(20):
            assert host.get(f"small/{i}") == f"{i}".encode() * 500
        said = [entry for entry in host.journal(f"_PID={process}") if "SIGBUS" in entry["MESSAGE"]]
        assert len(said) == 1, said
        assert said[0]["PRIORITY"] == "2" and "/var/lib/objmapper" in said[0]["MESSAGE"], said
    finally:
        host.path(DROP_IN).unlink()
        host.run("systemctl", "daemon-reload")


def test_sockets_survive_restarts(host):
    host.start_again()
    host.put("kept", "bytes")
    for _ in range(10):  # more often than systemd's own limit of starts
        host.run("systemctl", "restart", "objmapper.service")
        assert host.get("kept") == b"bytes"
    for _ in range(10):
        host.run("systemctl", "stop", "objmapper.service")
        assert host.path("/run/objmapper/objmapper.sock").is_socket()
        assert host.path("/run/objmapper/publish.sock").is_socket()
        assert host.is_active("objmapper.socket") and host.is_active("objmapper-publish.socket")
        assert host.get("kept") == b"bytes"


def test_groups_are_permissions(host):
    host.start_again()
    host.put("permitted", "bytes", user="publisher")
    assert host.get("permitted", user="reader") == b"bytes"

    refused = host.ctl("put", "by/a/reader", "/etc/hostname", user="reader", check=False)
    assert refused.returncode != 0 and "objmapper-publish" in refused.stderr, refused
    refused = host.ctl("rm", "permitted", user="reader", check=False)
    assert refused.returncode != 0 and "objmapper-publish" in refused.stderr, refused
    for command in (("get", "permitted"), ("put", "by/a/stranger", "/etc/hostname")):
        refused = host.ctl(*command, user="stranger", check=False)
        assert refused.returncode != 0 and "group" in refused.stderr, refused
    assert host.get("permitted") == b"bytes"


def test_no_socket_names_the_remedy(host):
    host.stop()
    refused = host.ctl("get", "anything", user="reader", check=False)
    assert refused.returncode != 0 and "systemctl start objmapper.socket" in refused.stderr, refused


def test_reload(host):
    host.start_again()
    host.put("reloaded", "bytes")
    settings = host.path("/etc/objmapper/objmapper.conf.d/test.conf")
    settings.parent.mkdir(parents=True, exist_ok=True)
    main_pid = host.property("objmapper.service", "MainPID")

    settings.write_text("[Server]\nLogLevel=debug\n")
    host.run("systemctl", "reload", "objmapper.service")
    settings.write_text("[Server]\nMaxConnections=many\n")
    bad = host.run("systemctl", "reload", "objmapper.service", check=False)
    assert bad.returncode != 0
    messages = [entry["MESSAGE"] for entry in host.journal("--unit=objmapper.service")]
    assert any("test.conf:2" in message and "MaxConnections" in message for message in messages), messages[-10:]
    settings.unlink()

    # The bad file changed nothing: the same process serves.
    assert host.is_active() and host.property("objmapper.service", "MainPID") == main_pid
    assert host.get("reloaded") == b"bytes"
    host.run("systemctl", "reload", "objmapper.service")


def test_journal(host):
    host.start_again()
    host.put("journalled", "bytes")
    host.run("systemctl", "stop", "objmapper.service")
    started = host.journal("--unit=objmapper.service", f"MESSAGE_ID={STARTED}")
    stopped = host.journal("--unit=objmapper.service", f"MESSAGE_ID={STOPPED}")
    assert started and stopped
    assert re.search(r"\d+ objects", started[-1]["MESSAGE"]), started[-1]["MESSAGE"]
    assert len(started) >= len(stopped) > 0
    for name, value in (("OBJMAPPER_STORE", "/var/lib/objmapper"), ("OBJMAPPER_SOCKETS", "/run/objmapper/publish.sock"),
                        ("OBJMAPPER_VERSION", "."), ("OBJMAPPER_OBJECTS", "")):
        assert value in started[-1][name], started[-1]
    refused = host.journal("--unit=objmapper.service", f"MESSAGE_ID={RELOAD_REFUSED}")
    assert "MaxConnections=many" in refused[-1]["MESSAGE"], refused
    text = host.log("--unit=objmapper.service")
    assert "journalled" not in text, "a request was logged"


def test_log_level(host):
    host.start_again()
    host.put("level", "bytes")
    level = ("systemctl", "service-log-level", "objmapper.service")
    assert host.run(*level).stdout.strip() == "info"
    host.run(*level, "debug")
    assert host.run(*level).stdout.strip() == "debug"
    assert host.run(*level, "chatty", check=False).returncode != 0
    control = ("org.objmapper1", "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1")
    refused = host.run("busctl", "set-property", *control, "LogLevel", "s", "err", user="publisher", check=False)
    assert refused.returncode != 0
    refused = host.run("busctl", "set-property", *control, "LogLevel", "s", "chatty", check=False)
    assert refused.returncode != 0 and "no such log level" in refused.stderr, refused
    for name, value in (("LogLevel", "debug"), ("LogTarget", "journal"), ("SyslogIdentifier", "objmapperd")):
        got = host.run("busctl", "get-property", *control, name, user="stranger").stdout.strip()
        assert got == f's "{value}"', got
    # Until the next reload.
    host.run("systemctl", "reload", "objmapper.service")
    assert host.run(*level).stdout.strip() == "info"


def test_messages_are_explained(host):
    host.start_again()
    host.run("journalctl", "--update-catalog")
    host.put("explained", "bytes")
    text = host.log("--catalog", f"MESSAGE_ID={STARTED}")
    assert "Subject: objmapper has started" in text, text
    assert re.search(r"The daemon serves the \d+ objects of the store /var/lib/objmapper", text), text
    for number in re.findall(r"^-- (\w+)$", host.path("/usr/lib/systemd/catalog/objmapper.catalog").read_text(),
                             re.MULTILINE):
        assert host.run("journalctl", "--dump-catalog", number).stdout.count("Subject:") == 1, number


def test_stats_agree(host):
    host.start_again()
    counters = json.loads(host.ctl("stats", "--json", user="reader").stdout)
    assert f'"store_objects" t {counters["store_objects"]}' in host.busctl("GetStats").stdout


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
