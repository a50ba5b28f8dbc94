"""Settings of a process: where they come from, and how a mistake in one is told.

Each is a flag (`--state-dir`), a variable (`VMPOWER_STATE_DIR`) or a file named `VMPOWER_STATE_DIR` in
the directory that `VMPOWER_CREDENTIALS_DIR` names; the first one found counts. Secrets belong in files.
"""

import os
import sys
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Literal["debug", "info", "warning", "error"]


def state_home() -> Path:
    """Where this user's state is kept (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "vmpower"


class ProcessSettings(BaseSettings):
    """The base of every process's settings."""

    model_config = SettingsConfigDict(
        env_prefix="VMPOWER_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        frozen=True,
        extra="ignore",
    )

    @classmethod
    def load(cls, prog: str, args: list[str] | None = None) -> Self:
        """Read flags, environment and credential files; on a mistake print which one and exit with 2."""
        try:
            return cls(
                _cli_parse_args=sys.argv[1:] if args is None else args,
                _cli_prog_name=prog,
                _secrets_dir=os.environ.get("VMPOWER_CREDENTIALS_DIR"),
            )
        except ValidationError as error:
            for problem in error.errors():
                print(f"{prog}: {_sentence(problem)}", file=sys.stderr)
            sys.exit(2)


def _sentence(problem: ErrorDetails) -> str:
    """A mistake in several settings at once names them in its own words."""
    words = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return words
    name = str(problem["loc"][0])
    return f"--{name.replace('_', '-')} (VMPOWER_{name.upper()}): {words}"
