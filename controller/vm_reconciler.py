"""Reconciles one VM: take in news of its operation, decide, call the provider; and write the status, separately.

No worker is held while an operation runs. Calls and writes have separate queues, so that a slow API server does not
delay a shutdown.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf

from client.errors import ProviderError
from client.power import has_ended
from client.times import duration
from controller import status
from controller.client import ProviderClient
from controller.convert import power_on_request, shutdown_request
from controller.decisions import answer
from controller.events import events
from controller.models import Hook, VirtualMachine
from controller.queue import KeyQueue
from controller.reconcile import (
    Action,
    Attempt,
    Cancel,
    Extend,
    Find,
    Force,
    Nothing,
    PowerOff,
    PowerOn,
    StartShutdown,
    Wait,
    Watch,
    reconcile,
    unheard,
)
from controller.source import Decided, GuestCredentials, Key, SecretUnavailable, Source, key_of
from controller.status_models import VirtualMachineStatus
from protos.power.v1 import power_pb2 as pb

Clock = Callable[[], datetime]


def wall_clock() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)


def _steady() -> timedelta:
    """The time by a clock that does not step."""
    return timedelta(seconds=asyncio.get_running_loop().time())


class VMReconciler:
    """One declared VM. `attend` is called by one worker at a time, and so is `write_down`; in between, the watched
    operation changes `_operation` and queues the VM."""

    def __init__(
        self, resource: VirtualMachine, source: Source, queue: KeyQueue[Key], writing: KeyQueue[Key], clock: Clock
    ) -> None:
        self.resource = resource
        self._key = key_of(resource)
        self._source, self._queue, self._writing, self._clock = source, queue, writing, clock
        self._written = resource.status
        self._operation: pb.Operation | None = None
        self._decisions: dict[Decided, int] = {}  # oldest first, each with the generation that it is about
        self._acknowledgeable: deque[Decided] = deque()
        self._removable = False
        self._attended = False
        self._begun_at: timedelta | None = None
        """When the provider took on our last attempt, by the steady clock."""
        self._ended_at: tuple[str, timedelta] | None = None
        """Our last operation that has ended, and when we learned of that, by the steady clock."""
        self._refreshed = ""
        self._watching: tuple[ProviderClient, str] | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._watch_broke = False

    def apply(self, resource: VirtualMachine) -> None:
        """Use another spec. Its status is ignored: ours is newer."""
        self.resource = resource.model_copy(update={"status": self.resource.status})

    def decide(self, decided: Decided) -> None:
        """Queue a decision; it is carried out once it is known which operation is active. It is about the present spec,
        except at our start: then it may be older than the spec, and is about the last one that was acted upon."""
        resource = self.resource
        about = resource.metadata.generation if self._attended else resource.status.observed_generation
        self._decisions.setdefault(decided, about)

    def close(self) -> None:
        """Stop following the operation; it goes on at its provider."""
        if self._watch_task is not None:
            self._watch_task.cancel()

    async def attend(self, client: ProviderClient | None) -> None:
        """Do what is to be done now.

        Raises:
            ProviderError: the provider would not; it is in the status, and to be tried again.
            SourceError: a secret cannot be read now; likewise.
        """
        trouble = self._trouble(client)
        if trouble or client is None:
            self._report(status.Observation(self._clock(), trouble=trouble))
        elif client.reachable:
            await self._serve(client)

    def _trouble(self, client: ProviderClient | None) -> ProviderError | None:
        if client is None:
            reference = self.resource.spec.provider_ref
            message = f"No Provider {reference.name!r} is declared; declare it or mend spec.providerRef."
            return ProviderError("NOT_FOUND", message, "ProviderNotFound")
        if client.reachable is False:
            return ProviderError("UNAVAILABLE", client.problem, "ProviderUnreachable")
        return None

    async def _serve(self, client: ProviderClient) -> None:
        action, error, vm = None, None, None
        self._attended = True
        await self._take_news(client)
        self._keep_pause()
        try:
            vm = client.cache.find(self.resource.vm_name)
            action = reconcile(self.resource, vm, self._operation, self._clock())
            if await self._apply_decisions(client, action, before=self.resource.metadata.generation):
                action = reconcile(self.resource, vm, self._operation, self._clock())
            await self._act(client, vm, action)
            if await self._apply_decisions(client, action):
                # What the status says after the decision.
                action = reconcile(self.resource, vm, self._operation, self._clock())
        except ProviderError as refused:
            error = self._unless_it_ended(client, refused)
        self._watch_active(client, action)
        if error is None or not error.passing:
            self._removable = self.resource.metadata.leaving and self._is_down(vm, action)
            self._report(status.Observation(self._clock(), vm, self._operation, action, error))
        if error is not None:
            raise error
        if isinstance(action, Wait):
            self._queue.add_after(self._key, (action.until - self._clock()).total_seconds())

    def _is_down(self, vm: pb.VM | None, action: Action | None) -> bool:
        off = vm is None or vm.power_state == pb.POWER_STATE_OFF
        return off and isinstance(action, Nothing | Find) and (self._operation is None or has_ended(self._operation))

    async def _apply_decisions(self, client: ProviderClient, action: Action, before: float = inf) -> bool:
        """Carry out the decisions that were made about generations before `before`; whether there were any. A decision
        about the last spec does not concern the operation that this spec begins."""
        if unheard(action, self._operation):
            return False
        due = [decided for decided, generation in self._decisions.items() if generation < before]
        for decided in due:
            event, operation = await answer(client, self._operation, decided)
            del self._decisions[decided]
            self._acknowledgeable.append(decided)
            if operation is not None and operation is not self._operation:
                self._take_result(operation)
            await self._source.emit_event(self._key, event)
        return bool(due)

    def _unless_it_ended(self, client: ProviderClient, error: ProviderError) -> ProviderError | None:
        """None where the refusal needs no retry: the operation has just ended, or another is active and is followed."""
        if error.reason == "OPERATION_ACTIVE":
            self._watch(client, error.metadata.get("operation_id", ""))
        return None if error.reason in {"OPERATION_ACTIVE", "OPERATION_ENDED"} else error

    def _watch_active(self, client: ProviderClient, action: Action | None) -> None:
        if isinstance(action, Watch):
            self._watch(client, action.id)
        elif self._operation is not None and not has_ended(self._operation):
            self._watch(client, self._operation.id)

    def _watch(self, client: ProviderClient, operation: str) -> None:
        listening = self._watch_task is not None and not self._watch_task.done()
        if self._watching != (client, operation) or not listening:
            self.close()
            self._watching = (client, operation)
            self._watch_task = asyncio.create_task(self._listen(client, operation))

    async def _listen(self, client: ProviderClient, operation: str) -> None:
        try:
            async for news in client.stream(pb.WatchOperationRequest(id=operation)):
                self._operation = news
                self._queue.add(self._key)
        except ProviderError as error:
            self._watch_broke = True
            if error.reason == "OPERATION_NOT_FOUND":
                self._forget(operation)
        if self._operation is None or not has_ended(self._operation):
            self._queue.retry(self._key)

    def _forget(self, operation: str) -> None:
        self._set_status(status.lost(self.resource.status, operation))
        if self._operation is not None and self._operation.id == operation:
            self._operation = None

    async def _take_news(self, client: ProviderClient) -> None:
        operation = self._operation
        if operation is None:
            return
        if has_ended(operation) and operation.id != self._refreshed:
            self._refreshed = operation.id
            with suppress(ProviderError):  # the watch of all VMs will tell
                await client.refresh(operation.vm)
        self._set_status(status.recognised(self.resource, operation))
        self._set_status(status.heard(self.resource.status, operation, self._clock()))

    def _keep_pause(self) -> None:
        """A pause between attempts neither ends nor grows because somebody sets this machine's clock."""
        record, now = self.resource.status.operation, self._clock()
        if record is None or not record.ended:
            return
        if self._ended_at is None or self._ended_at[0] != record.id:
            ago = now - (record.observed_end_time or now)  # by the clock of an earlier process, perhaps elsewhere
            self._ended_at = record.id, _steady() - max(ago, timedelta(0))
        self._set_status(status.end_observed(self.resource.status, _steady() - self._ended_at[1], now))

    async def _act(self, client: ProviderClient, vm: pb.VM | None, action: Action) -> None:
        lifecycle = self.resource.spec.lifecycle
        vm_id = vm.id if vm else self._operation.vm if self._operation else ""
        match action:
            case Find(attempt):
                found = await client.find_operation(vm_id, attempt.request_id)
                if found is not None:
                    self._begun(found, attempt)
            case PowerOn(attempt):
                login = await self._login(lifecycle.post_start)
                request = power_on_request(vm_id, lifecycle, attempt.request_id, login)
                self._begun(await client.call(request), attempt)
            case PowerOff(attempt):
                self._begun(await client.call(pb.PowerOffRequest(vm=vm_id, request_id=attempt.request_id)), attempt)
            case StartShutdown(attempt, force_after):
                login = await self._login(lifecycle.pre_stop)
                shutdown = shutdown_request(vm_id, lifecycle, attempt.request_id, force_after, login)
                self._begun(await client.call(shutdown), attempt)
            case Extend(operation, timeout):
                extended = await client.call(pb.ExtendOperationRequest(id=operation, timeout=duration(timeout)))
                self._set_status(status.carried_over(self.resource, extended, timeout))
                self._take_result(extended)
            case Force(operation):
                self._take_result(await client.call(pb.ForceOperationRequest(id=operation)))
            case Cancel(operation):
                self._take_result(await client.call(pb.CancelOperationRequest(id=operation)))
            case Watch() if self._operation is not None:
                await self._resend_credentials(client, self._operation)
                self._set_status(status.carried_over(self.resource, self._operation))

    async def _resend_credentials(self, client: ProviderClient, operation: pb.Operation) -> None:
        """After a lost connection, send our request again with the guest's credentials: the provider keeps them in
        memory only, and if it was restarted its hooks would fail without. The same request_id starts nothing new."""
        lifecycle = self.resource.spec.lifecycle
        if not self._watch_broke or not self.resource.status.record_of(operation.id):
            return
        if operation.kind == pb.OPERATION_KIND_SHUTDOWN and (login := await self._login(lifecycle.pre_stop)):
            force_after = status.force_after(operation)
            await client.call(shutdown_request(operation.vm, lifecycle, operation.request_id, force_after, login))
        if operation.kind == pb.OPERATION_KIND_POWER_ON and (login := await self._login(lifecycle.post_start)):
            await client.call(power_on_request(operation.vm, lifecycle, operation.request_id, login))
        self._watch_broke = False

    async def _login(self, hooks: Sequence[Hook]) -> GuestCredentials | None:
        """The guest's credentials, read anew at each use."""
        reference = self.resource.spec.lifecycle.guest_credentials_secret_ref
        if reference is None or not any(hook.exec for hook in hooks):
            return None
        try:
            return await self._source.guest_credentials(self._key.namespace, reference.name)
        except SecretUnavailable as error:
            raise ProviderError("FAILED_PRECONDITION", str(error), "GuestCredentialsUnavailable") from error

    def _begun(self, operation: pb.Operation, attempt: Attempt) -> None:
        timeout = self.resource.spec.lifecycle.graceful_shutdown_timeout
        self._begun_at = _steady()
        self._set_status(status.started(self.resource, operation, attempt, timeout))
        self._take_result(operation)

    def _take_result(self, operation: pb.Operation) -> None:
        """Take in an operation that a call returned; one that has ended is reconciled again at once."""
        self._operation = operation
        self._set_status(status.heard(self.resource.status, operation, self._clock()))
        if has_ended(operation):
            self._queue.add(self._key)

    def _set_status(self, known: VirtualMachineStatus) -> None:
        self.resource = self.resource.model_copy(update={"status": known})

    def _report(self, seen: status.Observation) -> None:
        self._set_status(status.report(self.resource, seen))
        if self._acknowledgeable or self._removable or status.is_news(self._written, self.resource.status):
            self._writing.add(self._key)

    async def write_down(self) -> None:
        """Write the status if it has changed, emit its events, then acknowledge decisions and remove the finalizer.

        Raises:
            SourceError: it could not be written; to be tried again.
            ResourceGone: there is nothing to write it to any more.
        """
        if not await self._write_status():
            return
        while self._acknowledgeable:
            await self._source.acknowledge(self._acknowledgeable[0])
            self._acknowledgeable.popleft()
        if self._removable:
            await self._source.remove_finalizer(self._key)

    async def _write_status(self) -> bool:
        """Whether it is as it should be; False: its write waits a moment for more news."""
        old, new = self._written, self.resource.status
        if not status.is_news(old, new):
            return True
        if self._begun_at is not None and status.just_begun(new, _steady() - self._begun_at):
            self._writing.add_within(self._key, status.MOMENT.total_seconds())
            return False
        await self._source.write_status(self._key, new)
        self._written = new
        for event in events(old, new):
            await self._source.emit_event(self._key, event)
        return True
