"""Connections: opened once, shared, and anew when lost."""

import asyncio
from typing import Any

import libvirt
import pytest

from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.libvirt.session import Session, in_time

URI = "test:///default"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every connection that is opened."""
    connections = list[Any]()
    real = libvirt.open

    def counted(uri: str) -> Any:
        connections.append(real(uri))
        return connections[-1]

    monkeypatch.setattr(libvirt, "open", counted)
    return connections


async def test_callers_at_the_same_time_share_one_connection(opened: list[Any]) -> None:
    it = Session(URI, "test", 2)
    await asyncio.gather(*(it.call(lambda connection: connection.getType()) for _ in range(5)))
    assert len(opened) == 1
    await it.close()


async def test_a_lost_connection_is_opened_anew_by_the_next_call(opened: list[Any]) -> None:
    it = Session(URI, "test", 2)
    (await it.link()).lost.set_result("libvirtd ended")
    assert await it.call(lambda connection: connection.getType()) == "TEST"
    assert len(opened) == 2
    await it.close()


async def test_an_error_over_a_broken_connection_is_unavailability_and_ends_the_link() -> None:
    it = Session(URI, "test", 2)
    link = await it.link()

    def breaks(connection: Any) -> None:
        connection.close()
        connection.lookupByName("nobody")

    link.connection.unregisterCloseCallback()
    with pytest.raises(HypervisorUnavailable):
        await it.run(link, breaks)
    assert link.lost.done()
    await it.close()


async def test_one_that_gives_up_does_not_spoil_the_opening_for_others(opened: list[Any]) -> None:
    it = Session(URI, "test", 2)
    hurried, patient = asyncio.create_task(it.link()), asyncio.create_task(it.link())
    await asyncio.sleep(0)
    hurried.cancel()
    await patient
    assert len(opened) == 1
    await it.close()


async def test_a_refused_connection_is_tried_again_by_the_next_call() -> None:
    it = Session("test:///no/such/file.xml", "test", 1)
    for _ in range(2):
        with pytest.raises(HypervisorUnavailable, match="cannot be reached"):
            await it.link()
    await it.close()


async def test_closing_what_was_never_opened_is_no_error() -> None:
    await Session(URI, "test", 1).close()


@pytest.mark.looptime
async def test_a_call_that_takes_too_long_is_given_up_with_a_sentence() -> None:
    with pytest.raises(CommandFailed, match="libvirt has not answered within 30 s; the hypervisor's operator"):
        async with in_time(30):
            await asyncio.Event().wait()
