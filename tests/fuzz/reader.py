"""`python -m tests.fuzz.reader [--seconds S]`: inputs that coverage leads to, through the readers of files.

Anything but a value or a Fault is a finding, and so are five seconds for one input; atheris prints it and ends with 1.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cli", "common", "controller", "providers", "yaml"]):
    from common.text import to_json, to_yaml
    from common.yaml_reader import Fault, documents
    from tests.fuzz.readers import READERS

LONGEST = 4096
"""Bytes of an input: enough for all that nesting, aliases and tags can do."""


def one(data: bytes) -> None:
    """A file with this in it is read or refused by the reader that the first byte chooses; what it means as YAML can be
    written and read again."""
    kind, data = data[:1] or b"\0", data[1:]
    QUICK[kind[0] % len(QUICK)].try_on(data)
    try:
        for document in documents(data.decode()):
            value = document.value()
            if json.loads(to_json(value)) != value or [one.value() for one in documents(to_yaml(value))] != [value]:
                raise RuntimeError("what was written is not what was read")
    except (Fault, UnicodeDecodeError):
        return


def main() -> None:
    """Does not return: atheris ends the process, with 0 after its time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.reader", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long")
    options = parser.parse_args()
    limits = [f"-max_total_time={options.seconds}", f"-max_len={LONGEST}", "-timeout=5", "-rss_limit_mb=1024"]
    known = [
        *(reader.good for reader in QUICK),
        *(file.read_bytes() for folder in CORPUS for file in folder.glob("*.yaml")),
    ]
    for number, content in enumerate(known):
        (FOLDER / f"known-{number}").write_bytes(bytes([number if number < len(QUICK) else 0]) + content)
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={FOLDER}/", str(FOLDER)], one)
    atheris.Fuzz()


QUICK = [reader for name, reader in READERS.items() if name != "the journal"]
"""All but the one whose reader is SQLite, of which coverage says nothing."""
ROOT = Path(__file__).parents[2]
FOLDER = Path(tempfile.mkdtemp(prefix="vmp-fuzz-"))
CORPUS = [ROOT / "examples", ROOT / "deploy" / "examples", ROOT / "controller" / "crds"]

if __name__ == "__main__":
    main()
