# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's life: command line, passed sockets, configuration, store, notifications, signals."""

import fcntl
import hashlib
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import tap  # noqa: E402  pylint: disable=wrong-import-position
from daemon import DEADLINE_SECONDS, Daemon, build_path, need, need_tracing  # noqa: E402  pylint: disable=wrong-import-position

OBJMAPPERD = build_path("src/daemon/objmapperd")
ENVIRONMENT = {"PATH": os.environ["PATH"], "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
# Becomes objmapperd, with standard input as the one passed descriptor, under a name.
PASS_STDIN = """
import os, sys
os.dup2(0, 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.01)


def run(*arguments, environment=None):
    return subprocess.run([OBJMAPPERD, *arguments], check=False, timeout=DEADLINE_SECONDS, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment or ENVIRONMENT)


def run_with_socket(name, passed):
    """Starts it with one descriptor, which it must refuse."""
    return subprocess.run([sys.executable, "-c", PASS_STDIN, name, OBJMAPPERD, "--config=/dev/null"], check=False,
                          timeout=DEADLINE_SECONDS, text=True, stdin=passed, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=ENVIRONMENT)


def run_to_its_end(daemon):
    """Starts a daemon that must end by itself: its exit status and what it logged."""
    process = daemon.start(wait=False)
    status = process.wait(DEADLINE_SECONDS)
    daemon.process = None
    return status, daemon.log()


class Notifications:
    """What a daemon tells its service manager."""

    def __init__(self, daemon):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE_SECONDS)
        path = f"{daemon.base}/own-notify"
        self.socket.bind(path)
        daemon.environment["NOTIFY_SOCKET"] = path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def next(self):
        """The next message's lines, watchdog's ones left out."""
        while True:
            lines = self.socket.recv(65536).decode().splitlines()
            if lines != ["WATCHDOG=1"]:
                return lines

    def wait(self, wanted):
        """Goes on to a message with this line; the message."""
        while True:
            lines = self.socket.recv(65536).decode().splitlines()
            if wanted in lines:
                return lines


def test_command_line():
    shown = run("--help")
    assert shown.returncode == 0 and "--instance=NAME" in shown.stdout and not shown.stderr, shown
    shown = run("--version")
    assert shown.returncode == 0 and shown.stdout.startswith("objmapperd "), shown
    for wrong, says in ((("--nothing",), "--nothing"), (("--config",), "--config"), (("argument",), "argument"),
                        (("--instance=a/b",), "a/b"), (("--instance=",), "expected"), (("--instance=1",), "expected"),
                        (("--instance=" + "a" * 65,), "expected")):
        refused = run(*wrong)
        assert refused.returncode == 2 and says in refused.stderr, refused


def test_no_sockets():
    refused = run("--config=/dev/null")
    assert refused.returncode == 3, refused
    for remedy in ("systemctl start objmapper.socket", "systemd-socket-activate", "--fdname="):
        assert remedy in refused.stderr, refused.stderr


def is_refused(passed):
    refused = run_with_socket("reader", passed)
    return refused.returncode == 3 and "not a listening Unix stream socket" in refused.stderr


def test_wrong_sockets():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("")  # a name of the kernel's choice
        listener.listen()
        refused = run_with_socket("writer", listener)
        assert refused.returncode == 3 and '"writer"' in refused.stderr and "FileDescriptorName=" in refused.stderr

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind("")
        assert is_refused(silent)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind("")
        assert is_refused(datagrams)
    with open("/dev/null", "rb") as null:
        assert is_refused(null)


def test_network_socket():
    try:
        network = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise tap.Skip(f"needs a network: {error}") from error
    with network:
        network.bind(("127.0.0.1", 0))
        network.listen()
        assert is_refused(network)


def test_socket_activation():
    """Started by the first client, by the program that an operator would use for a try."""
    need("systemd-socket-activate")
    base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-", dir="/var/tmp"))
    (base / "objmapper.conf").write_text(f"[Store]\nStoreDirectory={base}/store\n")
    sockets = [f"{base}/objmapper.sock", f"{base}/publish.sock"]
    process = subprocess.Popen(
        ["systemd-socket-activate", *(f"--listen={path}" for path in sockets), "--fdname=reader:publisher",
         "-E", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", OBJMAPPERD, f"--config={base}/objmapper.conf"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: all(os.path.exists(path) for path in sockets), "the sockets")
        ctl = [build_path("src/ctl/objmapperctl"), f"--socket={sockets[0]}", f"--publish-socket={sockets[1]}"]
        subprocess.run([*ctl, "put", "object", "/etc/hostname"], check=True, timeout=DEADLINE_SECONDS,
                       stdin=subprocess.DEVNULL)
        got = subprocess.run([*ctl, "get", "object"], check=True, timeout=DEADLINE_SECONDS, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE)
        assert got.stdout == pathlib.Path("/etc/hostname").read_bytes()
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(base)


def test_one_socket_is_enough():
    """A publisher's socket serves everything."""
    with Daemon(start=False) as daemon:
        reader = daemon.listeners.pop(0)
        daemon.environment["LISTEN_FDNAMES"] = "publisher"
        daemon.start()
        daemon.reader = daemon.publisher
        daemon.ctl("put", "object", "/etc/hostname")
        assert daemon.ctl("get", "object").stdout == pathlib.Path("/etc/hostname").read_bytes()
        os.close(reader)


def test_many_sockets():
    """Several of a kind, and one that is passed twice, are served; more than there can be, and unknown ones, are not."""
    for names, is_served in (("reader:publisher:reader:publisher", True), ("reader:publisher:" + "reader:" * 14, False),
                             ("reader:publisher:" + ":".join(["reader"] * 14), True),
                             ("reader:publisher:" + ":".join(["reader"] * 15), False), ("reader:publisher:readers", False)):
        with Daemon(start=False) as daemon:
            daemon.environment["LISTEN_FDNAMES"] = names
            for name in names.split(":")[2:]:
                original = daemon.listeners[name == "publisher"]
                daemon.listeners.append(fcntl.fcntl(original, fcntl.F_DUPFD_CLOEXEC, 100))
            if is_served:
                daemon.start()
                daemon.ctl("put", "object", "/etc/hostname")
                for _ in range(20):
                    daemon.ctl("get", "object")
            else:
                status, said = run_to_its_end(daemon)
                assert status == 3 and ("More than 16 sockets" in said or "is unknown" in said), said


def test_wrong_configuration():
    with Daemon(settings="MaxPipeline=0\nInlineMax=lots", start=False) as daemon:
        status, said = run_to_its_end(daemon)
        assert status == 6, (status, said)
        assert f"{daemon.config}:4: MaxPipeline=0: out of range" in said, said
        assert f"{daemon.config}:5: InlineMax=lots: not understood" in said, said
        assert not list(daemon.store.iterdir()), "a store was made"
        daemon.config.unlink()
        status, said = run_to_its_end(daemon)
        assert status == 6 and f"{daemon.config}: Can't open" in said, said
        daemon.configure("MaxPipelines=1")
        daemon.start()
        assert f"{daemon.config}:4: Unknown setting MaxPipelines=" in daemon.log()


def test_notifications():
    with Daemon(start=False) as daemon, Notifications(daemon) as notifications:
        daemon.environment["WATCHDOG_USEC"] = "1000000"
        daemon.start(wait=False)
        assert notifications.next() == ["READY=1", "STATUS=0 objects, 0 sessions"]
        notifications.wait("WATCHDOG=1")

        daemon.process.send_signal(signal.SIGHUP)
        reloading = notifications.wait("RELOADING=1")
        assert 0 < int(reloading[1].removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(
            time.CLOCK_MONOTONIC) // 1000, reloading
        assert notifications.next() == ["READY=1", "STATUS=0 objects, 0 sessions"]

        daemon.ctl("put", "object", "/etc/hostname")
        daemon.stop()
        assert "STOPPING=1" in notifications.wait("STOPPING=1")
        daemon.start(wait=False)
        assert notifications.next() == ["READY=1", "STATUS=1 objects, 0 sessions"]


def test_log():
    with Daemon() as daemon:
        assert f"objmapperd 1.0.0 serves 0 objects of {daemon.store} on {daemon.reader} (reader), " \
               f"{daemon.publisher} (publisher)." in daemon.log(), daemon.log()
        assert "There is no bus" in daemon.log()
        daemon.ctl("put", "object", "/etc/hostname")
        daemon.ctl("get", "object")
        daemon.stop()
        assert daemon.log().splitlines()[-1] == "objmapperd has stopped.", daemon.log()
        assert "object'" not in daemon.log()


def test_second_daemon_on_a_store():
    with Daemon() as first, Daemon(start=False) as second:
        first.ctl("put", "object", "/etc/hostname")
        second.store = first.store
        second.configure("")
        status, said = run_to_its_end(second)
        assert status == 4 and f"{first.store} is in use by another process" in said, (status, said)
        assert first.ctl("get", "object").stdout == pathlib.Path("/etc/hostname").read_bytes()


def digest(folder):
    """Names, times and bytes of all below it."""
    return {str(path): (path.lstat().st_mtime_ns, path.is_file() and hashlib.sha256(path.read_bytes()).digest())
            for path in sorted(folder.rglob("*"))}


def test_store_of_a_newer_version():
    with Daemon() as daemon:
        daemon.ctl("put", "object", "/etc/hostname")
        daemon.stop()
        make_newer(daemon.store / "format")
        before = digest(daemon.store)
        status, said = run_to_its_end(daemon)
        assert status == 4 and "newer format" in said and str(daemon.store) in said, (status, said)
        assert digest(daemon.store) == before


def make_newer(path):
    """Raises the version in a store's file "format"."""
    name, version, *rest = re.split(r"(\d+)", path.read_text(), maxsplit=1)
    path.write_text("".join([name, str(int(version) + 1), *rest]))


def test_store_that_is_none():
    with Daemon(start=False) as daemon:
        daemon.store.rmdir()
        daemon.store.write_text("a file")
        status, said = run_to_its_end(daemon)
        assert status == 4 and f"The store {daemon.store} can't be opened" in said, (status, said)
        daemon.store.unlink()
        daemon.config.write_text("")
        status, said = run_to_its_end(daemon)
        assert status == 4 and "StateDirectory=" in said, (status, said)
        daemon.store.mkdir()


def test_state_directory():
    """Without StoreDirectory= the first folder that the unit has counts."""
    with Daemon(start=False) as daemon:
        daemon.config.write_text("")
        daemon.environment["STATE_DIRECTORY"] = f"{daemon.store}:{daemon.store}/blobs:{daemon.store}/view"
        for name in ("blobs", "view"):  # as the unit makes them, before there is a store
            (daemon.store / name).mkdir(mode=0o700)
        daemon.start()
        daemon.ctl("put", "object", "/etc/hostname")
        daemon.restart()
        assert (daemon.store / "format").exists()
        assert daemon.ctl("get", "object").stdout == pathlib.Path("/etc/hostname").read_bytes()


def test_left_over_files():
    """What a crash left among the objects goes in the background and is told of; nothing else goes."""
    with Daemon() as daemon:
        body = os.urandom(100000)
        (daemon.base / "body").write_bytes(body)
        daemon.ctl("put", "object", str(daemon.base / "body"))
        daemon.stop()
        folder = daemon.store / "blobs" / "0000000000000"
        left_over, foreign = folder / "0000000000000fff", folder / "notes"
        left_over.write_bytes(b"half an object")
        foreign.write_bytes(b"somebody's")

        daemon.start()
        wait_until(lambda: "1 files that belong to no object were removed." in daemon.log(), "the removal")
        assert not left_over.exists() and foreign.exists()
        assert daemon.ctl("get", "object").stdout == body


def test_expired_objects_are_cleared():
    with Daemon(settings="[Store]\nExpiredKeepSec=0") as daemon:
        daemon.ctl("put", "--ttl", "100ms", "object", "/etc/hostname")
        wait_until(lambda: b"store_expired 1\n" in daemon.ctl("stats").stdout, "the counter")
        assert b"store_objects 0\n" in daemon.ctl("stats").stdout


def test_limits_of_the_store():
    """MaxBytes= and the like, by a start and by reloads."""

    def count(daemon, name):
        return int(re.search(rb"^%s (\d+)$" % name.encode(), daemon.ctl("stats").stdout, re.M)[1])

    def put(daemon, name, size, check=True):
        body = daemon.base / "body"
        body.write_bytes(name.encode() + b"x" * (size - len(name)))
        return daemon.ctl("put", name, str(body), check=check)

    def reload(daemon, settings):
        before = daemon.log().count("The configuration was reloaded")
        daemon.configure_store(settings)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.log().count("The configuration was reloaded") > before, "the reload")

    with Daemon(start=False) as daemon:
        daemon.configure_store("MaxBytes=100K\nKeepFree=0\nPolicy=lru")
        daemon.start()
        for i in range(30):
            put(daemon, f"u/{i}", 10240)
            assert count(daemon, "store_bytes") <= 102400
        assert count(daemon, "evictions") >= 20 and count(daemon, "evicted_bytes") >= 204800
        assert daemon.ctl("get", "u/29").stdout.startswith(b"u/29x")
        assert daemon.ctl("get", "u/0", check=False).returncode != 0
        assert "no space" in put(daemon, "u/30", 102401, check=False).stderr.decode().lower()

        reload(daemon, "MaxBytes=infinity\nMaxObjects=4\nKeepFree=0")
        wait_until(lambda: count(daemon, "store_objects") == 4, "the objects that are too many")
        reload(daemon, "MaxBytes=infinity\nMaxObjects=5\nEvict=no\nKeepFree=0")
        put(daemon, "v/0", 10)
        assert put(daemon, "v/1", 10, check=False).returncode != 0
        assert count(daemon, "store_objects") == 5

        # More than there is of the file system: everything goes or is refused, and what there is can be got.
        reload(daemon, "KeepFree=100%\nEvict=no")
        assert put(daemon, "v/0", 100000, check=False).returncode != 0
        assert daemon.ctl("get", "v/0").stdout.startswith(b"v/0x")
        reload(daemon, "MaxObjects=6\nEvict=no")
        put(daemon, "v/1", 100000)


def test_view_that_is_none():
    with Daemon(start=False) as daemon:
        daemon.environment["OBJMAPPER_BLOB_VIEW"] = str(daemon.base)
        daemon.start()
        assert "$OBJMAPPER_BLOB_VIEW is no read-only view" in daemon.log(), daemon.log()
        daemon.ctl("put", "object", "/etc/hostname")
        assert daemon.ctl("get", "object").stdout == pathlib.Path("/etc/hostname").read_bytes()


def test_reload():
    with Daemon(settings="MaxConnections=1", start=False) as daemon, Notifications(daemon) as notifications:
        daemon.start(wait=False)
        notifications.wait("READY=1")

        def send_reload():
            daemon.process.send_signal(signal.SIGHUP)
            notifications.wait("RELOADING=1")
            return notifications.next()[1]

        def reload(settings):
            daemon.configure(settings)
            return send_reload()

        def is_full():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
                holder.connect(daemon.reader)
                return daemon.ctl("ls", check=False).returncode != 0

        assert is_full()
        assert "refused" not in reload("MaxConnections=3")
        assert "The configuration was reloaded: [Server] MaxConnections=.\n" in daemon.log()
        wait_until(lambda: not is_full(), "room for two")  # once the sessions before are closed

        refusal = f"{daemon.config}:5: MaxConnectionsPerUser=0: out of range"
        status = reload("MaxConnections=1\nMaxConnectionsPerUser=0")
        assert status.startswith("STATUS=0 objects, ") and f"; the last reload was refused: {refusal}" in status, status
        assert f"stays in force: {refusal}" in daemon.log()
        wait_until(lambda: not is_full(), "room for two")

        daemon.config.write_text("[Store]\nStoreDirectory=/elsewhere\nCachePath=/elsewhere\n[Server]\nWorkers=3\n")
        status = send_reload()
        assert "refused" not in status, status
        for name in ("StoreDirectory", "CachePath", "Workers"):
            assert f"{name}= has changed: that counts from the next restart." in daemon.log(), daemon.log()

        before = daemon.log().count("The configuration was reloaded")
        reload("LogLevel=err")
        assert daemon.log().count("The configuration was reloaded") == before


def test_refusal_of_any_name():
    """What the service manager is told it takes, however long a file's name is and whatever is in it."""
    with Daemon(start=False) as daemon, Notifications(daemon) as notifications:
        daemon.config = daemon.base.joinpath(*["d" * 250] * 14, os.fsdecode(b"n\xff\nMAINPID=1"))
        daemon.config.parent.mkdir(parents=True)
        daemon.configure("")
        daemon.start(wait=False)
        notifications.wait("READY=1")
        daemon.configure("MaxStreams=none")
        daemon.process.send_signal(signal.SIGHUP)
        notifications.wait("RELOADING=1")
        told = notifications.socket.recv(65536)
        assert len(told) <= 4096, len(told)
        ready, status = told.decode().split("\n")
        assert ready == "READY=1" and status.startswith("STATUS=0 objects, 0 sessions; the last reload was refused: ..."), told
        assert "n\\xff\\nMAINPID=1:4: MaxStreams=none: not understood" in status, status


def test_early_signal():
    """A reload that is asked for before there is a loop is done when there is one."""
    need_tracing()
    with Daemon(start=False) as daemon:
        # Leaks can't be looked for under strace.
        daemon.environment = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
        daemon.command = ("strace", "-D", "-o", str(daemon.base / "trace"), "-e", "trace=openat", "-P", str(daemon.config),
                          "-e", "inject=openat:signal=HUP:when=1")
        daemon.start()
        wait_until(lambda: "The configuration was reloaded" in daemon.log(), "the reload")


def test_reload_of_the_store():
    with Daemon(start=False) as daemon, Notifications(daemon) as notifications:
        daemon.start(wait=False)
        notifications.wait("READY=1")

        def reload(settings):
            daemon.configure_store(settings)
            daemon.process.send_signal(signal.SIGHUP)
            notifications.wait("RELOADING=1")
            assert "refused" not in notifications.next()[1]

        def put(name, size):
            body = daemon.base / "body"
            body.write_bytes(b"x" * size)
            return daemon.ctl("put", name, str(body), check=False).returncode == 0

        reload("MaxObjectSize=100K")
        assert put("small", 102400) and not put("large", 102401)
        reload("MaxObjectSize=200K\nExpiredKeepSec=infinity")
        assert put("large", 102401)

        daemon.ctl("put", "--ttl", "1ms", "short", "/etc/hostname")
        wait_until(lambda: daemon.ctl("get", "short", check=False).returncode != 0, "that it has expired")
        assert b"store_expired 0\n" in daemon.ctl("stats").stdout
        reload("ExpiredKeepSec=0")
        wait_until(lambda: b"store_expired 1\n" in daemon.ctl("stats").stdout, "that it is cleared")


def test_reload_that_fails_half_way():
    """What can't be had is found out when other settings were looked at, and changes none of them."""
    with Daemon(start=False) as daemon, Notifications(daemon) as notifications:
        hostname = pathlib.Path("/etc/hostname").read_bytes()

        def reload(settings):
            daemon.configure_store(settings)
            daemon.process.send_signal(signal.SIGHUP)
            notifications.wait("RELOADING=1")
            return notifications.next()[1]

        daemon.configure_store("CacheSize=4M\nMaxObjects=2\nEvict=no")
        daemon.start(wait=False)
        notifications.wait("READY=1")
        for name in ("1", "2"):
            daemon.ctl("put", name, "/etc/hostname")
        status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
        memory = (int(re.search(r"VmSize:\s+(\d+)", status)[1]) << 10) + (4 << 30)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (memory, memory))

        said = reload("CacheSize=64G\nMaxObjects=10\nEvict=no\n[Server]\nMaxConnections=1\n"
                      "[Namespace n]\nPrefix=n/\nReadUsers=12345\n")
        assert "refused: CacheSize= can't be applied: Cannot allocate memory" in said, said
        assert b"namespace_n_" not in daemon.ctl("stats").stdout
        assert daemon.ctl("put", "3", "/etc/hostname", check=False).returncode != 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
            holder.connect(daemon.reader)
            wait_until(lambda: daemon.ctl("get", "1").stdout == hostname and not re.search(
                rb"^hot_hits 0$", daemon.ctl("stats").stdout, re.M), "that the hot table is there still")

        said = reload("CacheSize=2M\nMaxObjects=10\nEvict=no")
        assert "refused" not in said, said
        daemon.ctl("put", "3", "/etc/hostname")


def get_slowly(daemon, size):
    """A client that has asked for a large object and takes only a part of it: it, and a pipe with the rest."""
    body = os.urandom(1 << 20) * (size >> 20)
    (daemon.base / "body").write_bytes(body)
    daemon.ctl("put", "large", str(daemon.base / "body"))
    client = subprocess.Popen(
        [build_path("src/ctl/objmapperctl"), f"--socket={daemon.reader}", f"--publish-socket={daemon.publisher}",
         "get", "--mode=splice", "large"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    begin = client.stdout.read(1 << 16)
    return client, begin, body


def test_stop_finishes_replies():
    with Daemon() as daemon:
        client, begin, body = get_slowly(daemon, 64 << 20)
        process = daemon.process
        process.terminate()
        rest = client.stdout.read()
        assert client.wait(DEADLINE_SECONDS) == 0
        assert begin + rest == body
        assert process.wait(DEADLINE_SECONDS) == 0
        daemon.process = None
        daemon.start()
        assert daemon.ctl("get", "large").stdout == body


def test_second_signal_stops_at_once():
    with Daemon() as daemon:
        client, *_ = get_slowly(daemon, 64 << 20)
        process, daemon.process = daemon.process, None
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        while process.poll() is None and time.monotonic() < start + 5:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.poll() == 0, f"{process.poll()}: it waited for the client\n{daemon.log()}"
        client.kill()
        client.communicate()


def test_user():
    """A user's own daemon keeps its store at the user's."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-", dir="/var/tmp"))
    try:
        for settings, place in (({"XDG_STATE_HOME": f"{base}/state"}, base / "state/objmapper-one"),
                                ({"HOME": f"{base}/home"}, base / "home/.local/state/objmapper-one")):
            with Daemon(start=False) as daemon:
                daemon.config.write_text("")
                daemon.environment.update({"HOME": "", **settings, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"})
                start_with(daemon, "--user", "--instance=one")
                daemon.ctl("put", "object", "/etc/hostname")
                daemon.stop()
                assert (place / "format").exists()
                assert place.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(base)


def start_with(daemon, *arguments):
    """Starts it with more arguments."""
    wrapper = daemon.base / "wrapper"
    wrapper.write_text(f"#!/bin/sh\nexec \"$@\" {' '.join(arguments)}\n")
    wrapper.chmod(0o755)
    daemon.command = (str(wrapper),)
    daemon.start()


tap.run(globals())
