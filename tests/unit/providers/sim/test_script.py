from pathlib import Path

import pytest
from pydantic import ValidationError

from providers.sim.script import (
    Fault,
    GuestScript,
    Script,
    SimError,
    default_script,
    fault_at,
    guest_id,
    load_script,
)


def mistake(tmp_path: Path, text: str) -> str:
    path = tmp_path / "sim.yaml"
    path.write_text(text)
    with pytest.raises(SimError) as caught:
        load_script(path)
    return str(caught.value).replace(str(path), "sim.yaml")


def test_durations_are_written_as_go_writes_them() -> None:
    assert GuestScript.model_validate({"shutdown_time": "1m10s"}).shutdown_time == 70


def test_a_guest_without_any_field_is_a_healthy_one(tmp_path: Path) -> None:
    path = tmp_path / "sim.yaml"
    path.write_text("guests:\n  web:\n")
    assert load_script(path).guests == {"web": GuestScript()}


@pytest.mark.parametrize(("written", "power"), [("on", "on"), ("off", "off"), ("paused", "paused")])
def test_power_may_be_written_without_quotes(tmp_path: Path, written: str, power: str) -> None:
    path = tmp_path / "sim.yaml"
    path.write_text(f"guests: {{web: {{power: {written}}}}}")
    assert load_script(path).guests["web"].power == power


def test_a_count_makes_so_many_numbered_guests() -> None:
    script = Script(guests={"web": GuestScript(count=3)})
    assert [name for _, name, _ in script.cast()] == ["web-0001", "web-0002", "web-0003"]


def test_ids_of_counted_guests_differ() -> None:
    script = Script(guests={"web": GuestScript(count=3)})
    assert len({vm_id for vm_id, _, _ in script.cast()}) == 3


def test_a_guests_id_is_the_same_in_each_world() -> None:
    assert guest_id("web") == guest_id("web")


def test_two_guests_may_bear_one_name() -> None:
    script = Script(guests={"a": GuestScript(name="twin", id="1"), "b": GuestScript(name="twin", id="2")})
    assert [(vm_id, name) for vm_id, name, _ in script.cast()] == [("1", "twin"), ("2", "twin")]


def test_the_default_script_has_a_guest_that_hears_nothing_and_one_that_is_off() -> None:
    guests = default_script().guests
    assert (guests["deaf"].acpi, guests["spare"].power) == ("ignores", "off")


def test_faults_are_used_up_in_order() -> None:
    assert [fault_at(("refuse x2", "ok", "lost"), n) for n in range(5)] == [
        Fault.REFUSE,
        Fault.REFUSE,
        Fault.OK,
        Fault.LOST,
        Fault.OK,
    ]


def test_a_fault_may_last_for_ever() -> None:
    assert fault_at(("ok", "refuse always"), 1_000_000) is Fault.REFUSE


def test_one_fault_needs_no_list() -> None:
    assert GuestScript.model_validate({"faults": {"get": "unavailable"}}).faults == {"get": ("unavailable",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("guests: {web: {boot_tim: 5s}}", "sim.yaml: guest web: boot_tim: there is no such field"),
        (
            "guests: {web: {boot_time: soon}}",
            "sim.yaml: guest web: boot_time: 'soon' is no duration; write it as 120s or 1m30s",
        ),
        (
            "guests: {web: {boot_time: -5s}}",
            "sim.yaml: guest web: boot_time: must be at least 0",
        ),
        (
            "guests: {web: {acpi: deaf}}",
            "sim.yaml: guest web: acpi: must be 'hears', 'ignores' or 'none'",
        ),
        (
            "guests: {web: {hooks: [{match: '('}]}}",
            "sim.yaml: guest web: hooks.0.match: not a regular expression: "
            "missing ), unterminated subpattern at position 0",
        ),
        (
            "guests: {web: {count: 2, id: a}}",
            "sim.yaml: guest web: id: several guests (count) cannot share one id; leave it out",
        ),
        (
            "guests: {web: {faults: {guest_exec: ignore}}}",
            "sim.yaml: guest web: faults.guest_exec: cannot be ignored, "
            "for its answer is a process; use refuse or lost",
        ),
        ("faults: {}", "sim.yaml: guests: is missing"),
    ],
)
def test_a_mistake_is_reported_by_file_guest_and_field(tmp_path: Path, text: str, message: str) -> None:
    assert mistake(tmp_path, text) == message


def test_every_mistake_is_reported() -> None:
    with pytest.raises(ValidationError) as caught:
        Script.model_validate({"guests": {"web": {"power": "up"}, "db": {"agent": "yes"}}})
    assert caught.value.error_count() == 2


def test_a_fault_nobody_knows_is_a_mistake(tmp_path: Path) -> None:
    message = mistake(tmp_path, "guests: {web: {faults: {power_off: explode}}}")
    assert message.startswith("sim.yaml: guest web: faults.power_off.0: must match")


def test_a_guest_that_is_written_twice_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    message = mistake(tmp_path, "guests:\n  web:\n  web: {power: off}\n")
    assert "'web' is written twice" in message
    assert "line 3" in message


def test_what_is_no_yaml_is_reported_with_its_line(tmp_path: Path) -> None:
    assert "line 2" in mistake(tmp_path, "guests:\n  web: ]\n")


def test_a_script_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SimError, match=r"nowhere\.yaml"):
        load_script(tmp_path / "nowhere.yaml")


def test_a_merged_field_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "sim.yaml"
    path.write_text("guests:\n  a: &slow {boot_time: 1m, acpi: none}\n  b: {<<: *slow, acpi: hears}\n")
    assert load_script(path).guests["b"] == GuestScript(boot_time=60, acpi="hears")
