#!/bin/sh
# Measure this machine, the kernels, the store, the layer and a model, each beside its limit; one table of odmoe beside
# llama.cpp where its Python package is at hand. Lines go to standard output and are meant for bench/RESULTS.md.
# usage: run.sh BUILD [WORKDIR]      WORKDIR: on the disk to measure, some 6 GB free; default BUILD/bench-data
# PYTHON: one with numpy and gguf makes the synthetic model (3.6 GiB), one with llama_cpp too measures that. Without the
# former the demo model is measured alone.
set -eu
cd "$(dirname "$0")/.."
build=$1
data=${2:-$build/bench-data}
python=${PYTHON:-python3}
odmoe=$build/odmoe
runs=3
mkdir -p "$data"
ninja -C "$build" bench/machine bench/bench_kernels bench/bench_store >/dev/null

have() { "$python" -c "import $1" 2>/dev/null; }

# One figure of a JSON object on standard input, with three digits after the point.
figure() { "$python" -c "import json, sys; print('%.3f' % json.load(sys.stdin)['$1'])"; }

# TITLE FIELD COMMAND...: the field of each of three runs in one line.
line() {
    title=$1 field=$2 i=0 figures=
    shift 2
    while [ $i -lt $runs ]; do
        figures="$figures $("$@" 2>/dev/null | tail -n 1 | figure "$field")"
        i=$((i + 1))
    done
    echo "$title, $field:$figures"
}

# SIZE COMMAND...: under a memory cap from a cold page cache where that is possible (root), else as it is.
capped() {
    if [ "$(id -u)" -eq 0 ] && [ -d /sys/fs/cgroup ]; then
        bench/capped.sh "$@"
    else
        shift
        "$@"
    fi
}

echo "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2-), $(nproc) processors"
model=models/demo.gguf
if have gguf; then
    model=$data/mid.gguf
    [ -f "$model" ] || "$python" bench/make_big_gguf.py "$model" --preset mid
fi
echo "== machine"
"$build/bench/machine" "$model" "$(nproc)"
echo "== kernels"
best=$("$odmoe" --version | sed -n 's/^kernels: \([^ ]*\).*/\1/p')
"$build/bench/bench_kernels" -t "$(nproc)" "$best" q4_k q6_k q8_0 bf16 f32
echo "== layer"
line "layer of 16 experts, 256 tokens" seconds "$odmoe" bench-layer --json
echo "== $model"
line "all in memory" gen_tps "$odmoe" bench -m "$model" -p 0 -n 32 --json
line "all in memory" prompt_tps "$odmoe" bench -m "$model" -p 256 -n 0 --json
if [ "$model" = models/demo.gguf ]; then
    echo "(no synthetic model: PYTHON names no Python with numpy and gguf)"
    exit 0
fi
line "cap 1 GiB, --ram 800MiB" gen_tps capped 1G "$odmoe" bench -m "$model" -p 0 -n 16 --ram 800MiB --json
line "cap 2 GiB, --ram 1800MiB" gen_tps capped 2G "$odmoe" bench -m "$model" -p 0 -n 16 --ram 1800MiB --json
if have llama_cpp; then
    line "llama.cpp, all in memory" gen_tps "$python" bench/peer_llama.py bench "$model" -p 0 -n 32
    line "llama.cpp, all in memory" prompt_tps "$python" bench/peer_llama.py bench "$model" -p 256 -n 0
    line "llama.cpp, cap 2 GiB" gen_tps capped 2G "$python" bench/peer_llama.py bench "$model" -p 0 -n 8 --no-repack
else
    echo "(llama.cpp is not measured: PYTHON names no Python with llama_cpp; bench/peer_llama.py says how to get it)"
fi
