#!/bin/sh
# run_instance.sh v1 CATEGORY NETWORK PROPERTY RESULTS SECONDS: writes the verdict to RESULTS as the competition
# has it: unsat, sat with the assignment behind it, unknown, timeout or error.
set -eu
[ "${1:-}" = v1 ] && [ $# -eq 6 ] || { echo "usage: $0 v1 CATEGORY NETWORK PROPERTY RESULTS SECONDS" >&2; exit 2; }
network=$3 property=$4 results=$5 seconds=$6
tightrope=${TIGHTROPE:-$(cd "$(dirname "$0")/../.." && pwd)/target/release/tightrope}
pid=${TMPDIR:-/tmp}/tightrope-instance.pid
out=$results.part
# Half a second for the start and the end of the process.
"$tightrope" verify "$network" "$property" --quiet --timeout "$(awk "BEGIN { print ($seconds > 1) ? $seconds - 0.5 : $seconds }")" >"$out" &
echo $! >"$pid"
if wait $!; then
    sed '1s/^timed-out$/timeout/' "$out" >"$results"
else
    echo error >"$results"
fi
rm -f "$out" "$pid"
