#!/bin/sh
# All tests under ASan and UBSan; those of threads, the store and passes of several threads under TSan.
set -eu
cd "$(dirname "$0")/.."
meson=${MESON:-meson}

setup() { # DIRECTORY SANITIZERS
    [ -f "$1/build.ninja" ] ||
        $meson setup "$1" -Db_sanitize="$2" -Dbuildtype=debugoptimized -Db_lundef=false -Dc_args=-fno-sanitize-recover=all
}

run() { # DIRECTORY WHICH...: builds what these tests need, and runs them
    dir=$1
    shift
    $meson test -C "$dir" --print-errorlogs --timeout-multiplier 10 "$@"
}

setup build-asan address,undefined
run build-asan
setup build-tsan thread
run build-tsan --suite store
run build-tsan threads api_pass
