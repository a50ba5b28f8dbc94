"""VMware's command line, in its newest version: built once, and never installed. tools/go.mod says which."""

import hashlib
from pathlib import Path

from tests.rigs.go import install

TOOLS = Path(__file__).parent / "tools"


def govc() -> Path:
    """The path of govc; the first call builds it: a minute or so."""
    sources = [(TOOLS / name).read_bytes() for name in ("go.mod", "go.sum", "govc/main.go")]
    digest = hashlib.sha256(b"\0".join(sources)).hexdigest()[:12]
    return install(f"govc-{digest}", ["./govc"], module=TOOLS) / "govc"


if __name__ == "__main__":
    print(govc())
