"""Every setting of the controller: its default and the reason for it.

Each is a flag (`--state-dir`) or a variable (`VMPOWER_STATE_DIR`); the first one found counts.
"""

import os
import sys
from pathlib import Path
from typing import Literal, NoReturn, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "vmpower" / "controller"


class Settings(BaseSettings):
    """What the controller can be told."""

    model_config = SettingsConfigDict(env_prefix="VMPOWER_", cli_kebab_case=True, frozen=True, extra="ignore")

    manifests: Path = Field(description="directory of VirtualMachine and Provider manifests (YAML); edits are followed")
    state_dir: Path = Field(
        default_factory=_state_home, description="keeps each resource's status; one controller process a directory"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")
    workers: int = Field(
        16, ge=1, le=1000, description="how many VMs are attended to at the same moment; waiting takes no worker"
    )

    @classmethod
    def load(cls, prog: str, args: list[str] | None = None) -> Self:
        """Read flags and environment; on a mistake print which one and exit with 2."""
        try:
            return cls(_cli_parse_args=sys.argv[1:] if args is None else args, _cli_prog_name=prog)
        except ValidationError as error:
            _explain(prog, error)


def _explain(prog: str, error: ValidationError) -> NoReturn:
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        flag, variable = "--" + name.replace("_", "-"), "VMPOWER_" + name.upper()
        print(f"{prog}: {flag} ({variable}): {problem['msg']}", file=sys.stderr)
    sys.exit(2)
