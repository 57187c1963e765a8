#!/bin/sh
# All tests under ASan and UBSan; those without a model (threads, store, ...) under TSan too.
# Arguments are passed to meson test.
set -eu
cd "$(dirname "$0")/.."
meson=${MESON:-meson}

setup() { # DIRECTORY SANITIZERS
    [ -f "$1/build.ninja" ] ||
        $meson setup "$1" -Db_sanitize="$2" -Dbuildtype=debugoptimized -Db_lundef=false -Dc_args=-fno-sanitize-recover=all
    ninja -C "$1"
}

setup build-asan address,undefined
$meson test -C build-asan --print-errorlogs --timeout-multiplier 10 "$@"
setup build-tsan thread
$meson test -C build-tsan --print-errorlogs --timeout-multiplier 10 --suite unit --suite fault "$@"
