"""Reconciles one VM: take in news of its operation, decide, call the provider; and write the status, separately.

No worker is held while an operation runs. Calls and writes have separate queues, so that a slow API server does not
delay a shutdown.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf

import structlog

from client.errors import ProviderError
from client.power import SHUTDOWNS, AskingRequest, has_ended
from client.times import duration
from controller import status
from controller.access import refusal, serves
from controller.binding import Obstacle, Place, hypervisor_of, resolve, undeclared
from controller.client import ProviderClient
from controller.convert import power_on_request, shutdown_request
from controller.decisions import answer
from controller.enums import DesiredPower
from controller.events import drift, ended_operation, events
from controller.followed_operation import LOOKED_AT, FollowedOperation
from controller.models import Hook, VirtualMachine
from controller.owners import Owners
from controller.pool import Connection
from controller.queue import KeyQueue
from controller.reconcile import (
    Action,
    Attempt,
    Cancel,
    Extend,
    Force,
    Held,
    Nothing,
    PowerOff,
    PowerOn,
    Start,
    StartShutdown,
    Wait,
    Watch,
    has_drifted,
    is_as_wanted,
    reconcile,
    requester,
    unheard,
)
from controller.refusals import in_manifest
from controller.source import (
    Decided,
    Event,
    GuestCredentials,
    Key,
    Rejected,
    ResourceGone,
    SecretUnavailable,
    Source,
    key_of,
    resource_name,
)
from controller.status_models import Binding, VirtualMachineStatus
from controller.vm_conditions import Observation
from protos.power.v1 import power_pb2 as pb

Clock = Callable[[], datetime]
log = structlog.get_logger()


def wall_clock() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)


def _steady() -> timedelta:
    """The time by a clock that does not step."""
    return timedelta(seconds=asyncio.get_running_loop().time())


class VMReconciler:
    """One declared VM. `attend` is called by one worker at a time, and so is `write_down`; in between, the followed
    operation changes and queues the VM."""

    def __init__(
        self,
        resource: VirtualMachine,
        source: Source,
        queue: KeyQueue[Key],
        writing: KeyQueue[Key],
        *,
        owners: Owners,
        clock: Clock,
        labels: Callable[[], Mapping[str, str]] = dict,
        holder: Callable[[str, str], str] = lambda provider, vm: "",
        saver: Callable[[str, str], str] = lambda provider, vm: "",
    ) -> None:
        """`labels` are those of the resource's namespace; `holder` tells which run of a plan holds a VM, which is given
        by its Provider, as NAMESPACE/NAME, and its id; empty: none. `saver` tells by which operation that run has saved
        it."""
        self.resource = resource
        """The one that is acted upon, with our own status."""
        self._declared = resource
        """The latest; it is acted upon from the next turn on."""
        self._key = key_of(resource)
        self._source, self._queue, self._writing, self._clock = source, queue, writing, clock
        self._owners, self._labels, self._holder = owners, labels, holder
        self._saver = saver
        self._written = resource.status
        self._followed = FollowedOperation(
            news=partial(queue.add, self._key), lost=self._forget, broke=partial(queue.retry, self._key)
        )
        self._decisions: dict[Decided, int] = {}  # oldest first, each with the generation that it is about
        self._acknowledgeable: deque[Decided] = deque()
        self._untold: list[Event] = []
        """Events that the difference of two written statuses does not show."""
        self._rejection: Rejected | None = None
        """A later spec that cannot be acted upon."""
        self._removable = False
        self._attended = False
        self._power: pb.PowerState.ValueType | None = None
        """As it was when we last saw the VM."""
        self._begun_at: timedelta | None = None
        """When the provider took on our last attempt, by the steady clock."""
        self._ended_at: tuple[str, timedelta] | None = None
        """Our last operation that has ended, and when we learned of that, by the steady clock."""
        self._refreshed = ""

    @property
    def _operation(self) -> pb.Operation | None:
        return self._followed.latest

    @property
    def declared(self) -> VirtualMachine:
        """The latest spec, with our own status."""
        return self._declared.model_copy(update={"status": self.resource.status})

    def apply(self, resource: VirtualMachine) -> None:
        """Use another spec from the next turn on: what is asked for now is the work of the one before, and is written
        down as such. Its status is ignored: ours is newer."""
        self._rejection = None
        self._declared = resource

    def reject(self, change: Rejected) -> None:
        """A later spec cannot be acted upon; the one before it stays in effect."""
        self._rejection = change
        self._report_rejection()
        self._write_news()

    def decide(self, decided: Decided) -> None:
        """Queue a decision; it is carried out once it is known which operation is active. It is about the present spec,
        except at our start: then it may be older than the spec, and is about the last one that was acted upon."""
        seen = self.resource.status.observed_generation
        about = self._declared.metadata.generation if self._attended else seen
        self._decisions.setdefault(decided, about)

    def close(self) -> None:
        """Stop following the operation; it goes on at its provider."""
        self._followed.close()

    async def depart(self, client: ProviderClient | None) -> None:
        """The resource is gone, and its owner does not want the VM brought down: give its shutdown up, and leave a
        status that claims nothing which nobody sees to any more. Without a client only that.

        Raises:
            ProviderError: the provider cannot be asked now; to be tried again.
            SourceError: the status could not be written; to be tried again.
        """
        if client is not None:
            await self._give_up(client)
        self.close()
        self._set_status(status.departed(self.resource.status, self._clock()))
        with suppress(ResourceGone):
            await self._source.write_status(self._key, self.resource.status)
        self._written = self.resource.status

    async def _give_up(self, client: ProviderClient) -> None:
        record = self.resource.status.operation
        operation = record.id if record and record.kind in SHUTDOWNS and not record.ended else ""
        if not operation:
            return
        try:
            request = pb.CancelOperationRequest(id=operation)
            told = await client.ask(request, resource_name(self._key, "deleted"))
        except ProviderError as error:
            if error.passing:
                raise
            log.warning("not given up", resource=str(self._key), operation=operation, error=error.message)
            return
        self._followed.latest = told
        self._set_status(status.given_up(self.resource.status, told, self._clock()))
        log.info("its resource was deleted: given up", resource=str(self._key), operation=told.id)

    async def attend(self, connection: Connection | None) -> None:
        """Do what is to be done now.

        Raises:
            ProviderError: the provider would not; it is in the status, and to be tried again.
            SourceError: a secret cannot be read now; likewise.
        """
        self.resource = self._declared.model_copy(update={"status": self.resource.status})
        trouble = self._trouble(connection.client if connection else None)
        if connection and not serves(connection.provider, self._key.namespace, self._labels()):
            obstacle = self._refusal(connection, None)
            if obstacle is not None:
                self._owners.abandon(self._key)
                await self._stay_away(connection.client, obstacle)
        elif trouble or connection is None:
            self._removable = self.resource.metadata.leaving and self.resource.status.vm is None
            self._report(Observation(self._clock(), trouble=trouble))
        elif connection.client.reachable:
            await self._serve(connection)

    def _trouble(self, client: ProviderClient | None) -> ProviderError | None:
        if client is None:
            return ProviderError("NOT_FOUND", undeclared(self.resource), "ProviderNotFound")
        if client.reachable is False:
            reason = "HypervisorUnreachable" if client.hypervisor_problem else client.reason
            return ProviderError("UNAVAILABLE", client.problem, reason)
        return None

    async def _serve(self, connection: Connection) -> None:
        self._attended = True
        await self._take_news(connection.client)
        self._keep_pause()
        obstacle = self._bind(connection)
        if obstacle is None:
            await self._work(connection.client)
        else:
            await self._stay_away(connection.client, obstacle)

    async def _work(self, client: ProviderClient) -> None:
        action, error, vm = None, None, self._vm(client)
        self._adopt()
        try:
            vm = await self._caught_up(client, vm)
            action = self._decide(vm)
            if vm is not None and has_drifted(self.resource, vm, action):
                self._untold.append(drift(self.resource, vm))
            if await self._apply_decisions(client, action, before=self.resource.metadata.generation):
                action = self._decide(vm)
            await self._act(client, vm, action)
            if await self._apply_decisions(client, action):
                # What the status says after the decision.
                action = self._decide(vm)
        except ProviderError as refused:
            error = self._unless_it_ended(client, refused)
        self._watch_active(client, action)
        if error is None or not error.passing:
            self._removable = self.resource.metadata.leaving and self._is_down(vm, action)
            ended = self._followed.ended
            seen = Observation(
                self._clock(),
                vm,
                self._operation,
                action,
                error,
                hypervisor_problem=client.hypervisor_problem,
                unread=ended is not None and ended.id != self._refreshed,
            )
            self._report(seen)
        if error is not None:
            if error.passing:
                self._doubt(error)
            raise error
        if isinstance(action, Wait):
            self._queue.add_after(self._key, (action.until - self._clock()).total_seconds())

    async def _caught_up(self, client: ProviderClient, vm: pb.VM | None) -> pb.VM | None:
        """The VM, once it is heard what ended on it and was not followed: before the start, since a controller that is
        killed or loses the lead may not have written down what it began, and the spec may be another one by now; while
        an operation was followed that superseded it; after one that another one superseded; and when the VM went down
        by none that was followed: what others ask for may have ended before it is heard of."""
        if vm is None:
            return None
        if vm.power_state in status.DOWN and self._power != vm.power_state:
            self._followed.unheard = True
        if self._followed.unheard and self._followed.active is None:
            newest = await client.list_operations(vm.id, limit=LOOKED_AT)
            missed = status.missed(self.resource, self._followed.not_noted(newest))
            if missed:  # the VM may have been read before they ended
                await client.refresh(vm.id)
            for operation in missed:
                before_it = self.resource.status
                self._set_status(status.recognised(self.resource, operation))
                self._note(operation)
                if operation is not missed[-1]:
                    self._untold += events(before_it, self.resource.status)
            self._followed.unheard = not all(map(has_ended, newest))
        self._power = vm.power_state
        return self._vm(client)

    def _decide(self, vm: pb.VM | None) -> Action:
        bound = self.resource.status.vm
        held_by = self._holder(bound.provider_ref, bound.id) if bound else ""
        saved_by = self._saver(bound.provider_ref, bound.id) if bound and held_by else ""
        return reconcile(self.resource, vm, self._operation, self._clock(), held_by, saved_by=saved_by)

    def _doubt(self, error: ProviderError) -> None:
        """The provider did not answer a call about the present spec."""
        known = status.unconfirmed(self.resource, error, self._clock())
        if known != self.resource.status:
            self._set_status(known)
            self._write_news()

    def _bind(self, connection: Connection) -> Obstacle | None:
        """Bind the resource to the VM that its spec leads to; None, or why that VM is not its to act upon."""
        client, known = connection.client, self.resource.status.vm
        place = Place(connection.provider.metadata.uid, hypervisor_of(client.info))
        try:
            named = client.cache.find(self.resource.vm_name, known.id if known else "")
        except ProviderError as ambiguous:
            return self._refusal(connection, None) or Obstacle(ambiguous.reason, ambiguous.message)
        refused = self._refusal(connection, named or self._vm(client))
        if refused is not None:  # and another resource may own it
            self._owners.abandon(self._key)
            return refused
        binding = resolve(self.resource, place, named, self._clock())
        if not isinstance(binding, Binding):
            if known is None:
                self._owners.abandon(self._key)
            return binding
        owner = self._owners.claim(self._key, binding)
        if owner is not None:
            return Obstacle(
                "Conflict",
                f"VM {binding.id} belongs to {owner}, which was bound to it first. Nothing is done: name another VM, "
                "or delete one of the two resources.",
            )
        if binding != known:
            self._bound(binding, known)
        return None

    def _refusal(self, connection: Connection, vm: pb.VM | None) -> Obstacle | None:
        return refusal(connection.provider, self.resource, self._labels(), vm)

    def _bound(self, binding: Binding, before: Binding | None) -> None:
        if before and before.first_attempt != binding.first_attempt:  # another VM: nothing is carried over to it
            self._followed.drop()
            self._power = None
        self._set_status(status.bound(self.resource.status, binding))

    def _vm(self, client: ProviderClient) -> pb.VM | None:
        bound = self.resource.status.vm
        return client.cache.get(bound.id) if bound else None

    def _adopt(self) -> None:
        """Take over an operation that waits for a decision and whose resource is gone: else it would wait for ever. Any
        other ends by itself, as it was asked for; that we do not know its resource proves nothing, for another
        controller may."""
        operation, bound = self._operation, self.resource.status.vm
        if operation is None or operation.state != pb.OPERATION_STATE_AWAITING_DECISION:
            return
        if bound is None or operation.vm != bound.id:
            return
        by = requester(operation)
        if by and not self._owners.is_declared(by) and self.resource.status.record_of(operation.id) is None:
            self._set_status(status.adopted(self.resource, operation))
            self._note(operation)

    async def _stay_away(self, client: ProviderClient, obstacle: Obstacle) -> None:
        """Do nothing about a VM that is not this resource's, and say why. A resource that leaves has no VM to bring
        down, unless the one that it is bound to is still there."""
        for decided in list(self._decisions):
            del self._decisions[decided]
            self._acknowledgeable.append(decided)
            await self._source.emit_event(self._key, Event("Warning", "DecisionRefused", obstacle.message))
        if obstacle.reason == "NotAllowed":  # nor is it told of what others do
            self._followed.drop()
        bound_is_here = obstacle.reason == "Replaced" and self._vm(client) is not None
        self._removable = self.resource.metadata.leaving and not bound_is_here
        self._report(Observation(self._clock(), None, self._operation, obstacle=obstacle))

    def _is_down(self, vm: pb.VM | None, action: Action | None) -> bool:
        graceful = self.resource.wanted is DesiredPower.OFF_GRACEFUL
        saved = graceful and vm is not None and is_as_wanted(self.resource, DesiredPower.OFF_GRACEFUL, vm)
        off = vm is None or vm.power_state == pb.POWER_STATE_OFF or saved
        return off and isinstance(action, Nothing | Held) and self._followed.active is None

    async def _apply_decisions(self, client: ProviderClient, action: Action, before: float = inf) -> bool:
        """Carry out the decisions that were made about generations before `before`; whether there were any. A decision
        about the last spec does not concern the operation that this spec begins."""
        if unheard(action, self._operation):
            return False
        due = [decided for decided, generation in self._decisions.items() if generation < before]
        for decided in due:
            known = self._operation
            event, operation = await answer(client, known, decided, self.resource)
            del self._decisions[decided]
            self._acknowledgeable.append(decided)
            if operation is not None and operation is not known:
                self._take_result(self._followed.newer(known, operation))
            await self._source.emit_event(self._key, event)
        return bool(due)

    def _unless_it_ended(self, client: ProviderClient, error: ProviderError) -> ProviderError | None:
        """None where the refusal needs no retry: the operation has just ended, or another is active and is followed."""
        if error.reason == "OPERATION_ACTIVE":
            self._followed.watch(client, error.metadata.get("operation_id", ""))
        return None if error.reason in {"OPERATION_ACTIVE", "OPERATION_ENDED"} else error

    def _watch_active(self, client: ProviderClient, action: Action | None) -> None:
        if isinstance(action, Watch | Held) and action.id:
            self._followed.watch(client, action.id)
        elif self._followed.active is not None:
            self._followed.watch(client, self._followed.active.id)

    def _forget(self, operation: str) -> None:
        """Its provider does not know it."""
        self._set_status(status.lost(self.resource.status, operation))

    async def _take_news(self, client: ProviderClient) -> None:
        operation = self._operation
        if operation is None:
            return
        if has_ended(operation) and operation.id == self._refreshed:
            return  # it is known, and a later one may have ended since
        if has_ended(operation):
            with suppress(ProviderError):  # the watch of all VMs will tell, or the next try
                await client.refresh(operation.vm)
                self._refreshed = operation.id
                self._account_for(operation, client.cache.get(operation.vm))
        bound = self.resource.status.vm
        if bound is None or operation.vm == bound.id:
            self._set_status(status.recognised(self.resource, operation))
        self._note(operation)

    def _account_for(self, ended: pb.Operation, vm: pb.VM | None) -> None:
        """The VM's power is as this operation left it, or another one is to be looked for that nobody followed."""
        if vm is not None:
            self._power = vm.power_state
            self._followed.unheard |= not status.accounts_for(ended, vm)

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
        if vm is not None and isinstance(action, Start):
            self._set_status(status.as_it_begins(self.resource, vm, self._clock()))
        match action:
            case PowerOn(attempt):
                login = await self._login(client, lifecycle.post_start)
                request = power_on_request(vm_id, lifecycle, attempt.request_id, login)
                self._begun(await self._ask(client, request), attempt)
            case PowerOff(attempt):
                off = pb.PowerOffRequest(vm=vm_id, request_id=attempt.request_id)
                self._begun(await self._ask(client, off), attempt)
            case StartShutdown(attempt, force_after):
                login = await self._login(client, lifecycle.pre_stop)
                shutdown = shutdown_request(vm_id, lifecycle, attempt.request_id, force_after, login)
                self._begun(await self._ask(client, shutdown), attempt)
            case Extend(operation, timeout):
                extend = pb.ExtendOperationRequest(id=operation, timeout=duration(timeout))
                extended = await self._ask(client, extend)
                self._set_status(status.carried_over(self.resource, extended, timeout))
                self._take_result(extended)
            case Force(operation):
                self._take_result(await self._ask(client, pb.ForceOperationRequest(id=operation)))
            case Cancel(operation):
                self._take_result(await self._ask(client, pb.CancelOperationRequest(id=operation)))
            case Watch() if self._operation is not None:
                await self._resend_credentials(client, self._operation)
                self._set_status(status.carried_over(self.resource, self._operation))

    async def _ask(self, client: ProviderClient, request: AskingRequest) -> pb.Operation:
        meta, known = self.resource.metadata, self._operation
        manager = "being deleted" if meta.leaving else meta.manager
        try:
            told = await client.ask(request, resource_name(self._key, manager), meta.reason)
        except ProviderError as error:
            self._followed.unheard = True  # it may have been begun, and the answer be lost
            raise in_manifest(error, self.resource) from error
        return self._followed.newer(known, told)

    async def _resend_credentials(self, client: ProviderClient, operation: pb.Operation) -> None:
        """After a lost connection, send our request again with the guest's credentials: the provider keeps them in
        memory only, and if it was restarted its hooks would fail without. The same request_id starts nothing new."""
        lifecycle = self.resource.spec.lifecycle
        if not self._followed.broken or not self.resource.status.record_of(operation.id):
            return
        if operation.kind == pb.OPERATION_KIND_SHUTDOWN and (login := await self._login(client, lifecycle.pre_stop)):
            force_after = status.force_after(operation)
            await self._ask(client, shutdown_request(operation.vm, lifecycle, operation.request_id, force_after, login))
        if operation.kind == pb.OPERATION_KIND_POWER_ON and (login := await self._login(client, lifecycle.post_start)):
            await self._ask(client, power_on_request(operation.vm, lifecycle, operation.request_id, login))
        self._followed.broken = False

    async def _login(self, client: ProviderClient, hooks: Sequence[Hook]) -> GuestCredentials | None:
        """The guest's credentials, read anew at each use; for a provider of the operator's alone."""
        reference = self.resource.spec.lifecycle.guest_credentials_secret_ref
        if reference is None or not any(hook.exec for hook in hooks):
            return None
        try:
            _require_trusted(client, self.resource)
            return await self._source.guest_credentials(self._key.namespace, reference.name)
        except SecretUnavailable as error:
            if self.resource.metadata.leaving:  # secrets go with their namespace; a broken hook keeps no VM up
                return None
            raise ProviderError("FAILED_PRECONDITION", str(error), "GuestCredentialsUnavailable") from error

    def _begun(self, operation: pb.Operation, attempt: Attempt) -> None:
        timeout = self.resource.spec.lifecycle.graceful_shutdown_timeout
        self._begun_at = _steady()
        self._untold += ended_operation(self._written, self.resource.status, operation.id)
        self._set_status(status.started(self.resource, operation, attempt, timeout))
        self._take_result(operation)

    def _take_result(self, operation: pb.Operation) -> None:
        """Take in an operation that a call returned; one that has ended is reconciled again at once."""
        self._followed.hear(operation)
        self._note(operation)
        if has_ended(operation):
            self._queue.add(self._key)

    def _note(self, operation: pb.Operation) -> None:
        self._set_status(status.heard(self.resource.status, operation, self._clock()))
        self._followed.note(operation)

    def _set_status(self, known: VirtualMachineStatus) -> None:
        self.resource = self.resource.model_copy(update={"status": known})

    def _report(self, seen: Observation) -> None:
        self._set_status(status.report(self.resource, seen))
        self._report_rejection()
        self._write_news()

    def _report_rejection(self) -> None:
        if self._rejection is not None:
            said = status.rejected(self._rejection, self.resource.status.conditions, self._clock())
            self._set_status(self.resource.status.model_copy(update={"conditions": said}))

    def _write_news(self) -> None:
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
        if status.is_news(new, self.resource.status):  # it may have become again what it was before
            self._writing.add(self._key)
        told, self._untold = [*self._untold, *events(old, new)], []
        for event in told:
            await self._source.emit_event(self._key, event)
        return True


def _require_trusted(client: ProviderClient, resource: VirtualMachine) -> None:
    """Raises SecretUnavailable: who may write this Provider decides where the guest's password would go."""
    if not client.trusted:
        raise SecretUnavailable(
            f"Provider {resource.provider_name} is not one that guests' passwords are given to; the controller's "
            "operator names it in --trusted-providers, or the resource does without guestCredentialsSecretRef."
        )
