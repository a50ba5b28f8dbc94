"""Settings of a process: where they come from, and how a mistake in one is told.

Each is a flag (`--state-dir`), a variable (`VMPOWER_STATE_DIR`) or a file named `VMPOWER_STATE_DIR` in
the directory that `VMPOWER_CREDENTIALS_DIR` names; the first one found counts. Secrets belong in files.
"""

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

from common.addresses import MAX_PORT, require_short
from common.durations import to_text
from common.environment import variable
from common.mistakes import sentence
from common.version import version

LogLevel = Literal["debug", "info", "warning", "error"]


def _with_port(address: str) -> str:
    """gRPC itself takes a port modulo 65536."""
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch(r"\d{1,5}", port, re.A) or int(port) > MAX_PORT:
        raise ValueError(f"must be host:port, the port at most {MAX_PORT}")
    return address


def _none_or_with_port(address: str) -> str:
    return _with_port(address) if address else address


def _unix_or_with_port(address: str) -> str:
    if not address.startswith(("unix:", "unix-abstract:")):
        return _with_port(address)
    require_short(address)
    return address


def _readable(file: Path) -> Path:
    try:
        with file.open("rb"):
            return file
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}; name a file that can be read") from None


ReadableFile = Annotated[Path, AfterValidator(_readable)]
"""A setting: a file that is read once, at the start."""
HostPort = Annotated[str, AfterValidator(_none_or_with_port)]
"""A setting: `host:port`, or empty for none."""
Listen = Annotated[str, AfterValidator(_unix_or_with_port)]
"""A setting: `host:port`, or `unix:///path`."""


def comma_separated(value: Any) -> Any:
    """A list, as flags and the environment have one. Its setting is annotated with NoDecode, or JSON would be read."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def state_home() -> Path:
    """Where this user's state is kept (XDG Base Directory Specification)."""
    return Path(variable("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "vmpower"


_KINDS: dict[Any, str] = {timedelta: "DURATION", Path: "PATH", str: "TEXT", int: "NUMBER", float: "NUMBER"}


def _as_seconds(length: timedelta) -> str:
    """Short ones in seconds, as they are compared with each other: `60s`."""
    return f"{length.total_seconds():g}s" if length < timedelta(minutes=2) else to_text(length)


class _Flags(CliSettingsSource[Any]):
    """The flags, explained in the words of those who set them instead of Python's."""

    def _metavar_format(self, obj: Any) -> str:
        kinds = [part for part in get_args(obj) if part is not type(None)] or [obj]
        if kinds[-1] is Ellipsis:
            return "TEXT,..."
        return _KINDS.get(kinds[0]) or super()._metavar_format(obj)

    def _help_format(self, field_name: str, field_info: FieldInfo, model_default: Any, *args: Any) -> str:
        words = (field_info.description or "").replace("%", "%%")
        if field_info.is_required():
            return f"{words} (required)"
        default = field_info.get_default(call_default_factory=True, validated_data={})
        if default in (None, "", (), PydanticUndefined):
            return words
        shown = _as_seconds(default) if isinstance(default, timedelta) else str(getattr(default, "value", default))
        return f"{words} (default {shown.replace('%', '%%')})"


def _flags(settings: type[BaseSettings], prog: str) -> _Flags:
    flags = _Flags(settings, cli_prog_name=prog)
    flags.root_parser.add_argument(
        "--version", action="version", version=f"vmpower {version()}", help="print the version"
    )
    return flags


class ProcessSettings(BaseSettings):
    """The base of every process's settings."""

    model_config = SettingsConfigDict(
        env_prefix="VMPOWER_",
        env_ignore_empty=True,  # `${SETTING:-}` of a compose file, or `VMPOWER_SETTING=` of a unit's, sets nothing
        cli_kebab_case=True,
        cli_implicit_flags=True,
        frozen=True,
        extra="ignore",
    )

    @classmethod
    def load(cls, prog: str, args: list[str] | None = None) -> Self:
        """Read flags, environment and credential files; on a mistake print which one and exit with 2.

        `--version` and `--help` print what they say, and end the process.
        """
        try:
            return cls(
                _cli_settings_source=_flags(cls, prog)(args=sys.argv[1:] if args is None else args),
                _secrets_dir=variable("VMPOWER_CREDENTIALS_DIR") or None,
            )
        except ValidationError as error:
            for problem in error.errors():
                print(f"{prog}: {_told(problem)}", file=sys.stderr)
        except SettingsError as error:  # the directory of credentials cannot be read, or is none
            print(f"{prog}: {error.__cause__ or error}", file=sys.stderr)
        sys.exit(2)


def _told(problem: ErrorDetails) -> str:
    """A mistake in several settings at once names them in its own words."""
    words = sentence(problem)
    if not problem["loc"]:
        return words
    name = str(problem["loc"][0])
    return f"--{name.replace('_', '-')} (VMPOWER_{name.upper()}): {words}"
