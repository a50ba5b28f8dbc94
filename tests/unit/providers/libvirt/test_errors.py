"""libvirt's errors and ours, as a table."""

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, VMNotFound, VmpowerError
from providers.libvirt.errors import NATIVE_ERRORS, translate


class Error(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("libvirt's words")
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
