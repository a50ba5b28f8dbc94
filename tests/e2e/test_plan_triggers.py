"""Plans whose UPS the controller follows, on a directory: a real upsd with dummy-ups, upsmon as the primary, and guests
of the sim. Real processes."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.controller import Controller
from tests.rigs.nut.site import Site
from tests.rigs.polling import poll
from tests.rigs.process import Provider

VMS = ("batch", "app", "db")
UP, DOWN = pb.POWER_STATE_ON, pb.POWER_STATE_OFF


@pytest.fixture
def lab(three_guests: Provider) -> Provider:
    return three_guests


@pytest.fixture
def guests(lab: Provider) -> Iterator[Calls]:
    with calls(lab.address) as guests:
        yield guests


Follow = Callable[..., Controller]


@pytest.fixture
def follow(lab: Provider, tmp_path: Path) -> Iterator[Follow]:
    """A controller that has read the UPS of a site, by a trigger with these changes. All VMs are wanted On."""
    controller = Controller(tmp_path)
    controller.command += ["--secrets-dir", str(tmp_path / "secrets")]
    controller.provider(lab.address)
    for vm in VMS:
        controller.vm(vm, "On")

    def start(site: Site, **changes: Any) -> Controller:
        login = tmp_path / "secrets" / "default" / "ups"
        login.mkdir(parents=True, exist_ok=True)
        (login / "username").write_text("vmpower\n")
        (login / "password").write_text(site.password_file.read_text())
        controller.write("night", json.dumps(plan(site, **changes)))
        controller.start()
        controller.wait_output(f"{site.ups}: OL")
        for vm in VMS:
            controller.wait_status(vm, lambda status: status.get("powerState") == "On")
        return controller

    yield start
    controller.close()


def plan(site: Site, **changes: Any) -> dict[str, Any]:
    nut = {
        "ups": [{"name": site.ups}],
        "secretRef": {"name": "ups"},
        "onBattery": {"after": "1s", "tiers": ["batch"]},
        "below": {"charge": 40},
        "lostContact": "1s",
        "backOnLine": "500ms",
        "pollEvery": "100ms",
    }
    tiers = [{"name": vm, "members": [{"vms": [f"lab/{vm}"]}]} for vm in VMS]
    spec = {"budget": {"total": "90s"}, "tiers": tiers, "bringUp": {}, "triggers": [{"nut": nut | changes}]}
    head = {"apiVersion": "infra.virtrigaud.io/v1beta1", "kind": "PowerPlan", "metadata": {"name": "night"}}
    return head | {"spec": spec}


def states(guests: Calls) -> list[pb.PowerState.ValueType]:
    found = {vm.name: vm.power_state for vm in guests.stub.ListVMs(pb.ListVMsRequest()).vms}
    return [found[vm] for vm in VMS]


def kinds(guests: Calls, vm: str) -> list[pb.OperationKind.ValueType]:
    """Of the operations that a VM has had, newest first."""
    return [each.kind for each in guests.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations]


def reasons(controller: Controller) -> list[str]:
    """What people were told of the plan."""
    said = [json.loads(line) for line in controller.output().splitlines() if line.startswith("{")]
    return [line["reason"] for line in said if line.get("resource") == "PowerPlan default/night"]


def test_a_flap_of_the_power_is_an_event_and_nothing_more(site: Site, follow: Follow, guests: Calls) -> None:
    controller = follow(site, onBattery={"after": "1m", "tiers": ["batch"]})
    site.says("OB DISCHRG")
    controller.wait_output(f"{site.ups}: DISCHRG OB")
    site.says("OL CHRG")
    controller.wait_output(f"{site.ups}: CHRG OL")
    assert reasons(controller) == ["UpsRead"] * 3
    assert [kinds(guests, vm) for vm in VMS] == [[], [], []]


def test_on_battery_for_its_time_the_named_tiers_go_down_are_held_and_come_up_with_the_power(
    site: Site, follow: Follow, guests: Calls
) -> None:
    controller = follow(site)
    site.says("OB DISCHRG", charge=90)
    held = controller.wait_status("batch", lambda status: status.get("powerState") == "Off")
    assert held["heldBy"].startswith("night-")
    assert states(guests) == [DOWN, UP, UP]
    site.says("OL CHRG")
    controller.wait_output("What was stopped has been brought up again")
    up = controller.wait_status("batch", lambda status: status.get("powerState") == "On")
    assert "heldBy" not in up
    assert kinds(guests, "batch") == [pb.OPERATION_KIND_POWER_ON, pb.OPERATION_KIND_SHUTDOWN]


def test_power_that_is_back_in_tier_2_aborts_and_brings_up_in_order(site: Site, follow: Follow, guests: Calls) -> None:
    controller = follow(site)
    site.says("OB DISCHRG", charge=30)
    poll(lambda: bool(kinds(guests, "app")), 30)
    site.says("OL CHRG")
    controller.wait_output("What was stopped has been brought up again")
    started = {vm: guests.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations[0] for vm in ("batch", "app")}
    assert {vm: each.kind for vm, each in started.items()} == dict.fromkeys(started, pb.OPERATION_KIND_POWER_ON)
    assert started["app"].create_time.ToNanoseconds() < started["batch"].create_time.ToNanoseconds()
    assert kinds(guests, "db") == []


def test_at_fsd_the_primary_shuts_down_after_our_last_verdict(follow: Follow, guests: Calls) -> None:
    with Site(monitored=True) as site:
        controller = follow(site)
        assert site.logins() == 2
        site.says("OB LB")  # upsmon sets FSD
        poll(site.shut_down.exists, 60)
        assert states(guests) == [DOWN, DOWN, DOWN]
        assert re.findall(r"\"reason\": ?\"(AllDown)\"", controller.output()) == ["AllDown"]


def test_killed_in_a_run_the_next_one_goes_on_and_brings_all_up_with_the_power(
    site: Site, follow: Follow, guests: Calls
) -> None:
    controller = follow(site)
    site.says("OB DISCHRG", charge=30)
    poll(lambda: bool(kinds(guests, "app")), 30)
    controller.kill()
    controller.start()
    poll(lambda: states(guests) == [DOWN, DOWN, DOWN], 60)
    site.says("OL CHRG")
    poll(lambda: states(guests) == [UP, UP, UP], 90)
    both = [pb.OPERATION_KIND_POWER_ON, pb.OPERATION_KIND_SHUTDOWN]
    assert [kinds(guests, vm) for vm in VMS] == [both, both, both]


def test_upsd_that_is_gone_on_battery_brings_all_down_and_on_line_nothing(
    site: Site, follow: Follow, guests: Calls
) -> None:
    controller = follow(site)
    site.upsd.kill()
    controller.wait_output("no contact")
    site.upsd.start()
    poll(lambda: controller.output().count(f"{site.ups}: OL") == 2, 30)
    assert states(guests) == [UP, UP, UP]
    site.says("OB DISCHRG", charge=90)
    controller.wait_output("DISCHRG OB")
    site.upsd.kill()
    poll(lambda: states(guests) == [DOWN, DOWN, DOWN], 60)


@pytest.mark.timeout(240)  # two moments of cron's: up to two minutes away
def test_at_set_times_a_plan_goes_down_and_comes_up_without_a_person(site: Site, follow: Follow, guests: Calls) -> None:
    controller = follow(site)
    soon = datetime.now(UTC) + timedelta(seconds=3)
    down = soon.replace(second=0) + timedelta(minutes=1)
    up = down + timedelta(minutes=1)
    times = {"cron": f"{down:%M %H} * * *", "bringUpAt": f"{up:%M %H} * * *"}
    controller.write(
        "night", json.dumps(plan(site) | {"spec": plan(site)["spec"] | {"triggers": [{"schedule": times}]}})
    )
    poll(lambda: states(guests) == [DOWN, DOWN, DOWN], 90)
    assert datetime.now(UTC) >= down.replace(microsecond=0)
    held = controller.wait_status("app", lambda status: status.get("powerState") == "Off")
    assert held["heldBy"].startswith("night-")
    poll(lambda: states(guests) == [UP, UP, UP], 90)
    assert datetime.now(UTC) >= up.replace(microsecond=0)
    controller.wait_output("has been brought up again")  # which is said when the run is released
    assert [kinds(guests, vm) for vm in VMS] == [[pb.OPERATION_KIND_POWER_ON, pb.OPERATION_KIND_SHUTDOWN]] * 3
    assert reasons(controller)[-2:] == ["RunBegan", "BroughtUp"]
