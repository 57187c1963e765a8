#!/bin/bash
# The layer's figures (docs/layer.md, bench/RESULTS.md): one line a shape, with the machine's limits of the same runs,
# the ratio to each, and whether the aim is met.
# usage: bench/layer.sh [PROGRAM [FOLDER [SHAPE...]]]
#   FOLDER  holds the experts' files (up to 2.4 GB at a time); default /var/tmp
#   SHAPE   a-256 a-4096 b c d-8192 d-32768 e-q4_k e-bf16; default: all
set -euo pipefail
case ${1-} in
-h | --help)
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
    exit
    ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
odmoe=${1:-build/odmoe}
folder=${2:-/var/tmp}
shift $(($# < 2 ? $# : 2))
file=$folder/odmoe-bench-layer.$$.gguf
trap 'rm -f "$file"' EXIT

# Each run: what it is for, then the object of bench-layer, on one line. In memory three times, cold once from a file
# that is written for it; a shape that is streamed is measured in memory as well, since that is one of its limits.
memory() { for _ in 1 2 3; do printf 'memory %s\n' "$("$odmoe" bench-layer "$@" --json)"; done; }
cold() {
    printf 'cold %s\n' "$("$odmoe" bench-layer "$@" --file "$file" --json)"
    rm -f "$file"
}

small=(--hidden 128 --ffn 256 --experts 16 --top-k 4 --dtype f32)
large=(--hidden 4096 --ffn 14336 --experts 384 --top-k 8 --tokens 32 --dtype q4_k)
olmoe=(--hidden 2048 --ffn 1024 --experts 64 --top-k 8)
shapes=("$@")
[ ${#shapes[@]} -gt 0 ] || shapes=(a-256 a-4096 b c d-8192 d-32768 e-q4_k e-bf16)
for shape in "${shapes[@]}"; do
    number=${shape#*-}
    case $shape in
    a-256 | a-4096) memory "${small[@]}" --tokens "$number" ;;
    b) memory "${large[@]}" --distinct 16 ;;
    c) memory "${large[@]}" --distinct 24 && cold "${large[@]}" --distinct 24 ;;
    d-8192 | d-32768) memory "${small[@]}" --tokens "$number" && cold "${small[@]}" --tokens "$number" ;;
    e-q4_k | e-bf16)
        # one run in memory, of fewer tokens: five calls of 32768 would take minutes
        printf 'memory %s\n' "$("$odmoe" bench-layer "${olmoe[@]}" --tokens 4096 --dtype "$number" --json)"
        cold "${olmoe[@]}" --tokens 32768 --dtype "$number"
        ;;
    *)
        echo "layer.sh: there is no shape $shape" >&2
        exit 2
        ;;
    esac | python3 "$here/layer_report.py" "$shape"
done
