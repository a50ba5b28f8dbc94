"""The version of vmpower. It stands in one place: pyproject.toml."""

import tomllib
from importlib import metadata
from pathlib import Path

_CHECKOUT = Path(__file__).parent.parent / "pyproject.toml"


def provider_command(kind: str) -> str:
    """How a provider of this type is started: installed by the command for it, in a checkout by its module."""
    return f"python -m providers.{kind}" if _CHECKOUT.exists() else f"vmpower-provider {kind}"


def version() -> str:
    """That of the checkout this file lies in, else of the installed package."""
    if _CHECKOUT.exists():
        return str(tomllib.loads(_CHECKOUT.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("vmpower")
