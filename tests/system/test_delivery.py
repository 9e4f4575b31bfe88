# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel is asked to do for each mode, seen by strace, and what a reader can do with what it got."""

import os
import re

import container
import tap

container.enter_namespaces()

from host import Host, wait_until  # noqa: E402, pylint: disable=wrong-import-position

BIG = 64 << 20
CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


class Trace:
    """with Trace(host) as trace: what the daemon's threads call meanwhile; then trace.calls. options: of strace."""

    FILE = "/run/trace"

    def __init__(self, host, *options):
        self.host = host
        self.options = options

    def __enter__(self):
        self.pid = self.host.property("objmapper.service", "MainPID")
        self.strace = self.host.start("strace", "--follow-forks", "--decode-fds=path", "--output", self.FILE,
                                      *self.options, "--attach", self.pid, stderr=-1, text=True)
        assert "attached" in self.strace.stderr.readline()
        return self

    def __exit__(self, *_):
        wait_until(self.is_told)
        self.host.run("pkill", "-INT", "-x", "strace")
        self.strace.communicate(timeout=20)
        self.calls = read_trace(self.host.path(self.FILE).read_text())

    def is_told(self):
        """Whether strace has written down all that was called: a thread whose call it has yet to see the end of waits for
        it, as no other does."""
        states = self.host.run("sh", "-c", f"cat /proc/{self.pid}/task/*/stat", check=False).stdout.splitlines()
        return all(line.rpartition(") ")[2].startswith("S") for line in states)


def read_trace(text):
    """(call, arguments, result) of each finished system call, in order."""
    unfinished, calls = {}, []
    for line in text.splitlines():
        if line.endswith("<unfinished ...>"):
            unfinished[line.split()[0]] = line.removesuffix("<unfinished ...>")
            continue
        if resumed := RESUMED.match(line):
            line = unfinished.pop(resumed[1], f"{resumed[1]} {resumed[2]}(") + resumed[3]
        if call := CALL.match(line):
            calls.append((call[2], call[3], int(call[4])))
    return calls


def total(calls, names, pattern=""):
    return sum(max(result, 0) for name, arguments, result in calls
               if name in names and re.search(pattern, arguments))


def passed_paths(calls):
    return [path for name, arguments, _ in calls if name == "sendmsg" and "SCM_RIGHTS" in arguments
            for path in re.findall(r"cmsg_data=\[\d+<([^>]*)>", arguments)]


def test_setup(host):
    host.start_again()
    host.put("big", os.urandom(BIG))
    host.put("blob", os.urandom(100_000))
    host.put("small", "small")
    host.get("small")


def test_fdpass_is_one_message(host):
    with Trace(host) as trace:
        assert len(host.get("blob", "--mode", "fdpass")) == 100_000
    messages = [arguments for name, arguments, _ in trace.calls
                if name == "sendmsg" and "SCM_RIGHTS" in arguments]
    assert len(messages) == 1, messages
    # The header is in the same message, and the body in none.
    assert re.search(r"iov_len=[1-9]", messages[0]), messages
    assert total(trace.calls, ("sendmsg", "sendto", "write", "writev", "splice", "sendfile")) < 4096


def test_nothing_passed_was_opened_for_writing(host):
    with Trace(host) as trace:
        host.put("written", os.urandom(100_000))
        assert len(host.get("written", "--mode", "fdpass")) == 100_000
    passed = passed_paths(trace.calls)
    assert passed, "no descriptor was passed"
    for path in passed:
        flags = [arguments for name, arguments, result in trace.calls
                 if name in ("open", "openat", "openat2") and result >= 0
                 and os.path.basename(path) in arguments]
        assert flags, f"{path} was opened by none of the calls"
        for arguments in flags:
            assert "O_RDONLY" in arguments, arguments


def sends_all_by_splice(calls):
    """Whether the daemon sent the whole big body from a pipe to the socket; no descriptor, and nothing of it from its memory."""
    assert total(calls, ("splice",), "^[0-9]+<pipe:.*<socket:") == BIG
    # What the socket did not take is taken from the file again.
    assert total(calls, ("splice",), "^[0-9]+</.*<pipe:") >= BIG
    assert not passed_paths(calls)
    assert total(calls, ("sendmsg", "sendto", "write", "writev")) < 65536
    assert total(calls, ("read", "pread64", "preadv2", "readv")) < 65536


def test_splice_moves_all(host):
    client = "/run/trace-client"
    with Trace(host) as trace:
        host.run("strace", "--follow-forks", "--decode-fds=path", f"--output={client}",
                 "objmapperctl", "get", "--mode", "splice", "-o", "/run/big", "big")
    try:
        assert host.path("/run/big").read_bytes() == host.get("big", "--mode", "copy")
    finally:
        host.path("/run/big").unlink()

    sends_all_by_splice(trace.calls)
    # The client likewise: socket to pipe to file, which can raise no SIGPIPE.
    calls = read_trace(host.path(client).read_text())
    assert total(calls, ("splice",), "^[0-9]+<socket:") == BIG
    assert total(calls, ("splice",), "^[0-9]+<pipe:") == BIG
    assert total(calls, ("read", "recvfrom", "recvmsg", "readv"), "^[0-9]+<socket:") < 65536
    assert len([name for name, _, _ in calls if name == "rt_sigprocmask"]) < BIG >> 20


def test_copy_moves_all(host):
    with Trace(host) as trace:
        assert len(host.get("big", "--mode", "copy")) == BIG
    sends_all_by_splice(trace.calls)


def test_what_cannot_be_spliced_is_read(host):
    whole = host.get("big", "--mode", "copy")
    for mode in ("copy", "splice"):
        with Trace(host, "--inject=splice:error=EINVAL") as trace:
            assert host.get("big", "--mode", mode) == whole
        assert total(trace.calls, ("splice",)) == 0
        assert total(trace.calls, ("pread64",), "^[0-9]+</") >= BIG


def test_reader_cannot_change_a_byte(host):
    for uri, mode in (("blob", "fdpass"), ("small", "copy"), ("small", "fdpass")):
        before = host.get(uri)
        result = host.run(host.test_program("tamper"), mode, uri, user="reader", check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert host.get(uri) == before


def test_not_even_the_owner_can_write_through_the_view(host):
    before = host.get("blob")

    def meets_the_view(user, *what):
        result = host.run(host.test_program("tamper"), "fdpass", "blob", user=user, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        refused = [line.partition(": ") for line in result.stdout.splitlines() if line.startswith(what)]
        assert {name for name, _, _ in refused} == set(what), result.stdout
        assert all(why == "Read-only file system" for _, _, why in refused), result.stdout

    # The blob's own mode forbids its owner to write, and the view to change the mode or to truncate while opening; root,
    # who needs no mode, meets the view everywhere.
    meets_the_view("objmapper", "fchmod", "truncate while opening")
    meets_the_view("root", "fchmod", "re-open for writing", "truncate while opening")
    # So does the owner where no mode is in the way.
    bodies = [path for path in host.path("/var/lib/objmapper/blobs").rglob("*") if path.is_file()]
    modes = {path: path.stat().st_mode & 0o7777 for path in bodies}
    for path in bodies:
        path.chmod(0o600)
    try:
        meets_the_view("objmapper", "fchmod", "re-open for writing", "truncate while opening")
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert host.get("blob") == before


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
