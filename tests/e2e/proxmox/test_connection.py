"""The connection to the cluster: lost and found, without quorum or a login, in the middle of shutdowns."""

import time

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.served import Served, logins, served, until_health, wait_for
from tests.rigs.process import Program

NEVER = pb.ESCALATION_NEVER


# Endpoints


def test_another_node_is_asked_when_the_first_is_gone() -> None:
    with served({"web": {"shutdown_secs": 5}}) as it:
        operation = it.ask("web")
        it.cluster.endpoint_down(0)
        assert (it.ending(operation), it.asked("web")) == ("GRACEFUL", ["shutdown"])


def test_a_node_that_was_gone_is_asked_again_when_the_other_one_goes() -> None:
    with served({"web": {"shutdown_secs": 1}, "mail": {"shutdown_secs": 1}}) as it:
        it.cluster.endpoint_down(0)
        assert it.ending(it.shutdown("web")) == "GRACEFUL"
        it.cluster.endpoint_up(0)
        it.cluster.endpoint_down(1)
        assert it.ending(it.shutdown("mail")) == "GRACEFUL"


MIXED: dict[str, dict[str, object]] = {
    "quick": {"shutdown_secs": 3},
    "slow": {"shutdown_secs": 14},
    "deaf": {"ignores": True},
    "spared": {"ignores": True},
    "ct": {"kind": "lxc", "shutdown_secs": 3},
    "deaf-ct": {"kind": "lxc", "ignores": True},
}
TIMEOUTS = {"deaf": 4, "spared": 4, "deaf-ct": 4}
ENDINGS = {
    "quick": "GRACEFUL",
    "slow": "GRACEFUL",
    "deaf": "FORCED/TIMEOUT",
    "spared": "STILL_RUNNING/TIMEOUT",
    "ct": "GRACEFUL",
    "deaf-ct": "FORCED/TIMEOUT",
}


def ask_all(it: Served) -> dict[str, pb.Operation]:
    force = dict.fromkeys(MIXED, pb.ESCALATION_FORCE) | {"spared": NEVER}
    return {name: it.ask(name, TIMEOUTS.get(name, 60), escalation=force[name]) for name in MIXED}


def require_right(it: Served, operations: dict[str, pb.Operation]) -> None:
    assert {name: it.ending(operation) for name, operation in operations.items()} == ENDINGS
    assert [it.asked(name) for name in MIXED] == [["shutdown"]] * len(MIXED)


def test_a_cluster_that_is_gone_for_ten_seconds_changes_no_verdict() -> None:
    with served(MIXED) as it:
        operations = ask_all(it)
        it.cluster.stop()
        until_health(it.provider.address, False)
        wait_for(time.time() + 10)
        it.cluster.start()
        require_right(it, operations)


def test_a_restart_while_the_cluster_is_gone_changes_no_verdict() -> None:
    with served(MIXED) as it:
        operations = ask_all(it)
        it.cluster.stop()
        it.provider.kill()
        Program.start(it.provider)  # it does not serve yet
        wait_for(time.time() + 10)
        it.cluster.start()
        require_right(it, operations)


@pytest.mark.timeout(300)  # 40 s of them until the silence is noticed
def test_a_cluster_that_falls_silent_is_reported_and_changes_no_verdict() -> None:
    with served(MIXED) as it:
        operations = ask_all(it)
        it.cluster.process.freeze()
        try:
            until_health(it.provider.address, False, 100)
            assert not [name for name, operation in operations.items() if name != "quick" and it.ended(operation)]
        finally:
            it.cluster.process.thaw()
        require_right(it, operations)


def test_a_silence_that_ends_in_time_is_no_outage() -> None:
    with served({"web": {"shutdown_secs": 3}}) as it:
        operation = it.ask("web")
        it.cluster.process.freeze()
        try:
            wait_for(time.time() + 8)
        finally:
            it.cluster.process.thaw()
        assert (it.ending(operation), it.asked("web")) == ("GRACEFUL", ["shutdown"])
        assert "hypervisor lost" not in it.provider.output()


# Quorum


def test_a_guest_is_asked_although_quorum_is_lost() -> None:
    with served({"web": {"shutdown_secs": 1}}) as it:
        it.cluster.lose_quorum()
        assert it.ending(it.shutdown("web")) == "GRACEFUL"


def test_quorum_that_is_lost_in_the_middle_changes_no_verdict() -> None:
    with served(MIXED) as it:
        operations = ask_all(it)
        it.cluster.lose_quorum()
        require_right(it, operations)


def test_a_start_waits_for_quorum() -> None:
    with served({"web": {"power": "off"}}) as it:
        it.cluster.lose_quorum()
        operation = it.calls.stub.PowerOn(pb.PowerOnRequest(vm="web"))
        it.provider.wait_output("no quorum")
        it.cluster.regain_quorum()
        assert it.ending(operation) == "STARTED"


def test_a_guest_of_has_is_asked_when_there_is_quorum_again() -> None:
    with served({"web": {"ha": "started", "shutdown_secs": 1}}, ha_delay=1) as it:
        it.cluster.lose_quorum()
        operation = it.ask("web")
        it.provider.wait_output("no quorum")
        it.cluster.regain_quorum()
        assert it.ending(operation) == "GRACEFUL"


def test_a_guest_of_has_for_which_quorum_is_lost_before_ha_acts_is_waited_for() -> None:
    with served({"web": {"ha": "started", "shutdown_secs": 1}}, ha_delay=8) as it:
        operation = it.ask("web", 20)
        it.cluster.lose_quorum()
        wait_for(time.time() + 8)
        assert not it.ended(operation)
        it.cluster.regain_quorum()
        assert (it.ending(operation), it.asked("web")) == ("GRACEFUL", ["shutdown"])


# Logins


def test_a_ticket_that_expires_in_the_middle_is_renewed_without_anybody_noticing() -> None:
    with served(MIXED, ticket=True) as it:
        operations = ask_all(it)
        before = logins(it.cluster)
        it.cluster.expire_tickets()
        require_right(it, operations)
        assert logins(it.cluster) == before + 1
        assert "hypervisor lost" not in it.provider.output()


def test_a_password_that_changes_in_the_middle_is_used_at_the_next_login() -> None:
    with served({"web": {"shutdown_secs": 5}}, ticket=True) as it:
        operation = it.ask("web")
        it.cluster.rotate_password("Neu-2!")
        it.cluster.expire_tickets()
        assert it.ending(operation) == "GRACEFUL"


def test_a_token_that_changes_in_the_middle_is_used_at_once() -> None:
    with served({"web": {"shutdown_secs": 5}}) as it:
        operation = it.ask("web")
        it.cluster.rotate_token("5b4e3c11-4d0a-4d5e-8f2f-2f9a90b7a1c6")
        assert it.ending(operation) == "GRACEFUL"
