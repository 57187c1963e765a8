#!/bin/bash
# The layer's figures (docs/layer.md, bench/RESULTS.md): shapes a to e, each beside the machine's limits of the same run.
# usage: bench/layer.sh [PROGRAM [FOLDER]]     FOLDER holds the experts' files (up to 2.4 GB at a time); default /var/tmp
set -eu
odmoe=${1:-build/odmoe}
folder=${2:-/var/tmp}
file=$folder/odmoe-bench-layer.$$.gguf
trap 'rm -f "$file"' EXIT

run() { # TITLE ARGUMENT...: three times in memory, once from a file that is written for it
    echo "== $1"
    shift
    case " $* " in
    *" --file "*)
        "$odmoe" bench-layer "$@"
        rm -f "$file"
        ;;
    *) for _ in 1 2 3; do "$odmoe" bench-layer "$@"; done ;;
    esac
}

small="--hidden 128 --ffn 256 --experts 16 --top-k 4 --dtype f32"
large="--hidden 4096 --ffn 14336 --experts 384 --top-k 8 --tokens 32 --dtype q4_k"
olmoe="--hidden 2048 --ffn 1024 --experts 64 --top-k 8"
# shellcheck disable=SC2086 # the shapes are lists of options
{
    run "a: small, 256 tokens" $small --tokens 256
    run "a: small, 4096 tokens" $small --tokens 4096
    run "b: large, in memory, 16 experts stored" $large --distinct 16
    run "c: large, 24 experts stored, streamed cold" $large --distinct 24 --file "$file"
    run "d: small, 8192 tokens, streamed cold" $small --tokens 8192 --file "$file"
    run "d: small, 32768 tokens, streamed cold" $small --tokens 32768 --file "$file"
    for type in q4_k bf16; do
        run "e: OLMoE, $type, in memory, 4096 tokens" $olmoe --tokens 4096 --dtype $type
        run "e: OLMoE, $type, 32768 tokens, streamed cold" $olmoe --tokens 32768 --dtype $type --file "$file"
    done
}
