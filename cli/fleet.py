"""The providers that a command is about: one, or all of the configuration, asked at the same time."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from cli import config
from cli.errors import ExitCode, Failure, complain, translate, usage, worst
from client.channel import Tls
from client.errors import ProviderError
from client.power import PowerClient
from common.environment import variable
from protos.power.v1 import power_pb2 as pb

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One provider. Its name is empty where the command is about one only: then nothing needs to be told apart."""

    name: str
    client: PowerClient
    tls: Tls | None = None
    """The files by which both sides prove who they are."""
    prefix: str = ""
    """What stands before a VM's name in a command for it; empty where it can be left out."""
    vmpower: str = "vmpower"
    """How a command begins, typed as it is, that is about this provider."""

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What the provider answers inside comes out as `Failure`."""
        try:
            yield
        except ProviderError as error:
            raise translate(error, self.client.address) from None


class Target(NamedTuple):
    """A VM, by its id or name at one provider."""

    member: Member
    vm: str


class Fleet:
    """Providers by their names. A VM is named alone where one provider has it, or as `provider/name`."""

    def __init__(self, members: Sequence[Member], default: str = "", only: str = "") -> None:
        """`only`: the name of the only one in the configuration, which may stand before a VM's all the same."""
        self.members, self._default, self._only = list(members), default, only

    @property
    def several(self) -> bool:
        return len(self.members) > 1

    def bare(self, name: str) -> str:
        """The name of a VM, without that of the only provider."""
        prefix, _, rest = name.partition("/")
        return rest if rest and self._only and prefix == self._only else name

    async def ask(self, question: Callable[[Member], Awaitable[T]]) -> list[tuple[Member, T | Failure]]:
        """What each says, or how it failed."""

        async def one(member: Member) -> T | Failure:
            try:
                with member.failing():
                    return await question(member)
            except Failure as failure:
                return failure

        return list(zip(self.members, await asyncio.gather(*map(one, self.members)), strict=True))

    async def collect(self, question: Callable[[Member], Awaitable[T]]) -> tuple[list[tuple[Member, T]], ExitCode]:
        """What each says. Of several, one that fails is a line on stderr, and makes the exit code.

        Raises:
            Failure: of the only one.
        """
        found, codes = list[tuple[Member, T]](), list[ExitCode]()
        for member, answer in await self.ask(question):
            if not isinstance(answer, Failure):
                found.append((member, answer))
            elif not self.several:
                raise answer
            else:
                complain(Failure(f"{member.name}: {answer.message}", answer.code, answer.hints))
                codes.append(answer.code)
        return found, worst(codes)

    async def find(self, name: str) -> Target:
        """The VM with this id or name, wherever it is. Where there is only one provider, nothing is asked.

        Raises:
            Failure: there is none, or more than one, or one that may have it does not answer.
        """
        if not self.several:
            return Target(self.members[0], self.bare(name))
        prefix, _, rest = name.partition("/")
        for member in self.members:
            if rest and member.name == prefix:
                return Target(member, rest)
        defaults = [member for member in self.members if member.name == self._default]
        for stage in (defaults, [member for member in self.members if member not in defaults]):
            if target := _the_one(name, await Fleet(stage).ask(_having(name))):
                return target
        places = ", ".join(member.name for member in self.members)
        raise Failure(f"No VM has the id or name {name!r} at {places}.", ExitCode.USAGE, reason="VM_NOT_FOUND")

    async def resolve(self, names: Sequence[str]) -> list[Target]:
        """The VMs with these ids or names, each once, by id, in the order given. One name alone is not looked up.

        Raises:
            Failure: one is unknown or ambiguous; the message tells of all that are.
        """
        if len(names) == 1:
            return [await self.find(names[0])]
        found = await asyncio.gather(*(self._look_up(name) for name in names))
        failures = [each for each in found if isinstance(each, Failure)]
        if failures and failures[0].code is ExitCode.USAGE:
            raise usage("Nothing was done:", *(failure.message for failure in failures))
        if failures:
            raise failures[0]
        return list(dict.fromkeys(each for each in found if isinstance(each, Target)))

    async def _look_up(self, name: str) -> Target | Failure:
        try:
            member, vm = await self.find(name)
            with member.failing():
                return Target(member, (await member.client.call(pb.GetVMRequest(vm=vm))).id)
        except Failure as failure:
            return failure


def _having(name: str) -> Callable[[Member], Awaitable[pb.VM | None]]:
    async def question(member: Member) -> pb.VM | None:
        try:
            return await member.client.call(pb.GetVMRequest(vm=name))
        except ProviderError as error:
            if error.reason == "VM_NOT_FOUND":
                return None
            raise

    return question


def _the_one(name: str, answers: Sequence[tuple[Member, pb.VM | Failure | None]]) -> Target | None:
    """The VM, if exactly one has it.

    Raises:
        Failure: several have it, or one may have it and does not say.
    """
    at = [(member, answer) for member, answer in answers if isinstance(answer, pb.VM)]
    silent = [(member, answer) for member, answer in answers if isinstance(answer, Failure)]
    if len(at) > 1:
        ways = " or ".join(f"{member.name}/{name}" for member, _ in at)
        raise usage(f"{name!r} is on {len(at)} providers: write {ways}.")
    for member, failure in silent:
        hints = [f"{member.name} may have {name!r} too; where it is known: write PROVIDER/{name}.", *failure.hints]
        raise Failure(f"{member.name}: {failure.message}", failure.code, hints, failure.reason)
    return Target(at[0][0], at[0][1].id) if at else None


@asynccontextmanager
async def connect(provider: str) -> AsyncIterator[Fleet]:
    """The provider that is meant, or all that are configured.

    Raises:
        Failure: see `Config.meant`.
    """
    known = config.load()
    meant = known.meant(provider)
    async with AsyncExitStack() as stack:
        members = []
        for name, endpoint in meant.items():
            tls = config.tls_files(endpoint)
            client = await stack.enter_async_context(PowerClient(endpoint.address, tls))
            prefix, command = _typed(known, provider, endpoint)
            members.append(Member(name if len(meant) > 1 else "", client, tls, prefix, command))
        yield Fleet(members, known.default, only=next(iter(meant)) if len(meant) == 1 else "")


def _typed(known: config.Config, provider: str, endpoint: config.Endpoint) -> tuple[str, str]:
    """What stands before a VM's name in a command, and how the command begins, so that it is about this provider when
    it is typed in the same shell."""
    name = next((name for name, each in known.providers.items() if each is endpoint), "")
    usual = variable("VMPOWER_PROVIDER")
    prefix = f"{name}/" if name and len(known.providers) > 1 else ""
    if provider == usual or (name and not usual):
        return (prefix if usual in ("", name) else ""), "vmpower"
    return "", f"vmpower --provider {shlex.quote(provider)}"
