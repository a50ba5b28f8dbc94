#!/bin/sh
# generated.sh PYTHON: fails unless the stubs beside the contract and docs/reference.md are what is generated today.
set -eu
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$1" -m grpc_tools.protoc -I. --python_out="$made" --grpc_python_out="$made" --mypy_out=quiet:"$made" \
    --mypy_grpc_out=quiet:"$made" protos/power/v1/power.proto protos/plan/v1/plan.proto
(cd "$made" && find protos -type f) | while read -r file; do
    diff -u "$file" "$made/$file" || { echo "run make proto" >&2; exit 1; }
done
"$1" -m docs.reference "$made/reference.md"
diff -u docs/reference.md "$made/reference.md" || { echo "run make docs" >&2; exit 1; }
