#!/bin/sh
# apt.sh PACKAGE REASON: install one Debian package, saying why; with sudo when not root, else say what to run.
set -eu
package=$1 reason=$2
echo "$reason: installing the Debian package $package" >&2
if ! command -v apt-get >/dev/null; then
    echo "error: no apt-get here; install $package with your system's package manager" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "error: run as root: apt-get install $package" >&2; exit 1; }
    as_root=sudo
fi
$as_root apt-get install -y -q --no-install-recommends "$package" && exit 0
$as_root apt-get update -q && $as_root apt-get install -y -q --no-install-recommends "$package"
