"""Random requests to a real provider of the sim, and what must hold whatever they are.

Each is answered, with OK or with a code and an ErrorInfo; none is a bug; the provider goes on, and serves; and guests
that no request named were never touched.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from protos.power.v1 import power_pb2 as pb
from tests.fuzz.messages import Maker
from tests.rigs.calls import calls
from tests.rigs.process import SERVICE, Provider
from tests.rigs.sim import control

TARGETS = [f"target-{number}" for number in range(6)]
SCRIPT = """
guests:
  target-0: {shutdown_time: 100ms}
  target-1: {agent: none, acpi: ignores}
  target-2: {agent: none, hooks: [{takes: 100ms}]}
  target-3: {power: "off"}
  target-4: {power: paused}
  target-5: {locked: a backup}
  bystander: {}
  spare: {power: "off"}
"""
UNTOUCHED = {"bystander": pb.POWER_STATE_ON, "spare": pb.POWER_STATE_OFF}
METHODS = pb.DESCRIPTOR.services_by_name["PowerService"].methods
AT_ONCE = 20
PATIENCE = 30.0
"""Seconds for one answer; what is asked takes milliseconds."""
BUGS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


@dataclass
class Found:
    """What came back: how often each code, and what must not be, with the request that did it."""

    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@contextmanager
def provider(folder: Path) -> Iterator[Provider]:
    """One with guests that requests may name, and guests that none does."""
    (script := folder / "script.yaml").write_text(SCRIPT)
    with Provider("sim", "--script", str(script), "--world", str(folder / "world.db"), "--allow-guest-exec") as running:
        yield running


async def fuzz(address: str, requests: int, seed: int) -> Found:
    """Send so many requests, AT_ONCE at a time."""
    found, maker, left = Found(), Maker(seed, TARGETS), iter(range(requests))
    async with grpc.aio.insecure_channel(address) as channel:

        async def send() -> None:
            for number in left:
                method = METHODS[number % len(METHODS)]
                await _call(channel, method.name, method.server_streaming, maker.request(method), maker, found)

        await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    return found


async def _call(channel: grpc.aio.Channel, name: str, streams: bool, data: bytes, maker: Maker, found: Found) -> None:
    try:
        answer = await _answer(channel, f"/{SERVICE}/{name}", streams, data)
    except grpc.aio.AioRpcError as error:
        found.codes[error.code().name] += 1
        if why := wrong(error):
            found.wrong.append(f"{name} {data.hex()[:2_000]}: {why}")
    else:
        found.codes["OK"] += 1
        if name in {"PowerOn", "PowerOff", "Shutdown", "Reboot"}:
            maker.heard_of(pb.Operation.FromString(answer).id)


async def _answer(channel: Any, path: str, streams: bool, data: bytes) -> bytes:
    """The answer, of a stream the first."""
    if not streams:
        return bytes(await channel.unary_unary(path)(data, timeout=PATIENCE))
    call = channel.unary_stream(path)(data, timeout=PATIENCE)
    async for answer in call:
        call.cancel()
        return bytes(answer)
    return b""


def wrong(error: grpc.aio.AioRpcError) -> str:
    """What is not as the contract says of errors, or ""."""
    code, info = error.code(), ErrorInfo()
    if code in BUGS:
        return f"{code.name}: {error.details()}"
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all that is read
        for detail in status.details if status else ():
            detail.Unpack(info)
    except (ValueError, DecodeError) as damaged:
        return f"{code.name}: {damaged}"
    return "" if info.reason and info.domain == "vmpower" else f"{code.name} without ErrorInfo: {error.details()}"


def harm(running: Provider, folder: Path) -> list[str]:
    """What the requests did to the provider, and to guests that they did not name."""
    if not running.runs():
        return ["the provider has ended"]
    found = [line for line in running.output().splitlines() if "a bug in vmpower" in line][:3]
    with calls(running.address) as client:
        changed = [name for name, power in UNTOUCHED.items() if client.vm(name).power_state != power]
        found += [f"{name} is not as it was" for name in changed]
        found += [f"{name} has operations" for name in UNTOUCHED if _operations(client.stub, name)]
        done = client.end(client.stub.PowerOff(pb.PowerOffRequest(vm="target-0")), 20)
    if done.verdict.outcome not in {pb.OUTCOME_FORCED, pb.OUTCOME_ALREADY_OFF}:
        found.append(f"a PowerOff afterwards: {done.verdict}")
    world = folder / "world.db"
    return found + [f"{name} was called: {made}" for name in UNTOUCHED if (made := _calls_made(world, name))]


def _operations(stub: object, name: str) -> bool:
    return bool(stub.ListOperations(pb.ListOperationsRequest(vm=name)).operations)  # type: ignore[attr-defined]


def _calls_made(world: Path, name: str) -> dict[str, int]:
    """Calls that a hypervisor does something by; reading is none."""
    made: dict[str, int] = json.loads(control(world, "show", name)).get("calls", {})
    return {call: count for call, count in made.items() if count and call not in {"get", "poll"}}
