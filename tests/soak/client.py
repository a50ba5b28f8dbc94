"""Random clients: each wishes something of a VM, changes its mind, and writes down its calls and what it was told."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import grpc.aio

from client.errors import ProviderError, translated
from client.words import short
from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from tests.bench.client import duration as seconds
from tests.soak.history import ABANDONED, FINAL, Active, Call, History, Told, now

PATIENCE = 20.0
"""Seconds a call may take."""
TIMEOUTS = (0.5, 1, 1, 2, 3, 5, 8)
WISHES = {"Shutdown": 8, "Reboot": 2, "PowerOff": 1, "PowerOn": 2}


class Clients:
    """Everybody who talks to one provider. `on_sent` is called as soon as a request that begins something is sent;
    with `saves` some ask for memory to be saved."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        history: History,
        seed: str,
        url: str,
        on_sent: Callable[[], object],
        *,
        saves: bool = False,
    ) -> None:
        self._stub = PowerServiceStub(channel)
        self._history, self._seed, self._url, self._on_sent = history, seed, url, on_sent
        self._saves = saves
        self._numbers = itertools.count(1)
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._steps: dict[str, int] = {}
        self.tokens: list[str] = []

    async def own(self, vm: str) -> None:
        """Wish one thing after the other of one VM, for ever."""
        rng = Random(f"{self._seed} owner of {vm}")
        while True:
            await asyncio.sleep(rng.uniform(0, 1.5))
            wish = rng.choices(list(WISHES), list(WISHES.values()))[0]
            if wish != "PowerOn" and rng.random() < 0.8 and await self._is_down(vm):
                wish = "PowerOn"
            if not (operation := await self.begin(wish, vm, rng)):
                continue
            if rng.random() < 0.6:
                await asyncio.sleep(rng.uniform(0, 4))
                await self.decide(operation, vm, rng)
            if rng.random() < 0.8:
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(self._watching[operation]), rng.uniform(5, 15))

    async def visit(self, vms: list[str]) -> None:
        """Meddle with what others have begun, for ever."""
        rng = Random(f"{self._seed} visitor")
        while True:
            await asyncio.sleep(rng.uniform(0, 1))
            vm = rng.choice(vms)
            for operation in await self.active(vm):
                if rng.random() < 0.3:
                    await self.decide(operation, vm, rng)
            if rng.random() < 0.15:
                await self.begin(rng.choice(["PowerOn", "PowerOff", "Shutdown"]), vm, rng)

    async def begin(self, method: str, vm: str, rng: Random) -> str:
        """Send one request until it is answered; the id of what it began, or "" if it was refused."""
        request_id = f"{method}-{vm}-{next(self._numbers)}"
        request: Any = getattr(pb, f"{method}Request")(vm=vm, request_id=request_id)
        noted: dict[str, Any] = {"request_id": request_id}
        if method in ("Shutdown", "Reboot"):
            timeout = rng.choice(TIMEOUTS)
            save = 5 if self._saves and method == "Shutdown" else 0
            escalation = rng.choices(["FORCE", "NEVER", "ASK", "SAVE"], [6, 2, 2, save])[0]
            request.timeout.CopyFrom(seconds(timeout))
            request.escalation = pb.Escalation.Value(f"ESCALATION_{escalation}")
            noted |= {"timeout": timeout, "escalation": escalation}
            if escalation == "SAVE":
                noted["fallback"] = rng.choice(["FORCE", "NEVER"])
                request.save_fallback = pb.Escalation.Value(f"ESCALATION_{noted['fallback']}")
        if method in ("Shutdown", "PowerOn") and rng.random() < 0.35:
            token = f"hook-{request_id}"
            self.tokens.append(token)
            (request.pre_stop if method == "Shutdown" else request.post_start).append(self._hook(token, rng))
            noted["hooks"] = (token,)
        if method == "Shutdown" and rng.random() < 0.4:
            request.signal_policy.resend_interval.CopyFrom(seconds(rng.choice([0, 1, 2])))
        for _ in range(rng.randint(1, 8)):
            call, answer = await self.call(method, request, vm, **noted)
            if answer is not None:
                self.follow(answer.id)
                return str(answer.id)
            if not call.unknown:
                return ""
            await asyncio.sleep(rng.uniform(0, 1.5))
        return ""

    async def decide(self, operation: str, vm: str, rng: Random) -> None:
        """Decide about an operation, whatever it is and wherever it stands."""
        method = rng.choice(["ExtendOperation", "ForceOperation", "CancelOperation"])
        request: Any = getattr(pb, f"{method}Request")(id=operation)
        noted: dict[str, Any] = {"operation": operation}
        if method == "ExtendOperation":
            noted["extension"] = rng.choice([1, 2, 5])
            request.extension.CopyFrom(seconds(noted["extension"]))
        await self.call(method, request, vm, **noted)

    async def active(self, vm: str) -> list[str]:
        """The ids of the operations that are told as active on it."""
        request = pb.ListOperationsRequest(vm=vm, active_only=True)
        try:
            page = await self._stub.ListOperations(request, timeout=PATIENCE)
        except grpc.aio.AioRpcError:
            return []
        told = tuple((each.id, short(pb.OperationKind, each.kind)) for each in page.operations)
        self._history.add(Active(now(), vm, told))
        return [operation for operation, _ in told]

    async def call(self, method: str, request: Any, vm: str, **noted: Any) -> tuple[Call, Any]:
        """One call, written down with its answer, which is None if it was an error."""
        sent, code, reason, answer = now(), ABANDONED, "", None  # which it is if we are cancelled
        try:
            with translated():
                calling = getattr(self._stub, method)(request, timeout=PATIENCE)
                if "request_id" in noted:
                    self._on_sent()
                answer, code = await calling, "OK"
                noted["operation"] = answer.id
                self._note(answer, now() if answer.HasField("verdict") else sent)
        except ProviderError as error:
            code, reason = error.code, error.reason if error.explained else ""
        finally:
            call = Call(sent, now(), method, vm, code, reason, **noted)
            self._history.add(call)
        return call, answer

    def follow(self, operation: str) -> None:
        """Write down all that is told of it from now on."""
        if operation not in self._watching:
            self._watching[operation] = asyncio.create_task(self._watch(operation))

    async def read_all(self) -> None:
        """Read each operation there is, one by one and in pages."""
        for operation in list(self._watching):
            with suppress(grpc.aio.AioRpcError):
                sent = now()
                answer = await self._stub.GetOperation(pb.GetOperationRequest(id=operation), timeout=PATIENCE)
                self._note(answer, sent)
        request = pb.ListOperationsRequest(page_size=50)
        while True:
            sent = now()
            page = await self._stub.ListOperations(request, timeout=PATIENCE)
            for operation_ in page.operations:
                self._note(operation_, sent)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def settle(self, rng: Random) -> bool:
        """Decide about what awaits a decision; whether nothing is active."""
        try:
            page = await self._stub.ListOperations(pb.ListOperationsRequest(active_only=True), timeout=PATIENCE)
        except grpc.aio.AioRpcError:
            return False
        for operation in page.operations:
            self.follow(operation.id)
            if operation.state == pb.OPERATION_STATE_AWAITING_DECISION:
                method = rng.choice(["ForceOperation", "CancelOperation"])
                request = getattr(pb, f"{method}Request")(id=operation.id)
                await self.call(method, request, operation.vm_name, operation=operation.id)
        return not page.operations

    async def stop(self) -> None:
        for task in self._watching.values():
            task.cancel()
        await asyncio.gather(*self._watching.values(), return_exceptions=True)

    async def _is_down(self, vm: str) -> bool:
        try:
            seen = await self._stub.GetVM(pb.GetVMRequest(vm=vm), timeout=PATIENCE)
        except grpc.aio.AioRpcError:
            return False
        return seen.power_state in (pb.POWER_STATE_OFF, pb.POWER_STATE_SUSPENDED)

    async def _watch(self, operation: str) -> None:
        request = pb.WatchOperationRequest(id=operation)
        while True:
            try:
                async for seen in self._stub.WatchOperation(request, wait_for_ready=True):
                    if self._note(seen, now()).state in FINAL:
                        return
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return
            await asyncio.sleep(0.1)

    def _note(self, operation: pb.Operation, at: float) -> Told:
        verdict = operation.verdict
        ended = operation.HasField("verdict")
        parts = (verdict.SerializeToString(deterministic=True), operation.error.SerializeToString(deterministic=True))
        known = self._steps.get(operation.id, 0)
        self._steps[operation.id] = max(known, len(operation.steps))
        told = Told(
            at=at,
            operation=operation.id,
            vm=operation.vm_name,
            kind=short(pb.OperationKind, operation.kind),
            state=short(pb.OperationState, operation.state),
            request_id=operation.request_id,
            outcome=short(pb.Outcome, verdict.outcome),
            reason=short(pb.Reason, verdict.reason),
            signal=short(pb.Signal, verdict.signal),
            message=verdict.message,
            hooks=tuple((hook.name, short(pb.HookState, hook.state)) for hook in verdict.hooks),
            steps=tuple(step.message for step in operation.steps[known:]),
            ending=f"{operation.state} {b' '.join(parts).hex()}" if ended else "",
        )
        self._history.add(told)
        return told

    def _hook(self, token: str, rng: Random) -> pb.Hook:
        hook = pb.Hook(name=token, timeout=seconds(5))
        if rng.random() < 0.5:
            hook.exec.command.extend(["sh", "-c", f"echo {token} > /dev/console"])
        else:
            hook.http_get.url = f"{self._url}/{token}"
        return hook
