#!/bin/sh
# Run the tests of `odmoe serve` with real clients. usage: run.sh [--install] [PYTEST-ARGUMENT...]
#   --install   as root, install the Debian packages that are missing (python3-venv, curl, chromium where there is one)
# ODMOE       the program (default: build/odmoe), ODMOE_MODEL the model (default: models/demo.gguf)
# ODMOE_VENV  the virtual environment (default: /var/tmp/odmoe-venv); made once, and again when requirements.txt changes
# Without arguments: everything but tests that are slow or compare times. Ends with lines that .ci/run counts.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
venv=${ODMOE_VENV:-/var/tmp/odmoe-venv}
export ODMOE="${ODMOE:-$top/build/odmoe}" ODMOE_MODEL="${ODMOE_MODEL:-$top/models/demo.gguf}"
export PYTHONDONTWRITEBYTECODE=1 LITELLM_LOCAL_MODEL_COST_MAP=True

install() { # PACKAGE...: as root, and without it the tests that need it are left out
    [ "$(id -u)" -eq 0 ] || return 0
    apt-get install -y --no-install-recommends -qq "$@" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y --no-install-recommends -qq "$@" >/dev/null; } || echo "not installed: $*"
}

if [ "${1:-}" = --install ]; then
    shift
    python3 -c 'import venv, ensurepip' 2>/dev/null || install python3-venv
    command -v curl >/dev/null || install curl
    { command -v chromium && command -v chromedriver; } >/dev/null || install chromium chromium-driver
fi

[ -x "$ODMOE" ] || {
    echo "$ODMOE: no such program; build it, or name one in ODMOE" >&2
    exit 1
}
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    echo "making $venv (once)"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi

cd "$here"
[ $# -gt 0 ] || set -- -m "not slow and not timed"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$venv/bin/python" -m pytest "$@" >"$log" 2>&1 || status=$?
cat "$log"
number() { # WORD: how many of them the summary counts
    sed -nE "s/.*[^0-9]([0-9]+) $1.*|^([0-9]+) $1.*/\1\2/p" "$log" | tail -n 1
}
failed=$(number failed)
errors=$(number 'errors?')
passed=$(number passed)
failed=$((${failed:-0} + ${errors:-0}))
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "Ok: ${passed:-0}"
echo "Fail: $failed"
exit "$status"
