#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""objmapperctl against a daemon: every verb, option and exit status, and what it says."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import time

from ctl import (ABSENT, BUSY, CONFLICT, CTL, DONE, FAILED, NO_DAEMON, NO_ROOM, NOT_PERMITTED, UNKNOWN, USAGE,
                 fails, on_terminal, run, sockets)  # puts tests/lib on the path too

import daemon as daemon_lib
import tap

TOP = pathlib.Path(__file__).resolve().parents[2]
VERBS = ("get", "put", "stat", "set-meta", "rm", "purge", "ls", "stats", "export", "import",
         "pin", "unpin", "verify", "cat-config", "metrics", "namespaces", "top")
LARGE = bytes(range(256)) * 4096 * 5  # has a file of its own in the store
MODES = ("fdpass", "copy", "splice", "auto")

work = pathlib.Path(tempfile.mkdtemp(prefix="objmapper-ctl-", dir="/var/tmp"))


def empty_folder(name):
    path = work / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


# ---- put and get ----

def test_what_is_put_comes_back(daemon):
    for body in (b"", b"small", bytes(2001), LARGE):
        path = work / "body"
        path.write_bytes(body)
        for source in ((str(path),), ("-",), ()):
            daemon.ctl("purge", "--all")
            stdin = {} if source == (str(path),) else {"input": body}
            assert daemon.ctl("put", "an/object", *source, **stdin).stdout == b""
            for mode in MODES:
                result = daemon.ctl("get", "an/object", "--mode", mode)
                assert result.stdout == body and result.stderr == b"", mode


def test_verbose_says_how(daemon):
    told = daemon.ctl("put", "large", "-v", input=LARGE).stderr.decode()
    assert re.fullmatch(r"'large': 5242880 bytes, etag [0-9a-f]{16}-[0-9a-f]+-1\n", told), told
    for mode, came in (("fdpass", "fdpass"), ("copy", "copy"), ("splice", "splice"), ("auto", "fdpass")):
        told = daemon.ctl("get", "large", "-m", mode, "-v").stderr.decode()
        assert re.fullmatch(rf"'large': 5242880 of 5242880 bytes, {came}, etag [0-9a-f-]+\n", told), told
    told = daemon.ctl("get", "large", "--range=10-19", "--verbose").stderr.decode()
    assert "10 of 5242880 bytes" in told, told


def test_get_into_pipes_and_files(daemon):
    daemon.ctl("put", "large", input=LARGE)
    for mode in MODES:
        with open(work / "out", "wb") as out:
            out.write(b"before ")
            out.flush()
            daemon.ctl("get", "large", "--mode", mode, stdout=out)
        assert (work / "out").read_bytes() == b"before " + LARGE
        # A pipeline: the reader is slower than the pipe is large.
        reader = subprocess.Popen(["sha256sum"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        daemon.ctl("get", "large", "--mode", mode, stdout=reader.stdin)
        assert reader.communicate()[0].split()[0].decode() == hashlib.sha256(LARGE).hexdigest()


def test_put_from_a_pipe_that_is_slow(daemon):
    process = subprocess.Popen([CTL, *sockets(daemon), "put", "slow"], stdin=subprocess.PIPE)
    for piece in (b"one ", b"two ", LARGE):
        process.stdin.write(piece)
        process.stdin.flush()
        assert daemon.ctl("stat", "slow", check=False).returncode == ABSENT
    process.stdin.close()
    assert process.wait(daemon_lib.DEADLINE_SECONDS) == DONE
    assert daemon.ctl("get", "slow").stdout == b"one two " + LARGE


def test_ranges(daemon):
    body = bytes(range(256)) * 40  # 10,240 bytes
    daemon.ctl("put", "ranged", input=body)
    for text, expected in (("0-0", body[:1]), ("0-9", body[:10]), ("10000-10239", body[10000:]),
                           ("10000-99999", body[10000:]), ("5-", body[5:]), ("-5", body[-5:]),
                           ("-99999", body), ("0-18446744073709551615", body), ("10239-", body[-1:])):
        for mode in MODES:
            result = daemon.ctl("get", "ranged", "--range", text, "--mode", mode)
            assert result.stdout == expected, (text, mode, len(result.stdout))
    fails(daemon.ctl("get", "ranged", "-r", "10240-", check=False), FAILED, "range")
    fails(daemon.ctl("get", "absent", "-r", "-5", check=False), ABSENT)
    daemon.ctl("put", "empty", input=b"")
    assert daemon.ctl("get", "empty", "-r", "-5").stdout == b""
    for text in ("", "-", "5", "9-5", "a-b", "1-2-3", "-0", "1-b", "+1-2", " 1-2", "18446744073709551616-"):
        fails(daemon.ctl("get", "ranged", f"--range={text}", check=False), USAGE, "--range:", "0-99")


def test_last_bytes_of_what_is_replaced_meanwhile(daemon):
    daemon.ctl("put", "ranged", input=b"old, and longer")
    path = str(work / "between.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def pass_on():
        """Hello, stat and get come one after the other; before the get another object is put."""
        client, _ = listener.accept()
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(daemon.reader)
            for number in range(3):
                request = client.recv(65536)
                if number == 2:
                    daemon.ctl("put", "ranged", input=b"new, but just as long")
                server.sendall(request)
                client.sendall(server.recv(65536))
            client.recv(1)

    thread = threading.Thread(target=pass_on)
    thread.start()
    fails(run("get", "ranged", "--range=-4", "--socket", path), BUSY, "was replaced meanwhile")
    thread.join()
    listener.close()


# ---- get -o ----

def test_output_appears_whole_or_not_at_all(daemon):
    folder = empty_folder("output")
    daemon.ctl("put", "large", input=LARGE)
    target = folder / "file"

    old = os.umask(0o027)
    daemon.ctl("get", "large", "-o", str(target))
    os.umask(old)
    assert target.read_bytes() == LARGE
    assert stat.S_IMODE(target.stat().st_mode) == 0o640

    target.write_bytes(b"from before")
    target.chmod(0o604)
    fails(daemon.ctl("get", "absent", "-o", str(target), check=False), ABSENT)
    assert target.read_bytes() == b"from before"

    before = target.stat().st_ino
    daemon.ctl("get", "large", f"--output={target}")
    assert target.read_bytes() == LARGE and target.stat().st_ino != before
    assert stat.S_IMODE(target.stat().st_mode) == 0o604

    assert os.listdir(folder) == ["file"], "something else was left"


def test_output_that_can_not_be_written(daemon):
    folder = empty_folder("output")
    daemon.ctl("put", "large", input=LARGE)
    for path, word in ((folder, "Is a directory"), (folder / "none/file", "No such file"), (f"{folder}/x/", "No such file"),
                       ("", "No such file")):
        fails(daemon.ctl("get", "large", "-o", str(path), check=False), FAILED, "can't write", word)
    (folder / "file").write_bytes(b"kept")

    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

    for mode in MODES:
        fails(daemon.ctl("get", "large", "-m", mode, "-o", str(folder / "file"), check=False, preexec_fn=small_files),
              FAILED, "can't write", "File too large")
    assert (folder / "file").read_bytes() == b"kept"
    assert os.listdir(folder) == ["file"]


def test_output_into_a_folder_that_can_not_be_listed(daemon):
    if os.geteuid() != 0:
        raise tap.Skip("needs root, to be somebody else")
    folder = empty_folder("output")
    folder.chmod(0o333)
    for path in (work, daemon.base):
        path.chmod(0o755)
    os.chmod(daemon.reader, 0o666)
    daemon.ctl("put", "small", input=b"small")
    daemon.ctl("get", "small", "-o", str(folder / "file"), user="nobody")
    assert (folder / "file").read_bytes() == b"small"


def test_output_to_links_and_devices(daemon):
    folder = empty_folder("output")
    daemon.ctl("put", "large", input=LARGE)
    (folder / "target").write_bytes(b"")
    (folder / "link").symlink_to("target")
    daemon.ctl("get", "large", "-o", str(folder / "link"))
    assert (folder / "link").is_symlink() and (folder / "target").read_bytes() == LARGE

    (folder / "dangling").symlink_to("nowhere")
    fails(daemon.ctl("get", "large", "-o", str(folder / "dangling"), check=False), FAILED, "No such file")
    assert (folder / "dangling").is_symlink()

    daemon.ctl("get", "large", "-o", "/dev/null")
    assert pathlib.Path("/dev/null").is_char_device()
    fails(daemon.ctl("get", "large", "-o", "/dev/full", check=False), FAILED, "can't write '/dev/full'", "No space left")

    os.mkfifo(folder / "fifo")
    reader = subprocess.Popen(["sha256sum", folder / "fifo"], stdout=subprocess.PIPE)
    daemon.ctl("get", "large", "-o", str(folder / "fifo"))
    assert reader.communicate()[0].split()[0].decode() == hashlib.sha256(LARGE).hexdigest()


def test_output_where_files_need_a_name(daemon):
    """As on file systems that can't O_TMPFILE: a named file, which is gone after a failure too."""
    daemon_lib.need_tracing()
    folder = empty_folder("output")
    daemon.ctl("put", "large", input=LARGE)
    strace = ["strace", "-o", work / "strace", "-e", "trace=openat", "-P", folder, "-e",
              "inject=openat:error=EOPNOTSUPP:when=2"]

    def traced(uri):
        environment = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
        return subprocess.run([*strace, CTL, *sockets(daemon), "get", uri, "-o", folder / "file"], check=False,
                              stderr=subprocess.PIPE, env=environment)

    fails(traced("absent"), ABSENT)
    assert "INJECTED" in (work / "strace").read_text()
    assert os.listdir(folder) == []
    assert traced("large").returncode == DONE
    assert "INJECTED" in (work / "strace").read_text() and (folder / "file").read_bytes() == LARGE
    assert os.listdir(folder) == ["file"]


# ---- metadata, conditions, time to live ----

def field(daemon, uri, name):
    text = daemon.ctl("stat", uri).stdout.decode()
    return re.findall(rf"^{name}: +(.*)$", text, re.MULTILINE)


def test_metadata(daemon):
    daemon.ctl("put", "m", "--meta", "content-type=text/plain", "-M", "x=1", "--meta=x=2", "-M", "empty=",
               "-M", "a=b=c", input=b"body")
    assert field(daemon, "m", "Metadata") == ["content-type=text/plain", "x=1", "x=2", "empty=", "a=b=c"]
    etag = field(daemon, "m", "ETag")[0]
    daemon.ctl("set-meta", "m", "only=this", "line=a\nb\tc\\d\x1b[31m\x9b".encode("latin-1"))
    assert field(daemon, "m", "Metadata") == ["only=this", r"line=a\nb\tc\\d\x1b[31m\x9b"]
    assert field(daemon, "m", "ETag")[0] == etag[:-1] + "2"
    assert daemon.ctl("get", "m").stdout == b"body"
    daemon.ctl("set-meta", "m")
    assert field(daemon, "m", "Metadata") == []
    fails(daemon.ctl("set-meta", "absent", "k=v", check=False), ABSENT)
    for pair in ("novalue", "=v", "k" * 256 + "=v"):
        fails(daemon.ctl("put", "m", "--meta", pair, check=False), USAGE, "KEY=VALUE")
        fails(daemon.ctl("set-meta", "m", pair, check=False), USAGE, "KEY=VALUE")
    fails(daemon.ctl("put", "m", "-M", "k=" + "v" * 40000, check=False), USAGE, "at most 32768")


def test_conditions(daemon):
    daemon.ctl("purge", "--all")
    daemon.ctl("put", "c", "--if-absent", input=b"first")
    fails(daemon.ctl("put", "c", "--if-absent", check=False, input=b"second"), CONFLICT, "there is one already")
    assert daemon.ctl("get", "c").stdout == b"first"

    generation = field(daemon, "c", "Generation")[0]
    daemon.ctl("put", "c", "--if-generation", generation, input=b"second")
    now = field(daemon, "c", "Generation")[0]
    assert int(now) > int(generation)
    for command in (("put", "c"), ("set-meta", "c", "k=v"), ("rm", "c")):
        fails(daemon.ctl(*command, f"--if-generation={generation}", check=False), CONFLICT, "objmapperctl stat")
    assert daemon.ctl("get", "c").stdout == b"second"
    daemon.ctl("set-meta", "c", "k=v", "--if-generation", now)
    daemon.ctl("rm", "c", "--if-generation", now)
    fails(daemon.ctl("get", "c", check=False), ABSENT, "absent")


def test_time_to_live(daemon):
    for text, seconds in (("90", 90), ("90s", 90), ("10min", 600), ("1h30min", 5400), ("1h 30 min", 5400), ("2d", 172800),
                          ("1w", 604800)):
        daemon.ctl("put", "t", "--ttl", text, input=b"")
        stored, expires = (time.mktime(time.strptime(field(daemon, "t", name)[0], "%Y-%m-%dT%H:%M:%SZ"))
                           for name in ("Stored", "Expires"))
        assert expires - stored == seconds, text
    daemon.ctl("put", "t", input=b"")
    assert field(daemon, "t", "Expires") == ["never"]
    for text in ("", "0", "5 parsecs", "s", "-5", "1h-", "99999999999999w"):
        fails(daemon.ctl("put", "t", f"--ttl={text}", check=False), USAGE, "--ttl:")
    daemon.ctl("put", "t", "--ttl=1ms", input=b"")
    deadline = time.monotonic() + 10
    while daemon.ctl("get", "t", check=False).returncode == DONE:
        assert time.monotonic() < deadline
    fails(daemon.ctl("get", "t", check=False), ABSENT, "expired")


# ---- rm, purge, ls, stat, stats ----

def test_rm(daemon):
    for name in "abcd":
        daemon.ctl("put", name, input=b"")
    daemon.ctl("rm", "a", "b")
    fails(daemon.ctl("rm", "a", "c", check=False), ABSENT, "a: absent")
    assert daemon.ctl("stat", "c", check=False).returncode == ABSENT
    daemon.ctl("rm", "d")


def test_purge(daemon):
    daemon.ctl("purge", "--all")
    for name in ("p/1", "p/2", "q/1", "pq"):
        daemon.ctl("put", name, input=b"")
    assert daemon.ctl("purge", "p/").stdout == b"2 objects removed\n"
    assert daemon.ctl("purge", "p/").stdout == b"0 objects removed\n"
    assert daemon.ctl("purge", "pq").stdout == b"1 object removed\n"
    for command in (("purge",), ("purge", "")):
        fails(daemon.ctl(*command, check=False), USAGE, "--all removes everything")
    fails(daemon.ctl("purge", "q", "--all", check=False), USAGE, "not both")
    assert daemon.ctl("ls").stdout == b"q/1\n"
    assert daemon.ctl("purge", "--all").stdout == b"1 object removed\n"


ODD = (b"plain", "übergröße".encode(), b"two\nlines", b"tab\tand\\backslash", b"\x1b[2Jescape", b"\xff\xfe",
       b"c1\xc2\x9bcsi", b" blank ", b"../../etc/passwd", b"-dash", b"over\xc0\x80long", b"\xed\xa0\x80", b"x" * 4096)


def test_ls(daemon):
    daemon.ctl("purge", "--all")
    assert daemon.ctl("ls").stdout == b""
    for uri in ODD:
        daemon.ctl("put", "--", uri, input=b"12345")
    assert sorted(daemon.ctl("ls", "-0").stdout.split(b"\0")) == sorted((b"", *ODD))
    assert sorted(daemon.ctl("ls", "--null").stdout.split(b"\0")[:-1]) == sorted(ODD)
    assert sorted(daemon.ctl("ls").stdout.splitlines()) == sorted(b"\n".join(ODD).splitlines())
    assert daemon.ctl("ls", "two").stdout == b"two\nlines\n"
    assert daemon.ctl("ls", "nothing").stdout == b""
    assert re.fullmatch(rb" +5  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  [0-9a-f]{16}-[0-9a-f]+-1  plain\n",
                        daemon.ctl("ls", "-l", "plain").stdout)
    assert daemon.ctl("ls", "--long", "plain").stdout == daemon.ctl("ls", "-l", "plain").stdout

    status, shown = on_terminal([CTL, *sockets(daemon), "ls"])
    lines = shown.replace(b"\r\n", b"\n").split(b"\n")[:-1]
    escaped = (b"plain", "übergröße".encode(), rb"two\nlines", rb"tab\tand\\backslash", rb"\x1b[2Jescape", rb"\xff\xfe",
               rb"c1\xc2\x9bcsi", b" blank ", b"../../etc/passwd", b"-dash", rb"over\xc0\x80long", rb"\xed\xa0\x80",
               b"x" * 4096)
    assert status == DONE and sorted(lines) == sorted(escaped), lines


def test_ls_of_many_pages(daemon):
    daemon.ctl("purge", "--all")
    folder = empty_folder("many")
    for number in range(2500):
        (folder / f"{number:04}").write_bytes(b"")
    daemon.ctl("put", "--recursive", str(folder), "many/")
    assert daemon.ctl("ls", "many/").stdout.decode().splitlines() == [f"many/{n:04}" for n in range(2500)]


def test_stat(daemon):
    daemon.ctl("put", "s\n1", "--meta=k=v", input=b"12345")
    daemon.ctl("get", "s\n1")
    lines = daemon.ctl("stat", "s\n1").stdout.decode().splitlines()
    assert [line.split(":")[0] for line in lines] == ["URI", "Size", "ETag", "Generation", "XXH3-64", "Stored", "Expires",
                                                      "Hits", "Last used", "Metadata"]
    assert lines[0].endswith(r" s\n1") and lines[1].endswith(" 5") and lines[7].endswith(" 1")
    etag, generation = lines[2].split()[-1], lines[3].split()[-1]
    assert etag.split("-")[1] == f"{int(generation):x}"
    assert len(lines[4].split()[-1]) == 16
    assert abs(time.time() - time.mktime(time.strptime(lines[5].split()[-1], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 600
    fails(daemon.ctl("stat", "absent", check=False), ABSENT, "stat absent: absent")


def test_stats(daemon):
    daemon.ctl("put", "counted", input=b"12345")
    counters = json.loads(daemon.ctl("stats", "--json").stdout)
    assert counters["store_objects"] >= 1 and all(isinstance(value, int) for value in counters.values())
    plain = dict(line.split(" ") for line in daemon.ctl("stats").stdout.decode().splitlines())
    assert list(plain) == list(counters)
    assert int(plain["requests_put"]) == counters["requests_put"]


# ---- put --recursive ----

def make_tree(folder):
    """A folder with odd names; returns the files' paths below it and their bytes."""
    names = (b"plain", b"with blank", b"new\nline", b"\xff\xfebytes", b"-dash", "ü".encode(), b"sub/one", b"sub/sub/two",
             b".hidden/.file", b"deep/" + b"/".join([b"d" * 40] * 60) + b"/end")
    files = {}
    for number, name in enumerate(names):
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files[name] = f"{number}".encode() * (1 if number % 3 else 300000)
        with open(path, "wb") as file:
            file.write(files[name])
    with open(os.path.join(os.fsencode(folder), b"empty"), "wb"):
        files[b"empty"] = b""
    return files


def test_recursive(daemon):
    daemon.ctl("purge", "--all")
    folder = empty_folder("tree")
    files = make_tree(folder)
    (folder / "nothing in it").mkdir()
    (folder / "link").symlink_to("plain")
    (folder / "link to a folder").symlink_to("sub")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))

    result = daemon.ctl("put", "--recursive", str(folder), "tree/", "-M", "k=v", "--ttl", "1h")
    size = sum(len(body) for body in files.values())
    assert result.stdout.decode() == (f"{len(files)} objects put, {size} bytes; skipped 3 links, 2 special files; "
                                      "0 failed\n")
    assert result.stderr == b""
    assert sorted(daemon.ctl("ls", "-0").stdout.split(b"\0")[:-1]) == sorted(b"tree/" + name for name in files)
    for name, body in files.items():
        assert daemon.ctl("get", b"tree/" + name).stdout == body
    assert field(daemon, "tree/plain", "Metadata") == ["k=v"] and field(daemon, "tree/plain", "Expires") != ["never"]

    # The folder itself may be a link; the prefix may be empty.
    (work / "to-tree").unlink(missing_ok=True)
    (work / "to-tree").symlink_to(folder)
    daemon.ctl("put", "-R", str(work / "to-tree"), "")
    assert daemon.ctl("get", "sub/one").stdout == files[b"sub/one"]

    told = daemon.ctl("put", "-R", "-v", str(folder / "sub"), "v/").stderr.decode()
    assert "'v/one': " in told and "'v/sub/two': " in told


def test_recursive_goes_on_after_failures(daemon):
    daemon.ctl("purge", "--all")
    folder = empty_folder("tree")
    files = make_tree(folder)
    daemon.ctl("put", "t/plain", input=b"already")
    result = daemon.ctl("put", "--recursive", "--if-absent", str(folder), "t/", check=False)
    fails(result, CONFLICT, "put t/plain: there is one already")
    assert f"{len(files) - 1} objects put" in result.stdout.decode() and "; 1 failed" in result.stdout.decode()
    assert daemon.ctl("get", "t/plain").stdout == b"already"
    assert daemon.ctl("get", "t/sub/sub/two").stdout == files[b"sub/sub/two"]

    # A URI that would be too long.
    prefix = "p" * 2000
    result = daemon.ctl("put", "--recursive", str(folder), prefix, check=False)
    fails(result, FAILED, "at most 4096 are possible")
    assert "; 1 failed" in result.stdout.decode()
    assert daemon.ctl("get", prefix + "plain").stdout == files[b"plain"]

    (folder / "\x1b[2J").write_bytes(b"x")
    result = daemon.ctl("put", "-R", str(folder), "p" * 4094, check=False)
    fails(result, FAILED, "\\x1b[2J")
    assert b"\x1b" not in result.stderr

    fails(daemon.ctl("put", "-R", str(folder / "absent"), "t/", check=False), FAILED, "can't read", "No such file")
    fails(daemon.ctl("put", "-R", str(folder / "plain"), "t/", check=False), FAILED, "Not a directory")


def test_recursive_with_what_can_not_be_read(daemon):
    if os.geteuid() != 0:
        raise tap.Skip("needs root, to be somebody else")
    folder = empty_folder("tree")
    (folder / "readable").write_bytes(b"r")
    (folder / "secret").write_bytes(b"s")
    (folder / "secret").chmod(0)
    (folder / "closed").mkdir(mode=0)
    for path in (work, daemon.base):
        path.chmod(0o755)
    for path in (daemon.reader, daemon.publisher):
        os.chmod(path, 0o666)
    result = daemon.ctl("put", "-R", str(folder), "r/", check=False, user="nobody")
    fails(result, FAILED, "can't read 'secret': Permission denied", "can't read 'closed': Permission denied")
    assert result.stdout == b"1 objects put, 1 bytes; skipped 0 links, 0 special files; 2 failed\n"


def test_recursive_ends_without_a_daemon(daemon):
    folder = empty_folder("tree")
    make_tree(folder)
    result = run(f"--socket={work}/nobody.sock", "put", "-R", folder, "t/")
    fails(result, NO_DAEMON, "nobody.sock", "stopped there")
    assert result.stderr.count(b"nobody.sock") == 1 and b"; 1 failed" in result.stdout

    # One that goes away under way.
    with daemon_lib.Daemon() as other:
        for number in range(3000):
            (folder / f"{number}").write_bytes(b"x" * 1000)
        process = subprocess.Popen([CTL, *sockets(other), "put", "-v", "-R", folder, "t/", "--timeout=2s"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stderr.readline()
        other.kill()
        other.close_listeners()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        output = process.stdout.read()
        assert process.wait(daemon_lib.DEADLINE_SECONDS) in (NO_DAEMON, UNKNOWN)
        assert b" failed\n" in output


def test_progress_on_a_terminal_only(daemon):
    folder = empty_folder("tree")
    files = make_tree(folder)
    command = [CTL, *sockets(daemon), "put", "-R", folder, "t/"]
    environment = {**os.environ, "TERM": "xterm"}
    status, shown = on_terminal(command, env=environment)
    assert status == DONE
    assert re.search(rb"\r\[[#.]{30}\] +\d+%  \d+/" + str(len(files)).encode(), shown), shown
    assert shown.rindex(b"\r\x1b[K") > shown.rindex(b"]"), "the bar stays"
    status, shown = on_terminal(command, env={**environment, "TERM": "dumb"})
    assert status == DONE and b"[" not in shown
    assert daemon.ctl("put", "-R", str(folder), "t/").stderr == b""


# ---- which daemon ----

def test_instances_and_users(daemon):
    runtime = empty_folder("runtime")
    for name in ("objmapper", "objmapper-blue"):
        (runtime / name).mkdir()
        (runtime / name / "objmapper.sock").symlink_to(daemon.reader)
        (runtime / name / "publish.sock").symlink_to(daemon.publisher)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    for options in (["--user"], ["--user", "--instance=blue"], ["--user", "--instance", "blue"]):
        assert run(*options, "put", "u", "/etc/hostname", env=environment).returncode == DONE
        assert run("get", "u", *options, env=environment).returncode == DONE

    fails(run("--user", "--instance=red", "ls", env=environment), NO_DAEMON, f"{runtime}/objmapper-red/objmapper.sock",
          "systemctl --user start objmapper@red.socket")
    fails(run("--instance=red", "rm", "x"), NO_DAEMON, "/run/objmapper-red/publish.sock",
          "systemctl start objmapper-publish@red.socket")
    fails(run("--instance=a/b", "ls"), USAGE, "can't be the name")
    environment.pop("XDG_RUNTIME_DIR")
    fails(run("--user", "ls", env=environment), USAGE, "XDG_RUNTIME_DIR")


def test_one_socket_for_all(daemon):
    assert run("put", "one", "/etc/hostname", "--publish-socket", daemon.publisher).returncode == DONE
    assert run("get", "one", "--publish-socket", daemon.publisher).returncode == DONE
    assert run("get", "one", "--socket", daemon.reader).returncode == DONE
    fails(run("rm", "one", "--socket", daemon.reader), NOT_PERMITTED, "--publish-socket")
    fails(run("ls", "--socket", "x" * 200), USAGE, "too long")
    fails(run("ls", "--socket", ""), USAGE, "empty")


# ---- exit statuses and what is said ----

def test_no_daemon(_):
    path = work / "absent.sock"
    fails(run("get", "x", f"--socket={path}"), NO_DAEMON, f"there is no socket {path}")
    with socket.socket(socket.AF_UNIX) as unix:
        (work / "silent.sock").unlink(missing_ok=True)
        unix.bind(str(work / "silent.sock"))
        fails(run("get", "x", f"--socket={work}/silent.sock"), NO_DAEMON, "nobody listens")


def test_not_permitted(daemon):
    for command in (("put", "x"), ("set-meta", "x"), ("rm", "x"), ("purge", "x")):
        fails(run(*command, "--socket", daemon.reader), NOT_PERMITTED, "not permitted", "--publish-socket")
    if os.geteuid() != 0:
        raise tap.Skip("needs root, to be somebody else")
    for path in (work, daemon.base):
        path.chmod(0o755)
    for path in (daemon.reader, daemon.publisher):
        os.chmod(path, 0o660)
    result = daemon.ctl("get", "x", check=False, user="nobody", group="nogroup", extra_groups=[])
    fails(result, NOT_PERMITTED, "not permitted to connect", "usermod -aG root")


def test_no_room(_):
    with daemon_lib.Daemon(settings="[Store]\nMaxObjectSize=1M") as small:
        fails(small.ctl("put", "large", check=False, input=LARGE), NO_ROOM, "too large")
        path = work / "large"
        path.write_bytes(LARGE)
        fails(small.ctl("put", "large", str(path), check=False), NO_ROOM, "too large")
        fails(small.ctl("get", "large", check=False), ABSENT)


def test_busy(_):
    with daemon_lib.Daemon(settings="MaxConnectionsPerUser=1") as crowded:
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(crowded.reader)
            first.sendall(hello())
            first.recv(4096)
            fails(crowded.ctl("get", "x", check=False), BUSY, "MaxConnectionsPerUser=")


def hello():
    return struct.pack("<IHBBQQHHHHHHI4sHHBBHIQQ", 72, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0x8001, 0, 32, b"OBJM", 1, 1, 0, 0, 0, 0, 0, 0)


class FakeDaemon:
    """with FakeDaemon(close=…) as path: it greets, and then answers nothing; close: it goes away instead."""

    def __init__(self, close):
        self.close = close
        self.path = str(work / "fake.sock")

    def __enter__(self):
        pathlib.Path(self.path).unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()
        return self.path

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def serve(self):
        held = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                held.append(connection)
                connection.recv(4096)
                connection.sendall(self.greeting())
                connection.recv(65536)
                if self.close:
                    pathlib.Path(self.path).unlink(missing_ok=True)
                    connection.close()

    @staticmethod
    def greeting():
        """The real one, from a daemon that is there for this."""
        with daemon_lib.Daemon() as real, socket.socket(socket.AF_UNIX) as client:
            client.connect(real.reader)
            client.sendall(hello())
            return client.recv(4096)


def test_silence(_):
    with FakeDaemon(close=False) as path:
        start = time.monotonic()
        fails(run("get", "x", "--socket", path, "--timeout=300ms"), BUSY, "no answer", "--timeout")
        assert time.monotonic() - start < 20, "the default of 30 s counted"
        fails(run("rm", "x", "--socket", path, "--timeout", "300ms"), UNKNOWN, "objmapperctl stat")
    for text in ("", "x", "-1"):
        fails(run("ls", f"--timeout={text}"), USAGE, "--timeout:")


def test_unknown_outcome(_):
    with FakeDaemon(close=True) as path:
        fails(run("put", "x", "/etc/hostname", "--if-absent", "--socket", path, "--timeout=1s"), UNKNOWN,
              "outcome unknown", "objmapperctl stat")


def test_no_objmapper(_):
    listener = socket.socket(socket.AF_UNIX)
    path = str(work / "other.sock")
    pathlib.Path(path).unlink(missing_ok=True)
    listener.bind(path)
    listener.listen()

    def answer():
        connection, _ = listener.accept()
        connection.sendall(b"220 mail.example.com ESMTP, hello and welcome to you all\r\n")
        connection.recv(4096)

    thread = threading.Thread(target=answer)
    thread.start()
    fails(run("get", "x", "--socket", path), FAILED, "does not speak the protocol")
    thread.join()
    listener.close()


def test_command_lines_that_are_wrong(_):
    for command, word in (
            ((), "objmapperctl --help"), (("nonsense",), "'nonsense'"), (("--nonsense",), "--nonsense"),
            (("get",), "usage: objmapperctl get URI"), (("get", "a", "b"), "usage:"), (("get", "a", "--nonsense"), "--nonsense"),
            (("get", "a", "-x"), "-x"), (("get", "a", "-o"), "-o"), (("get", "a", "--mode"), "--mode"),
            (("get", "a", "--mode=fast"), "fdpass, copy, splice, auto"), (("get", "a", "--json"), "--json"),
            (("get", ""), "1 to 4096"), (("get", "x" * 4097), "4097 bytes"), (("put",), "usage:"), (("put", "a", "b", "c"), "usage:"),
            (("put", "--recursive", "a"), "DIR and PREFIX"), (("put", "-R", "/", "a", "--if-generation=1"), "--recursive"),
            (("put", "a", "--if-absent", "--if-generation=1"), "both"), (("put", "a", "--if-generation=0"), "generation"),
            (("put", "a", "--if-generation=x"), "generation"), (("rm",), "usage:"), (("rm", "a", ""), "1 to 4096"),
            (("rm", "a", "b", "--if-generation=1"), "one object"), (("ls", "a", "b"), "usage:"), (("ls", "x" * 4097), "prefix"),
            (("stats", "a"), "usage:"), (("export", "a", "b"), "usage:"), (("export", "x" * 4097), "prefix"),
            (("import", "a", "b"), "usage:"), (("import", "-o", "a"), "-o"), (("set-meta",), "usage:"), (("stat",), "usage:"),
            (("ls", "--socket=a", "--user"), "one of both"), (("ls", "--publish-socket=a", "--instance=b"), "one of both"),
            (("ls", "--user=x"), "--user"), (("put", "a", "-M", "k=" + "v" * 32762), "at most 32768"),
            (("set-meta", "a", "k=" + "v" * 20000, "k=" + "v" * 20000), "the metadata has 40014 bytes")):
        result = run(*command)
        fails(result, USAGE, word)
        assert result.stdout == b""
    fails(run("put", "x", "/"), USAGE, "--recursive")
    fails(run("put", "x", work / "absent-file"), FAILED, "can't read", "No such file")


def test_output_that_nobody_takes(daemon):
    daemon.ctl("put", "large", input=LARGE)
    for command in (("get", "large"), ("ls",), ("stats",), ("stat", "large"), ("--help",), ("get", "--help"), ("--version",)):
        with open("/dev/full", "wb") as full:
            fails(daemon.ctl(*command, check=False, stdout=full), FAILED, "can't write standard output", "No space left")
        fails(daemon.ctl(*command, check=False, preexec_fn=lambda: os.close(1), stdout=None), FAILED, "Bad file descriptor")

        # A reader who has gone ends it quietly, as other tools; where SIGPIPE is ignored, it says so.
        for ignored in (False, True):
            reader, writer = os.pipe()
            os.close(reader)
            handler = signal.SIG_IGN if ignored else signal.SIG_DFL
            result = daemon.ctl(*command, check=False, stdout=writer, restore_signals=False,
                                preexec_fn=lambda handler=handler: signal.signal(signal.SIGPIPE, handler))
            os.close(writer)
            if ignored:
                fails(result, FAILED, os.strerror(errno.EPIPE))
            else:
                assert result.returncode == -signal.SIGPIPE and result.stderr == b"", result


def test_input_that_is_closed(daemon):
    fails(daemon.ctl("put", "x", check=False, preexec_fn=lambda: os.close(0), stdin=None), FAILED, "can't read",
          "Bad file descriptor")
    folder = os.open("/", os.O_RDONLY)
    fails(daemon.ctl("put", "x", check=False, stdin=folder), USAGE, "folder")
    os.close(folder)


# ---- help and manual ----

def options_of_help(text):
    """Each option as (short, long, value)."""
    return set(re.findall(r"^  (?:-(\w),|   ) --([a-z-]+)(?:=(\S+))? ", text, re.MULTILINE))


def options_of_manual(text):
    """What its definition lists define: for each section or verb its set of options."""
    found = {}
    current = None
    for line in text.splitlines():
        verb = re.match(r"([a-z-]+)( \*.*| \[.*)?$", line)
        if verb and verb[1] in VERBS:
            current = verb[1]
        elif line == "OPTIONS":
            current = ""
        elif re.match(r"[A-Z ]+$", line):
            current = None
        option = re.match(r" *(?:-(\w)(?: [A-Z=]+)?, )?--([a-z-]+)(?:=(\S+))?$", line)
        if option and current is not None:
            found.setdefault(current, set()).add((option[1] or "", option[2], option[3] or ""))
    return found


def test_metrics(daemon):
    counters = json.loads(daemon.ctl("stats", "--json").stdout)
    result = daemon.ctl("metrics")
    assert result.returncode == DONE, result
    lines = result.stdout.decode().splitlines()
    assert lines[-1] == "# EOF" and lines.count("# EOF") == 1, lines
    samples = [line for line in lines if not line.startswith("#")]
    shown = [name for name in counters if not re.search("_usec(_count|_sum|_p50|_p99)?$", name)]
    assert len([line for line in samples if "_seconds" not in line]) == len(shown), "a counter is missing"
    assert not [line for line in samples if line.startswith("objmapper_other")], "a counter that metrics does not know"
    assert f'objmapper_store_objects {counters["store_objects"]}' in samples, samples


def test_cat_config(_):
    folder = work / "config"
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder), "XDG_RUNTIME_DIR": str(work / "run"), "HOME": "/nowhere"}
    files = {"objmapper.conf": "[Server]\nMaxPipeline=1\n", "objmapper.conf.d/20-b.conf": "[Server]\nMaxPipeline=3",
             "objmapper.conf.d/10-a.conf": "[Server]\nMaxPipeline=2\n", "objmapper@web.conf": "# web\n"}
    for name, text in files.items():
        path = folder / "objmapper" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "objmapper/objmapper.conf.d/30-masked.conf").symlink_to("/dev/null")

    def shown(*names):
        return "".join(f"# {folder}/objmapper/{name}\n{files[name].rstrip()}\n\n" for name in names).encode()

    result = run("--user", "cat-config", env=environment)
    assert result.returncode == DONE and result.stderr == b"", result
    assert result.stdout == shown("objmapper.conf", "objmapper.conf.d/10-a.conf", "objmapper.conf.d/20-b.conf"), result
    result = run("--user", "--instance=web", "cat-config", env=environment)
    assert result.returncode == DONE and result.stdout == shown("objmapper@web.conf"), result
    # What can't be read is told of, and the rest is shown.
    (folder / "objmapper/objmapper.conf").unlink()
    (folder / "objmapper/objmapper.conf").mkdir()
    result = run("--user", "cat-config", env=environment)
    fails(result, FAILED, "objmapper.conf", "directory")
    assert b"MaxPipeline=2" in result.stdout and b"MaxPipeline=3" in result.stdout, result


def test_help_and_manual_agree(_):
    manual = options_of_manual((TOP / "man/objmapperctl.1.rst").read_text())
    overall = run("--help")
    assert overall.returncode == DONE and overall.stderr == b""
    common = options_of_help(overall.stdout.decode())
    assert common == manual[""], common ^ manual[""]
    assert len(common) == 7
    for verb in VERBS:
        assert re.search(rf"^  {verb} ", overall.stdout.decode(), re.MULTILINE), verb
        for flag in ("--help", "-h"):
            result = run(verb, flag)
            assert result.returncode == DONE and result.stderr == b""
        own = options_of_help(result.stdout.decode().split("Options of every verb:")[0])
        assert options_of_help(result.stdout.decode()) == own | common
        assert own == manual.get(verb, set()), (verb, own ^ manual.get(verb, set()))
        assert all(len(line) <= 110 for line in result.stdout.decode().splitlines())


def test_help_and_manual_agree_on_verbs(_):
    manual = (TOP / "man/objmapperctl.1.rst").read_text()
    plain = re.sub(r"\\ ?|\*", "", manual)
    for verb, usage in re.findall(r"^  ([a-z-]+)(?: (\S.*?))?  +\S", run("--help").stdout.decode().split("Options:")[0],
                                  re.MULTILINE):
        assert re.search(rf"^{re.escape(f'{verb} {usage}'.strip())}$", plain, re.MULTILINE), (verb, usage)


def test_version(_):
    assert re.fullmatch(rb"objmapperctl \d+\.\d+\.\d+\n", run("--version").stdout)
    assert run("get", "--version").stdout == run("--version").stdout


def test_examples_of_the_manual(daemon):
    text = (TOP / "man/objmapperctl.1.rst").read_text().split("EXAMPLES\n")[1]
    block = re.search(r"::\n\n((?:    .*\n)+)", text)[1]
    folder = empty_folder("bin")
    wrapper = folder / "objmapperctl"
    wrapper.write_text(f'#!/bin/sh\nexec "{CTL}" {" ".join(sockets(daemon))} "$@"\n')
    wrapper.chmod(0o755)
    script = "set -ex\n" + re.sub(r"^    ", "", block, flags=re.MULTILINE)
    result = subprocess.run(["sh", "-c", script], cwd=folder, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}, check=False,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert result.returncode == 0, result
    assert result.stdout.startswith(b"hello\nell"), result.stdout
    assert b"doc/copyright" in result.stdout and b"'doc/copyright': " in result.stderr


try:
    with daemon_lib.Daemon() as shared:
        tap.run(globals(), shared, on_failure=shared.log)
finally:
    shutil.rmtree(work, ignore_errors=True)
