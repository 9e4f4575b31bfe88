# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reloads of the configuration by systemctl, by a signal and by a call over the bus, while clients ask."""

import contextlib
import re
import threading

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

RATE = 200  # of each kind of request, five kinds
RELOADED = "a436163d6a984b03814c53d6066afa8c"
REFUSED = "7fb4cf477afc4e9aa054e5102bd30849"
DROP_IN = "/etc/objmapper/objmapper.conf.d/test.conf"
SETTINGS = """\
[Store]
CacheSize={cache}
MaxObjectSize={size}
[Namespace some]
Prefix=some/
ReadUsers={user}
"""


def count(host, message_id):
    return len(host.journal("--unit=objmapper.service", f"MESSAGE_ID={message_id}"))


def by_systemctl(host):
    return host.run("systemctl", "reload", "objmapper.service", check=False)


def by_bus(host):
    return host.busctl("Reload", check=False)


def by_signal(host):
    """A signal has no answer: what was said is one."""
    before = count(host, RELOADED), count(host, REFUSED)
    result = host.run("systemctl", "kill", "--signal=HUP", "objmapper.service")
    wait_until(lambda: (count(host, RELOADED), count(host, REFUSED)) != before)
    result.returncode = 1 if count(host, REFUSED) > before[1] else 0
    return result


WAYS = (by_systemctl, by_bus, by_signal)


@contextlib.contextmanager
def under_load(host):
    """Clients of the library with connections that stay, and others that come and go: none of them may fail."""
    load = host.start(host.test_program("load"), str(RATE), stdin=-1, stdout=-1, stderr=-1, text=True)
    stop = threading.Event()
    failed, n_asked = [], 0

    def ask():
        nonlocal n_asked
        while not stop.is_set():
            result = host.ctl("stat", "load/1", check=False)
            n_asked += 1
            if result.returncode != 0:
                failed.append(result.stderr)

    asking = threading.Thread(target=ask)
    try:
        assert load.stdout.readline() == "started\n", load.communicate()
        asking.start()
        yield
    finally:
        stop.set()
        output, errors = load.communicate(timeout=60)
        if asking.ident:
            asking.join()
    print(f"# {output.strip()}; {n_asked} connections")
    assert load.returncode == 0 and not failed and n_asked > 0, output + errors[-2000:] + "".join(failed[:5])


def hot_hits(host):
    return int(re.search(r"^hot_hits (\d+)$", host.ctl("stats").stdout, re.M)[1])


def see(host, cache, size, user):
    """These are the settings in force."""
    before = hot_hits(host)
    for _ in range(3):
        host.get("load/1", user="root")
    assert (hot_hits(host) > before) == (cache != "0")
    put = host.ctl("put", "large", input=b"x" * 1_500_000, text=False, check=False)
    assert (put.returncode == 0) == (size == "2M"), put
    for one, socket in (("reader", "objmapper.sock"), ("publisher", "publish.sock")):
        said = host.ctl(f"--socket=/run/objmapper/{socket}", "get", "some/1", user=one, check=False)
        assert (said.returncode == 0) == (one == user), said


def prepare(host):
    host.path(DROP_IN).parent.mkdir(parents=True, exist_ok=True)
    host.path(DROP_IN).unlink(missing_ok=True)
    host.start_again()
    host.put("some/1", "bytes")


def test_good_and_bad(host):
    prepare(host)
    process = host.property("objmapper.service", "MainPID")
    with under_load(host):
        for i, way in enumerate(WAYS):
            settings = {"cache": ("0", "64M")[i % 2], "size": ("1M", "2M")[i % 2], "user": ("reader", "publisher")[i % 2]}
            host.path(DROP_IN).write_text(SETTINGS.format(**settings))
            result = way(host)
            assert result.returncode == 0, result
            said = host.journal("--unit=objmapper.service", f"MESSAGE_ID={RELOADED}")[-1]["MESSAGE"]
            for name in ("[Store] MaxObjectSize=", "[Store] CacheSize=", "[Namespace some]"):
                assert name in said, said
            see(host, **settings)

            # What is right in it counts no more than what is wrong.
            host.path(DROP_IN).write_text(SETTINGS.format(cache="32M", size="10M", user="root") + "MaxBytes=much\n")
            result = way(host)
            assert result.returncode != 0, result
            where = f"{DROP_IN}:7: MaxBytes=much: "
            status = host.run("systemctl", "status", "--lines=0", "objmapper.service").stdout
            assert re.search(rf"^ +Status: .*the last reload was refused: {re.escape(where)}", status, re.M), status
            host.run("journalctl", "--sync")
            assert where in host.run("systemctl", "status", "objmapper.service").stdout.partition("CGroup")[2]
            if way is by_bus:
                assert where in result.stderr, result
            see(host, **settings)
        # Many more of both kinds.
        for i in range(10):
            host.path(DROP_IN).write_text(SETTINGS.format(cache=f"{i}M", size="2M", user="root") + "Evict=maybe\n" * (i % 2))
            assert (by_systemctl(host).returncode != 0) == (i % 2 == 1)

    host.path(DROP_IN).unlink()
    assert by_systemctl(host).returncode == 0
    assert "refused" not in host.run("systemctl", "status", "--lines=0", "objmapper.service").stdout
    assert host.is_active() and host.property("objmapper.service", "MainPID") == process


def test_restart_is_asked_for(host):
    """What a reload can't change is named, and the reload succeeds."""
    prepare(host)
    host.ctl("stat", "some/1")
    host.path(DROP_IN).write_text("[Server]\nWorkers=3\n[Store]\nCachePath=/var/lib/objmapper/cache\n")
    for way in WAYS:
        assert way(host).returncode == 0
    said = [entry["MESSAGE"] for entry in host.journal("--unit=objmapper.service", "--priority=notice..notice")]
    for name in ("Workers", "CachePath"):
        assert said.count(f"{name}= has changed: that counts from the next restart.") == len(WAYS), said
    host.path(DROP_IN).unlink()


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
