# SPDX-License-Identifier: LGPL-2.1-or-later
"""What polkit's rules let others than root do, and who is refused, with which words."""

import container
import tap

container.enter_namespaces()

from host import Host  # noqa: E402, pylint: disable=wrong-import-position

RULES = "/etc/polkit-1/rules.d/50-test.rules"
# The publisher may put and purge below one prefix, the manager do everything.
RULES_TEXT = """\
polkit.addRule(function(action, subject) {
    if (action.id == "org.objmapper1.put" && subject.user == "publisher" &&
        action.lookup("uri").indexOf("allowed/") == 0)
        return polkit.Result.YES;
    if (action.id.indexOf("org.objmapper1.") == 0 && subject.user == "manager")
        return polkit.Result.YES;
    if (action.id == "org.objmapper1.purge" && subject.user == "publisher" &&
        action.lookup("prefix").indexOf("allowed/") == 0)
        return polkit.Result.YES;
});
"""
BODY = ("3", "1", "2", "3", "0", "0")


def put(host, uri, **kwargs):
    return host.busctl("PutBytes", "saya{ss}a{sv}", uri, *BODY, **kwargs)


def test_actions_are_known(host):
    known = host.run("pkaction").stdout.split()
    for verb in ("put", "remove", "purge", "pin", "flush-cache", "verify", "reload"):
        assert f"org.objmapper1.{verb}" in known, known


def test_rules_may_look_at_the_object(host):
    host.start_again()
    put(host, "allowed/one", user="publisher")
    assert host.get("allowed/one") == b"\1\2\3"
    for uri, user in (("other/one", "publisher"), ("allowed/two", "reader"), ("allowed/two", "stranger")):
        refused = put(host, uri, user=user, check=False)
        assert refused.returncode != 0 and "org.objmapper1.put" in refused.stderr, refused
        assert host.ctl("stat", uri, check=False).returncode != 0
    refused = host.busctl("Purge", "sa{sv}", "other/", "0", user="publisher", check=False)
    assert refused.returncode != 0 and "org.objmapper1.purge" in refused.stderr, refused
    assert host.busctl("Purge", "sa{sv}", "allowed/", "0", user="publisher").stdout == "t 1\n"


def test_every_verb(host):
    """As root, as one whom a rule permits it, and as one to whom it says nothing."""
    host.start_again()
    host.run("install", "-m", "0644", "/dev/null", "/tmp/two")
    host.path("/tmp/two").write_text("two")
    host.path("/tmp/large").write_bytes(bytes((1 << 20) + 1))
    host.path("/tmp/large").chmod(0o644)
    commands = ((("put", "verb/two", "/tmp/two", "--meta=a=b", "--ttl=1h"), "put"), (("pin", "verb/two"), "pin"),
                (("unpin", "verb/two"), "pin"), (("verify",), "verify"), (("reload",), "reload"),
                (("flush",), "flush-cache"), (("rm", "verb/two"), "remove"), (("purge", "verb/"), "purge"))
    for user in ("root", "manager"):
        for command, _action in commands:
            if command[0] == "purge":
                host.put("verb/1", "1")
                host.put("verb/2", "2")
            said = host.ctl(*command, user=user)
            if command[0] == "put":
                assert host.get("verb/two") == b"two"
                known = host.ctl("stat", "verb/two").stdout
                assert "a=b" in known and "Expires:    never" not in known, known
            elif command[0] == "rm":
                assert host.ctl("stat", "verb/two", check=False).returncode == 3
            elif command[0] == "purge":
                assert said.stdout == "2 objects removed\n", said.stdout
    host.put("verb/two", "still")
    for command, action in commands:
        for user in ("stranger", "reader"):
            refused = host.ctl(*command, user=user, check=False)
            assert refused.returncode == 5 and f"polkit's action org.objmapper1.{action}" in refused.stderr, refused
            if action in ("put", "remove", "purge"):
                assert "/run/objmapper/publish.sock" in refused.stderr and "objmapper-publish" in refused.stderr, refused
    assert host.get("verb/two") == b"still"

    large = host.ctl("put", "verb/large", "/tmp/large", user="manager", check=False)
    assert large.returncode == 5 and "1048576 bytes" in large.stderr, large
    # Errors of the store keep their exit codes.
    assert host.ctl("rm", "verb/none", user="manager", check=False).returncode == 3
    assert host.ctl("put", "verb/two", "/tmp/two", "--if-absent", user="manager", check=False).returncode == 4
    host.configure("wrong", "")
    host.path("/etc/objmapper/objmapper.conf.d").mkdir(parents=True, exist_ok=True)
    wrong = host.path("/etc/objmapper/objmapper.conf.d/wrong.conf")
    wrong.write_text("[Server]\nMaxStreams=none\n")
    failed = host.ctl("reload", check=False)
    wrong.unlink()
    assert failed.returncode == 1 and "wrong.conf:2: MaxStreams=none" in failed.stderr, failed


def test_counters_are_for_everybody(host):
    host.start_again()
    host.put("counted", "1")
    for user in ("root", "reader", "stranger"):
        assert "store_objects" in host.ctl("stats", user=user).stdout
        assert "NAMESPACE" in host.ctl("namespaces", user=user).stdout
        assert host.ctl("metrics", user=user).stdout.endswith("# EOF\n")
    assert host.ctl("stat", "counted", user="stranger", check=False).returncode == 5


def test_without_polkit(host):
    """Root goes on, others are refused and told why; reload by the service manager needs no polkit."""
    host.start_again()
    host.run("systemctl", "mask", "--runtime", "--now", "polkit.service")
    try:
        refused = put(host, "allowed/three", user="publisher", check=False)
        assert refused.returncode != 0 and "polkit can't be asked" in refused.stderr, refused
        put(host, "by/root")
        assert host.get("by/root") == b"\1\2\3"
        host.run("systemctl", "reload", "objmapper.service")
    finally:
        host.run("systemctl", "unmask", "--runtime", "polkit.service")
    put(host, "allowed/three", user="publisher")


with Host(users={"manager": []}, files={RULES: RULES_TEXT}) as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
