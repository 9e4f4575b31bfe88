# SPDX-License-Identifier: LGPL-2.1-or-later
"""What polkit's rules let others than root do, and who is refused, with which words."""

import container
import tap

container.enter_namespaces()

from host import Host  # noqa: E402, pylint: disable=wrong-import-position

RULES = "/etc/polkit-1/rules.d/50-test.rules"
# The publisher may put below one prefix, the reader manage.
RULES_TEXT = """\
polkit.addRule(function(action, subject) {
    if (action.id == "org.objmapper1.put" && subject.user == "publisher" &&
        action.lookup("uri").indexOf("allowed/") == 0)
        return polkit.Result.YES;
    if (action.id.indexOf("org.objmapper1.") == 0 && action.id != "org.objmapper1.put" && subject.user == "reader")
        return polkit.Result.YES;
});
"""
BODY = ("3", "1", "2", "3", "0", "0")


def put(host, uri, **kwargs):
    return host.busctl("PutBytes", "saya{ss}a{sv}", uri, *BODY, **kwargs)


def test_actions_are_known(host):
    known = host.run("pkaction").stdout.split()
    for verb in ("put", "remove", "pin", "verify", "reload"):
        assert f"org.objmapper1.{verb}" in known, known


def test_rules_may_look_at_the_object(host):
    host.start_again()
    put(host, "allowed/one", user="publisher")
    assert host.get("allowed/one") == b"\1\2\3"
    for uri, user in (("other/one", "publisher"), ("allowed/two", "reader"), ("allowed/two", "stranger")):
        refused = put(host, uri, user=user, check=False)
        assert refused.returncode != 0 and "org.objmapper1.put" in refused.stderr, refused
        assert host.ctl("stat", uri, check=False).returncode != 0


def test_managing(host):
    host.start_again()
    host.put("managed", "bytes")
    for command in (("pin", "managed"), ("unpin", "managed"), ("verify",)):
        host.ctl(*command, user="reader")
        for user in ("publisher", "stranger"):
            refused = host.ctl(*command, user=user, check=False)
            assert refused.returncode == 5 and "not permitted" in refused.stderr, refused
    host.busctl("Reload", user="reader")
    host.busctl("Remove", "sa{sv}", "managed", "0", user="reader")
    assert host.ctl("stat", "managed", check=False).returncode == 3
    for method in (("Reload",), ("Remove", "sa{sv}", "managed", "0")):
        refused = host.busctl(*method, user="stranger", check=False)
        assert refused.returncode != 0 and "polkit's action" in refused.stderr, refused


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


with Host(files={RULES: RULES_TEXT}) as machine:
    tap.run(globals(), machine, on_failure=machine.tell)
