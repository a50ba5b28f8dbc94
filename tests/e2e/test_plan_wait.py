"""`vmpower plan wait` beside a real upsd, dummy-ups and, as the primary, upsmon: real processes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.rigs.nut.site import Site
from tests.rigs.polling import poll
from tests.rigs.process import ROOT, Program, Provider

Plan = Callable[..., Program]


@pytest.fixture
def lab(three_guests: Provider) -> Provider:
    return three_guests


@pytest.fixture
def wait(lab: Provider, tmp_path: Path) -> Iterator[Plan]:
    """`vmpower plan wait` for a site's UPS, with these changes of its trigger."""
    (tmp_path / "config.yaml").write_text(f"providers: {{lab: {{address: '{lab.address}'}}}}\n")
    with ExitStack() as stack:

        def start(site: Site, told: str = "OL", **changes: Any) -> Program:
            nut = {
                "ups": [{"name": site.ups}],
                "user": "vmpower",
                "passwordFile": str(site.password_file),
                "onBattery": {"after": "1s", "tiers": ["batch"]},
                "below": {"charge": 40},
                "lostContact": "1s",
                "backOnLine": "500ms",
                "pollEvery": "100ms",
            } | changes
            tiers = [{"name": f"{vm}-tier", "members": [{"vms": [f"lab/{vm}"]}]} for vm in ("batch", "app", "db")]
            nut["onBattery"] = {"tiers": ["batch-tier"], "after": nut["onBattery"]["after"]}
            spec = {"budget": {"total": "90s"}, "tiers": tiers, "bringUp": {}, "triggers": [{"nut": nut}]}
            manifest = {"apiVersion": "infra.vmpower/v1beta1", "kind": "PowerPlan", "metadata": {"name": "night"}}
            (tmp_path / "night.yaml").write_text(json.dumps(manifest | {"spec": spec}))
            environment = {"VMPOWER_CONFIG": str(tmp_path / "config.yaml"), "XDG_STATE_HOME": str(tmp_path)}
            program = Program("cli", "plan", "wait", str(tmp_path / "night.yaml"), env=environment)
            stack.enter_context(program)
            program.wait_output(f"{site.ups}: {told}")
            return program

        yield start


def events(program: Program) -> list[dict[str, Any]]:
    """Of the latest run."""
    return list(_told(program, "plan", "report")["events"])


def outcomes(program: Program) -> dict[str, str]:
    return {event["vm"]: event["outcome"] for event in events(program) if event["event"] == "vm ended"}


def operations(program: Program, lab: Provider) -> Counter[str]:
    return Counter(each["vmName"] for each in _told(program, "operations", "-p", lab.address))


def _told(program: Program, *words: str) -> Any:
    command = [sys.executable, "-m", "cli", *words, "-o", "json"]
    environment = os.environ | program.env
    return json.loads(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).stdout)


def test_a_flap_of_the_power_is_a_line_and_nothing_more(site: Site, wait: Plan, lab: Provider) -> None:
    waiting = wait(site, onBattery={"after": "1m"})
    site.says("OB DISCHRG")
    waiting.wait_output(f"{site.ups}: DISCHRG OB")
    site.says("OL CHRG")
    waiting.wait_output(f"{site.ups}: CHRG OL")
    assert (waiting.runs(), operations(waiting, lab)) == (True, {})


def test_told_to_leave_it_logs_out(site: Site, wait: Plan) -> None:
    waiting = wait(site)
    assert site.logins() == 1
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.wait() == 130
    assert site.logins() == 0


def test_on_battery_for_its_time_the_named_tiers_go_down_and_come_up_with_the_power(
    site: Site, wait: Plan, lab: Provider
) -> None:
    waiting = wait(site)
    site.says("OB DISCHRG", charge=90)
    waiting.wait_output("the run is over")
    assert list(outcomes(waiting).values()) == ["GRACEFUL"]
    assert operations(waiting, lab) == {"batch": 1}
    site.says("OL CHRG")
    waiting.wait_output("What was stopped has been brought up again")
    assert "lab/batch: Up again." in waiting.output()
    assert waiting.runs()


def test_power_that_is_back_in_tier_2_aborts_and_brings_up_in_order(site: Site, wait: Plan, lab: Provider) -> None:
    waiting = wait(site)
    site.says("OB DISCHRG", charge=30)
    waiting.wait_output("tier app-tier began")
    site.says("OL CHRG")
    waiting.wait_output("What was stopped has been brought up again")
    assert re.findall(r"lab/(\w+): Up again", waiting.output()) == ["app", "batch"]
    assert operations(waiting, lab)["db"] == 0


def test_a_battery_that_lasts_less_long_shortens_the_run_under_way(site: Site, wait: Plan, lab: Provider) -> None:
    waiting = wait(site, margin="5s")
    site.says("OB DISCHRG", charge=30, runtime=3600)
    waiting.wait_output("tier app-tier began")
    site.says("OB DISCHRG", charge=30, runtime=47)
    waiting.wait_output("less time is left")
    waiting.wait_output("the run is over")
    assert set(outcomes(waiting).values()) == {"GRACEFUL"}
    (app,) = (each for each in _told(waiting, "operations", "-p", lab.address) if each["vmName"] == "app")
    assert any(step["message"].startswith("extended: until") for step in app["steps"])
    starts = _told(waiting, "plan", "report")["start"]["at"]
    (shorter,) = (event for event in events(waiting) if event["event"] == "shortened")
    lasts = datetime.fromisoformat(shorter["ends"]) - datetime.fromisoformat(starts)
    assert 40 < lasts.total_seconds() < 60


def test_lb_in_tier_1_brings_all_down_and_ends(site: Site, wait: Plan, lab: Provider) -> None:
    waiting = wait(site)
    site.says("OB DISCHRG", charge=90)
    waiting.wait_output("tier batch-tier began")
    site.says("OB LB", charge=9)
    assert waiting.wait() == 0
    assert len(outcomes(waiting)) == 3
    assert operations(waiting, lab).keys() == {"batch", "app", "db"}
    assert site.logins() == 0


def test_the_primary_shuts_down_after_our_last_verdict(wait: Plan) -> None:
    with Site(monitored=True) as site:
        waiting = wait(site)
        assert site.logins() == 2
        site.says("OB LB", charge=9)
        assert waiting.wait() == 0
        poll(site.shut_down.exists)
        ended = [datetime.fromisoformat(event["at"]) for event in events(waiting) if event["event"] == "vm ended"]
        assert len(ended) == 3
        assert site.shut_down.stat().st_mtime > max(ended).timestamp()


def test_fsd_counts_though_the_power_is_back(wait: Plan) -> None:
    with Site(monitored=True) as site:
        waiting = wait(site)
        site.says("OB LB", charge=9)
        waiting.wait_output("tier batch-tier began")
        site.says("OL CHRG", charge=9)
        assert waiting.wait() == 0
        assert len(outcomes(waiting)) == 3
        assert f"{site.ups}: CHRG FSD OL" in waiting.output()


def test_an_upsd_that_is_gone_on_battery_lets_the_run_begin(site: Site, wait: Plan, lab: Provider) -> None:
    waiting = wait(site, onBattery={"after": "1m"})
    site.says("OB DISCHRG", charge=90)
    waiting.wait_output(f"{site.ups}: DISCHRG OB")
    site.upsd.kill()
    waiting.wait_output("the run is over")
    assert operations(waiting, lab) == {"batch": 1, "app": 1, "db": 1}
    assert "has not been heard for 1s" in _told(waiting, "plan", "report")["start"]["trigger"]


def test_an_upsd_that_is_gone_on_line_is_waited_for(site: Site, wait: Plan, lab: Provider) -> None:
    waiting = wait(site)
    site.upsd.kill()
    waiting.wait_output(f"{site.ups}: no contact")
    site.upsd.start()
    poll(lambda: waiting.output().count(f"{site.ups}: OL") == 2)
    assert operations(waiting, lab) == {}
    assert site.logins() == 1


def test_killed_in_a_run_it_takes_it_up_again(site: Site, wait: Plan, lab: Provider) -> None:
    waiting = wait(site)
    site.says("OB DISCHRG", charge=30)
    waiting.wait_output("tier app-tier began")
    waiting.kill()
    waiting.start()
    waiting.wait_output("the run is over")
    assert "is taken up again" in waiting.output()
    assert operations(waiting, lab) == {"batch": 1, "app": 1, "db": 1}


def test_a_upsd_with_a_certificate_of_the_plans_authority_is_followed_by_tls(wait: Plan) -> None:
    with Site(tls=True) as site:
        wait(site, tls={"ca": str(site.ca)})
        assert site.logins() == 1


def test_a_upsd_with_another_certificate_is_sent_no_password(wait: Plan, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with Site(tls=True) as site:
        waiting = wait(site, told="no contact", tls={"ca": str(tmp_path / "other.pem")})
        assert "certificate verify failed" in waiting.output()
        assert site.logins() == 0


def test_a_upsd_without_tls_is_sent_no_password_where_the_plan_names_an_authority(wait: Plan, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    with Site() as site:
        waiting = wait(site, told="no contact", tls={"ca": str(tmp_path / "ca.pem")})
        assert "FEATURE-NOT-CONFIGURED" in waiting.output()
        assert site.logins() == 0
