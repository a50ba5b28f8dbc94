"""What happens while we wait, on stderr: every step as a line and, on a terminal, a live countdown below."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli import terminal, verdict
from cli.proto_text import span
from cli.provider_clock import ProviderClock, latest
from client.power import SHUTDOWNS, has_ended
from client.times import moment
from client.words import short, step_text
from common.text import clean
from protos.power.v1 import power_pb2 as pb


class Progress:
    """Shows operations as they change. On a terminal use it inside `live()`."""

    def __init__(self, console: Console | None = None, clock: ProviderClock | None = None) -> None:
        self.console = console or terminal.console(sys.stderr, soft_wrap=True)
        self._clock = clock or ProviderClock()
        self._operations: dict[str, pb.Operation] = {}
        self._received: dict[str, float] = {}
        self._spinner = Spinner("dots")
        self._noted = ""

    def show(self, operation: pb.Operation, late: bool = False) -> None:
        """Print the steps that are new and remember the operation for the live part. `late`: it tells what may have
        happened a while ago, before the connection came back."""
        known = self._operations.get(operation.id)
        before, lines = known or pb.Operation(), list(_news(known, operation))
        self._operations[operation.id] = operation
        if known is None or lines:
            self._received[operation.id] = self._clock.seconds()
        if lines and known is not None and not late:
            self._clock.hear(latest(operation))
        elif known is not None:  # the same steps, at other times
            self._clock.set_by(latest(operation) - latest(known))
        for time, line in lines:
            self._print(time, verdict.name(operation), line)
        waits = operation.state == pb.OPERATION_STATE_AWAITING_DECISION
        if waits and before.state != operation.state:
            self.note(f"{verdict.name(operation)} does not go down; decide:")
            for line in commands(operation):
                self.note(line)

    def note(self, text: str) -> None:
        """Print a line that is no step of an operation; the same line in a row is printed once."""
        if text == self._noted:
            return
        self._noted = text
        self.console.print(Text(clean(text), style="yellow"))

    def _print(self, time: Timestamp, name: str, message: str) -> None:
        self._noted = ""
        local = f"{moment(time).astimezone():%H:%M:%S} "
        self.console.print(Text.assemble((local, "dim"), (name, "bold"), f" {clean(message)}"))

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep a line for each operation that has not ended, with its countdown, while inside."""
        if not self.console.is_terminal:
            yield
            return
        live = Live(
            get_renderable=self._table,
            console=self.console,
            transient=True,
            redirect_stdout=False,  # it may be a pipe while stderr is a terminal
        )
        with live:
            yield

    def tell_what_goes_on(self) -> None:
        """Say which operations we no longer follow though they have not ended, and what can be done."""
        for operation in self._operations.values():
            if not has_ended(operation):
                kind = short(pb.OperationKind, operation.kind)
                self.note(f"The {kind} of {verdict.name(operation)} goes on without us:")
                for line in commands(operation):
                    self.note(line)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for operation in self._operations.values():
            if not has_ended(operation):
                state = short(pb.OperationState, operation.state)
                age = self._clock.seconds() - self._received[operation.id]
                now = self._clock.now
                cells = (verdict.name(operation), state, countdown(operation, now, age))
                table.add_row(self._spinner, *map(Text, cells))
        return table


def _news(before: pb.Operation | None, now: pb.Operation) -> Iterator[tuple[Timestamp, str]]:
    """What was done since, each with its time. Of a very long story the provider drops steps in the middle."""
    known, steps = before.steps if before else [], now.steps
    if known and steps and len(steps) <= len(known):
        last, was = steps[-1], known[-1]
        if last.message != was.message:
            yield last.time, step_text(last)
        elif last.count > was.count:
            yield last.last_time, f"{last.message} ({last.count} times)"
        return
    for step in steps[len(known) :]:
        yield step.time, step_text(step)


ENDS = {
    pb.ESCALATION_NEVER: "given up",
    pb.ESCALATION_ASK: "you are asked",
    pb.ESCALATION_SAVE: "its memory is saved",
}
"""What happens at force_after, where that is not force."""


def countdown(operation: pb.Operation, now: datetime | None, age: float) -> str:
    """What happens at force_after, and how long until then.

    `now` is the time at the provider, None where it is not known. Then this machine's is taken for it, unless it cannot
    be: what was told `age` seconds ago had happened by then, and force_after had not passed.
    """
    if not operation.HasField("force_after") or operation.state != pb.OPERATION_STATE_WAITING_FOR_GUEST:
        return ""
    what = ENDS.get(operation.escalation, "powered off hard")
    deadline, none = moment(operation.force_after), timedelta(0)
    most = deadline - latest(operation) - timedelta(seconds=age)
    left = deadline - (now or datetime.now(UTC))
    if now is None and not none < left <= most:
        return f"{what} in at most {span(most)}" if most > none else f"{what} now"
    return f"{what} in {span(left)}" if left > none else f"{what} now"


def commands(operation: pb.Operation) -> Iterator[str]:
    """What a person can do about a running operation."""
    yield f"  vmpower watch {operation.id}       # see how it goes on"
    if operation.kind in SHUTDOWNS:
        yield f"  vmpower extend {operation.id} 60s  # give the guest more time"
        yield f"  vmpower force {operation.id}       # power it off hard now"
    yield f"  vmpower cancel {operation.id}      # give it up and leave the VM as it is"
