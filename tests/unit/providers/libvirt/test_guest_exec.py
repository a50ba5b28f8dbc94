"""What the guest agent answers."""

import base64
from typing import Any

import libvirt
import pytest

from providers.core.adapter import GuestExit
from providers.core.errors import ProgramMissing
from providers.libvirt import guest_exec
from providers.libvirt.guest_exec import exit_of


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        ({"exited": False}, None),
        ({"exited": True, "exitcode": 0}, GuestExit(0)),
        ({"exited": True, "exitcode": 3, "out-data": encoded(b"a")}, GuestExit(3, b"a")),
        ({"exited": True, "exitcode": 0, "err-data": encoded(b"b"), "out-data": encoded(b"a")}, GuestExit(0, b"ab")),
        ({"exited": True, "signal": 9}, GuestExit(137)),
        ({"exited": True}, GuestExit(0)),
        ({"exited": True, "exitcode": 0, "out-data": encoded(b"\xff\x00")}, GuestExit(0, b"\xff\x00")),
    ],
)
def test_each_answer_is_an_end_or_none(reply: dict[str, Any], end: GuestExit | None) -> None:
    assert exit_of(reply) == end


def test_output_that_the_agent_cut_says_so() -> None:
    end = exit_of({"exited": True, "exitcode": 0, "out-data": encoded(b"start"), "out-truncated": True})
    assert end is not None
    assert end.output.startswith(b"start\n[")


def test_a_program_that_the_guest_does_not_have_is_the_hook_owners_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Guest agent command failed, error was 'Failed to execute child process “/none” (No such file or directory)'"

    def refuse(*_: Any) -> Any:
        raise libvirt.libvirtError(said)

    monkeypatch.setattr(guest_exec, "_ask", refuse)
    with pytest.raises(ProgramMissing, match=r"“/none”.*; the hook's owner mends the command"):
        guest_exec.start(None, "1", ["/none"])
