#!/bin/sh
# The Debian packages that odmoe is built from, in one place (docs/dependencies.md says what each is for).
# usage: install-deps.sh [--check] [--emulators]
#   Installs what is missing (as root), or says what to install.
#   --check   installs nothing; fails when something is missing
#   --emulators   also what tools/test_neon.sh and tools/test_avx512.sh need, and nothing else
set -eu

packages="make gcc binutils libc6-dev meson ninja-build pkgconf python3 liburing-dev libjansson-dev libpcre2-dev libutf8proc-dev
libedit-dev libmicrohttpd-dev libcmocka-dev"
check=
for option in "$@"; do
    case $option in
    --check) check=yes ;;
    --emulators) packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user libsimde-dev" ;;
    *)
        echo "usage: install-deps.sh [--check] [--emulators]" >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    # Another distribution: configuring says what is missing, by the names that pkg-config knows.
    exit 0
fi

missing=
for package in $packages; do
    # A package counts when it, or another that provides it (pkg-config for pkgconf), is installed.
    if ! dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' 2>/dev/null |
        grep -qE "^installed (.*[ ,])?$package([ ,(]|\$)"; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

if [ -n "$check" ] || [ "$(id -u)" -ne 0 ]; then
    echo "odmoe: packages are missing. Install them with" >&2
    echo "    sudo apt-get install$missing" >&2
    exit 1
fi

echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# Package lists may be absent or too old; they are fetched when a first try without them fails.
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends -qq $missing >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -y --no-install-recommends -qq $missing >/dev/null
}
