"""What the commands of plans share: their arguments, the providers that they ask, and where the records of runs are."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import structlog
import typer

from cli import config, plans
from cli.errors import ExitCode, Failure, translate, usage
from client.power import PowerClient
from common.own_machine import system_uuid
from common.settings import state_home
from common.text import clean
from plans.clock import Clock
from plans.freeze import Frozen, Unreachable, freeze
from plans.history import Event, History
from plans.journal import Journal, JournalError, Runs
from plans.members import LeftOut, OwnVMUnclear, PlanRefused
from plans.model import PowerPlan

NO_PLAN = "is no PowerPlan"
File = Annotated[Path, typer.Argument(metavar="FILE", help="A PowerPlan, in YAML.")]
Own = Annotated[
    str,
    typer.Option(
        "--self",
        metavar="UUID|PROVIDER/VM",
        help="The VM that this command runs on: it goes down after all others; default: by this machine's UUID.",
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        envvar="VMPOWER_STATE_DIR",
        help="Where the records of runs are; default: ~/.local/state/vmpower/plans.",
    ),
]


def resumed(runs: Runs, name: str) -> tuple[History, Journal]:
    """The record of a run, which is this process's from now on.

    Raises:
        Failure: it is another one's, or is not readable.
    """
    try:
        return runs.resume(name)
    except JournalError as error:
        raise Failure(str(error), ExitCode.FAILED) from None


def readable(runs: Runs) -> list[History]:
    """Every run that can be read, oldest first. Of the others people are told, as one may be under way."""
    return runs.all(lambda error: print(clean(f"vmpower: {error}"), file=sys.stderr))


async def frozen_now(
    manifest: PowerPlan,
    clients: Mapping[str, PowerClient],
    clock: Clock,
    own: str,
    left_out: LeftOut | None = None,
) -> Frozen:
    """What a plan would do now. `own` is the VM that this command runs on; empty: by this machine's UUID. With
    `left_out` what does not answer, or cannot be meant, is told there and left out.

    Raises:
        Failure: it is refused, or a provider does not answer.
    """
    try:
        ours = [uuid] if (uuid := own or system_uuid()) else ()
        return await freeze(manifest.spec, clients, clock, own=ours, left_out=left_out)
    except Unreachable as error:
        raise translate(error.error, clients[error.provider].address) from None
    except OwnVMUnclear as error:
        raise usage(f"--self: {error}") from None
    except PlanRefused as error:
        lines = [f"{each.path}: {each.message}" for each in error.violations]
        raise usage("The plan is refused; nothing was done.", *lines) from None


@asynccontextmanager
async def clients_of_all() -> AsyncIterator[Mapping[str, PowerClient]]:
    """All providers of the configuration, by their names."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(PowerClient(endpoint.address, config.tls_files(endpoint)))
            for name, endpoint in config.load().meant("").items()
        }


def clients_of(history: History, clients: Mapping[str, PowerClient]) -> Mapping[str, PowerClient]:
    """The providers of a run.

    Raises:
        Failure: the configuration has lost one since the run began.
    """
    needed = {target.provider for tier in history.start.tiers for target in tier.targets}
    if missing := sorted(needed - clients.keys()):
        raise usage(f"The run needs {', '.join(missing)}, which {config.path()} does not name any more.")
    return clients


@contextmanager
def attended(on: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """While runs are carried out: these signals are theirs, that the terminal is closed ends nothing, and the log is
    on stderr."""
    loop, handlers = asyncio.get_running_loop(), {signal.SIGHUP: lambda: None, **on}
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
        structlog.reset_defaults()


def folder(state_dir: Path | None) -> Path:
    """Where the records of runs are."""
    return (state_dir or state_home() / "plans").expanduser()


def say(at: datetime, line: str) -> None:
    """Print a line for people, on stderr."""
    with suppress(OSError):
        print(clean(f"{at.astimezone():%H:%M:%S} {line}"), file=sys.stderr, flush=True)


def tell(history: History, event: Event) -> None:
    """Print what has happened, on stderr."""
    with suppress(OSError):  # the terminal is gone; the run goes on
        print(clean(f"{event.at.astimezone():%H:%M:%S} {plans.line(history, event)}"), file=sys.stderr, flush=True)
