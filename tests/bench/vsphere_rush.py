"""Ever more shutdowns at once on a vCenter, beside govc, a script and, if one is named, an earlier checkout."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from tests.bench.control import INTERVAL, Told, Work, run
from tests.bench.rush import Case, checkouts, late, middle_and_tail, right, through
from tests.bench.table import Result, Row
from tests.rigs.vsphere.provider import provider
from tests.rigs.vsphere.vcenter import VCenter

COUNTS = (1, 200, 1000)
GOVC_AT_MOST = 200
"""More processes of govc at once would need more memory than the provider needs for all of the guests."""
NEEDED = Case("5 s", 5)
STREAM = "WaitForUpdatesEx"
Way = Callable[[VCenter, list[str]], Awaitable[Told]]


async def bench() -> Result:
    """Each on a vCenter of its own."""
    rows = [await _row(count, who, way) for count in COUNTS for who, way in _ways(count).items()]
    title = f"shutdowns at once on a vCenter, of guests that need {NEEDED.needed:g} s and up to {INTERVAL:g} s more"
    return Result(title, rows, [f"govc: up to {GOVC_AT_MOST} at once, beyond that it is left out"])


def _ways(count: int) -> Mapping[str, Way]:
    ways: dict[str, Way] = {who: partial(_provider, root) for who, root in checkouts().items()}
    controls = {"2 s poll": "vsphere_poll"} | ({"govc": "vsphere_govc"} if count <= GOVC_AT_MOST else {})
    return ways | {who: partial(_control, program) for who, program in controls.items()}


async def _row(count: int, who: str, way: Way) -> Row:
    needs = NEEDED.needs([f"vm-{number:04}" for number in range(1, count + 1)])
    with VCenter({name: {"shutdown_time": seconds} for name, seconds in needs.items()}) as vcenter:
        told = await way(vcenter, list(needs))
        calls, guests = vcenter.calls(), {name: vcenter.show(name) for name in needs}
        asked = [min(call["time"] for call in guest["asked_at"]) - told.began for guest in guests.values()]
        return {
            "": f"{count}: {who}",
            "right": f"{len(right(told, guests))} of {count}",
            "calls/VM": round((sum(calls.values()) - calls.get(STREAM, 0)) / count, 2),
            "connections": vcenter.connections().opened,
            "CPU ms each": round(told.cpu * 1000 / count, 2),
            **middle_and_tail("asked", asked),
            **middle_and_tail("told", late(told, guests)),
            "RSS MiB": told.rss or "",
        }


async def _provider(root: Path, vcenter: VCenter, names: list[str]) -> Told:
    process = provider(vcenter)
    process.cwd = root
    with process:
        vcenter.reset_calls()
        return await through(process, names)


async def _control(program: str, vcenter: VCenter, names: list[str]) -> Told:
    login = (vcenter.username, vcenter.password)
    return await run(program, Work(vcenter.url, str(vcenter.ca), *login, str(vcenter.folder), names))
