#!/bin/sh
# Build the NEON kernels and their test with a cross compiler and run them under qemu-user: once with dot product
# instructions (every table runs), once on a processor without (cortex-a53: all but neon_dot.c's).
# Ends with the lines "Ok: N" and "Fail: N", as meson's runs do; .ci/run adds them up.
# usage: tools/test_neon.sh [BUILD_DIR]      tools/install-deps.sh --emulators installs what it needs
set -eu
cd "$(dirname "$0")/.."
out=${1:-build/neon}
cc=${CC_ARM64:-aarch64-linux-gnu-gcc}
flags="-std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Wno-unused-parameter -ffp-contract=off -Iinclude -Isrc"
mkdir -p "$out"
for tool in "$cc" qemu-aarch64; do
    command -v "$tool" >/dev/null || {
        echo "tools/test_neon.sh: $tool is missing; tools/install-deps.sh --emulators installs it" >&2
        exit 1
    }
done

# Two jobs at a time: the tables take as long to compile as all the rest.
{
    $cc $flags -O3 -Wframe-larger-than=16384 -march=armv8.2-a+dotprod -c src/kernels/arm/neon_dot.c -o "$out/neon_dot.o"
    $cc $flags -O3 -Wframe-larger-than=16384 -c src/kernels/arm/neon.c -o "$out/neon.o"
} &
tables=$!
mkdir -p "$out/rest"
rm -f "$out"/rest/*.o
for source in src/base/*.c src/kernels/*.c src/kernels/ref/*.c; do
    $cc $flags -c "$source" -o "$out/rest/$(echo "$source" | tr / -).o"
done
wait $tables
tests="test_tables test_attend test_scaled test_recurrent"
for program in $(printf "tests/kernels/%s.c " $tests) tests/kernels/arm/list_tables.c; do
    $cc $flags -Itests/kernels/arm $program "$out"/rest/*.o "$out/neon.o" "$out/neon_dot.o" -static -lm \
        -o "$out/$(basename $program .c)"
done

# A table that the processor is not recognised to run would pass by not being tested.
run() { # CPU TABLES: whether these tables, no others, are there on this processor, and pass
    tables=$(qemu-aarch64 -cpu "$1" "$out/list_tables")
    [ "$tables" = "$2" ] || {
        echo "tables are $tables, not $2"
        return 1
    }
    for test in $tests; do
        qemu-aarch64 -cpu "$1" "$out/$test" || return 1
    done
}

run max "neon-dot neon ref" >"$out/max.log" 2>&1 &
max=$!
failed=0
run cortex-a53 "neon ref" >"$out/cortex-a53.log" 2>&1 || failed=$((failed + 1))
wait $max || failed=$((failed + 1))
for cpu in max cortex-a53; do
    echo "cpu $cpu"
    cat "$out/$cpu.log"
done
echo "Ok: $(cat "$out/max.log" "$out/cortex-a53.log" | grep -c '^ok: ')"
echo "Fail: $failed"
[ "$failed" -eq 0 ]
