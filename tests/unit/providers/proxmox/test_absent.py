"""What becomes of guests that are not listed; test_poller.py has when they are looked for."""

from collections.abc import Iterable
from typing import cast

import pytest

from providers.core.adapter import Change, Changed, PowerState, Removed, none_active
from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.proxmox.absent import AT_ONCE, Absent, is_forbidden
from providers.proxmox.api import Api
from providers.proxmox.guests import Guest
from providers.proxmox.tracker import Tracker
from providers.proxmox.visits import Visits

WEB = Guest("100", "qemu", "web", "pve1", "running", uptime=1000)
FORBIDDEN = CommandFailed("no", {"status": "403"})
AWAY = HypervisorUnavailable("away")


class Looking:
    """Asks, and reads again, to no avail unless `answer` or `again` say otherwise."""

    def __init__(self, *guests: Guest) -> None:
        self.answer: Exception | None = VMNotFound("not there")
        self.free, self.known_nodes, self.again = True, {"pve1"}, list[Guest]()
        self.asked, self.news = list[str](), list[Change]()
        self.tracker = Tracker()
        self.tracker.apply(guests, {})
        self.absent = Absent(cast(Api, self), self.tracker, Visits(2), self)

    async def ask(self, guest: Guest) -> None:
        self.asked.append(guest.id)
        if self.answer:
            raise self.answer

    async def refresh(self) -> None:
        self.absent.among(self.again)

    def report(self, changes: Iterable[Change]) -> None:
        self.news += changes

    async def is_free(self, _vm_id: str) -> bool:
        return self.free

    async def nodes(self) -> frozenset[str]:
        return frozenset(self.known_nodes)

    async def look(self) -> list[Change]:
        """What is told after a list without guests."""
        self.absent.among([])
        await self.absent.look(none_active)
        return self.news


def states(changes: list[Change]) -> list[PowerState]:
    return [change.vm.power_state for change in changes if isinstance(change, Changed)]


def test_guests_that_are_missing_in_a_list_are_kept_as_they_were() -> None:
    other = Guest("101", "lxc", "ct", "pve1", "running")
    assert Looking(WEB).absent.among([other]) == [other, WEB]


async def test_a_guest_that_its_node_has_is_left_alone() -> None:
    looking = Looking(WEB)
    looking.answer = None
    assert (await looking.look(), looking.asked) == ([], ["100"])


async def test_a_guest_that_no_node_has_is_gone() -> None:
    assert await Looking(WEB).look() == [Removed("100")]


async def test_a_guest_that_is_listed_again_when_its_node_does_not_have_it_has_moved() -> None:
    looking = Looking(WEB)
    looking.again = [WEB]
    assert await looking.look() == []


async def test_how_a_guest_is_that_some_node_has_is_not_known() -> None:
    looking = Looking(WEB)
    looking.free = False
    assert states(await looking.look()) == [PowerState.UNKNOWN]


@pytest.mark.parametrize("error", [AWAY, CommandFailed("fork failed", {"status": "500"})])
async def test_how_a_guest_is_that_cannot_be_asked_about_is_not_known(error: Exception) -> None:
    looking = Looking(WEB)
    looking.answer = error
    assert states(await looking.look()) == [PowerState.UNKNOWN]


async def test_a_guest_of_a_node_that_left_the_cluster_is_gone() -> None:
    looking = Looking(WEB)
    looking.answer, looking.known_nodes = AWAY, {"pve2"}
    assert await looking.look() == [Removed("100")]


async def test_a_guest_that_the_account_may_see_no_more_is_gone_for_us() -> None:
    looking = Looking(WEB)
    looking.answer, looking.free = FORBIDDEN, False
    assert await looking.look() == [Removed("100")]


async def test_those_with_operations_are_looked_for_first_and_all_have_their_turn() -> None:
    many = [Guest(str(number), "qemu", f"vm-{number}", "pve1", "running") for number in range(100, 100 + 2 * AT_ONCE)]
    looking = Looking(*many)
    looking.answer = None
    for _ in range(3):
        looking.absent.among([])
        await looking.absent.look(lambda: frozenset({many[-1].id}))
    assert looking.asked[0] == many[-1].id
    assert {*looking.asked} == {guest.id for guest in many}


def test_only_a_missing_privilege_is_forbidden() -> None:
    assert (is_forbidden(FORBIDDEN), is_forbidden(CommandFailed("no"))) == (True, False)
