"""The version of vmpower, which stands in one place: pyproject.toml. And whether it runs from a checkout."""

import tomllib
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent / "pyproject.toml"
"""Not there where vmpower is installed."""


def provider_command(kind: str) -> str:
    """How a provider of a type is started here: from the checkout this file lies in, or as it was installed."""
    return f"python -m providers.{kind}" if CHECKOUT.exists() else f"vmpower-provider {kind}"


def version() -> str:
    """That of the checkout this file lies in, else of the installed package."""
    if CHECKOUT.exists():
        return str(tomllib.loads(CHECKOUT.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("vmpower")
