#!/bin/sh
# The tests of `odmoe serve` with a program that a sanitizer watches. usage: sanitize.sh address|thread [PYTEST-ARGUMENT...]
#   address   ASan, UBSan and LeakSanitizer; all tests but those in Chromium, slow or timed ones
#   thread    TSan; the tests in which streams come, go and share passes
# Uses the build folders of tools/sanitize.sh, or the program that ODMOE names. Fails where a test does, and where the sanitizer found something.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
case ${1:-} in
address) flags=address,undefined build=build-asan ;;
thread) flags=thread build=build-tsan ;;
*)
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
    ;;
esac
export ODMOE_SANITIZER="$1"
shift
if [ $# -eq 0 ] && [ "$ODMOE_SANITIZER" = thread ]; then
    set -- -m "not memory and not timed" test_load.py test_stream.py test_limits.py test_prefix.py
elif [ $# -eq 0 ]; then
    set -- -m "not slow and not timed and not page"
fi
if [ -z "${ODMOE:-}" ]; then
    [ -f "$top/$build/build.ninja" ] ||
        meson setup "$top/$build" "$top" -Db_sanitize="$flags" -Dbuildtype=debugoptimized -Db_lundef=false -Dc_args=-fno-sanitize-recover=all
    ninja -C "$top/$build" odmoe
    ODMOE=$top/$build/odmoe
fi
export ODMOE

# A finding is a file: tests that kill a server, or do not look at its status, would hide it otherwise.
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
export ASAN_OPTIONS="log_path=$found/address:detect_leaks=1" UBSAN_OPTIONS="log_path=$found/undefined:print_stacktrace=1"
export TSAN_OPTIONS="log_path=$found/thread:suppressions=$here/tsan.supp"
status=0
"$here/run.sh" -o timeout=1500 "$@" || status=$?
for f in "$found"/*; do
    [ -f "$f" ] || continue
    cat "$f"
    status=1
done
echo "$(find "$found" -type f | wc -l) findings of the sanitizer"
exit "$status"
