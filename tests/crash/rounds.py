# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rounds of load, a blow, and a comparison: the common part of the crash tests.

Writers change URIs of their own (put, replace, remove, purge, conditions, metadata, times to live), many at a time,
and note what was answered; readers get all of them in all modes and check every byte. Then something befalls the
daemon, it is started again, and each URI must be as its last acknowledged change left it, or as a later one that was
under way."""

import multiprocessing
import os
import pathlib
import platform
import random
import subprocess
import time

from model import INDEX, READERS, WRITERS, Etags, Shared
import common
import wire
from clients import Reader, Writer
from daemon import build_path

ROUNDS_MIN = 3  # however slow the machine
ROUNDS_TO_JUDGE = 100  # whether the kills came as they should; fewer may all be short ones
CHANGES_PER_ROUND = (50, 2000)  # that are answered; several times as many gets are, beside them
ROUND_SECONDS = 300  # a disk that others use too may take seconds for a commit
KILL_DELAY_SECONDS = 0.02  # spreads the kills over what lies between two answers
START_KILL_SECONDS = 0.1
AIMED_SHARE = 0.7  # of the blows that come in the midst of a commit; the others come whenever they come
AIM_SECONDS = 5

# The system calls that a commit waits in: pwrite64, fsync, fdatasync, pwritev.
WRITING = {"x86_64": (18, 74, 75, 296)}.get(platform.machine(), (68, 82, 83, 70))


class Committer:
    """The daemon's thread that makes its transactions."""

    def __init__(self, process):
        tasks = pathlib.Path(f"/proc/{process.pid}/task")
        self.path, = (task / "syscall" for task in tasks.iterdir()
                      if (task / "comm").read_text(encoding="ascii") == "store-writer\n")

    def is_committing(self):
        call = self.path.read_text(encoding="ascii").split()[0]
        return call.isdecimal() and int(call) in WRITING


class Crew:
    """The client processes."""

    def __init__(self, daemon, shared):
        context = multiprocessing.get_context("fork")
        self.members = []
        for number in range(WRITERS + READERS):
            kind = Writer if number < WRITERS else Reader
            mine, its = context.Pipe()
            client = kind(number, (daemon.reader, daemon.publisher), shared, its)
            process = context.Process(target=client.serve, daemon=True)
            process.start()
            its.close()
            self.members.append((process, mine))

    def tell(self, *command):
        for _, pipe in self.members:
            pipe.send(command)

    def hear(self, expected, etags=None):
        """What each says; a client that failed is an AssertionError with its words."""
        said = []
        for process, pipe in self.members:
            assert pipe.poll(ROUND_SECONDS), f"client {process.pid} hangs"
            word, result, seen = pipe.recv()
            assert word != "failed", f"a client says:\n{result}"
            assert word == expected
            if etags:
                etags.merge(seen)
            said.append(result)
        return said

    def check(self):
        """While they work they say nothing, but that one failed."""
        for _, pipe in self.members:
            if pipe.poll():
                raise AssertionError(f"a client says:\n{pipe.recv()[1]}")

    def end(self):
        for process, pipe in self.members:
            pipe.close()
            process.kill()
            process.join()


class Run:
    """All rounds on one store.

    name: NAME_SEED= and NAME_ROUNDS= in the environment replay; round N of seed S is round 1 of seed S + N - 1, begun
    with an empty store. blow: what befalls the daemon, for people."""

    def __init__(self, daemon, name="CRASH", blow="kills"):
        self.daemon = daemon
        self.name, self.blow = name, blow
        self.seed = int(os.environ.get(f"{name}_SEED") or random.SystemRandom().randrange(1 << 32))
        self.shared = Shared()
        self.etags = Etags()
        self.crew = Crew(daemon, self.shared)
        self.rounds = self.in_flight = self.under_way = self.start_kills = self.made = self.unmade = self.undone = 0
        self.fast_hits = self.evictions = 0

    def answers(self):
        return sum(self.shared.answers)

    def changes(self):
        return sum(self.shared.answers[:WRITERS])

    def round(self, seed):
        """Load, kill, start, compare."""
        choice = random.Random(seed)
        target = self.changes() + choice.randint(*CHANGES_PER_ROUND)
        delay = choice.random() * KILL_DELAY_SECONDS
        self.crew.tell("run", seed, self.etags.newest())
        self.crew.hear("ready")
        end = time.monotonic() + ROUND_SECONDS
        while self.changes() < target:
            assert self.daemon.process.poll() is None, "the daemon ended by itself"
            self.crew.check()
            assert time.monotonic() < end, f"slow: {self.changes()} changes of {target}"
            time.sleep(0.001)
        time.sleep(delay)
        counters = common.stats(self.daemon)
        self.fast_hits += counters["fast_hits"]
        self.evictions += counters["evictions"]
        self.in_flight += self.aim(choice)
        self.strike(choice)
        self.rounds += 1
        self.under_way += sum(self.crew.hear("done", self.etags))
        self.mend()
        self.check_store()

        if choice.random() < 0.15:
            self.daemon.start(wait=False)
            time.sleep(choice.random() * START_KILL_SECONDS)
            self.daemon.kill()
            self.start_kills += 1
        self.daemon.start()
        self.compare()

    def aim(self, choice):
        """Returns when it is time for the blow: whether a commit is in flight then."""
        committer = Committer(self.daemon.process)
        end = time.monotonic() + AIM_SECONDS
        is_aimed = choice.random() < AIMED_SHARE
        while not (is_committing := committer.is_committing()) and is_aimed and time.monotonic() < end:
            pass
        return is_committing

    def strike(self, _):
        """What befalls the daemon."""
        self.daemon.kill()

    def mend(self):
        """What must be done before it can be started again; no client is connected any more."""

    def check_store(self):
        """What is kept beside the records is what they say, to the last byte."""
        subprocess.run([build_path("tests/crash/check-store"), self.daemon.store], check=True)

    def compare(self):
        self.crew.tell("compare")
        said = self.crew.hear("done", self.etags)[:WRITERS]
        self.made += sum(made for made, *_ in said)
        self.unmade += sum(unmade for _, unmade, *_ in said)
        self.undone += sum(undone for _, _, undone, _ in said)
        self.compare_list({index: state for *_, present in said for index, state in present.items()})

    def compare_list(self, present):
        """A list has what gets found, and nothing else; the counters count it."""
        listed, cursor = {}, b""
        with wire.Peer(self.daemon.reader) as peer:
            while True:
                fields = [wire.prefix(b"")] + ([wire.field(wire.TAG_CURSOR, cursor)] if cursor else [])
                reply = peer.ask(wire.LIST, *fields)
                assert reply.status == wire.OK, reply
                for info, uri in wire.list_entries(reply.body):
                    assert INDEX[uri] not in listed, f"listed twice: {uri}"
                    listed[INDEX[uri]] = (info.generation, info.metadata_version)
                cursor = reply.fields.get(wire.TAG_CURSOR, b"")
                if not cursor:
                    break
            counters = wire.counters(peer.ask(wire.STATS).body)
        for index, state in listed.items():
            assert index in present and present[index][:2] == state, f"URI {index} is listed: {state}"
        immortal = {index for index, state in present.items() if not state[2]}
        assert immortal <= listed.keys(), f"not listed: {immortal - listed.keys()}"
        assert len(immortal) <= counters["store_objects"] <= len(present), f"{counters['store_objects']} objects"

    def compare_files(self):
        """In the end there is a file for each object that has one, and no other."""
        def state():
            files = sum(len(names) for folder in ("blobs", "staging")
                        for _, _, names in os.walk(self.daemon.store / folder))
            counters = common.stats(self.daemon)
            return counters["store_sweeps"], files - counters["store_objects"] + counters["store_objects_inline"]

        common.wait_until(lambda: state() == (1, 0), "what crashes left over cleared away")

    def summary(self):
        between = self.answers() // max(self.rounds, 1)
        return (f"seed {self.seed}: {self.rounds} {self.blow} (and {self.start_kills} kills while starting), "
                f"{self.answers()} operations ({self.changes()} of them changes), {between} between {self.blow}; "
                f"a commit in flight at {self.in_flight} of them; {self.under_way} changes without an answer; "
                f"of what was under way {self.made} were made and {self.unmade} were not; "
                f"{self.undone} visible puts were undone; {len(self.etags.generations)} generations seen; "
                f"{self.fast_hits} gets of copies, {self.evictions} evictions")

    def all(self, rounds, seconds=float("inf")):
        """So many rounds at most, for about so long, and what is to be said at the end."""
        end = time.monotonic() + seconds
        if f"{self.name}_ROUNDS" in os.environ:
            rounds, end = int(os.environ[f"{self.name}_ROUNDS"]), float("inf")
        try:
            for number in range(rounds):
                if number >= ROUNDS_MIN and time.monotonic() > end:
                    break
                try:
                    self.round(self.seed + number)
                except BaseException as error:
                    raise AssertionError(self.tell_failure(number, error)) from error
            self.compare_files()
            self.daemon.restart()
            self.compare()
            print(f"# {self.summary()}", flush=True)
            if self.rounds >= ROUNDS_TO_JUDGE:
                assert self.in_flight * 2 >= self.rounds, f"at too few {self.blow} a commit was in flight"
                assert self.answers() >= 1000 * self.rounds, f"too few operations between {self.blow}"
            assert "damage" not in self.daemon.log(1 << 20).lower(), self.daemon.log()
        finally:
            self.crew.end()

    def tell_failure(self, number, error):
        name, seed = self.name, self.seed
        return (f"round {number + 1}, seed {seed + number}: {error!r}\n{self.summary()}\n"
                f"Again: {name}_SEED={seed + number} {name}_ROUNDS=1, or with what was stored before: "
                f"{name}_SEED={seed} {name}_ROUNDS={number + 1}\n{self.daemon.log()}")
