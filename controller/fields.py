"""Field types that all models share: names as Kubernetes allows them, the contract's words, and the base class."""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    Strict,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from client.words import Enum, V, short
from common.text import clean
from protos.power.v1 import power_pb2 as pb

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253, min_length=1)]
Text = Annotated[str, StringConstraints(min_length=1)]
Sentence = Annotated[str, AfterValidator(clean)]
"""For people, on one line: guests and hypervisors may have a part in it."""


def word(enum: "Enum[V]", number: V, unspecified: str = "UNSPECIFIED") -> str:
    """`SIGNAL_ACPI` as `ACPI`; what a newer provider says and this controller does not know is `unspecified` too."""
    return short(enum, number) if number in enum.values()[1:] else unspecified


def _number_of(enum: Any) -> Any:
    """The type of a field that is a number of this enum here, and its word where it is written."""
    numbers = {word(enum, number): number for number in enum.values()}
    return Annotated[
        int,
        Strict(),
        BeforeValidator(lambda written: numbers.get(written, written) if isinstance(written, str) else written),
        PlainSerializer(lambda number: word(enum, number), return_type=str),
        WithJsonSchema({"type": "string", "enum": [*numbers]}),
    ]


if TYPE_CHECKING:
    Kind: TypeAlias = pb.OperationKind.ValueType
    State: TypeAlias = pb.OperationState.ValueType
else:
    Kind, State = _number_of(pb.OperationKind), _number_of(pb.OperationState)


class Model(BaseModel):
    """The base of everything here."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="allow", frozen=True
    )
