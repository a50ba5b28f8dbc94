import base64
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.adapter import GuestExit
from providers.proxmox.guest_exec import exit_of

CUT = b"\n[the guest agent kept no more of this]\n"


def as_told(output: bytes) -> str:
    """As Perl's JSON tells the bytes of `decode_base64`: each as the character of that number."""
    return "".join(map(chr, base64.b64decode(base64.b64encode(output))))


def test_a_program_has_no_end_while_it_runs() -> None:
    answers: list[Mapping[str, Any]] = [{"exited": 0}, {"exited": 1, "exitcode": 3}]
    assert [exit_of(answer) for answer in answers] == [None, GuestExit(3)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"exitcode": 0}, 0),
        ({"exitcode": 3}, 3),
        ({}, 0),
        ({"signal": 9}, 137),
        ({"signal": -1073741819}, -1073741819),
    ],
    ids=["well", "badly", "not told", "killed", "an exception in Windows"],
)
def test_an_exit_code_is_the_programs_or_tells_its_signal(answer: dict[str, int], code: int) -> None:
    assert exit_of({"exited": 1} | answer) == GuestExit(code)


@given(st.binary(), st.binary())
def test_output_is_stdout_then_stderr_byte_for_byte(out: bytes, err: bytes) -> None:
    answer = {"exited": 1, "exitcode": 0, "out-data": as_told(out), "err-data": as_told(err)}
    assert exit_of(answer) == GuestExit(0, out + err)


def test_text_beyond_a_byte_a_character_is_utf_8() -> None:
    assert exit_of({"exited": 1, "out-data": "5 €"}) == GuestExit(0, "5 €".encode())


def test_output_that_was_cut_says_so() -> None:
    answer = {"exited": 1, "out-data": "a", "out-truncated": 1, "err-data": "b", "err-truncated": 0}
    assert exit_of(answer) == GuestExit(0, b"a" + CUT + b"b")
