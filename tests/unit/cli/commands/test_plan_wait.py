import json
import os
import signal
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.commands.conftest import SPEC, Plan
from tests.unit.cli.fake import FakeProvider


@pytest.fixture
def upsd() -> Iterator[dict[str, str]]:
    """The answers of an upsd by what it is asked, and `address`, where it is."""
    answers = {"STARTTLS": "ERR FEATURE-NOT-CONFIGURED", "GET VAR lab ups.status": 'VAR lab ups.status "FSD OB LB"'}
    answers |= {f"GET VAR lab battery.{name}": "ERR VAR-NOT-SUPPORTED" for name in ("charge", "runtime")}

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                said = line.decode().strip()
                answers["asked"] = answers.get("asked", "") + said + "\n"
                self.wfile.write(answers.get(said, "OK").encode() + b"\n")
                if said.endswith("battery.runtime") and answers.pop("then", ""):
                    os.kill(os.getpid(), signal.SIGTERM)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers["address"] = f"lab@127.0.0.1:{server.server_address[1]}"
        yield answers
        server.shutdown()


@pytest.fixture
def trigger(upsd: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "password").write_text("secret-of-ours\n")
    nut = {"ups": [{"name": upsd["address"]}], "user": "vmpower", "passwordFile": "password", "pollEvery": "100ms"}
    return {"triggers": [{"nut": nut}]}


def test_at_fsd_all_goes_down_and_then_the_primary_may_go_on(
    plan: Plan, obedient: FakeProvider, trigger: dict[str, Any], upsd: dict[str, str]
) -> None:
    done = plan("wait", "FILE", **trigger)
    assert done.code == 0
    assert [request.vm for request in obedient.requests("Shutdown")] == ["id-web", "id-db"]
    assert f"├── begun by a trigger: {upsd['address']} says FSD\n" in done.out
    assert f"All goes down, and power that comes back does not end that: {upsd['address']} says FSD\n" in done.err
    assert upsd["asked"].splitlines()[-1] == "LOGOUT"


def test_a_run_that_a_trigger_began_is_reported_as_that(
    plan: Plan, obedient: FakeProvider, trigger: dict[str, Any], upsd: dict[str, str]
) -> None:
    plan("wait", "FILE", **trigger)
    assert json.loads(plan("report", "-o", "json").out)["start"]["trigger"] == f"{upsd['address']} says FSD"


def test_the_password_is_shown_nowhere(
    plan: Plan, obedient: FakeProvider, trigger: dict[str, Any], upsd: dict[str, str], tmp_path: Path
) -> None:
    done = plan("wait", "FILE", **trigger)
    records = "".join(file.read_text() for file in (tmp_path / "state").rglob("*.jsonl"))
    assert 'PASSWORD "secret-of-ours"' in upsd["asked"]
    assert "secret-of-ours" not in done.out + done.err + records


def test_a_login_that_is_refused_is_told(
    plan: Plan, obedient: FakeProvider, trigger: dict[str, Any], upsd: dict[str, str]
) -> None:
    upsd["LOGIN lab"] = "ERR ACCESS-DENIED"
    done = plan("wait", "FILE", **trigger)
    assert done.code == 4
    assert "upsd answers 'ACCESS-DENIED'. The operator sets user and password (upsd.users).\n" in done.err
    assert obedient.requests("Shutdown") == []


def test_a_plan_that_is_refused_is_told_before_the_ups_is_asked(
    plan: Plan, provider: FakeProvider, vms: list[pb.VM], trigger: dict[str, Any], upsd: dict[str, str]
) -> None:
    assert plan("wait", "FILE", others="Refuse", tiers=SPEC["tiers"][:1], **trigger).code == 2
    assert "asked" not in upsd


@pytest.mark.parametrize("triggers", [[], [{"schedule": {"cron": "@daily"}}]])
def test_a_plan_without_a_ups_waits_for_nothing(plan: Plan, triggers: list[Any]) -> None:
    told = plan("wait", "FILE", triggers=triggers)
    assert told.code == 2
    assert "has no nut in spec.triggers, so that there is no UPS to wait for. A schedule is followed by" in told.err


def test_a_ups_is_followed_wherever_it_is_among_the_triggers(
    plan: Plan, obedient: FakeProvider, trigger: dict[str, Any]
) -> None:
    assert plan("wait", "FILE", triggers=[{"schedule": {"cron": "@daily"}}, *trigger["triggers"]]).code == 0
    assert [request.vm for request in obedient.requests("Shutdown")] == ["id-web", "id-db"]


def test_what_is_wrong_with_the_login_is_told_by_its_field(plan: Plan, trigger: dict[str, Any]) -> None:
    nut = {"ups": trigger["triggers"][0]["nut"]["ups"], "secretRef": {"name": "ups"}}
    told = plan("wait", "FILE", triggers=[{"schedule": {"cron": "@daily"}}, {"nut": nut}])
    assert (told.code, "spec.triggers.1.nut: secretRef is for the controller" in told.err) == (2, True)


def test_told_to_leave_it_logs_out(
    plan: Plan, obedient: FakeProvider, trigger: dict[str, Any], upsd: dict[str, str]
) -> None:
    upsd["GET VAR lab ups.status"] = 'VAR lab ups.status "OL"'
    upsd["then"] = "SIGTERM"
    told = plan("wait", "FILE", **trigger)
    assert (told.code, upsd["asked"].splitlines()[-1]) == (130, "LOGOUT")
