#!/bin/sh
# Compile the AVX-512 kernels with their instructions as plain C (SIMDe) and run the kernels' test on them, on a
# processor without AVX-512; where there is one, the tests run the kernels themselves and this does nothing.
# Ends with the lines "Ok: N" and "Fail: N", as meson's runs do; .ci/run adds them up.
# usage: tools/test_avx512.sh [BUILD_DIR]      tools/install-deps.sh --emulators installs what it needs
set -eu
cd "$(dirname "$0")/.."
out=${1:-build}
if [ "$(uname -m)" != x86_64 ] || grep -q avx512_vnni /proc/cpuinfo; then
    echo "tools/test_avx512.sh: nothing to emulate here"
    exit 0
fi
[ -f "$out/build.ninja" ] || make BUILD="$out" "$out/build.ninja"
ninja -C "$out" tests/kernels/test_tables_emulated # takes a minute to compile
failed=0
"$out/tests/kernels/test_tables_emulated" || failed=1
echo "Ok: $((1 - failed))"
echo "Fail: $failed"
exit $failed
