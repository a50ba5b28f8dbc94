"""What the guest agent answers."""

import base64
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from providers.core.adapter import GuestExit
from providers.core.errors import CommandFailed, ProgramMissing
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


class Error(libvirt.libvirtError):  # type: ignore[misc]
    """As libvirt raises it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.err = (code, 0, message)


CONNECTION = SimpleNamespace(isAlive=lambda: True)


Refuse = Callable[[Error], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Have the agent's commands fail."""

    def fail(error: Error) -> None:
        def ask(*_: Any) -> Any:
            raise error

        monkeypatch.setattr(guest_exec, "_ask", ask)

    return fail


def test_a_program_that_the_guest_does_not_have_is_the_hook_owners_matter(refuse: Refuse) -> None:
    said = "Guest agent command failed, error was 'Failed to execute child process “/none” (No such file or directory)'"
    refuse(Error(said, libvirt.VIR_ERR_INTERNAL_ERROR))
    with pytest.raises(ProgramMissing, match=r"“/none”.*; the hook's owner mends the command"):
        guest_exec.start(None, "1", ["/none"])


def test_a_program_whose_agent_takes_too_long_to_tell_is_asked_after_again(refuse: Refuse) -> None:
    refuse(Error("Guest agent is not responding: not available for now", libvirt.VIR_ERR_AGENT_UNRESPONSIVE))
    assert guest_exec.status(CONNECTION, "1", 7) is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("unable to execute QEMU agent command: Invalid parameter 'pid'", libvirt.VIR_ERR_INTERNAL_ERROR),
        ("unable to execute QEMU agent command: PID ld does not exist", libvirt.VIR_ERR_INTERNAL_ERROR),
        ("Unable to encode message payload", libvirt.VIR_ERR_RPC),
    ],
)
def test_a_program_whose_end_is_lost_fails_with_what_to_do(said: str, code: int, refuse: Refuse) -> None:
    refuse(Error(said, code))
    with pytest.raises(CommandFailed, match=r"its exit code is lost: .* more than libvirt carries .*print less"):
        guest_exec.status(CONNECTION, "1", 7)


def test_another_refusal_is_told_as_it_is(refuse: Refuse) -> None:
    refuse(Error("the command guest-exec-status has been disabled", libvirt.VIR_ERR_INTERNAL_ERROR))
    with pytest.raises(libvirt.libvirtError, match="disabled"):
        guest_exec.status(CONNECTION, "1", 7)
