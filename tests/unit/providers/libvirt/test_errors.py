"""libvirt's errors and ours, as a table."""

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.errors import (
    CommandFailed,
    ConnectionProblem,
    HypervisorUnavailable,
    Locked,
    VMNotFound,
    VmpowerError,
)
from providers.libvirt.errors import NATIVE_ERRORS, problem, translate, unreachable


class Error(Exception):
    def __init__(self, code: int, words: str = "libvirt's words") -> None:
        super().__init__(words)
        self._code = code

    def get_error_code(self) -> int:
        return self._code


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (libvirt.VIR_ERR_NO_DOMAIN, VMNotFound),
        (libvirt.VIR_ERR_NO_CONNECT, HypervisorUnavailable),
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, CommandFailed),
        (libvirt.VIR_ERR_OPERATION_INVALID, CommandFailed),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, Locked),
        (libvirt.VIR_ERR_RESOURCE_BUSY, Locked),
        (libvirt.VIR_ERR_BLOCK_COPY_ACTIVE, Locked),
        (libvirt.VIR_ERR_OPERATION_DENIED, CommandFailed),
        (libvirt.VIR_ERR_INTERNAL_ERROR, CommandFailed),
        (libvirt.VIR_ERR_RPC, CommandFailed),
        (987654, CommandFailed),
    ],
)
def test_each_error_has_its_class(code: int, kind: type[VmpowerError]) -> None:
    assert type(translate(Error(code), alive=True)) is kind


@given(st.one_of(st.sampled_from(sorted(NATIVE_ERRORS)), st.integers()))
def test_libvirts_own_words_are_never_lost(code: int) -> None:
    assert "libvirt's words" in translate(Error(code), alive=True).message


@given(st.one_of(st.sampled_from(sorted(NATIVE_ERRORS)), st.integers()))
def test_over_a_lost_connection_every_error_means_that(code: int) -> None:
    assert type(translate(Error(code), alive=False)) is HypervisorUnavailable


@pytest.mark.parametrize(
    ("said", "acts"),
    [
        ("Host key verification failed.", "the provider's operator adds the host's key to known_hosts"),
        ("ops@kvm: Permission denied (publickey).", "the hypervisor's operator lets the provider's key in"),
        ("ssh: Could not resolve hostname kvm", "the provider's operator mends the host's name in --uri"),
        ("ssh: connect to host kvm port 22: Connection refused", "looks after the host and its sshd"),
        ("sh: 1: nc: not found", "looks after libvirt on the host"),
        ("No such file or directory", "looks after it"),
    ],
)
def test_what_ssh_says_is_told_in_one_sentence_with_who_acts(said: str, acts: str) -> None:
    why = f"Cannot recv data: {said}\r\n: Connection reset by peer"
    told = unreachable("qemu+ssh://kvm/system", why)
    assert told.startswith(f"libvirt cannot be reached at qemu+ssh://kvm/system (Cannot recv data: {said}")
    assert acts in told
    assert "\n" not in told
    assert told.endswith(".")


@pytest.mark.parametrize(
    ("code", "words", "found"),
    [
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied",
            ConnectionProblem.NOT_PERMITTED,
        ),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory",
            ConnectionProblem.UNREACHABLE,
        ),
        (libvirt.VIR_ERR_AUTH_FAILED, "authentication failed: no", ConnectionProblem.LOGIN_REFUSED),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Cannot recv data: vm@host: Permission denied (publickey).: Connection reset by peer",
            ConnectionProblem.LOGIN_REFUSED,
        ),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Cannot recv data: Host key verification failed.: Connection reset by peer",
            ConnectionProblem.CERTIFICATE,
        ),
        (libvirt.VIR_ERR_SYSTEM_ERROR, "Certificate /x.pem has expired", ConnectionProblem.CERTIFICATE),
    ],
)
def test_what_keeps_us_from_libvirt_is_known_by_its_words(code: int, words: str, found: ConnectionProblem) -> None:
    assert problem(Error(code, words)) is found
