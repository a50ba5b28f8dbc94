from collections.abc import Mapping
from datetime import timedelta
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
    assert (read.others, read.own, read.bring_up) == (Others.REFUSE, "Last", None)
    assert (read.tiers[0].minimum, read.tiers[0].at_deadline) == (timedelta(), AtDeadline.RESPECT)


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
        ({"tiers": tiers({"atDeadline": "Save"})}, "tiers.0.atDeadline: Input should be 'Respect', 'Force' or 'Stop'"),
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
