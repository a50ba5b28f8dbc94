"""Proto -> model: every request is checked whole, and every bad field is named, before anything is done."""

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.message import Message

from common import urls
from common.durations import MAX_TIMEOUT
from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import VM, Escalation, GuestCredentials, Signal
from providers.core.errors import InvalidRequest, Violation, VMRefused
from providers.core.extension import Extension
from providers.core.model import (
    DEFAULT_HOOK_TIMEOUT,
    ExecHook,
    FailurePolicy,
    Handler,
    Hook,
    HttpGetHook,
    Kind,
    Request,
    SnapshotHook,
    TcpHook,
)
from providers.core.settings import Settings

MAX_REQUEST_ID = 256
MAX_HOOKS = 32
MAX_HOOK_NAME = 63
"""Characters: as long as a DNS label, as the controller's names are."""
MAX_ARGUMENTS, MAX_COMMAND = 256, 16 << 10
"""A command's parts, and its characters in all."""
READY, READY_TIMEOUT = "ready", timedelta(minutes=5)
"""What the probe of a VM that was started is called among its hooks, and how long it is asked where nothing is said."""
MAX_PORT = 65_535
MAX_URL = 2_048
MAX_HEADERS, MAX_HEADER_BYTES = 32, 8 << 10
"""An HTTP hook's headers, and the characters of all names and values."""
MAX_SNAPSHOT_NAME, MAX_SNAPSHOT_DESCRIPTION = 80, 1_024
MAX_ID = 1_024
"""Characters of a VM's id, name or inventory path, of an operation's id and of a page token."""
MAX_LOGIN = 1_024
"""Characters of a guest's user name, and of its password."""
MAX_SIGNALS = 16
MAX_REASON, MAX_ON_BEHALF_OF = 256, 512
"""Characters of why, and for whom, something is asked."""
T = TypeVar("T")
Find = Callable[[str], VM]
"""Finds a VM by id or unique name; its errors come after those of the request itself."""


class Checker:
    """Collects violations while a request is read; `finish` raises them all at once."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def require(self, holds: bool, field: str, description: str) -> None:
        if not holds:
            self._violations.append(Violation(field, description))

    def at_most(self, length: int, most: int, field: str, unit: str = "long") -> bool:
        """Whether it is within its bound; the text itself is not repeated."""
        self.require(length <= most, field, f"must be at most {most} {unit}")
        return length <= most

    def finish(self) -> None:
        """Raises InvalidRequest if anything was found."""
        if self._violations:
            raise InvalidRequest(*self._violations)

    def enum(self, message: Message, field: str, kind: type[T], path: str = "") -> T | None:
        """The model's value of an enum field; None if unspecified."""
        return self._named(message.DESCRIPTOR.fields_by_name[field], getattr(message, field), kind, path + field)

    def enums(self, message: Message, field: str, kind: type[T], path: str) -> tuple[T, ...]:
        descriptor, path = message.DESCRIPTOR.fields_by_name[field], path + field
        numbers = getattr(message, field)
        if not self.at_most(len(numbers), MAX_SIGNALS, path, "values"):
            return ()
        values = [self._named(descriptor, number, kind, f"{path}[{i}]") for i, number in enumerate(numbers)]
        self.require(len(set(numbers)) == len(numbers), path, "names a value twice")
        self.require(0 not in numbers, path, "must not be unspecified")
        return tuple(value for value in values if value is not None)

    def _named(self, descriptor: Any, number: int, kind: type[T], path: str) -> T | None:
        value = descriptor.enum_type.values_by_number.get(number)
        self.require(value is not None, path, f"{number} is not a value of {descriptor.enum_type.name}")
        if value is None or number == 0:
            return None
        prefix = descriptor.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        return kind(value.name.removeprefix(prefix))  # type: ignore[call-arg]

    def length(self, message: Message, field: str, path: str = "", zero: bool = False) -> timedelta | None:
        """A duration of more than 0 (or 0, where that is allowed) and at most 24 h; None if unset."""
        if not message.HasField(field):
            return None
        path += field
        try:
            value: timedelta = getattr(message, field).ToTimedelta()
        except (ValueError, OverflowError):
            value = MAX_TIMEOUT * 2
        least = timedelta(0) if zero else timedelta(microseconds=1)
        self.require(value >= least, path, "must not be negative" if zero else "must be more than 0")
        self.require(value <= MAX_TIMEOUT, path, "must be at most 24h")
        return value

    def moment(self, message: Message, field: str) -> datetime | None:
        """A moment, at most 24 h ahead of now; None if unset."""
        if not message.HasField(field):
            return None
        try:
            value: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.require(False, field, "is not a time")
            return None
        self.require(value <= datetime.now(UTC) + MAX_TIMEOUT, field, "must be at most 24h ahead")
        return value


def shutdown(message: pb.ShutdownRequest, find: Find, settings: Settings) -> Request:
    check, policy = Checker(), message.signal_policy
    force_after = check.moment(message, "force_after")
    resend = check.length(policy, "resend_interval", "signal_policy.", zero=True)
    order = check.enums(policy, "order", Signal, "signal_policy.")
    fallback = _save_fallback(check, message)
    return _going_down(
        check,
        message,
        kind=Kind.SHUTDOWN,
        find=find,
        settings=settings,
        force_after=force_after,
        save_fallback=fallback,
        hooks=_hooks(check, message.pre_stop, "pre_stop"),
        signal_order=order,
        resend_interval=settings.resend_interval if resend is None else resend,
    )


def _save_fallback(check: Checker, message: pb.ShutdownRequest) -> Escalation:
    """What is done instead of SAVE, where the memory cannot be saved."""
    fallback, field = check.enum(message, "save_fallback", Escalation), "save_fallback"
    if fallback is not None:
        check.require(message.escalation == pb.ESCALATION_SAVE, field, "has no meaning unless escalation is SAVE")
        check.require(fallback in (Escalation.FORCE, Escalation.NEVER), field, "must be FORCE or NEVER")
    return fallback or Escalation.NEVER


def reboot(message: pb.RebootRequest, find: Find, settings: Settings) -> Request:
    check, resend = Checker(), settings.resend_interval
    saves = message.escalation == pb.ESCALATION_SAVE
    check.require(not saves, "escalation", "SAVE is no way to reboot, for what is saved is resumed; name another one")
    return _going_down(check, message, kind=Kind.REBOOT, find=find, settings=settings, resend_interval=resend)


def power_on(message: pb.PowerOnRequest, find: Find, _: Settings) -> Request:
    check = Checker()
    hooks = _hooks(check, message.post_start, "post_start")
    if message.HasField("ready"):
        hooks = (*hooks, *_probe(check, message.ready, [hook.name for hook in hooks]))
    return _finish(check, message, kind=Kind.POWER_ON, find=find, hooks=hooks)


def _probe(check: Checker, message: pb.Probe, names: Collection[str]) -> Iterator[Hook]:
    """The last of the post-start hooks, which is repeated."""
    check.require(READY not in names, "post_start", f"no hook can be called {READY!r} beside a probe")
    timeout = check.length(message, "timeout", "ready.") or READY_TIMEOUT
    handler: Handler
    match message.WhichOneof("handler"):
        case "exec":
            handler = _exec(check, message.exec, "ready.exec")
        case "tcp":
            check.require(1 <= message.tcp.port <= MAX_PORT, "ready.tcp.port", f"must be from 1 to {MAX_PORT}")
            handler = TcpHook(port=message.tcp.port)
        case _:
            check.require(False, "ready", "name one of exec or tcp")
            return
    yield Hook(name=READY, handler=handler, timeout=timeout, repeat=True)


def power_off(message: pb.PowerOffRequest, find: Find, _: Settings) -> Request:
    return _finish(Checker(), message, kind=Kind.POWER_OFF, find=find)


def extension(message: pb.ExtendOperationRequest) -> Extension:
    """Raises InvalidRequest unless exactly one of the three ways to extend is named, and can be meant."""
    check = Checker()
    check.require(message.WhichOneof("until") is not None, "until", "name one of extension, force_after or timeout")
    result = Extension(
        by=check.length(message, "extension"),
        until=check.moment(message, "force_after"),
        timeout=check.length(message, "timeout"),
    )
    check.finish()
    return result


def bound_words(message: Any) -> None:
    """Raises InvalidRequest: what a request says of why, and for whom, is too long."""
    check = Checker()
    _bound_words(check, message)
    check.finish()


def _bound_words(check: Checker, message: Any) -> None:
    check.at_most(len(message.reason), MAX_REASON, "reason")
    check.at_most(len(message.on_behalf_of), MAX_ON_BEHALF_OF, "on_behalf_of")


def required(value: str, field: str) -> str:
    """Raises InvalidRequest if it is empty or too long."""
    if not value:
        raise InvalidRequest(Violation(field, "must not be empty"))
    return bounded(value, field)


def bounded(value: str, field: str, most: int = MAX_ID) -> str:
    """Raises InvalidRequest if it is too long."""
    check = Checker()
    check.at_most(len(value), most, field)
    check.finish()
    return value


def page_size(value: int, default: int) -> int:
    """Raises InvalidRequest if negative; at most 1000."""
    if value < 0:
        raise InvalidRequest(Violation("page_size", "must not be negative"))
    return min(value or default, 1000)


def _going_down(check: Checker, message: Any, *, find: Find, settings: Settings, **fields: Any) -> Request:
    """A timeout that is not named stays so: what counts then is for the operation to find out.

    Raises:
        InvalidRequest
        VMRefused: this VM is powered off hard at its deadline whatever is asked, and the request wants that never.
    """
    timeout = check.length(message, "timeout")
    escalation = check.enum(message, "escalation", Escalation) or settings.default_escalation

    def possible(name: str) -> VM:
        vm = find(name)
        if vm.always_forced and escalation is not Escalation.FORCE:
            raise VMRefused(
                f"{vm.name}: {vm.always_forced} Escalation {escalation} cannot be kept; ask with FORCE, or not."
            )
        return vm

    return _finish(check, message, find=possible, timeout=timeout, escalation=escalation, **fields)


def _finish(check: Checker, message: Any, *, find: Find, **fields: Any) -> Request:
    check.require(bool(message.vm), "vm", "must not be empty")
    check.at_most(len(message.vm), MAX_ID, "vm")
    check.at_most(len(message.request_id), MAX_REQUEST_ID, "request_id")
    _bound_words(check, message)
    login = credentials(message)
    if login:
        check.at_most(len(login.username), MAX_LOGIN, "guest_credentials.username")
        check.at_most(len(login.password), MAX_LOGIN, "guest_credentials.password")
    check.finish()
    vm = find(message.vm)
    return Request(vm_id=vm.id, vm_name=vm.name, request_id=message.request_id, credentials=login, **fields)


def credentials(message: Message) -> GuestCredentials | None:
    """What the request has to log in with; None where it has nothing, or is of a kind that runs no programs."""
    given = {field.name: value for field, value in message.ListFields()}.get("guest_credentials")
    return GuestCredentials(given.username, given.password) if given else None


def _hooks(check: Checker, messages: Any, path: str) -> tuple[Hook, ...]:
    if not check.at_most(len(messages), MAX_HOOKS, path, "hooks"):
        return ()
    names = [message.name or f"hook-{number}" for number, message in enumerate(messages, 1)]
    seen = set[str]()
    for i, name in enumerate(names):
        if check.at_most(len(name), MAX_HOOK_NAME, f"{path}[{i}].name"):
            check.require(name not in seen, f"{path}[{i}].name", f"two hooks are named {name!r}")
            seen.add(name)
    hooks = [_hook(check, message, names[i], f"{path}[{i}]") for i, message in enumerate(messages)]
    return tuple(hook for hook in hooks if hook is not None)


def _hook(check: Checker, message: pb.Hook, name: str, path: str) -> Hook | None:
    handler = _handler(check, message, path)
    timeout = check.length(message, "timeout", f"{path}.") or DEFAULT_HOOK_TIMEOUT
    policy = check.enum(message, "failure_policy", FailurePolicy, f"{path}.") or FailurePolicy.CONTINUE
    return Hook(name=name, handler=handler, timeout=timeout, failure_policy=policy) if handler else None


def _handler(check: Checker, message: pb.Hook, path: str) -> Handler | None:
    match message.WhichOneof("handler"):
        case "exec":
            return _exec(check, message.exec, f"{path}.exec")
        case "http_get":
            return _http_get(check, message.http_get, f"{path}.http_get")
        case "snapshot":
            given = message.snapshot
            check.at_most(len(given.name), MAX_SNAPSHOT_NAME, f"{path}.snapshot.name")
            check.at_most(len(given.description), MAX_SNAPSHOT_DESCRIPTION, f"{path}.snapshot.description")
            return SnapshotHook(name=given.name, description=given.description, include_memory=given.include_memory)
        case _:
            check.require(False, path, "name one of exec, http_get or snapshot")
            return None


def _exec(check: Checker, message: pb.ExecHook, path: str) -> ExecHook:
    command = tuple(message.command)
    check.at_most(len(command), MAX_ARGUMENTS, f"{path}.command", "parts")
    check.at_most(sum(map(len, command)), MAX_COMMAND, f"{path}.command", "characters in all")
    check.require(bool(command) and bool(command[0]), f"{path}.command", "must not be empty")
    return ExecHook(command=command)


def _http_get(check: Checker, message: pb.HttpGetHook, path: str) -> HttpGetHook:
    check.at_most(len(message.url), MAX_URL, f"{path}.url")
    check.at_most(len(message.headers), MAX_HEADERS, f"{path}.headers", "headers")
    size = sum(len(name) + len(value) for name, value in message.headers.items())
    check.at_most(size, MAX_HEADER_BYTES, f"{path}.headers", "characters in all")
    wrong = urls.mistake(message.url)
    check.require(not wrong, f"{path}.url", wrong)
    status = message.expect_status
    check.require(status == 0 or 100 <= status <= 599, f"{path}.expect_status", "must be 0 or an HTTP status")
    headers = dict(message.headers)
    return HttpGetHook(url=message.url, headers=headers, header_names=tuple(headers), expect_status=status)
