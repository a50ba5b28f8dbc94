import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.text import to_yaml
from common.yaml_reader import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    Document,
    Fault,
    documents,
    field_path,
    load,
    load_file,
    read_text,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x7f", exclude_categories=("Cc", "Cs")))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
PIECES = st.sampled_from(
    ["a", ": ", "- ", "? ", "[", "]", "{", "}", ", ", "&x ", "*x", "<<", "\n", "  ", "---\n", "...\n", "'", '"', "|\n"]
) | st.sampled_from(
    [">-\n", "!!int ", "!!map ", "!e!x ", "! ", "%YAML 1.2\n", "%TAG ! !\n", "#", "\t", "\\x41", "\0", "\x85", "\ufeff"]
)


def fault(text: str) -> Fault:
    with pytest.raises(Fault) as caught:
        for document in documents(text):
            document.value()
    return caught.value


@given(JSON)
def test_what_json_says_is_read_as_json_reads_it(value: Any) -> None:
    assert load(json.dumps(value, ensure_ascii=False)) == value


@given(JSON)
def test_what_we_write_as_yaml_is_read_as_it_was_meant(value: Any) -> None:
    assert load(to_yaml(value)) == value


@pytest.mark.parametrize("text", ["0E0", "1e3", "08"])
def test_what_a_writer_of_yaml_1_1_leaves_plain_is_a_number_as_it_is_to_kubectl(text: str) -> None:
    assert yaml.safe_dump(text).splitlines()[0] == text
    assert load(text) == float(text)


@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=300))
def test_any_text_is_a_value_or_a_fault_with_a_line(text: str) -> None:
    try:
        for document in documents(text):
            json.dumps(document.value(), allow_nan=False)
    except Fault as fault:
        assert 1 <= fault.line <= len(text.splitlines()) + 1


@pytest.mark.parametrize("opening", ["[", "{", "{a: ", "- ", "? "])
def test_nesting_without_end_is_a_fault(opening: str) -> None:
    assert str(fault(opening * 100_000)) == f"line 1: nested more than {MAX_DEPTH} deep"


def test_what_is_nested_as_deep_as_may_be_is_read() -> None:
    assert load("[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1))


def test_an_alias_is_as_deep_as_what_it_stands_for() -> None:
    text = "- &a0 1\n" + "\n".join(f"- &a{i + 1} [*a{i}]" for i in range(MAX_DEPTH))
    assert "deep" in str(fault(text))


def test_an_alias_counts_as_often_as_it_is_used() -> None:
    levels = [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    said = fault("a: &a [1, 1, 1]\n" + "\n".join(levels))
    assert f"more than {MAX_NODES} keys and values" in said.message
    assert said.line == 6


def test_an_alias_in_what_it_stands_for_is_a_fault() -> None:
    assert str(fault("a: 1\nb: &x [*x]")) == "line 2: an alias stands in what it is an alias of"


def test_an_alias_to_nothing_is_a_fault() -> None:
    assert fault("a: *x").line == 1


def test_an_anchor_ends_with_its_document() -> None:
    assert "anchor" in fault("a: &x 1\n---\nb: *x").message


def test_more_keys_and_values_than_may_be_are_a_fault() -> None:
    assert "more than" in fault("[" + "1," * MAX_NODES + "]").message


def test_a_text_that_is_too_large_is_a_fault() -> None:
    assert "MiB" in fault("#" * (MAX_BYTES + 1)).message


def test_a_value_that_is_used_twice_is_two_values() -> None:
    one, other = load("- &x {a: 1}\n- *x")
    one["a"] = 2
    assert other == {"a": 1}


def test_a_key_that_is_there_twice_has_its_line_and_field() -> None:
    said = fault("spec:\n  a: 1\n  b: {c: [0, {d: 1, d: 2}]}\n")
    assert (said.line, field_path(said.path), said.message) == (3, "spec.b.c[1].d", "'d' is written twice")


@pytest.mark.parametrize(
    ("text", "key"), [("80: x", "80"), ("0x10: x", "16"), ("true: x", "true"), ("1.10: x", "1.10")]
)
def test_a_key_is_text(text: str, key: str) -> None:
    assert load(text) == {key: "x"}


@pytest.mark.parametrize("text", ["[a]: b", "{a: b}: c", "~: a", ": a"])
def test_what_is_no_text_is_no_key(text: str) -> None:
    assert "key" in fault(text).message


def test_merged_fields_stand_behind_those_written_here() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}"
    assert load(text)["c"] == {"x": 1, "y": 1, "z": 3}


def test_only_mappings_are_merged() -> None:
    assert fault("a: {<<: [1]}").path == ("a", "<<")


@pytest.mark.parametrize("text", ["!!set {a}", "!mine [a]", "!!binary aGk=", "!!python/object/apply:os.getpid []"])
def test_a_tag_of_no_json_type_is_a_fault(text: str) -> None:
    assert "tag" in fault(text).message


def test_texts_stay_as_they_are_written_where_that_is_asked_for() -> None:
    assert load("{a: 007, b: yes, c: ~}", as_written=True) == {"a": "007", "b": "yes", "c": "~"}


def test_an_empty_text_is_none() -> None:
    assert load("# nothing\n") is None


def test_a_second_document_is_a_fault_where_one_is_wanted() -> None:
    with pytest.raises(Fault, match="line 3: a second document"):
        load("a: 1\n---\nb: 2\n")


def test_a_control_character_has_its_line() -> None:
    assert fault("a: 1\nb: \x01").line == 2


def test_a_document_knows_its_line() -> None:
    assert [document.line for document in documents("a: 1\n---\nb: 1\n") if isinstance(document, Document)] == [1, 3]


def test_no_fault_quotes_a_value(tmp_path: Path) -> None:
    for text in ("a: !!int s3cret", "a: s3cret: b", "a: [s3cret", "\ts3cret: 1", "a: 's3cret", "a: !x s3cret"):
        assert "s3cret" not in str(fault(text))


def said_of(file: Path, *, only_regular: bool = True) -> str:
    with pytest.raises(Fault) as caught:
        read_text(file, only_regular=only_regular)
    return str(caught.value)


def test_a_byte_that_is_not_utf_8_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a: 1\nb: \xff")
    assert said_of(tmp_path / "a") == "line 2: byte 0xff is not UTF-8"


@pytest.mark.timeout(10)
def test_a_fifo_that_nothing_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    assert said_of(tmp_path / "a") == "it is no regular file"


@pytest.mark.parametrize("file", ["/dev/zero", "/dev", "/proc/self/mem"])
def test_a_device_a_directory_and_what_cannot_be_read_are_faults(file: str) -> None:
    assert said_of(Path(file))


def test_a_device_without_end_is_read_no_further_than_the_bound() -> None:
    assert said_of(Path("/dev/zero"), only_regular=False) == "it has more than 4 MiB"


def test_a_file_of_the_kernels_that_has_nothing_yet_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waiting, theirs = os.pipe2(os.O_NONBLOCK)
    monkeypatch.setattr("common.yaml_reader.os.open", lambda *_: waiting)
    assert read_text(tmp_path / "kmsg") == ""
    os.close(theirs)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)
    assert said_of(tmp_path / "a") == "it has more than 4 MiB"


def test_a_name_that_no_file_can_have_is_a_fault() -> None:
    assert said_of(Path("a\0b"))


def test_a_file_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    assert said_of(tmp_path / "a") == "No such file or directory"


def test_what_a_person_names_may_be_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    writer = threading.Thread(target=(tmp_path / "a").write_text, args=("a: 1",))
    writer.start()
    assert load_file(tmp_path / "a") == {"a": 1}
    writer.join()
