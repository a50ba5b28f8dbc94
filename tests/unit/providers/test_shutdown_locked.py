"""What the procedure does when a VM turns out to be locked in the very moment its guest is asked."""

import pytest

from providers.adapter import Grace, Signal
from providers.errors import Locked
from providers.model import State
from tests.unit.providers.world import Make, Provider, elapsed, ending, until

pytestmark = pytest.mark.looptime

AGENT_ONLY = {"acpi": "none", "shutdown_time": "2s"}


def lock_when_asked(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request comes a moment too late: somebody has just locked the VM, and nobody was told of it."""

    async def send_signal(_vm_id: str, _signal: Signal, _grace: Grace) -> None:
        monkeypatch.undo()
        provider.rewrite(locked="a backup")
        raise Locked("A backup holds it.")

    monkeypatch.setattr(provider.adapter, "send_signal", send_signal)


async def test_it_is_asked_when_the_lock_is_gone(make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = await make_provider(web=AGENT_ONLY)
    lock_when_asked(provider, monkeypatch)
    operation = await provider.shutdown(timeout=300)
    await until(100)
    assert provider.calls("send_signal") == 0
    provider.rewrite(locked="")
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: GRACEFUL by GUEST_AGENT", 102)


async def test_a_lock_that_stays_is_why_it_is_forced(make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = await make_provider(web=AGENT_ONLY)
    lock_when_asked(provider, monkeypatch)
    ended = await provider.end(await provider.shutdown(timeout=300))
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/LOCKED", 300)


async def test_the_steps_say_what_it_waited_for(make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = await make_provider(web=AGENT_ONLY)
    lock_when_asked(provider, monkeypatch)
    ended = await provider.end(await provider.shutdown(timeout=300))
    assert "GUEST_AGENT must wait: A backup holds it." in [step.message for step in ended.steps]
    assert ended.state is State.SUCCEEDED
