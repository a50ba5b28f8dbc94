"""Lanes: how many calls of each kind may be under way towards the hypervisor, and whose turn it is.

The only place that names the lanes. Calls wait for others of their lane only, so that cutting power never waits behind
guests that do not answer. Within a lane callers have their turns one after the other, and the hosts of each caller too:
one caller's ten thousand requests delay another caller's single one by a single call.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

PATIENCE = 1.0
"""Seconds after which a call that has not been answered counts among the slow ones, and the next one has its place."""

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""Whose request is served now; tasks inherit it. Empty: an operation that an earlier process began, or our own work."""


_URGENT: ContextVar[bool] = ContextVar("urgent", default=False)


@contextmanager
def urgent() -> Iterator[None]:
    """What is read meanwhile is read because power is to be cut: it waits with the cuts and not with other reads, of
    which there may be thousands."""
    before = _URGENT.get()
    _URGENT.set(True)
    try:
        yield
    finally:
        _URGENT.set(before)  # no reset: what was given up half-way is closed in another context than it began in


class Lane(StrEnum):
    """What a call is for."""

    READ = "reads"
    ASK = "asks"
    """Asking a guest to shut down. Its tools, its agent or its host may hang."""
    PROGRAM = "programs"
    """Programs in guests, their agents, and snapshots: what hooks do."""
    CUT = "cuts"
    """Cutting power, and what must be known right before."""
    START = "starts"
    """Starting and resuming."""
    SAVE = "saves"
    """Saving memory, which takes as long as the disk takes to write it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How many calls of a lane may be under way: `at_once` in total and `per_host` at one host, and beside these `slow`
    ones, which were not answered within `PATIENCE`."""

    at_once: int
    per_host: int
    slow: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has ended, in seconds: what it `waited` for its turn, and what it `took` then."""

    lane: Lane
    waited: float
    took: float
    failed: bool


@dataclass(slots=True, eq=False)
class _Place:
    """A call that is under way."""

    host: str
    slow: bool = False
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Queue:
    """One lane. `waiting`: by caller and host; both take turns, in the order of the dictionaries."""

    bound: Bound
    quick: int = 0
    slow: int = 0
    at_host: Counter[str] = field(default_factory=Counter)
    overdue: dict[_Place, None] = field(default_factory=dict)
    waiting: dict[str, dict[str, deque[asyncio.Future[_Place]]]] = field(default_factory=dict)
    waiting_of: Counter[str] = field(default_factory=Counter)

    async def enter(self, caller: str, host: str) -> _Place:
        """Wait for a place."""
        turn: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(caller, {}).setdefault(host, deque()).append(turn)
        self.waiting_of[caller] += 1
        self._serve()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(turn.result())  # it had just got its place
            elif turn in self.waiting.get(caller, {}).get(host, ()):
                self._remove(caller, host, turn)
            raise

    def leave(self, place: _Place) -> None:
        """Give a place back."""
        if place.timer:
            place.timer.cancel()
        self.overdue.pop(place, None)
        if place.slow:
            self.slow -= 1
            if self.overdue:
                self._turn_slow(next(iter(self.overdue)))
        else:
            self._free(place)
        self._serve()

    def _serve(self) -> None:
        while self.quick < self.bound.at_once and (found := self._next()):
            turn, host = found
            if turn.cancelled():
                continue
            place = _Place(host)
            self.quick += 1
            self.at_host[host] += 1
            if self.bound.slow:
                place.timer = asyncio.get_running_loop().call_later(PATIENCE, self._turn_slow, place)
            turn.set_result(place)

    def _next(self) -> tuple[asyncio.Future[_Place], str] | None:
        """The next one that may have a place, and its host; its caller, and its host, come last from now on."""
        for caller, hosts in self.waiting.items():
            host = next((host for host in hosts if self.may_enter(host)), None)
            if host is not None:
                turn = hosts[host][0]
                self._remove(caller, host, turn)
                return turn, host
        return None

    def may_enter(self, host: str) -> bool:
        """Whether this host has a place for one more."""
        return not host or self.at_host[host] < self.bound.per_host

    def _remove(self, caller: str, host: str, turn: asyncio.Future[_Place]) -> None:
        """It waits no more."""
        hosts = self.waiting.pop(caller)
        turns = hosts.pop(host)
        turns.remove(turn)
        self.waiting_of[caller] -= 1
        if turns:
            hosts[host] = turns
        if hosts:
            self.waiting[caller] = hosts
        else:
            del self.waiting_of[caller]

    def _turn_slow(self, place: _Place) -> None:
        """It is not answered: it gives its place to the next one, if there is room among the slow ones."""
        if self.slow >= self.bound.slow:
            self.overdue[place] = None
            return
        self.overdue.pop(place, None)
        place.slow = True
        self.slow += 1
        self._free(place)
        self._serve()

    def _free(self, place: _Place) -> None:
        self.quick -= 1
        self.at_host[place.host] -= 1
        if not self.at_host[place.host]:
            del self.at_host[place.host]


AT_ONCE: Mapping[Lane, int] = {Lane.READ: 4, Lane.ASK: 8, Lane.PROGRAM: 4, Lane.CUT: 4, Lane.START: 4, Lane.SAVE: 4}
"""How many calls of each lane may be under way, where no setting and no hypervisor's folder says otherwise."""
PER_HOST, SLOW = 8, 50


def bounds(at_once: Mapping[Lane, int] = AT_ONCE, per_host: int = PER_HOST, slow: int = SLOW) -> Mapping[Lane, Bound]:
    """Bounds that differ in their totals only."""
    return {lane: Bound(total, per_host, slow) for lane, total in at_once.items()}


class Lanes:
    """All lanes of one hypervisor endpoint. Must be used inside one event loop."""

    def __init__(self, bounds: Mapping[Lane, Bound]) -> None:
        self._queues = {lane: _Queue(bound) for lane, bound in bounds.items()}
        self.on_call: list[Callable[[Call], None]] = []
        """Told of each call that has ended; what was given up by us has not failed."""

    @asynccontextmanager
    async def place(self, lane: Lane, host: str = "") -> AsyncIterator[None]:
        """A place for one call, waited for. `host`: where in the hypervisor's inventory the call ends; empty: nowhere
        in particular."""
        lane = Lane.CUT if lane is Lane.READ and _URGENT.get() else lane
        queue, now, failed = self._queues[lane], asyncio.get_running_loop().time, False
        asked = now()
        place = await queue.enter(CALLER.get(), host)
        begun = now()
        try:
            yield
        except Exception:
            failed = True
            raise
        finally:
            queue.leave(place)
            call = Call(lane, begun - asked, now() - begun, failed)
            for told in self.on_call:
                told(call)

    def full(self, lane: Lane, host: str = "") -> bool:
        """Whether a call at this host would have to wait."""
        queue = self._queues[lane]
        return queue.quick >= queue.bound.at_once or not queue.may_enter(host)

    def under_way(self, lane: Lane) -> int:
        return self._queues[lane].quick + self._queues[lane].slow

    def waiting(self, *lanes: Lane) -> Counter[str]:
        """How many calls wait in these lanes, by caller."""
        found = Counter[str]()
        for lane in lanes:
            found += self._queues[lane].waiting_of
        return found
