#!/bin/sh
# packages.sh CACHE_DIR [PACKAGE...]: installs what is missing of these packages, or of guests/packages.txt.
# Package lists are read anew only when something must be fetched: one of them, or what guests/build.sh fetches.
set -eu
cache=$1
shift
kept=named
if [ $# = 0 ]; then
    kept=$(ls -d "$cache"/guests-* 2>/dev/null || true)
    set -- $(grep -v '^#' "$(dirname "$0")/guests/packages.txt")
fi
missing=$(for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
done)
[ -n "$missing" ] || [ -z "$kept" ] || exit 0
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
echo "reading package lists" >&2
$sudo apt-get update -qq
[ -n "$missing" ] || exit 0
echo "installing" $missing >&2
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing > /dev/null
