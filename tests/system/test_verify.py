# SPDX-License-Identifier: LGPL-2.1-or-later
"""objmapperctl verify on a booted machine: who may, what it says, what the journal has, and that gets go on."""

import re

import container
import tap

container.enter_namespaces()

from host import Host  # noqa: E402, pylint: disable=wrong-import-position

PROBLEM = "89dec683f9e34df7b6a9c1bf084911e3"
VERIFIED = "83f0c6195f4c4dfcb0f4401c9cf3d200"
BODY = bytes(range(256)) * 100


def bodies(host):
    return sorted(path for path in host.path("/var/lib/objmapper/blobs").rglob("*") if path.is_file())


def test_starts_the_daemon_and_finds_nothing(host):
    host.start_again()
    for i in range(4):
        host.put(f"object/{i}", BODY + bytes([i]))
    host.put("small", "small")
    host.run("systemctl", "stop", "objmapper.service")
    assert not host.is_active()
    assert host.ctl("verify").stdout == "5 objects, 100.0 KiB checked; 0 problems found, 0 repaired\n"
    assert host.is_active()


def test_is_for_root(host):
    for user in ("stranger", "reader", "publisher", "objmapper"):
        refused = host.ctl("verify", "--repair", user=user, check=False)
        assert refused.returncode == 5 and not refused.stdout, refused
        assert "org.objmapper1.verify" in refused.stderr and "this is for root" in refused.stderr, refused.stderr


def test_look_and_repair(host):
    first, second, third, _ = bodies(host)
    first.write_bytes(first.read_bytes().replace(b"\x07", b"\x08"))
    with second.open("r+b") as file:
        file.truncate(100)
    third.unlink()
    (first.parent / "stray").write_text("x")

    looked = host.ctl("verify", check=False)
    assert looked.returncode == 1 and "--repair" in looked.stderr, looked
    *wrong, count = looked.stdout.splitlines()
    assert [line.split(" (")[0] for line in wrong] == [
        "object/0: its body has a wrong checksum", "object/1: its body has a wrong size",
        "object/2: its body is missing", f"blobs/{first.parent.name}/stray: it is not the store's"], wrong
    assert count.endswith("4 problems found, 0 repaired"), count

    entries = host.journal(f"MESSAGE_ID={PROBLEM}")
    assert [entry["MESSAGE"] for entry in entries] == wrong, entries
    assert [(entry["OBJMAPPER_PROBLEM"], entry.get("OBJMAPPER_URI")) for entry in entries] == [
        ("checksum", "object/0"), ("size", "object/1"), ("missing", "object/2"), ("stray", None)], entries
    assert all(entry["PRIORITY"] == "3" for entry in entries), entries

    repaired = host.ctl("verify", "--repair").stdout.splitlines()
    assert repaired[-1].endswith("4 problems found, 4 repaired"), repaired
    entries = host.journal(f"MESSAGE_ID={PROBLEM}")[4:]
    assert [entry["MESSAGE"] for entry in entries] == repaired[:-1], entries
    moved = sorted(entry["OBJMAPPER_QUARANTINE"] for entry in entries if "OBJMAPPER_QUARANTINE" in entry)
    there = sorted(f"quarantine/{path.name}" for path in host.path("/var/lib/objmapper/quarantine").iterdir())
    assert moved == there and len(there) == 3, (moved, there)
    assert host.run("stat", "--format=%U %a", "/var/lib/objmapper/quarantine").stdout == "objmapper 700\n"

    assert host.ctl("verify").stdout.endswith("0 problems found, 0 repaired\n")
    summaries = [entry["MESSAGE"] for entry in host.journal(f"MESSAGE_ID={VERIFIED}")]
    assert summaries[-2:] == ["The store was verified: 5 objects, 4 problems found, 4 repaired.",
                              "The store was verified: 2 objects, 0 problems found, 0 repaired."], summaries
    assert host.ctl("ls").stdout == "object/3\nsmall\n"
    assert host.get("object/3") == BODY + bytes([3])


def test_progress_while_gets_go_on(host):
    """On a terminal, at a speed that takes it some seconds."""
    for i in range(4):
        host.put(f"object/{i}", BODY + bytes([i]))
    verify = host.start("script", "--quiet", "--return", "--command", "objmapperctl verify --rate=15K", "/dev/null",
                        stdout=-1)
    # Only what the first one shows tells that it is under way: a second one that comes sooner would be let in itself.
    shown = b""
    while b"%" not in shown:
        part = verify.stdout.read1()
        assert part, shown
        shown += part
    refused = host.busctl("Verify", "a{sv}", "0", check=False)
    assert "under way" in refused.stderr, refused
    n_gets = 0
    while verify.poll() is None and n_gets < 50:
        assert host.get(f"object/{n_gets % 4}") == BODY + bytes([n_gets % 4])
        n_gets += 1
    shown = (shown + verify.communicate(timeout=60)[0]).decode()
    assert verify.returncode == 0 and n_gets >= 3, (verify.returncode, n_gets)
    parts = [int(percent) for percent in re.findall(r"\] +(\d+)%  \d/5", shown)]
    assert len(parts) >= 3 and parts == sorted(parts), shown
    assert "0 problems found, 0 repaired" in shown, shown


def test_instance(host):
    host.run("systemctl", "start", "objmapper@one.socket", "objmapper-publish@one.socket")
    host.ctl("--instance=one", "put", "mine", input="one")
    said = host.ctl("--instance=one", "verify").stdout
    host.run("systemctl", "stop", "objmapper@one.socket", "objmapper-publish@one.socket", "objmapper@one.service")
    assert "1 objects, 3 B checked; 0 problems found" in said, said


with Host() as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
