#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""functions.py PAGE: the functions whose declarations are in a manual page's synopsis, one a line."""

import re
import sys

with open(sys.argv[1], encoding='utf-8') as file:
    synopsis = file.read().split('SYNOPSIS')[1].split('DESCRIPTION')[0]
print('\n'.join(re.findall(r'^ +\w[\w ]*[ *](objmapper_\w+)\(', synopsis, flags=re.MULTILINE)))
