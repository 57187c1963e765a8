#!/bin/sh
# All tests under ASan and UBSan; those of threads, the store and passes of several threads under TSan.
set -eu
cd "$(dirname "$0")/.."
meson=${MESON:-meson}

setup() { # DIRECTORY SANITIZERS
    [ -f "$1/build.ninja" ] ||
        $meson setup "$1" -Db_sanitize="$2" -Dbuildtype=debugoptimized -Db_lundef=false -Dc_args=-fno-sanitize-recover=all
}

run() { # DIRECTORY OPTION...
    dir=$1
    shift
    $meson test -C "$dir" --print-errorlogs --timeout-multiplier 40 "$@"
}

# DIRECTORY NAME...: the programs of the tests of these names or suites. meson test would build all there are.
programs() {
    $meson introspect "$1" --tests | python3 -c '
import json, os, sys
wanted = set(sys.argv[2:])
print(*sorted({os.path.relpath(t["cmd"][0], os.path.realpath(sys.argv[1])) for t in json.load(sys.stdin)
               if wanted & {t["name"], *(s.split(":")[-1] for s in t["suite"])}}))' "$@"
}

setup build-asan address,undefined
run build-asan
setup build-tsan thread
# shellcheck disable=SC2046  # a list
ninja -C build-tsan $(programs build-tsan store threads api_forward api_sequences moe_executor compute_ops server_engine server_prefixes server_reads)
run build-tsan --no-rebuild --suite store
run build-tsan --no-rebuild threads api_forward api_sequences moe_executor compute_ops server_engine server_prefixes server_reads
