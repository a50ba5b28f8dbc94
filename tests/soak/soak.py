"""One history: random clients and random harm for a while, then everything is healed, read once more and audited."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

import grpc.aio

from tests.rigs.process import QUICK
from tests.soak.attack import HARMS, Attack, to_its_end
from tests.soak.audit import Finding, audit
from tests.soak.client import Clients
from tests.soak.ground import Ground
from tests.soak.history import History, Said, Settled, now
from tests.soak.libvirt import LibvirtGround
from tests.soak.proxmox import ProxmoxGround
from tests.soak.sim import SimGround

GROUNDS: dict[str, type[Ground]] = {"sim": SimGround, "libvirt": LibvirtGround, "proxmox": ProxmoxGround}
ALL = HARMS.union(*(ground.harms for ground in GROUNDS.values()))
SECONDS = {"sim": 30.0, "libvirt": 75.0, "proxmox": 30.0}
"""How long a history is harmed: real guests take a third of it to boot again."""
LIKELY = 0.6
"""How likely a history has each kind of harm; one that has them all at once never gets far."""
PATIENCE = 45.0
"""Seconds after which all operations must have ended: more than the longest timeout with its extensions."""
QUIET = 2.0
"""Seconds in which a settled system must not make a call."""


@dataclass(frozen=True)
class Case:
    """What makes a history what it is, as far as real processes can be told: the draws, not their moments."""

    ground: str
    seed: int
    seconds: float
    allowed: frozenset[str]

    @property
    def harms(self) -> frozenset[str]:
        """Those that this history has."""
        rng = Random(f"{self.seed} harms")
        possible = (HARMS | GROUNDS[self.ground].harms) & self.allowed
        return frozenset(harm for harm in sorted(possible) if rng.random() < LIKELY) or possible

    def __str__(self) -> str:
        return f"{self.ground} {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """A history, when it began, and what is wrong with it."""

    history: History
    began: float
    findings: list[Finding]
    left_out: list[str]


async def run(case: Case) -> Outcome:
    """Live through it. All processes are its own, and gone at the end."""
    history, began = History(), now()
    with GROUNDS[case.ground](history) as ground:
        attack = Attack(ground.provider, history, case.harms, Random(f"{case.seed} attack"))
        try:
            await _live(case, ground, attack)
        finally:
            attack.close()
    return Outcome(history, began, audit(history), attack.left_out)


async def _live(case: Case, ground: Ground, attack: Attack) -> None:
    history, rng = ground.history, Random(f"{case.seed} settling")
    await attack.start()
    async with (
        _hook_server() as (url, hits),
        grpc.aio.insecure_channel(ground.provider.address, options=QUICK) as channel,
    ):
        clients = Clients(channel, history, f"{case.seed}", url, attack.on_sent, saves=ground.keeps_saves)
        names = [guest.vm for guest in ground.guests]
        acts = [*(clients.own(name) for name in names), clients.visit(names), attack.go_on(), _harm(case, ground)]
        await _for_a_while([asyncio.ensure_future(act) for act in acts], case.seconds)
        await attack.heal()
        await ground.heal()
        await _settle(clients, rng)
        await asyncio.sleep(ground.quiet)
        await attack.kill_once_more()
        await asyncio.sleep(1)
        with suppress(grpc.aio.AioRpcError):
            await clients.read_all()
        before = ground.calls()
        await asyncio.sleep(QUIET)
        history.add(Settled(now(), (before, ground.calls())))
        await clients.stop()
        for record in ground.books(clients.tokens):
            history.add(_with_hits(record, hits) if isinstance(record, Said) else record)


async def _for_a_while(acts: list[asyncio.Future[None]], seconds: float) -> None:
    done, _ = await asyncio.wait(acts, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for act in acts:
        act.cancel()
    await asyncio.gather(*acts, return_exceptions=True)
    for act in done:
        act.result()  # none of them ends but by a mistake of its own


async def _harm(case: Case, ground: Ground) -> None:
    rng, own = Random(f"{case.seed} ground"), sorted(case.harms & ground.harms)
    while own:
        await asyncio.sleep(rng.uniform(0.5, 4))
        await to_its_end(ground.do(rng.choice(own), rng))
    await asyncio.Event().wait()


async def _settle(clients: Clients, rng: Random) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while not await clients.settle(rng):  # noqa: ASYNC110 - what is asked here sets no event
                await asyncio.sleep(0.5)


@asynccontextmanager
async def _hook_server() -> AsyncIterator[tuple[str, list[str]]]:
    """Where hooks call: the address, and the tokens that came."""
    hits = list[str]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, IndexError):
            hits.append((await reader.readline()).decode().split()[1].removeprefix("/"))
            while (await reader.readline()).strip():
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", hits


def _with_hits(said: Said, hits: list[str]) -> Said:
    return Said(said.token, said.times + hits.count(said.token))
