"""`python -m tests.rigs.nut.programs`: Debian's upsd, upsmon and dummy-ups, unpacked in the cache and not installed."""

import re
import subprocess
from pathlib import Path

from tests.rigs.debs import unpacked

PACKAGES = ("nut-server", "nut-client", "libwrap0", "libnss3", "libnspr4", "libnss3-tools")

PLACES = {"bin", "sbin", "nut"}


def tree() -> Path:
    """Where they are, with the libraries that they need."""
    return unpacked("nut-tls", *PACKAGES, _client_library())


def program(name: str) -> Path:
    """The path of one of them."""
    return next(path for path in sorted(tree().rglob(name)) if path.is_file() and path.parent.name in PLACES)


def libraries() -> str:
    """For LD_LIBRARY_PATH."""
    return ":".join(sorted({str(path.parent) for path in tree().rglob("*.so*")}))


def _client_library() -> str:
    """Its name has the version of its interface, and differs from release to release."""
    told = subprocess.run(["apt-cache", "depends", "nut-client"], check=True, capture_output=True, text=True).stdout
    found: list[str] = re.findall(r"Depends: (libupsclient\S+)", told)
    return found[0]


if __name__ == "__main__":
    print(tree())
