#!/bin/sh
# packages.sh CACHE_DIR [PACKAGE...]: installs what is missing of these packages, or of guests/packages.txt.
# Package lists are read anew only when something must be fetched.
set -eu
cache=$1
shift
[ $# -gt 0 ] || set -- $(grep -v '^#' "$(dirname "$0")/guests/packages.txt")
missing=$(for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
done)
guests=$(ls -d "$cache"/guests-* 2>/dev/null || true)
[ -n "$missing" ] || [ -z "$guests" ] || exit 0
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
echo "reading package lists" >&2
$sudo apt-get update -qq
[ -n "$missing" ] || exit 0
echo "installing" $missing >&2
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing > /dev/null
