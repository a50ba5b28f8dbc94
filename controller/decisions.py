"""What a person decides about a running shutdown, as one line of text, and how it is carried out.

extend=5m   its deadline moves by so much, counted from now where it has passed
force       it is powered off hard now
cancel      it is given up; a guest that has been asked may still go down
"""

from datetime import timedelta
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from client.errors import ProviderError
from client.power import SHUTDOWNS, has_ended
from client.times import duration
from common.durations import Timeout
from common.mistakes import sentence
from controller.client import ProviderClient
from controller.models import VirtualMachine
from controller.refusals import in_manifest
from controller.source import Decided, Event, resource_name
from controller.status import force_after
from protos.power.v1 import power_pb2 as pb

_DURATION: TypeAdapter[timedelta] = TypeAdapter(Timeout)
Choice = timedelta | Literal["force", "cancel"]
"""A time by which the deadline moves, or what is done now."""


class BadDecision(ValueError):
    """The text is no decision; the message says what is."""


def choice(text: str) -> Choice:
    """The decision that `text` names.

    Raises:
        BadDecision: it names none.
    """
    word, _, extension = text.strip().partition("=")
    match word, extension:
        case "force" | "cancel", "":
            return "force" if word == "force" else "cancel"
        case "extend", _:
            return _duration(text, extension)
    raise BadDecision(f"{text!r} is no decision; write extend=5m, force or cancel.")


def _duration(text: str, extension: str) -> timedelta:
    try:
        return _DURATION.validate_python(extension)
    except ValidationError as error:
        why = sentence(error.errors()[0])
        raise BadDecision(f"{text!r} is no decision: {why}.") from error


async def answer(
    client: ProviderClient, operation: pb.Operation | None, decided: Decided, resource: VirtualMachine
) -> tuple[Event, pb.Operation | None]:
    """Do as was decided about `operation`; what people are told, and the operation as it is then.

    Raises:
        ProviderError: the provider cannot be asked now.
    """
    asked = f"asked by {decided.by}" if decided.by else "nobody knows by whom"
    try:
        told = await _apply(client, _shutdown(operation), choice(decided.text), resource_name(decided.key, decided.by))
    except BadDecision as refused:
        return Event("Warning", "DecisionRefused", f"{refused} ({asked})"), operation
    except ProviderError as error:
        if error.passing:
            raise
        why = in_manifest(error, resource).message
        return Event("Warning", "DecisionRefused", f"{decided.text}: {why} ({asked})"), operation
    message = f"{decided.text}, {asked}{_until(decided, told)}: operation {told.id}."
    return Event("Normal", "DecisionTaken", message), told


def _until(decided: Decided, told: pb.Operation) -> str:
    """The new deadline; while hooks run there is none yet, and what was extended is the time that they precede."""
    deadline = force_after(told)
    if deadline is None or not decided.text.strip().startswith("extend"):
        return ""
    return f"; the guest has until {deadline:%FT%TZ}"


def _shutdown(operation: pb.Operation | None) -> str:
    if operation is None or has_ended(operation) or operation.kind not in SHUTDOWNS:
        raise BadDecision("No shutdown is under way: there is nothing to decide.")
    return operation.id


async def _apply(client: ProviderClient, operation: str, chosen: Choice, whom: str) -> pb.Operation:
    match chosen:
        case timedelta():
            return await client.ask(pb.ExtendOperationRequest(id=operation, extension=duration(chosen)), whom)
        case "force":
            return await client.ask(pb.ForceOperationRequest(id=operation), whom)
        case _:
            return await client.ask(pb.CancelOperationRequest(id=operation), whom)
