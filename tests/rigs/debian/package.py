"""The Debian package of this tree, as `make deb` makes it."""

import shutil
import subprocess
from pathlib import Path

from tests.rigs.process import ROOT

SKIPPED = shutil.ignore_patterns(".git", ".run", ".*_cache", "__pycache__", "build", "dist", "*.egg-info")


def copy_tree(to: Path) -> Path:
    """A copy of this tree to build in, as a clone would be."""
    return Path(shutil.copytree(ROOT, to, ignore=SKIPPED))


def make_package(tree: Path, to: Path) -> Path:
    """Build a copy of the tree; the package is moved into the folder `to`."""
    subprocess.run(["make", "--silent", "deb"], cwd=tree, check=True, capture_output=True)
    (package,) = (tree / "dist").glob("*.deb")
    return Path(shutil.move(package, to / package.name))
