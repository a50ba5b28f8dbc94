"""How one total time is shared by the tiers of a plan. Pure: no clock, no VM, no provider.

All times count from the start of the run. The tiers are a graph: one begins when those before it have ended. Its need
is that of its slowest member. The longest way through it is critical; what the budget leaves beyond that is the slack.
Where that is negative, tiers give back time in the order in which they are run, each down to its minimum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from graphlib import TopologicalSorter

ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Member:
    """A VM, and the longest that its hooks and its own timeout take together."""

    vm: str
    need: timedelta


@dataclass(frozen=True, slots=True)
class Stage:
    """A tier as it is to be run: `after` are the names of those that end first, `minimum` is what it is never squeezed
    below."""

    name: str
    members: tuple[Member, ...]
    after: tuple[str, ...] = ()
    minimum: timedelta = ZERO

    @property
    def need(self) -> timedelta:
        """That of its slowest member; a tier without members takes no time."""
        return max((member.need for member in self.members), default=ZERO)


@dataclass(frozen=True, slots=True)
class Slot:
    """A tier's time. It begins at `begins` if those before it take all that they get, at the latest when the budget is
    over, and has to end at `ends` if those after it are to get theirs; `gets` is what it is given of its need."""

    need: timedelta
    gets: timedelta
    begins: timedelta
    ends: timedelta


@dataclass(frozen=True, slots=True)
class Schedule:
    """The slots by the names of their tiers, in an order in which they can be run.

    Attributes:
        slack: what is left if each tier takes all that it needs; negative: by so much it does not fit.
        short: by how much it does not fit though every tier gives back what it may.
        critical: the names of the longest way through the graph, as it is scheduled.
        cut: the VMs that do not get what they need, and how much they get.
    """

    slots: Mapping[str, Slot]
    slack: timedelta
    short: timedelta
    critical: tuple[str, ...]
    cut: Mapping[str, timedelta]


def share(stages: Sequence[Stage], budget: timedelta) -> Schedule:
    """Share `budget`, from the start to when the last tier has to have ended. `stages` name one another without a
    circle."""
    graph = _Graph(stages)
    needs = {stage.name: stage.need for stage in stages}
    slack = budget - graph.longest(needs)
    gets = _squeezed(graph, stages, needs, budget)
    begins = {name: min(each, max(ZERO, budget)) for name, each in graph.before(gets).items()}
    rest = graph.behind(gets)
    fits = {name: max(ZERO, min(gets[name], budget - begins[name])) for name in graph.order}
    slots = {
        name: Slot(needs[name], fits[name], begins[name], max(begins[name] + fits[name], budget - rest[name]))
        for name in graph.order
    }
    cut = {each.vm: fits[stage.name] for stage in stages for each in stage.members if each.need > fits[stage.name]}
    return Schedule(
        slots=slots,
        slack=slack,
        short=max(ZERO, graph.longest(gets) - budget),
        critical=graph.critical(gets),
        cut=cut,
    )


def portion(stage: Stage, left: timedelta, behind: timedelta) -> timedelta:
    """What a tier gets that begins when `left` of the budget is left and those behind it need `behind`: what it needs
    if that leaves enough for them, else less, but not less than its minimum, nor more than there is.

    A tier that begins no later than it was scheduled to gets no less than it was scheduled to get.
    """
    least = min(stage.minimum, stage.need)
    return max(ZERO, min(left, max(least, min(stage.need, left - behind))))


def behind(stages: Sequence[Stage]) -> dict[str, timedelta]:
    """By the name of each tier what those behind it need, from its end to the end of the last."""
    return _Graph(stages).behind({stage.name: stage.need for stage in stages})


def _squeezed(
    graph: "_Graph", stages: Sequence[Stage], needs: Mapping[str, timedelta], budget: timedelta
) -> dict[str, timedelta]:
    """What each tier gets, if need be more than there is. The first give back first, and no more than what the longest
    way through them is over."""
    minimum = {stage.name: min(stage.minimum, needs[stage.name]) for stage in stages}
    rest = graph.behind(needs)
    ends, gets = dict[str, timedelta](), dict[str, timedelta]()
    for name in graph.order:
        begins = max((ends[earlier] for earlier in graph.after[name]), default=ZERO)
        gets[name] = max(minimum[name], min(needs[name], budget - begins - rest[name]))
        ends[name] = begins + gets[name]
    return gets


class _Graph:
    """The tiers, and the ways through them."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        place = {stage.name: number for number, stage in enumerate(stages)}
        self.after = {stage.name: stage.after for stage in stages}
        self.order = tuple(_in_order(self.after, place))
        self.followed_by: dict[str, list[str]] = {name: [] for name in self.order}
        for name in self.order:
            for earlier in self.after[name]:
                self.followed_by[earlier].append(name)

    def before(self, takes: Mapping[str, timedelta]) -> dict[str, timedelta]:
        """How long it takes until each can begin."""
        begins: dict[str, timedelta] = {}
        for name in self.order:
            begins[name] = max((begins[each] + takes[each] for each in self.after[name]), default=ZERO)
        return begins

    def behind(self, takes: Mapping[str, timedelta]) -> dict[str, timedelta]:
        """How long it takes from each one's end to the end of all that follow it."""
        rest: dict[str, timedelta] = {}
        for name in reversed(self.order):
            rest[name] = max((takes[each] + rest[each] for each in self.followed_by[name]), default=ZERO)
        return rest

    def longest(self, takes: Mapping[str, timedelta]) -> timedelta:
        """How long all of them take."""
        begins = self.before(takes)
        return max((begins[name] + takes[name] for name in self.order), default=ZERO)

    def critical(self, takes: Mapping[str, timedelta]) -> tuple[str, ...]:
        """The longest way; of several that are as long, the one of the tiers that are named first."""
        rest = self.behind(takes)
        way: list[str] = []
        choice: Sequence[str] = [name for name in self.order if not self.after[name]]
        while choice:
            way.append(max(choice, key=lambda name: takes[name] + rest[name]))
            choice = self.followed_by[way[-1]]
        return tuple(way)


def _in_order(after: Mapping[str, Sequence[str]], place: Mapping[str, int]) -> list[str]:
    """Each after those it names, and otherwise as they are written."""
    sorter = TopologicalSorter(after)
    sorter.prepare()
    order: list[str] = []
    ready = list(sorter.get_ready())
    while ready:
        first = min(ready, key=lambda name: place[name])
        ready.remove(first)
        order.append(first)
        sorter.done(first)
        ready.extend(sorter.get_ready())
    return order
