#!/bin/sh
# Measure the parts on their own, each beside its limit: the kernels, attention, and the layer (three runs in one line).
# usage: parts.sh BUILD      bench/run.sh measures whole models
set -eu
cd "$(dirname "$0")/.."
build=$1
odmoe=$build/odmoe
ninja -C "$build" odmoe bench/bench_kernels bench/bench_attend >/dev/null

# One figure of a JSON object on standard input, with three digits after the point.
figure() { "${PYTHON:-python3}" -c "import json, sys; print('%.3f' % json.load(sys.stdin)['$1'])"; }

# TITLE FIELD COMMAND...: the field of each of three runs in one line.
line() {
    title=$1 field=$2 figures=
    shift 2
    for _ in 1 2 3; do
        figures="$figures $("$@" 2>/dev/null | tail -n 1 | figure "$field")"
    done
    echo "$title, $field:$figures"
}

echo "== kernels"
best=$("$odmoe" --version | sed -n 's/^kernels: \([^ ]*\).*/\1/p')
"$build/bench/bench_kernels" -t "$(nproc)" "$best" q4_k q6_k q8_0 bf16 f32
echo "== attention"
"$build/bench/bench_attend" -t "$(nproc)" "$best"
echo "== layer"
line "layer of 16 experts, 256 tokens" seconds "$odmoe" bench-layer --json
