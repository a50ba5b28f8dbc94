"""The resource that people write: `PowerPlan`, what is brought down and in which order. It does nothing by itself.

YAML spells it in camelCase. A field that is not known is refused: a plan that is half understood is no plan. Everything
is immutable.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from common.durations import Duration, Interval, Timeout
from plans import moments

SAVE_TIME = timedelta(minutes=2)
"""What is kept for saving the memory of a tier's VMs, where the tier does not say how long that takes."""
MOST_TIERS, MOST_MEMBERS, MOST_TRIGGERS = 100, 1000, 10
"""Of a plan; of a tier, entries each of which may stand for many VMs; of a plan."""
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


def _names_both(written: str) -> str:
    provider, _, vm = written.partition("/")
    if not provider or not vm:
        raise ValueError("write PROVIDER/VM: the VM's name, id or path at that provider")
    return written


def _at_least_a_tenth(interval: timedelta) -> timedelta:
    if interval < timedelta(milliseconds=100):
        raise ValueError("must be at least 100ms")
    return interval


UPS = r"(?P<ups>[A-Za-z0-9_.-]+)(@(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:(?P<port>[0-9]{1,5}))?)?"
"""What NUT calls a UPS: its name at its upsd, and where that is. Pydantic's own expressions read it too."""
VmName = Annotated[
    str,
    StringConstraints(max_length=1300),
    AfterValidator(_names_both),
    Field(json_schema_extra={"pattern": "^[^/]+/."}),  # the same for schemas, which know no sentences
]
MOST_ARGUMENTS = 16
Argument = Annotated[str, StringConstraints(max_length=1000)]
"""With so many of them a command is no longer than the contract takes."""
Cron = Annotated[str, StringConstraints(max_length=200), AfterValidator(moments.checked)]
TimeZone = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]+$", max_length=100), AfterValidator(moments.known)
]
Labels = Annotated[dict[str, str], Field(min_length=1, max_length=100)]


class AtDeadline(StrEnum):
    """What becomes of a member that has not gone down when its time is over."""

    RESPECT = "Respect"
    """What its owner says: the VM's own escalation."""
    FORCE = "Force"
    SAVE = "Save"
    """Its memory is saved, and it is stopped; where that cannot be done, SaveFallback counts."""
    STOP = "Stop"
    """Nothing more is done to it, and no later tier begins."""


class SaveFallback(StrEnum):
    """What becomes of a member whose memory is to be saved and cannot be."""

    NEVER = "Never"
    """It is left running."""
    FORCE = "Force"


class Others(StrEnum):
    """What becomes of running VMs of the plan's providers that no tier names."""

    REFUSE = "Refuse"
    FIRST = "First"
    LAST = "Last"
    IGNORE = "Ignore"


class Model(BaseModel):
    """The base of everything here."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True, extra="forbid")


class Metadata(BaseModel):
    """What a plan is called. What else Kubernetes keeps there is not the plan's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Name


class Budget(Model):
    """From the trigger to the last machine off; `reserve` of it is kept for what is left over in the end."""

    total: Timeout
    reserve: Duration = timedelta()

    @model_validator(mode="after")
    def _leaves_time(self) -> Self:
        if self.reserve >= self.total:
            raise ValueError("reserve must be less than total")
        return self

    @property
    def for_tiers(self) -> timedelta:
        """What they share."""
        return self.total - self.reserve


class ProviderRef(Model):
    """Names a Provider; without a namespace, one beside the plan."""

    name: Name
    namespace: Name | None = None

    @property
    def key(self) -> str:
        """What the provider is called where VMs are named."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Selector(Model):
    """VirtualMachine resources with all of these labels; their own lifecycle counts."""

    match_labels: Labels


class Members(Model):
    """Some VMs, in exactly one way: by name; by a provider and the labels that it tells of them; or by the labels of
    VirtualMachine resources."""

    vms: Annotated[tuple[VmName, ...], Field(max_length=MOST_MEMBERS)] = ()
    provider_ref: ProviderRef | None = None
    labels: Labels | None = None
    selector: Selector | None = None

    @model_validator(mode="after")
    def _in_one_way(self) -> Self:
        if bool(self.vms) + (self.provider_ref is not None) + (self.selector is not None) != 1:
            raise ValueError("give exactly one of vms, providerRef with labels, and selector")
        if (self.labels is None) != (self.provider_ref is None):
            raise ValueError("providerRef and labels belong together")
        return self


class ReadyTcp(Model):
    """One of the VM's own addresses takes a connection at this port, as its provider sees it."""

    port: Annotated[int, Field(ge=1, le=65535)]


class ReadyExec(Model):
    """A program in the guest, which exits with 0. No shell stands in between."""

    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=MOST_ARGUMENTS)]

    @model_validator(mode="after")
    def _names_a_program(self) -> Self:
        if not self.command[0]:
            raise ValueError("command: the program, its first item, must not be empty")
        return self


class Ready(Model):
    """When a VM that was started counts as up, and what is done if that takes too long. `signal` Power: when it runs,
    and nothing else is named."""

    signal: Literal["Agent", "Power"] = "Power"
    tcp: ReadyTcp | None = None
    exec: ReadyExec | None = None
    timeout: Timeout = timedelta(minutes=5)
    on_timeout: Literal["Continue", "Stop"] = "Continue"

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.signal == "Agent") + (self.tcp is not None) + (self.exec is not None) > 1:
            raise ValueError("give one of signal Agent, tcp and exec")
        return self


class Tier(Model):
    """VMs that go down together. Without `after` it follows the tier that is written before it; `after: []` follows
    none. `save_time` is how long it takes to save the memory of those that are late, all together; `ready` counts
    instead of that of `bringUp`."""

    name: Name
    members: Annotated[tuple[Members, ...], Field(min_length=1, max_length=MOST_MEMBERS)]
    after: Annotated[tuple[Name, ...], Field(max_length=MOST_TIERS)] | None = None
    minimum: Duration = timedelta()
    at_deadline: AtDeadline = AtDeadline.RESPECT
    save_fallback: SaveFallback | None = None
    save_time: Timeout | None = None
    ready: Ready | None = None

    @model_validator(mode="after")
    def _says_how_to_save_what_is_saved(self) -> Self:
        if self.save_fallback is not None and self.at_deadline is not AtDeadline.SAVE:
            raise ValueError("saveFallback has no meaning unless atDeadline is Save")
        if self.save_time is not None and self.at_deadline not in {AtDeadline.SAVE, AtDeadline.RESPECT}:
            raise ValueError("saveTime has no meaning with atDeadline Force or Stop")
        return self


class BringUp(Model):
    """What comes up afterwards, the tiers in reverse."""

    what: Literal["StoppedByThisRun"] = "StoppedByThisRun"
    ready: Ready = Ready()


class Ups(Model):
    """One UPS, as NUT writes it: UPS, UPS@HOST or UPS@HOST:PORT. `power_value`: how many of this site's supplies it
    feeds; 0: it is only looked at."""

    name: Annotated[str, StringConstraints(pattern=rf"^{UPS}$", max_length=300)]
    power_value: Annotated[int, Field(ge=0, le=1000)] = 1


class UpsTls(Model):
    """The certificate authority, a file of PEM, by which each upsd is known. With it no password goes in plain text."""

    ca: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class OnBattery(Model):
    """The tiers, and those alone, that go down when the site has been on battery for so long."""

    tiers: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_TIERS)]
    after: Interval = timedelta(minutes=2)


class Below(Model):
    """All goes down when a battery that is in use has less than this: percent of its charge, or time."""

    charge: Annotated[int, Field(ge=1, le=100)] | None = None
    runtime: Timeout | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.charge is None and self.runtime is None:
            raise ValueError("give charge, runtime or both")
        return self


class SecretRef(Model):
    """A Secret in the plan's namespace."""

    name: Name


class Nut(Model):
    """What the UPS says, by NUT's upsd. All goes down at its LB or FSD, whatever else is written here.

    The login: for `vmpower plan wait` a name and files; for the controller, which opens no file that a plan names, a
    Secret with `username`, `password` and, for TLS that is required, `ca.crt`."""

    ups: Annotated[tuple[Ups, ...], Field(min_length=1, max_length=20)]
    minimum_supplies: Annotated[int, Field(ge=1, le=20000)] = 1
    user: Annotated[str, StringConstraints(pattern=r"^[ -~]{1,128}$")] | None = None
    password_file: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    tls: UpsTls | None = None
    secret_ref: SecretRef | None = None
    on_battery: OnBattery | None = None
    below: Below | None = None
    lost_contact: Interval = timedelta(seconds=30)
    """On battery, without contact for so long: all goes down."""
    back_on_line: Interval = timedelta(minutes=1)
    """The power counts as back after so long without a break."""
    margin: Interval = timedelta(minutes=1)
    """Of what the UPS says its battery lasts, kept for the hosts themselves."""
    poll_every: Annotated[Interval, AfterValidator(_at_least_a_tenth)] = timedelta(seconds=5)

    @model_validator(mode="after")
    def _logs_in_one_way(self) -> Self:
        by_files = self.user is not None and self.password_file is not None
        named = self.user is not None or self.password_file is not None or self.tls is not None
        if by_files == (self.secret_ref is not None) or (self.secret_ref is not None and named):
            raise ValueError("give either user and passwordFile (with tls, if needed) or secretRef")
        return self

    @model_validator(mode="after")
    def _can_be_supplied(self) -> Self:
        names = [ups.name for ups in self.ups]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"ups: two are named {twice!r}")
        if sum(ups.power_value for ups in self.ups) < self.minimum_supplies:
            raise ValueError("minimumSupplies: is more than all powerValues together")
        return self


class CronSchedule(Model):
    """Set times. `cron` says when a run begins, `bring_up_at` when what that run stopped comes up again: at its first
    moment after the run began. Both are expressions of cron, by the clocks of this IANA time zone."""

    cron: Cron
    time_zone: TimeZone = "UTC"
    bring_up_at: Cron | None = None

    def begins_after(self, moment: datetime) -> datetime:
        """When the next run begins, in UTC."""
        return moments.next_moment(self.cron, ZoneInfo(self.time_zone), moment)

    def comes_up_after(self, began: datetime) -> datetime | None:
        """When what a run that began then has stopped comes up again, in UTC. None: on request alone."""
        if self.bring_up_at is None:
            return None
        return moments.next_moment(self.bring_up_at, ZoneInfo(self.time_zone), began)


class Trigger(Model):
    """What begins a run by itself: exactly one of these."""

    nut: Nut | None = None
    schedule: CronSchedule | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.nut is None) == (self.schedule is None):
            raise ValueError("give either nut or schedule")
        return self


class PlanSpec(Model):
    """The plan. `self` is the VM that vmpower runs on, or those where it runs on several: where it is not written the
    command line takes it as Last, and a controller as if it ran elsewhere."""

    budget: Budget
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1, max_length=MOST_TIERS)]
    others: Others = Others.REFUSE
    own: Annotated[Literal["Last"] | None, Field(alias="self")] = None
    bring_up: BringUp | None = None
    triggers: Annotated[tuple[Trigger, ...], Field(max_length=MOST_TRIGGERS)] = ()

    @property
    def nut(self) -> Nut | None:
        """That of the triggers, of which one at most is of UPSes."""
        return next((each.nut for each in self.triggers if each.nut), None)

    @property
    def schedules(self) -> tuple[CronSchedule, ...]:
        """Those of the triggers."""
        return tuple(each.schedule for each in self.triggers if each.schedule)

    @property
    def graph(self) -> Mapping[str, tuple[str, ...]]:
        """By the name of each tier those that end before it begins."""
        before: tuple[str, ...] = ()
        after: dict[str, tuple[str, ...]] = {}
        for tier in self.tiers:
            after[tier.name] = before if tier.after is None else tier.after
            before = (tier.name,)
        return after

    @model_validator(mode="after")
    def _has_an_order(self) -> Self:
        names = [tier.name for tier in self.tiers]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"tiers: two are named {twice!r}")
        for number, tier in enumerate(self.tiers):
            if unknown := next((name for name in tier.after or () if name not in names), None):
                raise ValueError(f"tiers.{number}.after: there is no tier {unknown!r}")
        try:
            TopologicalSorter(self.graph).prepare()
        except CycleError as error:
            raise ValueError(f"tiers: they wait for one another: {' after '.join(error.args[1])}") from error
        return self

    @model_validator(mode="after")
    def _minimums_fit(self) -> Self:
        for number, tier in enumerate(self.tiers):
            if tier.minimum > self.budget.for_tiers:
                raise ValueError(f"tiers.{number}.minimum: is more than the budget leaves for all tiers")
        return self

    @model_validator(mode="after")
    def _triggers_name_tiers(self) -> Self:
        """The tiers of a first stage can be run without the others."""
        for number, trigger in enumerate(self.triggers):
            named = trigger.nut.on_battery.tiers if trigger.nut and trigger.nut.on_battery else ()
            if wrong := self.problem_of(named):
                raise ValueError(f"triggers.{number}.nut.onBattery.tiers: {wrong}")
        return self

    @model_validator(mode="after")
    def _triggers_fit(self) -> Self:
        if sum(each.nut is not None for each in self.triggers) > 1:
            raise ValueError("triggers: give one nut at most; it has several ups")
        for number, trigger in enumerate(self.triggers):
            if trigger.schedule and trigger.schedule.bring_up_at and self.bring_up is None:
                raise ValueError(f"triggers.{number}.schedule.bringUpAt: has no meaning without bringUp")
        return self

    @model_validator(mode="after")
    def _ready_has_a_meaning(self) -> Self:
        for number, tier in enumerate(self.tiers):
            if tier.ready is not None and self.bring_up is None:
                raise ValueError(f"tiers.{number}.ready: has no meaning without bringUp")
        return self

    def ready(self, tier: str) -> Ready:
        """When a VM of this tier, which may be none that the plan writes, counts as up."""
        own = next((each.ready for each in self.tiers if each.name == tier), None)
        return own or (self.bring_up.ready if self.bring_up else Ready())

    def problem_of(self, tiers: Collection[str]) -> str:
        """What keeps these tiers from being run without the others; empty: nothing."""
        for name in tiers:
            if name not in self.graph:
                return f"there is no tier {name!r}"
            if missing := next((each for each in self.graph[name] if each not in tiers), None):
                return f"{name!r} comes after {missing!r}, which is not named"
        return ""

    def only(self, tiers: Collection[str]) -> Self:
        """The same for these tiers alone, and no other VM."""
        after = self.graph
        kept = tuple(each.model_copy(update={"after": after[each.name]}) for each in self.tiers if each.name in tiers)
        return self.model_copy(update={"tiers": kept, "others": Others.IGNORE, "triggers": ()})


class PowerPlan(Model):
    """The manifest."""

    api_version: Literal["infra.virtrigaud.io/v1beta1", "infra.vmpower/v1beta1"]
    kind: Literal["PowerPlan"]
    metadata: Metadata
    spec: PlanSpec
