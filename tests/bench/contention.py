# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which locks of the kernel a process had to wait for, and where: by the kernel's own tracepoint, as perf records it."""

import collections
import contextlib
import re
import shutil
import subprocess

EVENT = "lock:contention_begin"
LOCKING = re.compile(r".*(spin_lock|read_lock|write_lock|mutex|rwsem|down_|slowpath|trace_contention).*")
INTERRUPT = ("sysvec_", "asm_")
SCHEDULER = re.compile(r"__schedule|schedule|try_to_wake_up|ttwu_.*|sched_.*|.*rq_lock.*|finish_task_switch.*")
SYSTEM_CALL = re.compile(r"__(?:x64|arm64)_sys_(.*)")


def why_not():
    """What keeps them from being counted here; None: nothing does."""
    if not shutil.which("perf"):
        return "there is no perf"
    said = subprocess.run(["perf", "record", "-o", "/dev/null", "-e", EVENT, "true"], check=False, capture_output=True, text=True)
    return None if said.returncode == 0 else " ".join(said.stderr.split()) or "perf record fails"


@contextlib.contextmanager
def recorded(pid, path):
    """All threads of a process, while in it."""
    with subprocess.Popen(["perf", "record", "-o", path, "-e", EVENT, "-g", "-p", str(pid), "--delay", "-1", "--control", "fd:0,1"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as recorder:
        ask(recorder, "enable")
        try:
            yield
        finally:
            ask(recorder, "stop")


def ask(recorder, command):
    recorder.stdin.write(f"{command}\n")
    recorder.stdin.flush()
    answer = recorder.stdout.readline()
    if "ack" not in answer:
        raise RuntimeError(f"perf answers {answer!r} to {command}")


def read(path):
    """How often, by place: who takes the lock, and for which system call. The locks of the scheduler, and of what comes in
    between, are left out: they are waited for by what else runs."""
    said = subprocess.run(["perf", "script", "-i", path, "-F", "event,ip,sym"], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout
    stacks = (re.findall(r"^\s+[0-9a-f]+ (\S+)", block, re.MULTILINE) for block in said.split("\n\n"))
    places = (place_of(stack) for stack in stacks if stack)
    return collections.Counter(place for place in places if place)


def place_of(stack):
    """Of functions, the innermost first. None: the scheduler, or what interrupted the process."""
    taker = next((name for name in stack if not LOCKING.fullmatch(name)), "?")
    if SCHEDULER.fullmatch(taker) or any(name.startswith(INTERRUPT) for name in stack):
        return None
    call = next((match[1] for match in map(SYSTEM_CALL.fullmatch, stack) if match), None)
    return f"{taker} of {call}" if call else taker
