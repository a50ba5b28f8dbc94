from typing import Self

import pytest
from pydantic import Field, field_validator, model_validator

from common.settings import ProcessSettings


class Shop(ProcessSettings):
    open_hours: int = Field(8, ge=0)
    colour: str = "red"

    @field_validator("colour")
    @classmethod
    def _known(cls, colour: str) -> str:
        if colour not in ("red", "blue"):
            raise ValueError("must be red or blue")
        return colour

    @model_validator(mode="after")
    def _rests(self) -> Self:
        if self.open_hours > 12 and self.colour == "red":
            raise ValueError("name only one of --open-hours and --colour")
        return self


def told(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as ended:
        Shop.load("shop", list(args))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_mistake_is_told_by_flag_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    words = told(capsys, "--open-hours", "-1")
    assert words == "shop: --open-hours (VMPOWER_OPEN_HOURS): Input should be greater than or equal to 0\n"


def test_a_mistake_in_our_own_words_is_told_in_them_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--colour", "mauve") == "shop: --colour (VMPOWER_COLOUR): must be red or blue\n"


def test_a_mistake_of_several_settings_blames_no_flag_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--open-hours", "13") == "shop: name only one of --open-hours and --colour\n"


def test_all_mistakes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(told(capsys, "--open-hours", "many", "--colour", "mauve").splitlines()) == 2
