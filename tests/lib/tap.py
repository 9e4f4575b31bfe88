# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the test_* functions of a file and tells the outcome as TAP."""

import sys
import time
import traceback


class Skip(Exception):
    """Raised by a test whose needs are missing; the text says which."""


def skip_all(reason):
    """Ends the file: nothing in it can run here."""
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


def run(module, *args, on_failure=None):
    """Calls each test_* function of module (a module's globals) in the order of the file, with args.

    on_failure(), when given, returns text that helps to understand a failure, such as a log's end.
    Ends the process: 0 when nothing failed."""
    tests = [(name, f) for name, f in module.items() if name.startswith("test_") and callable(f)]
    failed = 0
    print(f"1..{len(tests)}", flush=True)
    for number, (name, function) in enumerate(tests, 1):
        line = f"{number} {name.removeprefix('test_')}"
        start = time.monotonic()
        try:
            function(*args)
            print(f"ok {line}", flush=True)
        except Skip as reason:
            print(f"ok {line} # SKIP {reason}", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {line}")
            diagnostics = traceback.format_exc() + (on_failure() if on_failure else "")
            print("".join(f"# {text}\n" for text in diagnostics.splitlines()), flush=True)
        print(f"# {name}: {time.monotonic() - start:.2f} s", flush=True)
    sys.exit(1 if failed else 0)


def tell(number, name, wrong):
    """The outcome of one of those that are counted beforehand; wrong: lines of what is."""
    for line in wrong:
        print(f"# {line}")
    print(f"{'not ok' if wrong else 'ok'} {number} {name}")
