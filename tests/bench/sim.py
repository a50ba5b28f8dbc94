"""A sim provider with as many guests as a bench wants."""

from collections.abc import Mapping

import yaml

from tests.rigs.process import Provider

Guests = Mapping[str, Mapping[str, object]]
DEAF = {"agent": "none", "acpi": "ignores"}


def sim(guests: Guests, **script: object) -> Provider:
    """A provider, not yet started, whose script has these guests and what else is named; its world is in its own
    folder."""
    provider = Provider("sim")
    path = provider.folder / "script.yaml"
    path.write_text(yaml.safe_dump({"guests": {name: dict(guest) for name, guest in guests.items()}} | script))
    provider.command += ["--script", str(path), "--world", str(provider.folder / "world.db")]
    return provider


def names(group: str, count: int) -> list[str]:
    """What the guests of a script's entry with this `count`, more than 1, are called."""
    return [f"{group}-{number:04}" for number in range(1, count + 1)]
