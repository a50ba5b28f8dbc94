"""Labels of namespaces, for a controller that watches all of them."""

from typing import Any

import pytest

from controller.sources.kubernetes.api import ApiError
from controller.sources.kubernetes.lease import Terms
from controller.sources.kubernetes.source import KubernetesSource
from tests.unit.controller.sources.kubernetes.fakes import raw
from tests.unit.controller.sources.kubernetes.watched import Watched

pytestmark = pytest.mark.looptime


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels}}


@pytest.fixture
def everywhere(watched: Watched) -> Watched:
    watched.source = KubernetesSource(None, "", Terms("vmpower", "vmpower", "controller-1"))
    return watched


async def test_labels_are_told_before_work_begins(everywhere: Watched) -> None:
    await everywhere.start(namespace("team-a", tenant="yes"), raw())
    told = everywhere.told()
    assert "labelled team-a {'tenant': 'yes'}" in told
    assert told[-1] == "synced"


async def test_a_change_of_labels_is_told_and_no_other_one(everywhere: Watched) -> None:
    await everywhere.start(namespace("team-a", tenant="yes"))
    changed = namespace("team-a", tenant="yes")
    changed["metadata"]["annotations"] = {"a": "b"}
    assert await everywhere.put(changed) == []
    assert await everywhere.put(namespace("team-a")) == ["labelled team-a {}"]


async def test_who_may_not_see_namespaces_works_without_their_labels(everywhere: Watched) -> None:
    forbidden = ApiError(403, "forbidden")
    list_objects = everywhere.api.list

    async def refuse(kind: str) -> Any:
        if kind == "Namespace":
            raise forbidden
        async for page in list_objects(kind):
            yield page

    everywhere.api.list = refuse  # type: ignore[method-assign]
    await everywhere.start(raw())
    assert everywhere.told()[-1] == "synced"


async def test_who_watches_one_namespace_looks_at_no_other_ones(watched: Watched) -> None:
    await watched.start(namespace("team-a", tenant="yes"))
    assert watched.told() == ["synced"]
