#!/bin/sh
# Run the demo model with a budget of half its experts' bytes, then with all of it in memory: the text is the same.
# usage: demo.sh PROGRAM
set -eu
cd "$(dirname "$0")/.."
odmoe=$1
model=models/demo.gguf
prompt="In the beginning God created the heaven and the earth. And the"
echo "\$ $odmoe inspect $model"
"$odmoe" inspect "$model"
experts=$("$odmoe" inspect "$model" --json | sed 's/.*"experts_bytes":\([0-9]*\).*/\1/')
ram=$((experts / 2))

echo
echo "A budget of half the experts' bytes, for everything:"
echo "\$ $odmoe run -m $model --ram $ram -c 256 --temp 0 --ignore-eos -n 100 -p \"$prompt\" -v"
set -- run -m "$model" -c 256 --temp 0 --ignore-eos -n 100 -p "$prompt"
printf '\n%s' "$prompt"
"$odmoe" "$@" --ram "$ram" -v

printf '\nThe same with all experts in memory: '
if [ "$("$odmoe" "$@")" = "$("$odmoe" "$@" --ram "$ram")" ]; then
    echo "the same text."
else
    echo "ANOTHER TEXT. This is a bug."
    exit 1
fi
