"""The session, with real nodes on loopback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked
from providers.proxmox import endpoint
from providers.proxmox.session import Unanswered
from tests.unit.providers.proxmox.node import Dead, Make, Node, Silent, as_token, as_user, failure

SHUTDOWN = "nodes/pve1/qemu/100/status/shutdown"


# Calls


async def test_a_call_brings_the_data_of_its_answer(make: Make, node: Node) -> None:
    assert await make(node.url).call("GET", "version") == "version"


async def test_parameters_reach_a_read_in_its_query(make: Make, node: Node) -> None:
    await make(node.url).call("GET", "cluster/resources", {"type": "vm"})
    assert (node.asked[0].query, node.asked[0].body) == ("type=vm", "")


async def test_parameters_reach_a_change_in_its_body(make: Make, node: Node) -> None:
    await make(node.url).call("POST", SHUTDOWN, {"overrule-shutdown": True, "timeout": 300, "unset": None})
    assert (node.asked[0].query, node.asked[0].body) == ("", '{"overrule-shutdown": 1, "timeout": 300}')


async def test_a_list_arrives_whole_with_what_is_empty_in_it(make: Make, node: Node) -> None:
    command = ["/bin/sh", "-c", "echo 'a b' ü", ""]
    await make(node.url).call("POST", "nodes/pve1/qemu/100/agent/exec", {"command": command})
    assert json.loads(node.asked[0].body) == {"command": command}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_the_other_methods_are_those_that_are_asked_for(make: Make, node: Node, method: endpoint.Method) -> None:
    await make(node.url).call(method, "nodes/pve1/tasks/UPID:x")
    assert (node.asked[0].method, node.asked[0].path) == (method, "nodes/pve1/tasks/UPID:x")


async def test_what_proxmox_ve_refuses_becomes_an_error_of_ours(make: Make, node: Node) -> None:
    async def locked(_request: web.Request) -> web.StreamResponse:
        return failure(500, "VM is locked (backup)")

    node.answer = locked
    with pytest.raises(Locked, match="backup"):
        await make(node.url).call("POST", SHUTDOWN)


async def test_what_is_wrong_with_a_parameter_is_told(make: Make, node: Node) -> None:
    async def verifies(_request: web.Request) -> web.StreamResponse:
        return failure(400, "Parameter verification failed.", {"timeout": "type check failed"})

    node.answer = verifies
    with pytest.raises(CommandFailed, match="timeout: type check failed"):
        await make(node.url).call("POST", SHUTDOWN)


async def test_calls_one_after_the_other_share_a_connection(make: Make, node: Node) -> None:
    session = make(node.url)
    for _ in range(10):
        await session.call("POST", SHUTDOWN)
    assert len({asked.peer for asked in node.asked}) == 1


# One node instead of another


async def test_a_node_that_is_away_is_passed_over(make: Make, dead: Dead, node: Node) -> None:
    assert await make(dead.url, node.url).call("POST", SHUTDOWN) == SHUTDOWN


async def test_a_node_that_is_silent_is_passed_over_also_for_a_change(
    make: Make, silent: Silent, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "CONNECT_SECONDS", 0.2)
    assert await make(silent.url, node.url).call("POST", SHUTDOWN) == SHUTDOWN


async def test_the_node_that_answered_last_is_asked_first(make: Make, node: Node, second: Node) -> None:
    session = make(node.url, second.url)
    await session.call("GET", "version")
    node.answer = node.cut
    await session.call("GET", "version")
    node.answer = None
    await session.call("GET", "version")
    assert (len(node.asked), len(second.asked)) == (2, 2)


async def test_nodes_that_are_all_away_are_each_named(
    make: Make, dead: Dead, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "CONNECT_SECONDS", 0.2)
    with pytest.raises(HypervisorUnavailable) as refused:
        await make(dead.url, silent.url).call("GET", "version")
    assert f"{dead.url} (Connection refused), {silent.url} (it does not answer)" in str(refused.value)


async def test_a_node_that_comes_back_is_found_again(make: Make, node: Node) -> None:
    session = make(node.url)
    node.answer = node.cut
    with pytest.raises(HypervisorUnavailable):
        await session.call("GET", "version")
    node.answer = None
    assert await session.call("GET", "version") == "version"


async def test_a_read_that_broke_is_asked_of_the_next_node(make: Make, node: Node, second: Node) -> None:
    node.answer = node.cut
    assert await make(node.url, second.url).call("GET", "version") == "version"


async def test_a_read_that_takes_too_long_is_asked_of_the_next_node(make: Make, node: Node, second: Node) -> None:
    node.answer = node.hang
    assert await make(node.url, second.url).call("GET", "version", timeout=0.2) == "version"


async def test_a_node_that_fails_to_log_in_is_passed_over(make: Make, node: Node, second: Node) -> None:
    node.login_answer = node.cut
    assert await make(node.url, second.url).call("POST", SHUTDOWN) == SHUTDOWN


# What may have been done


async def test_a_change_that_broke_is_not_sent_again(make: Make, node: Node, second: Node) -> None:
    node.answer = node.cut
    with pytest.raises(Unanswered, match="not known whether"):
        await make(node.url, second.url).call("POST", SHUTDOWN)
    assert (len(node.asked), len(second.asked)) == (1, 0)


async def test_a_change_that_takes_too_long_is_not_sent_again(make: Make, node: Node, second: Node) -> None:
    node.answer = node.hang
    with pytest.raises(Unanswered, match="does not answer"):
        await make(node.url, second.url).call("POST", SHUTDOWN, timeout=0.2)
    assert (len(node.asked), len(second.asked)) == (1, 0)


async def test_after_a_change_that_broke_another_node_is_asked(make: Make, node: Node, second: Node) -> None:
    session = make(node.url, second.url)
    node.answer = node.cut
    with pytest.raises(Unanswered):
        await session.call("POST", SHUTDOWN)
    await session.call("GET", "version")
    assert [asked.path for asked in second.asked] == ["version"]


@pytest.mark.parametrize(("status", "unsure"), [(595, False), (503, False), (596, True), (599, True), (504, True)])
async def test_a_change_handed_to_a_node_that_is_away_may_have_been_done_unless_that_was_never_reached(
    make: Make, node: Node, status: int, unsure: bool
) -> None:
    async def away(_request: web.Request) -> web.StreamResponse:
        return failure(status, "Connection timed out")

    node.answer = away
    with pytest.raises(HypervisorUnavailable, match="Connection timed out") as refused:
        await make(node.url).call("POST", SHUTDOWN)
    assert isinstance(refused.value, Unanswered) is unsure


# Certificates


async def test_a_certificate_of_another_ca_is_told(make: Make, node: Node) -> None:
    with pytest.raises(HypervisorUnavailable, match=r"certificate does not verify.*--ca-file"):
        await make(node.url, ca_file=None).call("GET", "version")


async def test_a_node_with_another_fingerprint_gets_no_password(make: Make, node: Node) -> None:
    with pytest.raises(HypervisorUnavailable, match="another fingerprint"):
        await make(node.url, fingerprint="ab" * 32).call("GET", "version")
    assert (node.logins, node.asked) == ([], [])


async def test_a_node_with_the_right_fingerprint_needs_no_ca(make: Make, node: Node) -> None:
    assert await make(node.url, fingerprint=node.fingerprint).call("GET", "version") == "version"


async def test_a_ca_that_cannot_be_read_names_the_setting(make: Make, node: Node) -> None:
    with pytest.raises(HypervisorUnavailable, match=r"No such file.*--ca-file"):
        await make(node.url, ca_file="/nowhere/ca.pem").call("GET", "version")


@pytest.mark.parametrize("write", [as_token, as_user])
async def test_a_ca_that_was_renewed_is_read_at_the_next_call(
    make: Make, node: Node, authority: trustme.CA, tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    session, ours = make(node.url, ca_file=tmp_path / "ca.pem"), tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ours))
    with pytest.raises(HypervisorUnavailable, match="does not verify"):
        await session.call("GET", "version")
    authority.cert_pem.write_to_path(str(ours))
    assert await session.call("GET", "version") == "version"


# Closing


async def test_a_session_that_never_began_can_be_closed(make: Make, node: Node) -> None:
    await make(node.url).close()
    assert node.logins == []
