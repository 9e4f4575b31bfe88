#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vectors_cross.py KIND: builds the golden vectors' test with all of src/protocol and src/fdpass for another kind of machine
(tests/lib/cross.py) and runs it there. TAP; skipped where compiler or emulator is missing."""

import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/lib"))
sys.dont_write_bytecode = True

import cross  # noqa: E402  pylint: disable=wrong-import-position


def main():
    try:
        target = cross.Target(sys.argv[1])
    except cross.Unavailable as reason:
        print(f"1..0 # SKIP {reason}")
        return 0

    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/test-vectors"
        target.build(program, "tests/unit/test-vectors.c", ["protocol", "fdpass"])
        vectors = sorted(map(str, (ROOT / "tests/data/vectors").glob("*.txt")))
        return subprocess.run([*target.emulator, program, *vectors], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
