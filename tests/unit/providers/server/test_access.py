from pathlib import Path

import pytest

from common.grants import Right
from providers.core.adapter import VM, PowerState
from providers.server.access import BadAccess, Rules, granted, load, of_client

WEB = VM("id-1", "web", PowerState.ON, labels={"team": "a"})
RULES = """
- clients: [cn:team-a, "uid:1000"]
  vms: {labels: {team: a}}
  allow: [power, exec]
- clients: [cn:team-a]
  vms: {names: [db]}
  allow: [power]
"""
OTHERS = """
- clients: ["*"]
  allow: [power]
"""


def rules(folder: Path, text: str) -> Rules:
    file = folder / "access.yaml"
    file.write_text(text)
    return load(file)


def of(folder: Path, text: str, *names: str, vm: VM = WEB) -> frozenset[Right] | None:
    own = of_client(rules(folder, text), names)
    return None if own is None else granted(own, vm)


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("[]", ("cn:alice",), None),
        (RULES, ("cn:alice",), None),
        (RULES, ("cn:team-a", "dns:a.example"), {Right.POWER, Right.EXEC}),
        (RULES, ("uid:1000",), {Right.POWER, Right.EXEC}),
        (RULES, ("uid:100",), None),
        (RULES, ("dns:team-a",), None),
        (RULES + OTHERS, ("cn:alice",), {Right.POWER}),
        (RULES + OTHERS, ("cn:team-a",), {Right.POWER, Right.EXEC}),
        (RULES + OTHERS, (), {Right.POWER}),
    ],
)
def test_a_client_has_what_rules_for_it_allow_else_those_for_others_else_everything(
    tmp_path: Path, text: str, names: tuple[str, ...], expected: set[Right] | None
) -> None:
    assert of(tmp_path, text, *names) == expected


def test_a_vm_that_no_rule_of_a_client_covers_is_not_its_to_touch(tmp_path: Path) -> None:
    assert of(tmp_path, RULES, "cn:team-a", vm=VM("id-2", "mail", PowerState.ON)) == frozenset()


def test_without_a_file_there_are_no_rules() -> None:
    assert load(None) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {clients: [alice], allow: [power]}", r"\[0\].clients\[0\]: write cn:NAME"),
        ("- {clients: [], allow: [power]}", r"\[0\].clients"),
        ("- {clients: ['*'], allow: [all]}", r"\[0\].allow\[0\]"),
        ("- {clients: ['*'], allow: [power], vm: {names: [a]}}", r"\[0\].vm"),
        ("- {clients: ['*'], allow: [power], vms: {}}", "leave it out for all VMs"),
        ("clients: x", "list|tuple"),
        ("- {clients: ['*'", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_who_mends_it(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadAccess, match=f"access.yaml.*({words}).*operator mends it"):
        rules(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadAccess, match=r"none\.yaml"):
        load(tmp_path / "none.yaml")
