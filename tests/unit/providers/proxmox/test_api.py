"""The calls, as a session is given them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from providers.core.errors import CommandFailed, HypervisorUnavailable, VmpowerError
from providers.core.lanes import PATIENCE, PER_HOST, Lane, Lanes, bounds
from providers.proxmox.api import AGENT_SECONDS, Api
from providers.proxmox.errors import Refused, translate
from providers.proxmox.guests import Guest
from providers.proxmox.session import Session, Unanswered
from providers.proxmox.tasks import Task

WEB, FAR = Guest("100", "qemu", "web", "pve1", "running"), Guest("102", "qemu", "far", "pve2", "running")
UPID = "UPID:pve1:000003EB:00001B6D:6B064C7F:qmshutdown:100:vmpower@pve!provider:"
TASK = Task(UPID, "pve1", "qmshutdown", "100", "vmpower@pve!provider", 0x6B064C7F)


class Told:
    """A session that answers all calls alike, or fails all alike."""

    def __init__(self, answer: Any = None, error: VmpowerError | None = None) -> None:
        self._answer, self._error = answer, error
        self.calls = list[tuple[str, str, Any]]()
        self.seconds = list[float]()
        self.hangs = ""
        """Calls of a path that ends so are never answered."""

    async def call(self, method: str, path: str, params: Any, timeout: float) -> Any:
        self.calls.append((method, path, params))
        self.seconds.append(timeout)
        await asyncio.sleep(0)
        if self.hangs and path.endswith(self.hangs):
            await asyncio.Event().wait()
        if self._error:
            raise self._error
        return self._answer


def api(session: Told) -> Api:
    return Api(cast(Session, session), Lanes(bounds(dict.fromkeys(Lane, 64))))


async def test_those_who_read_all_guests_at_the_same_time_share_a_call() -> None:
    session = Told([{"type": "qemu", "vmid": 100, "node": "pve1", "status": "running"}, {"type": "storage"}])
    one = api(session)
    first, second = await asyncio.gather(one.guests(), one.guests())
    assert first == second == [Guest("100", "qemu", "qemu-100", "pve1", "running")]
    assert session.calls == [("GET", "cluster/resources", {"type": "vm"})]


async def test_a_shutdown_is_asked_for_at_the_guests_node_and_is_a_task() -> None:
    session = Told(UPID)
    task = await api(session).act(WEB, "shutdown", {"timeout": 300})
    assert session.calls == [("POST", "nodes/pve1/qemu/100/status/shutdown", {"timeout": 300})]
    assert task == TASK


async def test_a_task_is_ended_at_its_own_node() -> None:
    session = Told()
    await api(session).abort(TASK)
    assert session.calls == [("DELETE", f"nodes/pve1/tasks/{UPID}", None)]


@asynccontextmanager
async def crowded(session: Told, hangs: str, call: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """More such calls than may be made at once, none of which is answered."""
    session.hangs = hangs
    crowd = [asyncio.ensure_future(call()) for _ in range(PER_HOST + 1)]
    await asyncio.sleep(PATIENCE / 2)
    yield
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


@pytest.mark.looptime
async def test_no_more_calls_than_a_node_bears_are_made_at_once() -> None:
    session = Told({})
    one = api(session)
    async with crowded(session, "current", lambda: one.status(WEB)):
        assert len(session.calls) == PER_HOST


@pytest.mark.looptime
async def test_guests_whose_agents_hang_hold_up_nothing_else_at_their_node() -> None:
    session = Told({})
    one = api(session)
    async with crowded(session, "ping", lambda: one.ping(WEB)), asyncio.timeout(PATIENCE / 4):
        await one.status(WEB)


@pytest.mark.looptime
@pytest.mark.parametrize("hangs", ["ping", "current"])
async def test_a_node_that_is_away_holds_up_no_other_ones_calls(hangs: str) -> None:
    session = Told({})
    one = api(session)
    call = one.ping if hangs == "ping" else one.status
    async with crowded(session, "100/" + ("agent/" if hangs == "ping" else "status/") + hangs, lambda: call(WEB)):
        async with asyncio.timeout(PATIENCE / 4):
            await call(FAR)


@pytest.mark.looptime
@pytest.mark.parametrize("hangs", ["ping", "current", "shutdown"])
async def test_cutting_power_waits_behind_no_agent_read_or_shutdown(hangs: str) -> None:
    session = Told(UPID)
    one = api(session)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "ping": lambda: one.ping(WEB),
        "current": lambda: one.status(WEB),
        "shutdown": lambda: one.act(WEB, "shutdown"),
    }
    async with crowded(session, hangs, calls[hangs]), asyncio.timeout(PATIENCE / 4):
        assert await one.act(WEB, "stop") == TASK


@pytest.mark.looptime
async def test_fifty_agents_that_hang_hold_up_a_program_for_a_few_seconds_only() -> None:
    session = Told({"pid": 7})
    one = api(session)
    session.hangs = "ping"
    crowd = [asyncio.ensure_future(one.ping(WEB)) for _ in range(50)]
    await asyncio.sleep(0)
    async with asyncio.timeout(8 * PATIENCE):
        assert await one.execute(WEB, ["/bin/true"]) == 7
    for ping in crowd:
        ping.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_an_agent_is_given_its_time() -> None:
    session = Told({"pid": 7})
    await api(session).execute(WEB, ["/bin/true"])
    assert session.seconds == [AGENT_SECONDS]


async def test_a_program_is_handed_over_word_by_word() -> None:
    session = Told({"pid": 7})
    assert await api(session).execute(WEB, ["/bin/echo", "a b", ""]) == 7
    assert session.calls[0][1:] == ("nodes/pve1/qemu/100/agent/exec", {"command": ["/bin/echo", "a b", ""]})


@pytest.mark.parametrize("error", [Unanswered("silence"), CommandFailed("not running", {"status": "500"})])
async def test_an_agent_that_answers_no_ping_does_not_answer(error: VmpowerError) -> None:
    assert not await api(Told(error=error)).ping(WEB)


async def test_an_agent_that_may_not_be_asked_is_no_silent_one() -> None:
    with pytest.raises(CommandFailed, match="privilege"):
        await api(Told(error=CommandFailed("lacks the privilege", {"status": "403"}))).ping(WEB)


async def test_a_log_is_its_lines() -> None:
    session = Told([{"n": 1, "t": "shutdown VM 100"}, {"n": 2, "t": "TASK OK"}])
    assert await api(session).log(TASK) == ["shutdown VM 100", "TASK OK"]


# Whether there is a guest, and as what it runs


async def test_a_number_that_no_node_has_a_guest_of_is_free() -> None:
    assert await api(session := Told("100")).is_free("100")
    assert session.calls == [("GET", "cluster/nextid", {"vmid": "100"})]


async def test_a_number_that_is_taken_is_not_free() -> None:
    taken = translate(Refused(400, "Parameter verification failed.", {"vmid": "VM 100 already exists"}))
    assert not await api(Told(error=taken)).is_free("100")


@pytest.mark.parametrize("error", [CommandFailed("refused"), HypervisorUnavailable("away")])
async def test_a_number_that_cannot_be_asked_for_is_neither(error: VmpowerError) -> None:
    with pytest.raises(type(error)):
        await api(Told(error=error)).is_free("100")


async def test_the_processes_of_a_nodes_guests_are_those_that_run() -> None:
    session = Told([{"vmid": 100, "pid": 4711}, {"vmid": 101}])
    assert await api(session).pids("pve1", "qemu") == {"100": 4711}
    assert session.calls[0][1] == "nodes/pve1/qemu"


async def test_the_nodes_are_named() -> None:
    answer = [{"node": "pve1", "status": "online"}, {"node": "pve2", "status": "offline"}]
    assert await api(Told(answer)).nodes() == {"pve1", "pve2"}


async def test_a_configuration_is_the_one_that_counts_now() -> None:
    session = Told({})
    await api(session).config(WEB)
    assert session.calls == [("GET", "nodes/pve1/qemu/100/config", {"current": 1})]


# HA


@pytest.mark.parametrize(
    ("fencing", "ignores"),
    [
        ([], False),
        ([{"armed-state": "armed"}], False),
        ([{"armed-state": "standby"}], False),
        ([{"armed-state": "disarming", "resource_mode": "ignore"}], True),
        ([{"armed-state": "disarmed", "resource_mode": "ignore"}], True),
        ([{"armed-state": "disarmed", "resource_mode": "freeze"}], False),
    ],
    ids=["before 9.2", "armed", "standby", "disarming", "disarmed", "frozen"],
)
async def test_ha_ignores_what_it_manages_when_it_is_disarmed_so(fencing: list[dict[str, str]], ignores: bool) -> None:
    entries = [{"type": "quorum"}, *({"type": "fencing"} | entry for entry in fencing)]
    assert await api(Told(entries)).ha_ignores() is ignores
