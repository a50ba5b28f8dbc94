"""Tells on the terminal what happens, as it happens, from what the provider says of its VMs and operations."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import aclosing
from itertools import zip_longest
from pathlib import Path

import yaml
from rich.console import Console
from watchfiles import awatch

from client.power import PowerClient
from client.words import step_text
from examples.stage import GUESTS
from protos.power.v1 import power_pb2 as pb

PATIENCE = 180
"""Seconds after which four verdicts are not coming any more."""
COLOURS = {"web": "cyan", "legacy": "yellow", "deaf": "magenta", "broken": "blue"}


async def tell_forecast(address: str, console: Console) -> None:
    """Show what a shutdown of each guest would do; `deaf` hears a power button as far as anyone can see."""
    async with PowerClient(address) as provider:
        vms = {vm.name: vm for vm in (await provider.call(pb.ForecastShutdownRequest())).vms}
    console.print("\nforecast, before anything is shut down:")
    for name in GUESTS:
        forecast = vms[name].forecast
        signals = ", then ".join(pb.Signal.Name(signal).removeprefix("SIGNAL_") for signal in forecast.signals)
        how = f"graceful by {signals}" if forecast.graceful else "by force"
        console.print(f"  [{COLOURS[name]}]{name:8}[/] {how}")
    console.print()


async def follow_shutdowns(address: str, recorded: Awaitable[None], console: Console) -> None:
    """Tell the steps of each guest's operation, until the controller has written down all verdicts."""
    started = time.monotonic()
    async with asyncio.timeout(PATIENCE), PowerClient(address) as provider:
        telling = asyncio.create_task(_tell_all(provider, console, started))
        await recorded
        await telling


async def _tell_all(provider: PowerClient, console: Console, started: float) -> None:
    """Follow each VM's operation as soon as there is one."""
    waiting, stories = set(GUESTS), set[asyncio.Task[None]]()
    async with aclosing(provider.stream(pb.WatchVMsRequest())) as events:
        async for event in events:
            vm = event.changed
            if vm.name in waiting and vm.active_operation:
                waiting.discard(vm.name)
                stories.add(asyncio.create_task(_tell(provider, vm, console, started)))
            if not waiting:
                break
    await asyncio.gather(*stories)


async def _tell(provider: PowerClient, vm: pb.VM, console: Console, started: float) -> None:
    told: list[str] = []
    async for operation in provider.watch_operation(vm.active_operation):
        texts = [step_text(step) for step in operation.steps]
        for text in [text for text, before in zip_longest(texts, told) if text and text != before]:
            seconds = time.monotonic() - started
            console.print(f"{seconds:6.1f} s  [{COLOURS[vm.name]}]{vm.name:8}[/] {text}")
        told = texts


async def all_recorded(state: Path) -> None:
    """Wait until the controller's status of each VM has a verdict."""
    changes = awatch(state, step=20, debounce=50, rust_timeout=1000, yield_on_timeout=True)
    while not all(verdict_of(state, name) for name in GUESTS):
        await anext(changes)


def verdict_of(state: Path, name: str) -> dict[str, object] | None:
    """`status.lastPowerOff` as the controller wrote it, or None."""
    for path in state.rglob(f"{name}.yaml"):
        status = yaml.safe_load(path.read_text()).get("status") or {}
        return status.get("lastPowerOff")
    return None
