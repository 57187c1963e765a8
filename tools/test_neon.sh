#!/bin/sh
# Build the NEON kernels and their test with a cross compiler and run them under qemu-user: once with dot product
# instructions, once on a processor without (cortex-a53).
# usage: tools/test_neon.sh [BUILD_DIR]      needs gcc-aarch64-linux-gnu and qemu-user
set -e
cd "$(dirname "$0")/.."
out=${1:-build/neon}
cc=${CC_ARM64:-aarch64-linux-gnu-gcc}
flags="-std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Wno-unused-parameter -ffp-contract=off -Iinclude -Isrc"
mkdir -p "$out"
$cc $flags -O3 -c src/kernels/arm/neon.c -o "$out/neon.o"
$cc $flags -O3 -march=armv8.2-a+dotprod -c src/kernels/arm/neon_dot.c -o "$out/neon_dot.o"
$cc $flags -Itests/kernels/arm tests/kernels/test_tables.c src/base/*.c src/kernels/*.c src/kernels/ref/*.c \
    "$out/neon.o" "$out/neon_dot.o" -static -lm -o "$out/test_tables"
for cpu in max cortex-a53; do
    echo "cpu $cpu"
    qemu-aarch64 -cpu $cpu "$out/test_tables"
done
