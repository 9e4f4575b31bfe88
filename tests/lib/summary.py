#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sums up test results: each argument is CONFIGURATION=FILE, a meson log (.json) or TAP.

Tells what failed with the end of its output, then "N passed, N failed". The exit status is 1 when something
failed, when nothing ran, or, with CI=true, when something was skipped."""

import json
import os
import re
import sys

POINT = re.compile(r"^(ok|not ok)\b(.*)", re.MULTILINE)
EXCERPT_LINES = 60


def read_results(path):
    """(name, meson's result or None, output) for each program of a log."""
    with open(path, encoding="utf-8", errors="replace") as file:
        if not path.endswith(".json"):
            yield os.path.basename(path), None, file.read(), ""
            return
        for line in file:
            test = json.loads(line)
            yield test["name"], test["result"], test.get("stdout", ""), test.get("stderr", "")


def count(result, output):
    """(passed, failed, skipped) of one program: of its TAP points, or of itself when it tells none."""
    points = POINT.findall(output)
    failed = sum(kind == "not ok" for kind, _ in points)
    skipped = sum(kind == "ok" and "# SKIP" in rest for kind, rest in points)
    passed = len(points) - failed - skipped
    plan = re.search(r"^1\.\.(\d+)(.*)", output, re.MULTILINE)
    if plan and plan[1] == "0":
        return 0, 0, 1
    if result is None:  # TAP without a runner: cut short is failed
        if not plan or int(plan[1]) != len(points):
            failed += 1
    elif result == "SKIP":
        skipped = skipped or 1
    elif result not in ("OK", "EXPECTEDFAIL"):
        failed = failed or 1
    elif not points:
        passed = 1
    return passed, failed, skipped


def excerpt(output, errors):
    """What to show of a program that failed: what follows each failed point, else the end."""
    lines, failed, showing = output.splitlines(), [], False
    for line in lines:
        if POINT.match(line):
            showing = line.startswith("not ok")
            room = EXCERPT_LINES
        if showing and room > 0:
            failed.append(line)
            room -= 1
    return (failed or lines[-EXCERPT_LINES:]) + errors.splitlines()[-EXCERPT_LINES:]


def main():
    total = [0, 0, 0]
    for argument in sys.argv[1:]:
        configuration, _, path = argument.partition("=")
        if not os.path.exists(path):
            print(f"FAILED {configuration}: no results in {path}")
            total[1] += 1
            continue
        for name, result, output, errors in read_results(path):
            counts = count(result, output)
            total = [a + b for a, b in zip(total, counts)]
            if counts[1]:
                print(f"FAILED {configuration}/{name} ({result or 'TAP'}):")
                for line in excerpt(output, errors):
                    print(f"    {line}")
            elif counts[2]:
                print(f"SKIPPED {configuration}/{name}: " +
                      "; ".join(line for line in output.splitlines() if "# SKIP" in line))

    passed, failed, skipped = total
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    if failed or not passed or (skipped and os.environ.get("CI") == "true"):
        sys.exit(1)


if __name__ == "__main__":
    main()
