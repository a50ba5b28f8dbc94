import pytest

from providers.core.adapter import GuestCredentials, supports
from providers.core.errors import Unsupported
from tests.unit.providers.fakes import OneVM


def test_what_is_declared_as_unsupported_is_known_without_calling_it() -> None:
    assert supports(OneVM(), "power_off")
    assert not supports(OneVM(), "guest_exec")


async def test_what_is_unsupported_says_so_when_it_is_called() -> None:
    with pytest.raises(Unsupported, match="must leave it out"):
        await OneVM().guest_exec("1", ("sync",), None)


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(GuestCredentials("root", "hunter2"))
