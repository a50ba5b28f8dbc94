#!/bin/sh
# wheels.sh CACHE_DIR PYTHON: a folder with wheels of all that requirements/app.txt pins, made once, and prints it:
# CACHE_DIR/wheels-HASH. What is installed from there needs no network.
set -eu

tree=$(cd "$(dirname "$0")/../.." && pwd)
cache=$(mkdir -p "$1" && cd "$1" && pwd)
folder=$cache/wheels-$({ cat "$0" "$tree/requirements/app.txt" && "$2" -V; } | sha256sum | cut -c1-12)

if [ ! -d "$folder" ]; then
    work=$(mktemp -d "$cache/building-wheels.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    "$2" -m pip --quiet --disable-pip-version-check wheel --require-hashes -r "$tree/requirements/app.txt" -w "$work/new" >&2
    mv -T "$work/new" "$folder" 2>/dev/null || [ -d "$folder" ]
fi
echo "$folder"
