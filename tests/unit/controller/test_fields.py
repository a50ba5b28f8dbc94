from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from controller.fields import Name, State, word
from protos.power.v1 import power_pb2 as pb

NEWER: Any = 99
STATE: TypeAdapter[Any] = TypeAdapter(State)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "UPPER", "a/b", "-a", "a" * 254])
def test_a_name_that_kubernetes_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


def test_a_word_is_the_contracts_without_its_prefix() -> None:
    assert word(pb.Signal, pb.SIGNAL_ACPI) == "ACPI"


@pytest.mark.parametrize("number", [pb.SIGNAL_UNSPECIFIED, NEWER])
def test_what_is_unset_or_of_a_newer_provider_is_unspecified(number: Any) -> None:
    assert (word(pb.Signal, number), word(pb.Signal, number, "")) == ("UNSPECIFIED", "")


@pytest.mark.parametrize("number", pb.OperationState.values())
def test_each_state_is_written_as_its_word_and_read_again(number: Any) -> None:
    written = STATE.dump_python(number)
    assert (written, STATE.validate_python(written)) == (word(pb.OperationState, number), number)


@pytest.mark.parametrize("written", ["99", "DONE", "succeeded", ["SUCCEEDED"], None])
def test_what_is_no_word_of_the_contract_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        STATE.validate_python(written)
