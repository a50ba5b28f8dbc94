import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.text import clean, encodable, is_visible, some, to_json, to_yaml
from common.yaml_reader import load

HOSTILE = "db[/old]\n:skull:\x1b[2J\x9b\x7f\u202e\u2066\u200b\u2028\r\tgrün\U000e0041"


def test_what_is_not_to_be_seen_is_its_escape_on_one_line() -> None:
    shown = r"db[/old]\n:skull:\x1b[2J\x9b\x7f\u202e\u2066\u200b\u2028\r\tgrün\U000e0041"
    assert clean(HOSTILE) == shown


def test_letters_and_spaces_of_all_languages_stay() -> None:
    text = "Grün 日本\u3000語 10\u202f000\u00a0€ 🙂"
    assert clean(text) == text


@given(st.text())
def test_what_is_shown_is_one_line_without_commands(text: str) -> None:
    assert is_visible(clean(text))
    assert len(clean(text).splitlines()) <= 1


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_says_the_same_and_shows_what_it_says(data: Any) -> None:
    for indent in (None, 2):
        written = to_json(data, indent)
        assert json.loads(written) == data
        assert is_visible(written.replace("\n", ""))


ENCODABLE = st.text(st.characters(codec="utf-8"))


@given(st.recursive(ENCODABLE, lambda inner: st.lists(inner) | st.dictionaries(ENCODABLE, inner)))
def test_yaml_says_the_same_and_shows_what_it_says(data: Any) -> None:
    written = to_yaml(data)
    assert yaml.safe_load(written) == data
    assert is_visible(written.replace("\n", ""))


@pytest.mark.parametrize(
    "text", ["1e3", "08", "0o10", "1_0", ".inf", "yes", "Off", "2024-01-07", "null", "<<", "=", "- a"]
)
def test_a_text_in_yaml_is_read_as_text_by_us_and_by_others(text: str) -> None:
    written = to_yaml({"a": text, text: 1})
    assert load(written) == yaml.safe_load(written) == {"a": text, text: 1}


def test_half_a_surrogate_pair_becomes_its_escape() -> None:
    assert encodable("naïve \ud83d") == "naïve \\ud83d"


def test_of_many_names_some_are_told_and_how_many_there_are_beside() -> None:
    assert [some(["a", "b", "c"]), some(["a", "b", "c", "d"]), some([])] == ["a, b, c", "a, b, c and 1 more", ""]
