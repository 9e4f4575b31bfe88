#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""run.py FUZZER CORPUS: lets a libFuzzer program look for $FUZZ_SECONDS (20) with a copy of the kept corpus. What
it finds goes to $FUZZ_ARTIFACTS, or to the present folder."""

import os
import shutil
import subprocess
import sys
import tempfile


def main():
    fuzzer, corpus = sys.argv[1:]
    seconds = int(os.environ.get('FUZZ_SECONDS', '20'))
    artifacts = os.path.abspath(os.environ.get('FUZZ_ARTIFACTS', '.'))
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, 'corpus')
        shutil.copytree(corpus, copy)
        # No names of functions: to look them up it would keep a program at the end of pipes, descriptors that a
        # harness has not opened.
        return subprocess.run([fuzzer, '-print_funcs=0', '-max_total_time=%d' % seconds, '-max_len=70000', '-timeout=10',
                               '-rss_limit_mb=1024', '-print_final_stats=1',
                               '-artifact_prefix=%s/%s-' % (artifacts, os.path.basename(fuzzer)), copy],
                              check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
