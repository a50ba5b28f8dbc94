"""Results on stdout: tables for people, JSON and YAML for programs."""

import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from cli import verdict
from cli.options import Output
from cli.proto_text import as_dict, span
from cli.terminal import console
from client.times import moment
from client.words import short
from common.text import clean, to_json, to_yaml
from protos.power.v1 import power_pb2 as pb

M = TypeVar("M", bound=Message)
_COLOURS = {
    **dict.fromkeys(("ON", "GRACEFUL", "STARTED", "SUCCEEDED", "ALREADY_ON", "ALREADY_OFF"), "green"),
    **dict.fromkeys(("FORCED", "OUT_OF_BAND", "SAVED", "PAUSED", "SUSPENDED", "CANCELLED"), "yellow"),
    **dict.fromkeys(("FAILED", "CRASHED", "STILL_RUNNING", "AWAITING_DECISION"), "red"),
    "UNKNOWN": "magenta",
}
_UNBOUNDED = 10_000
"""Columns of a pipe: programs that read tables line by line must not find them folded."""


def show_table(table: Table | Text | Tree) -> None:
    """Print on stdout: coloured and folded to a terminal's width, plain and never folded anywhere else."""
    if sys.stdout.isatty():
        console(sys.stdout).print(table)
        return
    plain = io.StringIO()
    console(plain, width=_UNBOUNDED).print(table)
    for line in plain.getvalue().splitlines():
        print(line.rstrip())


def emit(output: Output, data: Any) -> None:
    if output is Output.JSON:
        print(to_json(data, indent=2))
    else:
        print(to_yaml(data), end="")


def emit_line(output: Output, provider: str, message: Message) -> None:
    data = _of(provider, message)
    if output is Output.JSON:
        print(to_json(data), flush=True)
    else:
        print("---", to_yaml(data), sep="\n", end="")
        sys.stdout.flush()


def show(output: Output, provider: str, found: Message, card: Table) -> None:
    """Print the card, or what was found."""
    if output is Output.TABLE:
        show_table(card)
    else:
        emit(output, _of(provider, found))


def show_all(output: Output, found: Sequence[tuple[str, M]], listing: "Listing[M]") -> None:
    """Print a table, or the list of what was found. A provider's name, where there is one, comes first."""
    if output is Output.TABLE:
        show_table(listing.table(found))
    else:
        emit_all(output, found)


def show_cards(cards: Sequence[Table]) -> None:
    for number, card in enumerate(cards):
        if number:
            print()
        show_table(card)


def emit_all(output: Output, found: Iterable[tuple[str, Message]]) -> None:
    emit(output, [_of(provider, message) for provider, message in found])


def _of(provider: str, message: Message) -> dict[str, Any]:
    return ({"provider": provider} if provider else {}) | as_dict(message)


def show_verdicts(output: Output, operations: Sequence[tuple[str, pb.Operation]], several: bool) -> None:
    """Print how operations of these providers ended: a sentence each, or the operations themselves."""
    if output is not Output.TABLE:
        found = [_of(provider, operation) for provider, operation in operations]
        return emit(output, found if several else found[0]) if found else None
    for provider, operation in operations:
        word = short(pb.Outcome, operation.verdict.outcome) or short(pb.OperationState, operation.state)
        text = Text(verdict.sentence(verdict.at(provider, operation)))
        text.highlight_words([word], _COLOURS.get(word, ""))
        show_table(text)
        for line in verdict.hook_lines(operation):
            show_table(Text(line))
    return None


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _card(rows: Iterable[Sequence[str]]) -> Table:
    """A label and its lines in each row; one that has nothing to say is left out."""
    card = Table(box=None, pad_edge=False, show_header=False)
    card.add_column(style="bold", no_wrap=True)
    card.add_column(overflow="fold")
    for label, *lines in rows:
        if any(lines):
            card.add_row(label, Text("\n").join(map(_cell, lines)))
    return card


def _cell(text: str) -> Text:
    return Text(clean(text), style=_COLOURS.get(text, ""))


@dataclass(frozen=True)
class Listing(Generic[M]):
    """A table of messages: its columns, and the row of one."""

    columns: tuple[str, ...]
    row: Callable[[M], Iterable[str]]

    def table(self, found: Sequence[tuple[str, M]]) -> Table:
        """With the names of providers, if the messages came with any."""
        several = any(provider for provider, _ in found)
        table = _table(*(["PROVIDER"] if several else []), *self.columns)
        for provider, message in found:
            table.add_row(*map(_cell, [provider] if several else []), *map(_cell, self.row(message)))
        return table


def _vm_row(vm: pb.VM) -> Iterable[str]:
    return vm.name, vm.id, short(pb.PowerState, vm.power_state), forecast(vm), vm.active_operation, vm.node


def forecast(vm: pb.VM) -> str:
    """How a shutdown would go now, in a few words."""
    if vm.power_state == pb.POWER_STATE_OFF:
        return "already off"
    if vm.power_state == pb.POWER_STATE_UNKNOWN:
        return "not known"
    signals = [short(pb.Signal, signal) for signal in vm.forecast.signals]
    if vm.forecast.graceful:
        return f"graceful by {', then '.join(signals)}" if signals else "graceful"
    reasons = [short(pb.Reason, problem.reason) for problem in vm.forecast.problems if problem.reason]
    return f"forced: {', '.join(reasons)}" if reasons else "forced"


def _forecast_row(vm: pb.VM) -> Iterable[str]:
    problems = " ".join(problem.message for problem in vm.forecast.problems)
    return vm.name, short(pb.PowerState, vm.power_state), forecast(vm), problems


def vm_card(vm: pb.VM) -> Table:
    rows = [
        ("Name", vm.name),
        ("Id", vm.id),
        ("Power", short(pb.PowerState, vm.power_state)),
        ("A shutdown now", forecast(vm)),
        ("In the way", *(problem.message for problem in vm.forecast.problems)),
        ("Operation", vm.active_operation),
        ("Node", vm.node),
        ("Labels", ", ".join(f"{key}={text}" for key, text in sorted(vm.labels.items()))),
    ]
    return _card(rows)


def info_card(provider: str, address: str, info: pb.GetProviderInfoResponse) -> Table:
    default = span(info.default_timeout.ToTimedelta())
    rows = [
        ("Provider", provider),
        ("Address", address),
        ("Type", info.type),
        ("Version", info.version),
        ("Hypervisor", f"{info.endpoint} ({'connected' if info.connected else 'not reachable now'})"),
        ("VMs", str(info.vm_count)),
        ("Signals", ", ".join(short(pb.Signal, signal) for signal in info.signals)),
        ("Guest exec", "yes" if info.guest_exec else "no"),
        ("Snapshots", "yes" if info.snapshot else "no"),
        ("Default", f"{default}, then {short(pb.Escalation, info.default_escalation)}"),
    ]
    return _card(rows)


def _operation_row(operation: pb.Operation) -> Iterable[str]:
    ended = operation.verdict
    return (
        operation.id,
        verdict.name(operation),
        short(pb.OperationKind, operation.kind),
        short(pb.OperationState, operation.state),
        short(pb.Outcome, ended.outcome),
        short(pb.Reason, ended.reason),
        short(pb.Signal, ended.signal),
        local(operation.create_time),
        span(verdict.took(operation)) if ended.HasField("end_time") else "",
        _asker(operation),
        operation.reason,
    )


def _asker(operation: pb.Operation) -> str:
    """Who asked, as the provider knows it, and for whom, as that one says."""
    claimed = f"(for {operation.on_behalf_of})" if operation.on_behalf_of else ""
    return f"{operation.requested_by} {claimed}".strip()


VMS = Listing(("NAME", "ID", "POWER", "A SHUTDOWN NOW", "OPERATION", "NODE"), _vm_row)
FORECASTS = Listing(("NAME", "POWER", "A SHUTDOWN NOW", "WHAT STANDS IN THE WAY"), _forecast_row)
OPERATIONS = Listing(
    ("ID", "VM", "KIND", "STATE", "OUTCOME", "REASON", "SIGNAL", "BEGAN", "TOOK", "BY", "WHY"), _operation_row
)


def local(stamp: Timestamp) -> str:
    """A moment in the reader's own time zone, to the second."""
    return f"{moment(stamp).astimezone():%Y-%m-%d %H:%M:%S}"
