#!/bin/bash
# Measure this machine, odmoe and llama.cpp, and compare them: the machine's limits first in every round, then both
# programs in turn on each case, so that a disk or a neighbour that changes its speed changes it for everybody.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bench/run.sh [OPTION...]
  --case NAME...   only these cases (names: see --list)
  --big            the 16 GiB model too         --long   long prompts and contexts too, odmoe alone
  --families       models with the layers of gpt-oss, Qwen3.5 and DeepSeek-V2-Lite too (13 GiB)
  --runs N         rounds; medians are shown (3)
  --quick          one round, few tokens: does it work?, not how fast is it
  --dir DIR        where the synthetic models are, or are made (/var/tmp/odmoe-bench; 4 GiB, with --big 20)
  --limit SECONDS  a run that takes longer is stopped and counts as failed (900)
  --threads N      for both programs (all processors)
  --kernels NAME   of odmoe (auto)
  --disk GBPS      odmoe alone, with the disk held to this rate (slow_disk.c): for a machine whose disk is too fast for its processor
  --record         write the table into bench/RESULTS.md and the picture to docs/speed.svg
  --list           show the cases and leave
PYTHON chooses the interpreter, BUILD the build folder. Results: bench/out/*.json and speed.svg; the table on standard output.
Cases under a cap need root and a memory control group: the page cache counts, and is cold at the start.
TEXT
}

# name           model            cap  --ram    prompt decode peer  more options of odmoe
# A model is a preset and a routing of make_big_gguf.py: as texts route, or uniformly, the worst case for a cache.
# decode: tokens of odmoe, and after a slash those of llama.cpp, which takes minutes for as many under these caps and is no
# faster with more. Decoding under a cap starts from nothing, which also leaves the prompt out of the
# time split. --ram is less than the cap by what the process needs besides (code, page tables, the kernel's share).
cases='
mid              mid-text         max  6GiB     512    64     peer
mid-1G           mid-text         1G   800MiB   0      48/16  peer
mid-1G-uniform   mid-uniform      1G   800MiB   0      48/16  peer
mid-2G           mid-text         2G   1700MiB  0      48/16  peer
mid-1G-prompt    mid-text         1G   800MiB   512    0      peer
big              qwen3moe30b-text max  18GiB    256    32     peer
big-8G           qwen3moe30b-text 8G   7600MiB  0      48/12  peer
big-4G           qwen3moe30b-text 4G   3700MiB  0      48/12  peer
big-4G-prompt    qwen3moe30b-text 4G   3700MiB  256    0      peer
gpt-oss          gpt-oss-4gib-uniform           max  8GiB     512    64     peer
gpt-oss-1G       gpt-oss-4gib-uniform           1200M 1000MiB 0     48/16  peer
qwen3.5          qwen3.5-4gib-uniform           max  8GiB     512    64     peer
qwen3.5-1G       qwen3.5-4gib-uniform           1G   800MiB   0      48/16  peer
deepseek-lite    deepseek-v2-lite-4gib-uniform  max  8GiB     512    64     peer
deepseek-lite-1G deepseek-v2-lite-4gib-uniform  1100M 900MiB  0      48/16  peer
mid-1G-4k        mid-text         1G   800MiB   4096   0      alone
mid-8k           mid-text         max  6GiB     8192   64     alone
mid-8k-q8        mid-text         max  6GiB     8192   64     alone --kv q8_0
mid-32k          mid-text         max  3GiB     32768  0      alone
'

say() { echo "run.sh: $*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
build=$(realpath -m "${BUILD:-$root/build}")
python=${PYTHON:-python3}
dir=/var/tmp/odmoe-bench runs=3 limit=900 quick= big= families= long= record= chosen= kernels=auto disk= threads=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --case)
        shift
        while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do chosen="$chosen $1"; shift; done
        [ -n "$chosen" ] || die "--case needs a name"
        continue ;;
    --runs | --limit | --dir | --threads | --kernels | --disk)
        [ $# -ge 2 ] || die "$1 needs a value"
        declare "${1#--}=$2"
        shift ;;
    --big) big=1 ;;
    --long) long=1 ;;
    --quick) quick=1 runs=1 ;;
    --record) record=1 ;;
    --list) echo "$cases"; exit 0 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
[ -z "$record" ] || [ -z "$quick" ] || die "--quick is not worth recording"
for name in $chosen; do
    grep -q "^$name " <<<"$cases" || die "no case $name; --list shows them"
done

can_cap() {
    local group=/sys/fs/cgroup
    [ ! -d $group/memory ] || group=$group/memory
    [ "$(id -u)" = 0 ] && [ -w $group ] && [ -w /proc/sys/vm/drop_caches ]
}

# Does this run include the case? name, peer column
wanted() {
    if [ -n "$chosen" ]; then
        [[ " $chosen " == *" $1 "* ]]
    elif [ "$2" = alone ]; then
        [ -n "$long" ]
    else
        case $1 in
        big*) [ -n "$big" ] ;;
        gpt-oss* | qwen3.5* | deepseek*) [ -n "$families" ] ;;
        esac
    fi
}

modules() { # which of the modules does this Python lack?
    "$python" - "$@" <<'PY'
import importlib.util, sys
print(*(m for m in sys.argv[1:] if importlib.util.find_spec(m) is None))
PY
}

peer=1
missing=$(modules llama_cpp numpy gguf safetensors) || die "no Python: set PYTHON to an interpreter"
if [ -n "$missing" ]; then
    say "$python lacks $missing: $python -m pip install llama-cpp-python==0.3.36 numpy gguf safetensors  (some 20 minutes)"
    [[ " $missing " != *" llama_cpp "* && " $missing " != *" numpy "* ]] || { peer=; say "without them odmoe is measured alone"; }
fi

[ -z "$disk" ] || peer=

capping=1
can_cap || { capping=; say "cases under a cap are skipped: they need root and a writable /sys/fs/cgroup"; }

plan=
while read -r name model cap ram prompt decode with more; do
    [ -n "$name" ] && wanted "$name" "$with" || continue
    [ "$cap" = max ] || [ -n "$capping" ] || continue
    [ -n "$peer" ] || with=alone
    peer_decode=${decode#*/} decode=${decode%/*}
    if [ -n "$quick" ]; then
        prompt=$((prompt < 64 ? prompt : 64)) decode=$((decode < 4 ? decode : 4)) peer_decode=$decode
    fi
    plan="$plan$name $model $cap $ram $prompt $decode $peer_decode $with $more"$'\n'
done <<<"$cases"
[ -n "$plan" ] || die "no case is left to run"

[ -f "$build/build.ninja" ] || make -C "$root" BUILD="$build" "$build/build.ninja" >&2
ninja -C "$build" odmoe bench/machine bench/bench_prefetch bench/slow_disk.so >&2
odmoe=$build/odmoe
out=$here/out
mkdir -p "$dir" "$out"
rm -f "$out"/runs.jsonl "$out"/log

for model in $(awk '{ print $2 }' <<<"$plan" | sort -u); do
    file=$dir/$model.gguf
    if [ ! -f "$file" ]; then
        [[ " $missing " != *" gguf "* && " $missing " != *" numpy "* ]] || die "$file is missing, and making it needs gguf and numpy"
        say "making $file"
        "$python" "$here/make_big_gguf.py" "$file.part" --preset "${model%-*}" --routing "${model##*-}"
        mv "$file.part" "$file"
    fi
    "$odmoe" inspect "$file" --json >"$out/model-$model.json"
done

# measure - one line of runs.jsonl. Arguments: case, model, cap, program, round, command...
# A program that failed, was killed for its memory or took too long leaves null: that is a result too.
measure() {
    local name=$1 model=$2 cap=$3 program=$4 round=$5 result
    shift 5
    [ -z "$disk" ] || set -- env SLOW_DISK_GBPS="$disk" LD_PRELOAD="$build/bench/slow_disk.so" "$@"
    set -- timeout --kill-after=10 "$limit" "$@"
    [ "$cap" = max ] || set -- "$here/capped.sh" "$cap" "$@"
    say "round $round: $name, $program"
    [ "$cap" = max ] || { sync; echo 3 >/proc/sys/vm/drop_caches; } # capped.sh drops them as well, and frees nothing then
    [[ $program != odmoe && $program != llama.cpp ]] || touch_memory "$cap" "$model"
    echo "# round $round: $name, $program: $*" >>"$out/log"
    result=$("$@" 2>>"$out/log" | tr -d '\n') && [ -n "$result" ] || { result=null; say "it failed or took more than $limit s: see $out/log"; }
    printf '{"case": "%s", "model": "%s", "cap": "%s", "program": "%s", "round": %d, "result": %s}\n' \
        "$name" "$model" "$cap" "$program" "$round" "$result" >>"$out/runs.jsonl"
}

# touch_memory CAP MODEL - Memory that has lain free for seconds, the host of a virtual machine takes back, and gives anew at less than the disk's
# rate, when it is written first. So write what a run will use just before it, for both programs alike: what is measured is the program.
touch_memory() {
    "$python" - "$1" "$dir/$2.gguf" <<'PY'
import os, sys
available = next(int(l.split()[1]) << 10 for l in open("/proc/meminfo") if l.startswith("MemAvailable"))
cap = 1 << 50 if sys.argv[1] == "max" else int(sys.argv[1][:-1]) << {"M": 20, "G": 30}[sys.argv[1][-1]]
wanted = min(cap, 2 * os.path.getsize(sys.argv[2])) + (1 << 30)
bytes(b"\1") * min(wanted, available * 3 // 4)
PY
}

# burst_of MODEL - the bursts of the latest run: how many reads a layer and pass it had on average, and of what size.
# Nothing when it read nothing.
burst_of() {
    "$python" - "$out/model-$1.json" "$out/runs.jsonl" <<'PY'
import json, sys
model = json.load(open(sys.argv[1]))
run = json.loads(open(sys.argv[2]).readlines()[-1])["result"]
if run and run["reads"]:
    layers = (run["prompt_chunks"] + run["gen_tokens"]) * model["moe_layers"]
    print(max(round(run["reads"] / layers), 1), run["bytes_read"] // run["reads"])
PY
}

# run_odmoe MODE - one run of the case that is read in the loop below: odmoe as it is (odmoe), with prefetching off (off), or
# with perfect candidates (oracle).
run_odmoe() {
    local burst warm=
    # In memory means that nothing is read: llama.cpp has read the file too before it is timed.
    [ "$cap" != max ] || [ "$prompt" = 0 ] || warm=--warm
    # shellcheck disable=SC2086  # $more is a list of options, $burst two numbers
    case $1 in
    odmoe)
        measure "$name" "$model" "$cap" odmoe "$round" "$odmoe" bench -m "$file" --ram "$ram" -p "$prompt" -n "$decode" \
            -t "$threads" --kernels "$kernels" ${disk:+--io pread} $warm $more --json
        # The disk in the pattern that this run had, at once: that is what report.py holds it against.
        [ "$cap" != max ] || return 0
        burst=$(burst_of "$model")
        [ -z "$burst" ] || measure "$name" "$model" max disk "$round" "$build/bench/machine" "$file" --burst $burst ;;
    off)
        measure "$name" "$model" "$cap" off "$round" "$odmoe" bench -m "$file" --ram "$ram" -p 0 -n "$decode" -t "$threads" \
            --kernels "$kernels" ${disk:+--io pread} --prefetch off $more --json ;;
    oracle)
        measure "$name" "$model" "$cap" oracle "$round" "$build/bench/bench_prefetch" -n "$decode" -r 1 --ram "$ram" -t "$threads" \
            ${disk:+--io pread} --modes oracle "$file" ;;
    esac
}

for round in $(seq "$runs"); do
    file=$dir/$(awk 'NR == 1 { print $2 }' <<<"$plan").gguf
    measure machine - max machine "$round" "$build/bench/machine" "$file" "$threads"
    while read -r name model cap ram prompt decode peer_decode with more <&3; do
        [ -n "$name" ] || continue
        file=$dir/$model.gguf
        # Decoding under a cap: what prefetching is worth here, and what perfect prediction would give. Each round begins
        # with another mode: the host of a virtual machine reads slowest what nobody has read for a while.
        modes=(odmoe)
        [ "$cap" = max ] || [ "$prompt" != 0 ] || modes=(odmoe off oracle)
        for i in "${!modes[@]}"; do
            run_odmoe "${modes[(i + round - 1) % ${#modes[@]}]}"
        done
        [ "$with" = peer ] || continue
        # Repacked weights are a copy in memory, which a cap doesn't leave room for.
        set --
        [ "$cap" = max ] || set -- --no-repack
        measure "$name" "$model" "$cap" llama.cpp "$round" "$python" "$here/peer_llama.py" bench "$file" -p "$prompt" \
            -n "$peer_decode" -t "$threads" "$@"
    done 3<<<"$plan"
done

set -- "$out"
[ -z "$record" ] || set -- "$out" --results "$here/RESULTS.md" --picture "$root/docs/speed.svg"
"$python" "$here/report.py" "$@"
