"""Results on stdout: tables for people, JSON and YAML for programs."""

import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from cli import verdict
from cli.options import Output
from cli.proto_text import as_dict, span
from cli.terminal import console
from client.times import moment
from client.words import short
from common.text import clean, to_json, to_yaml
from protos.power.v1 import power_pb2 as pb

_COLOURS = {
    **dict.fromkeys(("ON", "GRACEFUL", "STARTED", "SUCCEEDED", "ALREADY_ON", "ALREADY_OFF"), "green"),
    **dict.fromkeys(("FORCED", "OUT_OF_BAND", "PAUSED", "SUSPENDED", "CANCELLED"), "yellow"),
    **dict.fromkeys(("FAILED", "CRASHED", "STILL_RUNNING", "AWAITING_DECISION"), "red"),
    "UNKNOWN": "magenta",
}
_UNBOUNDED = 10_000
"""Columns of a pipe: programs that read tables line by line must not find them folded."""


def show_table(table: Table | Text) -> None:
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


def emit_line(output: Output, message: Message) -> None:
    if output is Output.JSON:
        print(to_json(as_dict(message)), flush=True)
    else:
        print("---", to_yaml(as_dict(message)), sep="\n", end="")
        sys.stdout.flush()


def show(output: Output, found: Message | Sequence[Message], table: Table) -> None:
    """Print the table, or what was found: an object, or a list of them."""
    if output is Output.TABLE:
        show_table(table)
    else:
        emit(output, as_dict(found) if isinstance(found, Message) else [as_dict(message) for message in found])


def show_verdicts(output: Output, operations: Sequence[pb.Operation], several: bool) -> None:
    """Print how operations ended: a sentence each, or the operations themselves."""
    if output is not Output.TABLE:
        found = [as_dict(operation) for operation in operations]
        return emit(output, found if several else found[0]) if found else None
    for operation in operations:
        word = short(pb.Outcome, operation.verdict.outcome) or short(pb.OperationState, operation.state)
        text = Text(verdict.sentence(operation))
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


def vm_table(vms: Iterable[pb.VM]) -> Table:
    table = _table("NAME", "ID", "POWER", "A SHUTDOWN NOW", "OPERATION", "NODE")
    for vm in vms:
        power = short(pb.PowerState, vm.power_state)
        table.add_row(*map(_cell, (vm.name, vm.id, power, forecast(vm), vm.active_operation, vm.node)))
    return table


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


def forecast_table(vms: Iterable[pb.VM]) -> Table:
    table = _table("NAME", "POWER", "A SHUTDOWN NOW", "WHAT STANDS IN THE WAY")
    for vm in vms:
        problems = " ".join(problem.message for problem in vm.forecast.problems)
        table.add_row(*map(_cell, (vm.name, short(pb.PowerState, vm.power_state), forecast(vm), problems)))
    return table


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


def info_card(address: str, info: pb.GetProviderInfoResponse) -> Table:
    default = span(info.default_timeout.ToTimedelta())
    rows = [
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


def operation_table(operations: Iterable[pb.Operation]) -> Table:
    table = _table("ID", "VM", "KIND", "STATE", "OUTCOME", "REASON", "SIGNAL", "BEGAN", "TOOK")
    for operation in operations:
        table.add_row(*map(_cell, _operation_row(operation)))
    return table


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
    )


def local(stamp: Timestamp) -> str:
    """A moment in the reader's own time zone, to the second."""
    return f"{moment(stamp).astimezone():%Y-%m-%d %H:%M:%S}"
