#!/bin/sh
# Make a static library that shows only the public names.
# usage: make_static.sh CORE.a OUT.a WORKDIR      CORE.a: all objects, internal names visible
set -eu
core=$1 out=$2 work=$3
mkdir -p "$work"
rm -f "$out"
${LD:-ld} -r --whole-archive "$core" -o "$work/odmoe.o"
${OBJCOPY:-objcopy} --wildcard --keep-global-symbol='odmoe_*' "$work/odmoe.o"
${AR:-ar} crs "$out" "$work/odmoe.o"
