#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# configure.sh SOURCE BUILD: the headers that nginx's own configure makes, for the nginx that SOURCE (of nginx-dev) is
# for, with the flags that it was built with.
set -euo pipefail

source=$1
build=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$source"
NGX_CONF_FLAGS=()
# shellcheck source=/dev/null
. ./conf_flags
./configure "${NGX_CONF_FLAGS[@]}" --builddir="$work" >"$work/log" 2>&1 || {
        cat "$work/log"
        exit 1
}
cp "$work/ngx_auto_config.h" "$work/ngx_auto_headers.h" "$build"
