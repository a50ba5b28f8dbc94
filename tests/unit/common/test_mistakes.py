import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from common.mistakes import sentence


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Box(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 0


@dataclass
class Pair:
    left: str


def _refuse(_: str) -> str:
    raise ValueError("must be red")


def said(kind: Any, value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    return sentence(caught.value.errors()[0])


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (tuple[str, ...], "a", "must be a list"),
        (list[str], {}, "must be a list"),
        (set[str], 1, "must be a list"),
        (frozenset[str], 1, "must be a list"),
        (Box, "a", "must be a map"),
        (Pair, 1, "must be a map"),
        (dict[str, str], [], "must be a map"),
        (str, 5, "must be text"),
        (Path, 5, "must be text"),
        (int, "a", "must be a whole number"),
        (int, None, "must be a whole number"),
        (int, 1.5, "must be a whole number"),
        (float, "a", "must be a number"),
        (bool, "perhaps", "must be true or false"),
        (datetime, "soon", "must be a date, as in 2030-12-31T23:59:59Z"),
        (Literal["On", "Off"], "on", "must be 'On' or 'Off'"),
        (Colour, "green", "must be 'red' or 'blue'"),
        (Annotated[str, Field(min_length=1)], "", "must not be empty"),
        (Annotated[str, Field(min_length=2)], "", "must have at least 2 characters"),
        (Annotated[str, Field(max_length=1)], "ab", "must have at most 1 character"),
        (Annotated[tuple[str, ...], Field(min_length=1)], (), "must not be empty"),
        (Annotated[list[str], Field(max_length=2)], ["a"] * 3, "must have at most 2 items"),
        (Annotated[str, Field(pattern="^a$")], "b", "must match ^a$"),
        (Annotated[int, Field(ge=1)], 0, "must be at least 1"),
        (Annotated[int, Field(le=1)], 2, "must be at most 1"),
        (Annotated[int, Field(gt=1)], 1, "must be more than 1"),
        (Annotated[int, Field(lt=1)], 1, "must be less than 1"),
        (Annotated[timedelta, Field(ge=timedelta(seconds=4))], timedelta(0), "must be at least 4 seconds"),
        (Box, {"size": 1, "sise": 2}, "is not known here"),
        (Pair, {}, "is missing"),
        (Annotated[str, AfterValidator(_refuse)], "blue", "must be red"),
    ],
)
def test_what_is_wrong_is_told_in_plain_words(kind: Any, value: Any, words: str) -> None:
    assert said(kind, value) == words


PYTHON = re.compile(r"\b(tuple|dict|dictionary|instance|Input|str|int|None|object|model|class|timedelta|datetime)\b")


@pytest.mark.parametrize("value", ["a", 5, 1.5, [], {}, None, True, b"\xff", object()])
@pytest.mark.parametrize(
    "kind",
    [tuple[str, ...], list[int], dict[str, str], Box, Pair, str, int, float, bool, Path, datetime, Colour,
     Literal["a b"], Annotated[int, Strict()], tuple[Box, ...], timedelta],
    ids=str,
)  # fmt: skip
def test_no_word_of_python_is_told(kind: Any, value: Any) -> None:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        told = [sentence(problem) for problem in error.errors()]
        assert [words for words in told if PYTHON.search(words)] == []
