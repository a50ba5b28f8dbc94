"""How the end of a program reads; libvirt's and Proxmox VE's ways of handing it on have their own tests."""

from base64 import b64decode

import pytest

from providers.core.adapter import GuestExit
from providers.shared.guest_agent import exit_of


@pytest.mark.parametrize(
    ("reply", "code"),
    [({"exitcode": 3}, 3), ({"signal": 9}, 137), ({"signal": -1073741819}, -1073741819), ({}, 0)],
    ids=["exit code", "signal", "Windows exception", "nothing said"],
)
def test_an_end_has_the_code_that_a_shell_would_give_it(reply: dict[str, int], code: int) -> None:
    assert exit_of({"exited": True} | reply, b64decode) == GuestExit(code)


def test_a_program_that_runs_has_none() -> None:
    assert exit_of({"exited": False}, b64decode) is None


@pytest.mark.parametrize(
    ("said", "code"),
    [(3221225477, -1073741819), (2**31 - 1, 2**31 - 1), (2**31, -(2**31)), (2**32, 2**31 - 1), (-(2**40), -(2**31))],
    ids=["a Windows status", "the highest", "one more", "a multiple of 2**32", "less than there is"],
)
def test_an_exit_code_is_32_bits_whatever_the_guest_says(said: int, code: int) -> None:
    assert exit_of({"exited": True, "exitcode": said}, b64decode) == GuestExit(code)


def test_a_signal_that_no_system_has_is_no_code_beyond_32_bits() -> None:
    assert exit_of({"exited": True, "signal": 2**40}, b64decode) == GuestExit(2**31 - 1)
