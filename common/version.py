"""The version of vmpower. It stands in one place: pyproject.toml."""

import tomllib
from importlib import metadata
from pathlib import Path

_CHECKOUT = Path(__file__).parent.parent / "pyproject.toml"


def version() -> str:
    """That of the checkout this file lies in, else of the installed package."""
    if _CHECKOUT.exists():
        return str(tomllib.loads(_CHECKOUT.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("vmpower")
