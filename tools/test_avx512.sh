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
ok=0
failed=0
for test in test_tables test_attend test_scaled test_recurrent; do
    ninja -C "$out" "tests/kernels/${test}_emulated" # the first takes a minute to compile
    if "$out/tests/kernels/${test}_emulated"; then
        ok=$((ok + 1))
    else
        failed=$((failed + 1))
    fi
done
echo "Ok: $ok"
echo "Fail: $failed"
[ "$failed" -eq 0 ]
