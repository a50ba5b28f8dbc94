import pytest
from prometheus_client import generate_latest

from providers.core.model import State
from providers.server import metrics
from tests.unit.providers.world import Make, Provider, until

pytestmark = pytest.mark.looptime

DEAF = {"agent": "none", "acpi": "ignores"}


def scrape(provider: Provider) -> list[str]:
    return (
        generate_latest(metrics.registry(provider.inventory, provider.operations, provider.journal))
        .decode()
        .splitlines()
    )


async def test_vms_are_counted_by_their_power(make_provider: Make) -> None:
    provider = await make_provider(a={}, b={}, c={"power": "off"})
    lines = scrape(provider)
    assert 'vmpower_vms{power_state="ON"} 2.0' in lines
    assert 'vmpower_vms{power_state="OFF"} 1.0' in lines


async def test_the_connection_is_told(make_provider: Make) -> None:
    provider = await make_provider(web={})
    assert "vmpower_hypervisor_connected 1.0" in scrape(provider)
    provider.lose_hypervisor(5)
    await until(1)
    assert "vmpower_hypervisor_connected 0.0" in scrape(provider)


async def test_a_journal_that_cannot_be_written_is_told(make_provider: Make) -> None:
    provider = await make_provider(web={})
    assert "vmpower_journal_writable 1.0" in scrape(provider)
    provider.journal.failure = "database or disk is full"
    assert "vmpower_journal_writable 0.0" in scrape(provider)


async def test_operations_under_way_are_counted(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.reach(await provider.shutdown(timeout=60), State.WAITING_FOR_GUEST)
    assert 'vmpower_operations_active{kind="SHUTDOWN",state="WAITING_FOR_GUEST"} 1.0' in scrape(provider)


async def test_what_ended_is_counted_by_how_it_ended_and_how_long_it_took(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    registry = metrics.registry(provider.inventory, provider.operations, provider.journal)
    await provider.end(await provider.shutdown(timeout=60))
    await until(61)
    lines = generate_latest(registry).decode().splitlines()
    labels = 'kind="SHUTDOWN",outcome="FORCED",reason="TIMEOUT",signal="",state="SUCCEEDED"'
    assert f"vmpower_operations_ended_total{{{labels}}} 1.0" in lines
    seconds = [line for line in lines if line.startswith("vmpower_operation_seconds_sum")]
    assert float(seconds[0].rpartition(" ")[2]) == pytest.approx(60, abs=0.1)
