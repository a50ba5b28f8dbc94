from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from plans.model import AtDeadline, Others, PlanSpec, PowerPlan, ProviderRef

BATCH = {"name": "batch", "members": [{"providerRef": {"name": "pve"}, "labels": {"tags": "batch"}}]}
DATABASES = {"name": "databases", "members": [{"vms": ["vcenter/db-1", "lab/dc/vm/db-2"]}], "minimum": "4m"}
SPEC: dict[str, Any] = {"budget": {"total": "12m", "reserve": "90s"}, "tiers": [BATCH, DATABASES]}


def plan(**changes: Any) -> PlanSpec:
    return PlanSpec.model_validate(SPEC | changes)


def tiers(*changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The two, changed in turn; more are as the first."""
    return [{**(DATABASES if number == 1 else BATCH), **change} for number, change in enumerate(changes)]


def refusal(**changes: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        plan(**changes)
    return "\n".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in refused.value.errors())


def test_what_is_not_written_has_a_default() -> None:
    read = plan()
    assert (read.others, read.own, read.bring_up) == (Others.REFUSE, None, None)
    assert (read.tiers[0].minimum, read.tiers[0].at_deadline) == (timedelta(), AtDeadline.RESPECT)


def test_that_self_is_last_is_known_from_that_it_is_not_written() -> None:
    assert plan(self="Last").own == "Last"


def test_the_reserve_is_not_for_the_tiers() -> None:
    assert plan().budget.for_tiers == timedelta(minutes=10, seconds=30)


def test_a_tier_follows_the_one_before_it() -> None:
    assert plan().graph == {"batch": (), "databases": ("batch",)}


def test_a_tier_that_follows_none_says_so() -> None:
    assert plan(tiers=tiers({}, {"after": []})).graph == {"batch": (), "databases": ()}


def test_tiers_are_a_graph() -> None:
    written = tiers({}, {}, {"name": "last", "after": ["batch", "databases"]})
    assert plan(tiers=written).graph["last"] == ("batch", "databases")


def test_a_provider_of_another_namespace_is_named_with_it() -> None:
    assert [ProviderRef(name="pve").key, ProviderRef(name="pve", namespace="prod").key] == ["pve", "prod/pve"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": {"total": "90s", "reserve": "90s"}}, "budget: Value error, reserve must be less than total"),
        ({"budget": {"total": "0s"}}, "budget.total: Value error, must be more than 0s"),
        ({"tiers": []}, "tiers: Tuple should have at least 1 item"),
        ({"tiers": [BATCH, BATCH]}, "tiers: two are named 'batch'"),
        ({"tiers": tiers({"after": ["nowhere"]})}, "tiers.0.after: there is no tier 'nowhere'"),
        ({"tiers": tiers({"after": ["databases"]}, {})}, "they wait for one another"),
        ({"tiers": tiers({"after": ["batch"]})}, "they wait for one another: batch after batch"),
        ({"tiers": tiers({}, {"minimum": "11m"})}, "tiers.1.minimum: is more than the budget leaves"),
        (
            {"tiers": tiers({"atDeadline": "Keep"})},
            "tiers.0.atDeadline: Input should be 'Respect', 'Force', 'Save' or 'Stop'",
        ),
        (
            {"tiers": tiers({"atDeadline": "Force", "saveFallback": "Force"})},
            "tiers.0: Value error, saveFallback has no meaning unless atDeadline is Save",
        ),
        (
            {"tiers": tiers({"atDeadline": "Save", "saveFallback": "Ask"})},
            "tiers.0.saveFallback: Input should be 'Never' or 'Force'",
        ),
        (
            {"tiers": tiers({"atDeadline": "Stop", "saveTime": "1m"})},
            "tiers.0: Value error, saveTime has no meaning with atDeadline Force or Stop",
        ),
        (
            {"tiers": tiers({"atDeadline": "Save", "saveTime": "0s"})},
            "tiers.0.saveTime: Value error, must be more than",
        ),
        ({"tiers": tiers({"ready": {"signal": "Agent"}})}, "tiers.0.ready: has no meaning without bringUp"),
        ({"bringUp": {"ready": {"tcp": {"port": 0}}}}, "bringUp.ready.tcp.port: Input should be greater than or equal"),
        (
            {"bringUp": {"ready": {"exec": {"command": ["", "a"]}}}},
            "bringUp.ready.exec: Value error, command: the program, its first item, must not be empty",
        ),
        (
            {"bringUp": {"ready": {"signal": "Agent", "tcp": {"port": 22}}}},
            "bringUp.ready: Value error, give one of signal Agent, tcp and exec",
        ),
        ({"tiers": tiers({"members": []})}, "tiers.0.members: Tuple should have at least 1 item"),
        ({"tiers": tiers({"members": [{}]})}, "tiers.0.members.0: Value error, give exactly one of vms"),
        ({"tiers": tiers({"members": [{"providerRef": {"name": "pve"}}]})}, "providerRef and labels belong together"),
        ({"tiers": tiers({"members": [{"vms": ["db-1"]}]})}, "tiers.0.members.0.vms.0: Value error, write PROVIDER/VM"),
        ({"teirs": []}, "teirs: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_plan_is_refused_by_its_field(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(**changes)


def manifest(**changes: Any) -> dict[str, Any]:
    document = {"apiVersion": "infra.vmpower/v1beta1", "kind": "PowerPlan", "metadata": {"name": "night"}, "spec": SPEC}
    return document | changes


def test_a_manifest_is_read_with_whatever_else_its_metadata_has() -> None:
    read = PowerPlan.model_validate(manifest(metadata={"name": "night", "labels": {"a": "b"}}))
    assert (read.metadata.name, read.spec) == ("night", plan())


@pytest.mark.parametrize("changes", [{"kind": "PowerRun"}, {"apiVersion": "v1"}, {"metadata": {}}, {"status": {}}])
def test_what_is_no_power_plan_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PowerPlan.model_validate(manifest(**changes))


# Triggers

NUT: dict[str, Any] = {"ups": [{"name": "lab@nas"}], "user": "vmpower", "passwordFile": "password"}


def triggered(**changes: Any) -> dict[str, Any]:
    return {"triggers": [{"nut": NUT | changes}]}


def test_the_controllers_login_is_in_a_secret() -> None:
    nut = plan(triggers=[{"nut": {"ups": NUT["ups"], "secretRef": {"name": "ups"}}}]).nut
    assert nut is not None
    assert nut.secret_ref is not None
    assert nut.secret_ref.name == "ups"


def test_a_trigger_has_defaults() -> None:
    nut = plan(**triggered(onBattery={"tiers": ["batch"]})).nut
    assert nut is not None
    assert nut.on_battery is not None
    assert (nut.on_battery.after, nut.minimum_supplies, nut.below) == (timedelta(minutes=2), 1, None)
    assert (nut.lost_contact, nut.back_on_line) == (timedelta(seconds=30), timedelta(minutes=1))


@pytest.mark.parametrize("name", ["lab", "lab@nas", "lab@nas.example.com:3493", "lab@[::1]", "lab@192.0.2.1"])
def test_a_ups_is_named_as_nut_names_it(name: str) -> None:
    nut = plan(**triggered(ups=[{"name": name}])).nut
    assert nut is not None
    assert nut.ups[0].name == name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ups": []}, "triggers.0.nut.ups: Tuple should have at least 1 item"),
        ({"ups": [{"name": "a b"}]}, "triggers.0.nut.ups.0.name: String should match pattern"),
        ({"ups": [{"name": "lab@nas\nX"}]}, "triggers.0.nut.ups.0.name: String should match pattern"),
        ({"secretRef": {"name": "ups"}}, "triggers.0.nut: Value error, give either user and passwordFile"),
        ({"user": None}, "triggers.0.nut: Value error, give either user and passwordFile"),
        ({"ups": NUT["ups"] * 2}, "triggers.0.nut: Value error, ups: two are named 'lab@nas'"),
        ({"minimumSupplies": 2}, "triggers.0.nut: Value error, minimumSupplies: is more than all powerValues"),
        ({"user": "a\nb"}, "triggers.0.nut.user: String should match pattern"),
        ({"password": "secret"}, "triggers.0.nut.password: Extra inputs are not permitted"),
        ({"below": {}}, "triggers.0.nut.below: Value error, give charge, runtime or both"),
        ({"below": {"charge": 101}}, "triggers.0.nut.below.charge: Input should be less than or equal to 100"),
        ({"pollEvery": "10ms"}, "triggers.0.nut.pollEvery: Value error, must be at least 100ms"),
        ({"onBattery": {"tiers": ["x"]}}, "triggers.0.nut.onBattery.tiers: there is no tier 'x'"),
        (
            {"onBattery": {"tiers": ["databases"]}},
            "triggers.0.nut.onBattery.tiers: 'databases' comes after 'batch', which is not named",
        ),
    ],
)
def test_what_is_no_trigger_is_refused_by_its_field(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(**triggered(**changes))


def scheduled(cron: str = "0 22 * * *", **changes: Any) -> dict[str, Any]:
    return {"triggers": [{"schedule": {"cron": cron, **changes}}], "bringUp": {}}


def test_set_times_are_in_utc_where_no_time_zone_is_written() -> None:
    (schedule,) = plan(**scheduled()).schedules
    assert schedule.begins_after(datetime(2030, 1, 1, tzinfo=UTC)) == datetime(2030, 1, 1, 22, tzinfo=UTC)


def test_both_set_times_are_by_the_clocks_of_the_time_zone() -> None:
    (schedule,) = plan(**scheduled(timeZone="Europe/Berlin", bringUpAt="0 6 * * *")).schedules
    began = schedule.begins_after(datetime(2030, 1, 1, tzinfo=UTC))
    assert began == datetime(2030, 1, 1, 21, tzinfo=UTC)
    assert schedule.comes_up_after(began) == datetime(2030, 1, 2, 5, tzinfo=UTC)


def test_a_run_that_begins_when_another_one_comes_up_waits_for_the_time_after_that() -> None:
    (schedule,) = plan(**scheduled(bringUpAt="0 22 * * *")).schedules
    began = datetime(2030, 1, 1, 22, tzinfo=UTC)
    assert schedule.comes_up_after(began) == began + timedelta(days=1)


def test_without_bring_up_at_nothing_comes_up_by_itself() -> None:
    (schedule,) = plan(**scheduled()).schedules
    assert schedule.comes_up_after(datetime(2030, 1, 1, tzinfo=UTC)) is None


def test_a_plan_has_triggers_of_both_kinds() -> None:
    both = plan(triggers=[*scheduled()["triggers"], *triggered()["triggers"], *scheduled("@daily")["triggers"]])
    assert both.nut is not None
    assert [schedule.cron for schedule in both.schedules] == ["0 22 * * *", "@daily"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"triggers": [{}]}, "triggers.0: Value error, give either nut or schedule"),
        ({"triggers": [{"nut": NUT, "schedule": {"cron": "@daily"}}]}, "triggers.0: Value error, give either nut or"),
        ({"triggers": [{"nut": NUT}] * 2}, "triggers: give one nut at most; it has several ups"),
        (
            {"triggers": [{"schedule": {"cron": "@daily"}}] * 11},
            "triggers: Tuple should have at most 10 items after validation",
        ),
        (scheduled("0 0 30 2 *"), "triggers.0.schedule.cron: Value error, there is no such day-of-month"),
        (scheduled("0 0 * *"), "triggers.0.schedule.cron: Value error, write five fields"),
        (scheduled("*" * 201), "triggers.0.schedule.cron: String should have at most 200 characters"),
        (scheduled(timeZone="Europe/Atlantis"), "triggers.0.schedule.timeZone: Value error, there is no time zone"),
        (scheduled(timeZone="a b"), "triggers.0.schedule.timeZone: String should match pattern"),
        (scheduled(bringUpAt="0 25 * * *"), "triggers.0.schedule.bringUpAt: Value error, there is no such hour"),
        (
            scheduled(bringUpAt="@daily") | {"bringUp": None},
            "triggers.0.schedule.bringUpAt: has no meaning without bringUp",
        ),
    ],
)
def test_what_is_no_set_time_is_refused_by_its_field(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(**changes)


def test_a_plan_of_some_tiers_alone_has_no_other_vm() -> None:
    whole = plan(others="Last", tiers=tiers({}, {}, {"name": "last", "after": []}), **triggered())
    some = whole.only(["batch", "last"])
    assert some.graph == {"batch": (), "last": ()}
    assert (some.others, some.triggers, some.budget) == (Others.IGNORE, (), whole.budget)
    assert PlanSpec.model_validate_json(some.model_dump_json(by_alias=True)) == some


def test_a_tier_s_own_readiness_counts_instead_of_that_of_all() -> None:
    own = {"ready": {"tcp": {"port": 5432}}}
    read = plan(tiers=tiers({}, own), bringUp={"ready": {"signal": "Agent"}})
    first, second = (read.ready(tier.name) for tier in read.tiers)
    assert (first.signal, second.signal) == ("Agent", "Power")
    assert second.tcp is not None
    assert read.ready("(others)").signal == "Agent"
