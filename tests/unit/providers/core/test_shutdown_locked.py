"""What the procedure does when a VM turns out to be locked in the very moment its guest is asked."""

from datetime import timedelta

import pytest

from providers.core.adapter import Escalation, Grace, Signal
from providers.core.errors import Locked
from providers.core.extension import Extension
from providers.core.model import State
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


async def test_the_verdict_says_by_what_it_was_held(make_provider: Make) -> None:
    provider = await make_provider(web=AGENT_ONLY | {"locked": "a backup"})
    forced = await provider.end(await provider.shutdown(timeout=10))
    assert forced.verdict and forced.verdict.message.startswith("Powered off hard, reason LOCKED: ")
    assert "a backup" in forced.verdict.message


async def test_a_verdict_without_force_says_so_too(make_provider: Make) -> None:
    provider = await make_provider(web=AGENT_ONLY | {"locked": "a backup"})
    left = await provider.end(await provider.shutdown(timeout=10, escalation=Escalation.NEVER))
    assert left.verdict and left.verdict.message.startswith("Not powered off hard, as asked: ")
    assert "a backup" in left.verdict.message


async def test_what_stood_in_the_way_before_an_extension_is_not_told_of_what_comes_after(make_provider: Make) -> None:
    provider = await make_provider(web=AGENT_ONLY | {"locked": "a backup", "shutdown_time": "2h"})
    operation = await provider.reach(
        await provider.shutdown(timeout=10, escalation=Escalation.ASK), State.AWAITING_DECISION
    )
    assert "a backup" in operation.steps[-1].message
    provider.rewrite(locked="")
    await provider.operations.extend(operation.id, Extension(by=timedelta(seconds=60)))
    await provider.reach(operation, State.WAITING_FOR_GUEST)
    held = await provider.reach(operation, State.AWAITING_DECISION)
    assert held.steps[-1].message == "somebody must extend, force or cancel; reason TIMEOUT"
