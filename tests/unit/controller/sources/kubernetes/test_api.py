"""What is asked of a real HTTP server, and what its answers are to us."""

import base64
from typing import Any

import pytest

from controller.sources.kubernetes.api import JSON_PATCH, MERGE, Api, ApiError, Foreign
from tests.unit.controller.sources.kubernetes.fakes import WEB
from tests.unit.controller.sources.kubernetes.server import Called, document, page, refusal, stream, vm

ALL = "/apis/infra.virtrigaud.io/v1beta1/virtualmachines"
ONE = "/apis/infra.virtrigaud.io/v1beta1/namespaces/default/virtualmachines/web"
SECRET = base64.b64encode(b"hunter2").decode()


async def test_pages_are_followed_to_the_last(http: Called) -> None:
    http.answer(page(vm("1"), vm("2"), token="more"), page(vm("3"), token="last"), page(vm("4")))
    assert [item["metadata"]["resourceVersion"] for item in await http.items()] == ["1", "2", "3", "4"]
    assert [asked.query.get("continue") for asked in http.server.asked] == ["", "more", "last"]


async def test_pages_are_asked_for_by_their_size_and_at_no_version(http: Called) -> None:
    http.answer(page())
    await http.items()
    assert http.server.asked[0].query == {"limit": "500", "continue": ""}


async def test_runs_of_which_each_may_be_large_come_in_small_pages(http: Called) -> None:
    http.answer(page())
    await http.items("PowerRun")
    assert http.server.asked[0].query["limit"] == "10"


async def test_resources_of_all_namespaces_are_one_list(http: Called) -> None:
    http.answer(page(), page())
    await http.items()
    await http.items("Provider")
    assert [asked.path for asked in http.server.asked] == [ALL, ALL.replace("virtualmachines", "providers")]


async def test_resources_of_one_namespace_are_asked_for_there(http: Called) -> None:
    http.api = Api(http.connection, "lab")
    http.answer(page(), stream())
    await http.items()
    await http.watch()
    assert {asked.path for asked in http.server.asked} == {
        "/apis/infra.virtrigaud.io/v1beta1/namespaces/lab/virtualmachines"
    }


async def test_a_page_that_can_no_longer_be_had_is_told_by_its_code(http: Called) -> None:
    http.answer(page(vm(), token="old"), refusal(410, "Expired", "The provided continue parameter is too old"))
    with pytest.raises(ApiError) as raised:
        await http.items()
    assert raised.value.status == 410


async def test_metadata_is_changed_by_a_merge_patch_or_a_json_patch(http: Called) -> None:
    http.answer(document({}), document({}))
    await http.api.patch(WEB, {"metadata": {"finalizers": []}})
    await http.api.patch(WEB, [{"op": "remove", "path": "/x"}], JSON_PATCH)
    merge, json_patch = http.server.asked
    assert (merge.method, merge.path, merge.content_type) == ("PATCH", ONE, MERGE)
    assert merge.body == {"metadata": {"finalizers": []}}
    assert (json_patch.method, json_patch.path, json_patch.content_type) == ("PATCH", ONE, JSON_PATCH)
    assert json_patch.body == [{"op": "remove", "path": "/x"}]


async def test_a_status_is_changed_by_a_json_patch_of_the_subresource(http: Called) -> None:
    operations = [{"op": "add", "path": "/status", "value": {"phase": "Off"}}]
    http.answer(document({}))
    await http.api.patch_status(WEB, operations)
    (asked,) = http.server.asked
    assert (asked.method, asked.path, asked.content_type) == ("PATCH", ONE + "/status", JSON_PATCH)
    assert asked.body == operations


async def test_a_resource_is_created_in_its_namespace(http: Called) -> None:
    http.answer(document({"metadata": {"name": "night-1"}}))
    await http.create()
    (asked,) = http.server.asked
    assert (asked.method, asked.path) == ("POST", ALL.replace("virtualmachines", "namespaces/lab/powerruns"))
    assert asked.body == {
        "apiVersion": "infra.virtrigaud.io/v1beta1",
        "kind": "PowerRun",
        "metadata": {"name": "night-1", "namespace": "lab"},
        "spec": {"planRef": {"name": "night"}},
    }


async def test_an_object_is_deleted_if_it_is_the_very_one(http: Called) -> None:
    http.answer(document({"kind": "Status", "status": "Success"}))
    await http.delete_object()
    (asked,) = http.server.asked
    assert (asked.method, asked.path) == ("DELETE", ALL.replace("virtualmachines", "namespaces/lab/powerruns/night-1"))
    assert asked.body["preconditions"] == {"uid": "uid-1"}


@pytest.mark.parametrize("code", [404, 409])
async def test_one_that_is_gone_or_another_by_now_is_left(http: Called, code: int) -> None:
    http.answer(refusal(code))
    await http.delete_object()


async def test_an_event_is_created_in_its_namespace(http: Called) -> None:
    http.answer(document({"metadata": {}, "involvedObject": {}}))
    await http.create_event("lab")
    (asked,) = http.server.asked
    assert (asked.method, asked.path, asked.body["reason"]) == ("POST", "/api/v1/namespaces/lab/events", "Forced")


async def test_a_secret_is_read_by_its_name_and_comes_in_base64(http: Called) -> None:
    http.answer(document({"type": "vmpower/nut", "data": {"password": SECRET}}))
    assert await http.api.secret("lab", "login") == ("vmpower/nut", {"password": SECRET})
    assert (http.server.asked[0].method, http.server.asked[0].path) == ("GET", "/api/v1/namespaces/lab/secrets/login")


async def test_a_secret_without_data_is_empty(http: Called) -> None:
    http.answer(document({}))
    assert await http.secret() == ("", {})


def node(**info: Any) -> Any:
    return {"metadata": {"name": "n"}, "status": {"nodeInfo": {"machineID": "m"} | info} if info else {}}


async def test_all_nodes_tell_what_their_firmware_says_page_by_page(http: Called) -> None:
    first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [node(systemUUID="4C4C4544-A")]}
    last = {"metadata": {"resourceVersion": "7"}, "items": [node(systemUUID="b")]}
    http.answer(document(first), document(last))
    assert list(await http.system_uuids()) == ["4C4C4544-A", "b"]
    asked = [(one.method, one.path, one.query.get("continue")) for one in http.server.asked]
    assert asked == [("GET", "/api/v1/nodes", ""), ("GET", "/api/v1/nodes", "more")]


@pytest.mark.parametrize("silent", [node(), node(systemUUID=""), node(systemUUID=None), {}])
async def test_a_node_that_has_told_nothing_yet_is_none_of_ours(http: Called, silent: Any) -> None:
    http.answer(document({"metadata": {"resourceVersion": "7"}, "items": [silent, node(systemUUID="b")]}))
    assert list(await http.system_uuids()) == ["b"]


def discovered(*categories: list[str] | None) -> Any:
    """What discovery says of the group's resources, and of what else it has: its two kinds have these categories."""
    rows = [
        {"name": name, "singularName": "", "namespaced": True, "kind": "X", "verbs": []}
        | ({"categories": told} if told else {})
        for name, told in zip(("virtualmachines", "providers"), categories, strict=True)
    ]
    others: list[dict[str, Any]] = [
        {"name": name, "singularName": "", "namespaced": True, "kind": "Y", "verbs": []}
        for name in ("vmclasses", "virtualmachines/status")
    ]
    return document(
        {"kind": "APIResourceList", "groupVersion": "infra.virtrigaud.io/v1beta1", "resources": rows + others}
    )


async def test_our_own_resources_are_told_by_their_category(http: Called) -> None:
    http.answer(discovered(["vmpower"], ["all", "vmpower"]))
    await http.api.require_ours()
    assert [asked.path for asked in http.server.asked] == ["/apis/infra.virtrigaud.io/v1beta1"]


async def test_resources_of_another_controller_are_refused_with_what_to_do(http: Called) -> None:
    http.answer(discovered(["vmpower"], None))
    with pytest.raises(
        Foreign, match=r"The providers of infra.virtrigaud.io are another.*install it with apiGroup infra.vmpower"
    ):
        await http.api.require_ours()


async def test_another_group_has_paths_of_its_own(http: Called) -> None:
    http.api = Api(http.connection, "lab", "infra.vmpower")
    http.answer(page(), document({}))
    await http.items()
    await http.api.patch(WEB, {})
    assert [asked.path for asked in http.server.asked] == [
        "/apis/infra.vmpower/v1beta1/namespaces/lab/virtualmachines",
        "/apis/infra.vmpower/v1beta1/namespaces/default/virtualmachines/web",
    ]
