"""Fifty VirtualMachines on a real API, edited from all sides at once, and what became of them."""

import asyncio
import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from protos.power.v1 import power_pb2 as pb
from providers.sim import control
from providers.sim.guest import Guest, next_change, power_state
from providers.sim.world import World
from tests.e2e.kubernetes.edits import LIFECYCLE, NAMES, Edit, escalate
from tests.rigs.kubernetes.fleet import Fleet, fleet
from tests.rigs.kubernetes.lab import Lab
from tests.rigs.kubernetes.resources import LINES, Object

SPEC: Object = {"providerRef": {"name": "lab"}, "powerState": "On", "lifecycle": LIFECYCLE}
DECISION = "vmpower/decision"
LINE = 1 << 20
"""Bytes that kubectl may print of one machine."""
PATIENCE = 1.0
"""Seconds in which the news that an edit waits for come, or not."""
SETTLES_WITHIN = 60.0
"""Seconds from the last edit until every machine is as it should be."""


@dataclass(frozen=True)
class Written:
    """A spec that somebody wrote, and when it was sent, in seconds since 1970."""

    generation: int
    spec: Object
    sent: float


@dataclass
class History:
    """All rounds. Of each: how every machine should end, how its provider has it then, and what its status says."""

    edits: int = 0
    specs: defaultdict[str, list[Written]] = field(default_factory=lambda: defaultdict(list))
    wanted: list[dict[str, str]] = field(default_factory=list)
    reached: list[dict[str, str]] = field(default_factory=list)
    told: list[dict[str, str]] = field(default_factory=list)


class Crowd:
    """The machines of one namespace and one sim, as kubectl shows them."""

    def __init__(self, machines: Fleet, lab: Lab, history: History) -> None:
        self._fleet, self._lab, self._history = machines, lab, history
        self._world = lab.provider.folder / "world.db"
        self._objects: dict[str, Object] = {}
        self._heard = Counter[str]()
        self._news = asyncio.Condition()

    async def create(self) -> None:
        """Declare all of them."""
        for name in NAMES:
            self._history.specs[name].append(Written(1, SPEC, time.time()))
        await self._fleet.create(NAMES, SPEC)

    async def round(self, visits: Mapping[str, Sequence[Edit]], ending: Mapping[str, str], timeout: str) -> None:
        """Make the edits, of all machines at once, then want an end of each that can be reached, and wait for it.

        Raises:
            TimeoutError: one of them is not there in time; the message has it.
        """
        await asyncio.gather(*(self._visit(name, edits) for name, edits in visits.items()))
        await asyncio.gather(*(self._end(name, power_state, timeout) for name, power_state in ending.items()))
        wanted = {name: "ON" if power_state == "On" else "OFF" for name, power_state in ending.items()}
        await self._wait_settled(wanted)
        self._history.edits += sum(map(len, visits.values()))
        self._history.wanted.append(wanted)
        self._history.reached.append(self._reached())
        self._history.told.append({name: self._objects[name]["status"]["powerState"].upper() for name in NAMES})

    async def follow(self) -> None:
        """Take in what kubectl tells, until cancelled. The API may end a watch at any time, one whose reader is slow
        for one, and kubectl ends with it: then it is started again."""
        while True:
            print(f"kubectl's watch ended, exit code {await self._follow_once()}")

    async def _follow_once(self) -> int:
        command = ("kubectl", "get", "vm", "--namespace", self._lab.namespace, "--watch", "--output", LINES)
        environment, pipe = self._lab.cluster.environment, asyncio.subprocess.PIPE
        kubectl = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, limit=LINE)
        assert kubectl.stdout is not None
        try:
            async for line in kubectl.stdout:
                if (told := json.loads(line))["kind"] == "VirtualMachine":  # while there is none, it is an empty List
                    await self._hear(told)
            return await kubectl.wait()
        finally:
            if kubectl.returncode is None:
                kubectl.kill()
            await kubectl.wait()

    async def _hear(self, machine: Object) -> None:
        name = machine["metadata"]["name"]
        async with self._news:
            self._objects[name] = machine
            self._heard.update((name, ""))
            self._news.notify_all()

    async def _visit(self, name: str, edits: Sequence[Edit]) -> None:
        for edit in edits:
            await self._make(name, edit)
            await self._wait_news(edit.news, name)

    async def _make(self, name: str, edit: Edit) -> None:
        match edit.do:
            case "spec":
                await self._write(name, {"spec": edit.what})
            case "decision":
                await self._write(name, {"metadata": {"annotations": {DECISION: edit.what}}})
            case "control":
                self._reach_in(name, edit.what)

    async def _end(self, name: str, power_state: str, timeout: str) -> None:
        if self._lab.guest(name).saved_at is None:  # On resumes what an operation has saved
            self._reach_in(name, "resume")  # a paused one counts as on, and is left to whoever paused it
        lifecycle = {"gracefulShutdownTimeout": timeout, **escalate("Force")}
        await self._write(name, {"spec": {"powerState": power_state, "lifecycle": lifecycle}})

    async def _write(self, name: str, patch: Mapping[str, Any]) -> None:
        sent, made = await self._fleet.write(name, patch)
        known, generation = self._history.specs[name], made["metadata"]["generation"]
        if known[-1].generation != generation:
            known.append(Written(generation, made["spec"], sent))

    def _reach_in(self, name: str, verb: str) -> None:
        with contextlib.suppress(SystemExit):  # what is not paused cannot be resumed: the colleague sees that too
            control.main(["--world", str(self._world), verb, name])

    async def _wait_news(self, count: int, name: str = "") -> None:
        enough = self._heard[name] + count
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE), self._news:
                await self._news.wait_for(lambda: self._heard[name] >= enough)

    async def _wait_settled(self, wanted: Mapping[str, str]) -> None:
        try:
            async with asyncio.timeout(SETTLES_WITHIN):
                while not self._are_settled(wanted):
                    await self._wait_news(1)
        except TimeoutError:
            raise TimeoutError(self._restless(wanted)) from None

    def _are_settled(self, wanted: Mapping[str, str]) -> bool:
        """Also behind the API's back: nobody is on the way to where it is not wanted."""
        return not self._astray(wanted) and all(map(self._is_settled, NAMES))

    def _astray(self, wanted: Mapping[str, str]) -> dict[str, Guest]:
        """By name, the guests that are not where they are wanted, or do not stay there."""
        with contextlib.closing(World(self._world)) as world:
            now, guests = world.now(), world.guests()
        astray = (each for each in guests if power_state(each, now) != wanted[each.name] or next_change(each, now))
        return {guest.name: guest for guest in astray}

    def _restless(self, wanted: Mapping[str, str]) -> str:
        """Of each machine that is not as it should be: guest, object and last operations."""
        guests = self._astray(wanted)
        names = [name for name in NAMES if name in guests or not self._is_settled(name)]
        told = (
            f"{name}, wanted {wanted[name]}: {guests.get(name)}\n{self._objects.get(name)}\n"
            f"its last operations: {self._lab.operations(name)[:2]}"
            for name in names
        )
        return "\n\n".join((*told, self._lab.controller.output()))

    def _is_settled(self, name: str) -> bool:
        machine = self._objects.get(name)
        return machine is not None and _is_settled(machine, self._history.specs[name][-1].generation)

    def _reached(self) -> dict[str, str]:
        found = self._lab.calls.stub.ListVMs(pb.ListVMsRequest()).vms
        return {vm.name: pb.PowerState.Name(vm.power_state).removeprefix("POWER_STATE_") for vm in found}


def _is_settled(machine: Object, generation: int) -> bool:
    """Whether it is as the spec wants it, and nobody's decision is left."""
    meta, status = machine["metadata"], machine.get("status", {})
    ready = {
        one["observedGeneration"]
        for one in status.get("conditions", ())
        if one["type"] == "Ready" and one["status"] == "True"
    }
    seen = {meta["generation"], status.get("observedGeneration"), *ready}
    return bool(ready) and seen == {generation} and DECISION not in meta.get("annotations", {})


@contextlib.asynccontextmanager
async def crowd(lab: Lab, history: History) -> AsyncIterator[Crowd]:
    """The machines, for as long as they are looked at."""
    async with fleet(lab.cluster.kubeconfig, lab.namespace) as machines:
        watched = Crowd(machines, lab, history)
        following = asyncio.create_task(watched.follow())
        try:
            yield watched
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
