"""The sim's settings beside those of every provider."""

from pathlib import Path

from pydantic import Field

from providers.core.settings import Settings


class SimSettings(Settings):
    """One world and the script of its guests."""

    script: Path | None = Field(
        None, description="YAML script of the guests; default: web, legacy, deaf, broken and spare"
    )
    world: Path | None = Field(
        None, description="keeps the guests while no provider runs; default: world.db in the state directory"
    )
