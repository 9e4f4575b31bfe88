#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""page.py RST2MAN VERSION DATE INPUT OUTPUT: makes a manual page, and mends what rst2man writes that a stricter
formatter complains about: a page without version and date, an unknown font, space below headings."""

import re
import subprocess
import sys


def main():
    rst2man, version, date, source, target = sys.argv[1:]
    page = subprocess.run([rst2man, '--strict', '--input-encoding=utf-8', '--output-encoding=utf-8', source],
                          check=True, stdout=subprocess.PIPE, encoding='utf-8').stdout
    page = re.sub(r'^\.TH (\S+) "?(\d)"? "[^"]*" "[^"]*" "?([^"\n]*)"?$',
                  r'.TH \1 "\2" "%s" "objmapper %s" "\3"' % (date, version), page, count=1, flags=re.MULTILINE)
    page = re.sub(r'^(\.S[HS] .*)\n\.sp$', r'\1', page, flags=re.MULTILINE)
    page = re.sub(r'^\.ft C$', '.ft CR', page, flags=re.MULTILINE)
    with open(target, 'w', encoding='utf-8') as file:
        file.write(page)


if __name__ == '__main__':
    main()
