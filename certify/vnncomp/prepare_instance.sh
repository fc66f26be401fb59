#!/bin/sh
# prepare_instance.sh v1 CATEGORY NETWORK PROPERTY: ends what an earlier instance may have left, and says by its
# exit code whether the files are there.
set -eu
[ "${1:-}" = v1 ] && [ $# -eq 4 ] || { echo "usage: $0 v1 CATEGORY NETWORK PROPERTY" >&2; exit 2; }
pid=${TMPDIR:-/tmp}/tightrope-instance.pid
if [ -f "$pid" ]; then
    kill "$(cat "$pid")" 2>/dev/null || true
    rm -f "$pid"
fi
[ -f "$3" ] && [ -f "$4" ]
