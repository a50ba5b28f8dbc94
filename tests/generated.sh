#!/bin/sh
# generated.sh PYTHON: fails unless the stubs beside the contract and docs/reference.md are what is generated today.
set -eu
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$1" -m grpc_tools.protoc -I. --python_out="$made" --grpc_python_out="$made" --mypy_out=quiet:"$made" \
    --mypy_grpc_out=quiet:"$made" protos/power/v1/power.proto
for file in "$made"/protos/power/v1/*; do
    diff -u "protos/power/v1/$(basename "$file")" "$file" || { echo "run make proto" >&2; exit 1; }
done
"$1" -m docs.reference "$made/reference.md"
diff -u docs/reference.md "$made/reference.md" || { echo "run make docs" >&2; exit 1; }
