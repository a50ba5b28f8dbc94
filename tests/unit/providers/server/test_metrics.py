import pytest
from prometheus_client import CollectorRegistry, generate_latest

from common.version import version
from providers.core.errors import HypervisorUnavailable
from providers.core.lanes import Lane
from providers.core.model import State
from providers.server import metrics
from tests.unit.providers.world import Make, Provider, exec_hook, until

pytestmark = pytest.mark.looptime

DEAF = {"agent": "none", "acpi": "ignores"}


def scrape(provider: Provider) -> list[str]:
    return told(counted(provider))


def counted(provider: Provider) -> CollectorRegistry:
    return metrics.registry(provider.adapter, provider.inventory, provider.operations, provider.journal)


def told(registry: CollectorRegistry) -> list[str]:
    return generate_latest(registry).decode().splitlines()


def value(lines: list[str], name: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


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


async def test_a_shutdown_is_counted_by_how_the_vm_went_down_and_how_long_that_took(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    registry = counted(provider)
    await provider.end(await provider.shutdown(timeout=60))
    await until(61)
    lines = told(registry)
    assert value(lines, 'vmpower_shutdowns_total{outcome="FORCED",provider="sim",reason="TIMEOUT",signal=""}') == 1
    seconds = value(lines, 'vmpower_shutdown_duration_seconds_sum{outcome="FORCED",provider="sim"}')
    assert seconds == pytest.approx(60, abs=0.1)


async def test_the_first_of_its_kind_is_an_increase(make_provider: Make) -> None:
    lines = scrape(await make_provider(web=DEAF))
    assert value(lines, 'vmpower_shutdowns_total{outcome="FORCED",provider="sim",reason="TIMEOUT",signal=""}') == 0
    assert value(lines, 'vmpower_shutdowns_total{outcome="GRACEFUL",provider="sim",reason="",signal="ACPI"}') == 0


async def test_every_kind_of_operation_is_counted_by_how_it_ended(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off"})
    registry = counted(provider)
    await provider.end(await provider.power_on())
    assert value(told(registry), 'vmpower_operations_ended_total{kind="POWER_ON",state="SUCCEEDED"}') == 1
    shutdowns = [line for line in told(registry) if line.startswith("vmpower_shutdowns_total{")]
    assert all(line.endswith(" 0.0") for line in shutdowns)


async def test_hooks_are_counted_by_how_they_ended(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"match": "save", "exit_code": 3}]})
    registry = counted(provider)
    await provider.end(await provider.shutdown(timeout=60, hooks=(exec_hook("save"),)))
    assert value(told(registry), 'vmpower_hooks_total{state="FAILED"}') == 1
    assert value(told(registry), 'vmpower_hooks_total{state="SUCCEEDED"}') == 0


async def test_running_vms_that_would_not_go_down_gracefully_are_counted_by_the_reason(make_provider: Make) -> None:
    provider = await make_provider(fine={}, off={"power": "off"}, bare={"agent": "none", "acpi": "none"})
    [line] = [line for line in scrape(provider) if line.startswith("vmpower_vms_not_graceful{")]
    assert line == 'vmpower_vms_not_graceful{reason="TOOLS_UNAVAILABLE"} 1.0'


async def test_calls_to_the_hypervisor_are_timed_by_their_lane(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    registry = counted(provider)
    await provider.end(await provider.power_off())
    assert value(told(registry), 'vmpower_hypervisor_call_duration_seconds_count{lane="cuts"}') >= 1
    assert value(told(registry), 'vmpower_hypervisor_call_failures_total{lane="cuts"}') == 0


async def test_a_call_that_failed_is_counted(make_provider: Make) -> None:
    provider = await make_provider(web={})
    registry = counted(provider)
    with pytest.raises(HypervisorUnavailable):
        async with provider.adapter.lanes.place(Lane.ASK):
            raise HypervisorUnavailable("gone")
    assert value(told(registry), 'vmpower_hypervisor_call_failures_total{lane="asks"}') == 1


async def test_writes_to_the_journal_are_timed(make_provider: Make) -> None:
    provider = await make_provider(web={})
    registry = counted(provider)
    await provider.end(await provider.power_off())
    assert value(told(registry), "vmpower_journal_write_duration_seconds_count") >= 1


async def test_what_runs_here_is_told(make_provider: Make) -> None:
    provider = await make_provider(web={})
    assert f'vmpower_build_info{{provider="sim",version="{version()}"}} 1.0' in scrape(provider)
