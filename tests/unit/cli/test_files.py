"""Files that people write, read as what they should be."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from cli.errors import Failure
from cli.files import read_as


class Recipe(BaseModel):
    steps: list[int]


def refused(file: Path) -> Failure:
    with pytest.raises(Failure) as raised:
        read_as(Recipe, file, "is no recipe")
    return raised.value


def test_a_file_is_read_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("steps: [1, 2]")
    assert read_as(Recipe, tmp_path / "a.yaml", "is no recipe").steps == [1, 2]


def test_each_mistake_is_told_with_its_field(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("steps: [1, two]")
    failure = refused(tmp_path / "a.yaml")
    assert (failure.message, failure.hints) == (
        f"{tmp_path}/a.yaml is no recipe.",
        ["steps[1]: must be a whole number"],
    )


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert refused(tmp_path / "a.yaml").message == f"{tmp_path}/a.yaml cannot be read: No such file or directory"
