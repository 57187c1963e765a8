#!/bin/bash
# What answering several at once is worth: odmoe serve with 1 to 16 streams, everything in memory and under a cap, where
# streams have little in common or go on from one prompt.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bench/serve.sh [OPTION...]
  --model FILE       default /var/tmp/odmoe-bench/mid-text.gguf, which bench/run.sh makes
  --case NAME...     only these cases (names: see --list)
  --streams N...     how many at once (1 2 4 8 16)
  --tokens N         of each answer (64)      --runs N   rounds; medians are shown (3)
  --threads N        of the server (all processors)
  --picture FILE     draw it (docs/serve.svg)  --list    show the cases and leave
BUILD names the build folder, PYTHON the interpreter. Results: bench/out/serve.jsonl; the table on standard output.
Cases under a cap need root and a memory control group: the page cache counts, and is cold at the start.
TEXT
}

# name       cap --ram   of serve_load.py   (--ram is less than the cap by what the process needs besides)
cases='
resident     max 6GiB
cap-1G       1G  800MiB
cap-1G-alike 1G  800MiB  --alike --prompt 128
'
say() { echo "serve.sh: $*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath -m "${BUILD:-$(dirname "$here")/build}")
python=${PYTHON:-python3}
model=/var/tmp/odmoe-bench/mid-text.gguf chosen='' streams='1 2 4 8 16' tokens=64 runs=3 threads=$(nproc) picture=''
while [ $# -gt 0 ]; do
    case $1 in
    --case | --streams)
        name=${1#--}
        values=
        while [ $# -gt 1 ] && [ "${2#--}" = "$2" ]; do values="$values $2"; shift; done
        [ -n "$values" ] || die "--$name needs a value"
        if [ "$name" = case ]; then chosen=$values; else streams=$values; fi ;;
    --model | --tokens | --runs | --threads | --picture)
        [ $# -ge 2 ] || die "$1 needs a value"
        declare "${1#--}=$2"
        shift ;;
    --list) echo "$cases"; exit 0 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
[ -f "$model" ] || die "$model is not there: --model FILE, or bench/run.sh makes it"
odmoe=$build/odmoe
[ -x "$odmoe" ] || die "$odmoe is not there: make"
most=$(tr ' ' '\n' <<<"$streams" | sort -n | tail -1)
out=$here/out
mkdir -p "$out"
: >"$out/serve.jsonl"
vocab=$("$odmoe" inspect "$model" --json | "$python" -c 'import json, sys; print(min(json.load(sys.stdin)["vocab"], 30000))')

server=
stop() { # the server alone, by its own number; then whoever waits for it
    [ -z "$server" ] || { kill -INT "$server" 2>/dev/null || true; wait "$waiting" || true; server=; }
}
trap stop EXIT

for round in $(seq "$runs"); do
    while read -r name cap ram load <&3; do
        [ -n "$name" ] || continue
        [ -z "$chosen" ] || [[ " $chosen " == *" $name "* ]] || continue
        command=("$odmoe" serve -m "$model" --ram "$ram" -c 512 --parallel "$most" --cache-ram 0 --port 0 -t "$threads" --no-page)
        if [ "$cap" != max ]; then
            [ "$(id -u)" = 0 ] || { say "$name is skipped: it needs root"; continue; }
            command=("$here/capped.sh" "$cap" "${command[@]}")
        fi
        ready=$out/serve.ready
        : >"$ready"
        say "round $round: $name"
        "${command[@]}" >"$ready" 2>>"$out/serve.log" &
        waiting=$!
        while ! grep -q "listening on" "$ready"; do
            kill -0 "$waiting" 2>/dev/null || die "the server did not start: see $out/serve.log"
            sleep 0.1
        done
        url=$(sed -n 's/.*listening on //p' "$ready")
        # under capped.sh the server is a child of the one that waits
        server=$waiting
        [ "$cap" = max ] || server=$(pgrep -P "$waiting" | tail -1)
        # shellcheck disable=SC2086  # lists
        "$python" "$here/serve_load.py" "$url" --case "$name" $load --streams $streams --tokens "$tokens" --vocab "$vocab" >>"$out/serve.jsonl"
        stop
    done 3<<<"$cases"
done
# shellcheck disable=SC2086  # nothing, or one name
"$python" "$here/plot_serve.py" "$out/serve.jsonl" ${picture:+"$picture"}
