"""What sigs.k8s.io/yaml v1.6.0, which kubectl 1.35 reads by, made of `a: TEXT` is the truth here."""

from typing import Any

import pytest

from common.yaml_scalars import TAG, NoValue, tagged, untagged

KUBECTL: dict[str, Any] = {
    "true": True, "True": True, "TRUE": True, "tRUE": "tRUE", "false": False,
    "": None, "~": None, "null": None, "Null": None, "nULL": "nULL",
    "2024-19-07": "2024-19-07", "2024-01-07": "2024-01-07",
    "2001-12-14t21:59:43.10-05:00": "2001-12-14t21:59:43.10-05:00",
    "12:30:00": "12:30:00", "190:20:30.15": "190:20:30.15",
    "010": 8, "0o10": 8, "08": 8, "007": 7, "0O17": 15, "0_8": 8, "0x1F": 31, "+0x1F": 31, "0x1_F": 31, "0x": "0x",
    "0b11": 3, "-0b11": -3, "0b": "0b", "1_000": 1000, "1__0": 10, "_1": "_1", "+_1": 1, "+12": 12, "-0": 0,
    "1e3": 1000, "1E+3": 1000, "1e": "1e", ".e1": ".e1", ".5": 0.5, "-.5": -0.5, "5.": 5, "1.5.2": "1.5.2",
    ".": ".", "..": "..", "+": "+", "=": "=", "<<": "<<",
    "9223372036854775807": 2**63 - 1, "18446744073709551615": 2**64 - 1, "18446744073709551616": 2.0**64,
    "123456789012345678901234567890": 1.2345678901234568e29, "1e400": "1e400",
}  # fmt: skip


@pytest.mark.parametrize("text", KUBECTL)
def test_a_scalar_is_what_kubectl_takes_it_for(text: str) -> None:
    assert untagged(text) == KUBECTL[text]


@pytest.mark.parametrize("text", ["true", "1", "0.5", "2024-01-07"])
def test_a_scalar_has_the_type_that_kubectl_gives_it(text: str) -> None:
    assert type(untagged(text)) is type(KUBECTL.get(text, {"1": 1, "0.5": 0.5}.get(text)))


@pytest.mark.parametrize("word", ["yes", "No", "on", "Off", "On", "y", "N"])
def test_the_words_that_yaml_1_1_has_for_booleans_stay_words(word: str) -> None:
    assert untagged(word) == word


@pytest.mark.parametrize("text", [".inf", "-.Inf", "+.INF", ".nan", ".NaN"])
def test_a_number_that_json_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(NoValue, match="no number that JSON has"):
        untagged(text)


@pytest.mark.parametrize("digits", [400, 5_000, 1_000_000])
def test_a_number_of_many_digits_is_text(digits: int) -> None:
    assert untagged("9" * digits) == "9" * digits


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [("str", "12", "12"), ("int", "3", 3), ("float", "3", 3.0), ("bool", "true", True), ("null", "~", None)],
)
def test_a_tag_says_what_a_text_is(tag: str, text: str, value: Any) -> None:
    assert tagged(TAG + tag, text) == value


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("int", "x"),
        ("int", "true"),
        ("float", "true"),
        ("bool", "1"),
        ("null", "x"),
        ("binary", "aGk="),
        ("nothing", ""),
    ],
)
def test_a_text_that_is_not_what_its_tag_says_is_refused(tag: str, text: str) -> None:
    with pytest.raises(NoValue):
        tagged(TAG + tag, text)


def test_a_tag_of_somebodys_own_is_refused() -> None:
    with pytest.raises(NoValue, match="tag"):
        tagged("!secret", "x")
