"""The YAML script that guests follow: which signals reach each guest, how long it takes, which calls fail.

docs/sim.md explains every field with examples. A mistake in it is reported by file, guest and field.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from common import durations
from common.mistakes import sentence
from common.yaml_reader import Fault as Unreadable
from common.yaml_reader import load_file


class SimError(Exception):
    """A script or a world that cannot be used; the message says what to mend, and where."""


class Fault(StrEnum):
    """What goes wrong with one call."""

    OK = "ok"
    REFUSE = "refuse"
    """The hypervisor says no."""
    UNAVAILABLE = "unavailable"
    """The hypervisor does not answer; nothing is done."""
    LOST = "lost"
    """It is done, but the answer is lost."""
    IGNORE = "ignore"
    """The answer is yes, but nothing is done."""
    HANG = "hang"
    """No answer ever comes, and nothing is done."""


GuestCall = Literal["get", "power_on", "power_off", "save", "send_signal", "guest_exec", "poll", "snapshot"]
WorldCall = Literal["list", "watch"]


def _seconds(value: Any) -> Any:
    return durations.parse(value).total_seconds() if isinstance(value, str) else value


def _some(value: Any) -> Any:
    return {} if value is None else value


def _many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _switch(value: Any) -> Any:
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
"""Seconds; as text they are written as Go writes a duration: `5s`, `1m10s`."""

_Entry = Annotated[str, Field(pattern=f"^({'|'.join(Fault)})( x[1-9][0-9]*| always)?$")]
Faults = Annotated[tuple[_Entry, ...], BeforeValidator(_many)]
"""The fault of each call in order: `[refuse x2, ok, lost]`; all later calls are `ok`."""


def fault_at(faults: Faults, number: int) -> Fault:
    """The fault of the call that follows `number` earlier ones."""
    for entry in faults:
        kind, _, times = entry.partition(" ")
        repeat = inf if times == "always" else int(times.lstrip("x") or 1)
        if number < repeat:
            return Fault(kind)
        number -= int(repeat)
    return Fault.OK


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HookScript(_Part):
    r"""How the guest answers commands in which `match` is found (words joined by a space).

    `console` is printed on the guest's console when the command starts; `\1` in it and in `output` is
    the first group of `match`. `output` None: the command itself. `takes`: seconds.
    """

    match: Annotated[str, BeforeValidator(_pattern)] = ""
    exit_code: int = Field(0, ge=0, le=255)
    output: str | None = None
    console: str = ""
    takes: Seconds = 0.0


class GuestScript(_Part):
    """One guest: how it starts, which signals reach it, what they do. Every field has a default."""

    name: str = ""
    id: str = Field("", pattern=r"^\S*$")
    count: int = Field(1, ge=1, le=100_000)
    power: Annotated[Literal["on", "booting", "off", "paused", "suspended"], BeforeValidator(_switch)] = "on"
    boot_time: Seconds = 2.0
    shutdown_time: Seconds = 2.0
    power_off_time: Seconds = 0.0
    save_time: Seconds = 1.0
    unsavable: str = ""
    agent: Literal["up", "ignores", "refuses", "hanging", "down", "none"] = "up"
    agent_delay: Seconds = 0.0
    acpi: Literal["hears", "ignores", "none"] = "hears"
    on_shutdown: Literal["off", "reboot", "crash"] = "off"
    hooks: tuple[HookScript, ...] = ()
    faults: dict[GuestCall, Faults] = Field(default_factory=dict)
    locked: str = ""
    question: str = ""
    template: bool = False
    node: str = ""
    addresses: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.id and self.count > 1:
            raise ValueError("id: several guests (count) cannot share one id; leave it out")
        if any(entry.startswith(Fault.IGNORE) for entry in self.faults.get("guest_exec", ())):
            raise ValueError("faults.guest_exec: cannot be ignored, for its answer is a process; use refuse or lost")
        return self


class Script(_Part):
    """All guests by name, the faults of the calls that concern no single guest, and how long a call about one takes
    (`latency`, seconds)."""

    guests: dict[str, Annotated[GuestScript, BeforeValidator(_some)]]
    faults: dict[WorldCall, Faults] = Field(default_factory=dict)
    latency: Seconds = 0.0

    def cast(self) -> Iterator[tuple[str, str, GuestScript]]:
        """Each single guest as (id, name, script); `count` makes `web-0001`, `web-0002`, ..."""
        for key, guest in self.guests.items():
            for number in range(1, guest.count + 1):
                own = key if guest.count == 1 else f"{key}-{number:04}"
                yield guest.id or guest_id(own), guest.name or own, guest


def guest_id(key: str) -> str:
    """The id of a guest whose script names none: a UUID that depends on its name only."""
    return str(uuid5(NAMESPACE_URL, f"vmpower-sim:{key}"))


def default_script() -> Script:
    """The guests of a world without a script."""
    failing = HookScript(exit_code=3, output="the hook failed\n")
    return Script(
        guests={
            "web": GuestScript(),
            "legacy": GuestScript(agent="none"),
            "deaf": GuestScript(agent="none", acpi="ignores"),
            "broken": GuestScript(hooks=(failing,)),
            "spare": GuestScript(power="off"),
        }
    )


def load_script(path: Path) -> Script:
    """Read a script.

    Raises:
        SimError: it cannot be read, is not YAML, or names something that does not exist.
    """
    try:
        content = load_file(path)
    except Unreadable as error:
        raise SimError(f"{path}: {error}") from error
    try:
        return Script.model_validate(content)
    except ValidationError as error:
        raise SimError("\n".join(explain(f"{path}: ", problem) for problem in error.errors())) from error


def explain(where: str, problem: ErrorDetails) -> str:
    """One line for one mistake, with the guest and the field that it concerns."""
    path = [str(part) for part in problem["loc"]]
    if path[:1] == ["guests"] and len(path) > 1:
        where, path = f"{where}guest {path[1]}: ", path[2:]
    field = f"{'.'.join(path)}: " if path else ""
    message = "there is no such field" if problem["type"] == "extra_forbidden" else sentence(problem)
    return f"{where}{field}{message}"
