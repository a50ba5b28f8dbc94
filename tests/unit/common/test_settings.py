from pathlib import Path
from typing import Self

import pytest
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from common.settings import HostPort, Listen, ProcessSettings, ReadableFile, comma_separated
from common.version import version


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


def test_every_program_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Shop.load("shop", ["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"vmpower {version()}\n")


def test_a_mistake_is_told_by_flag_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    words = told(capsys, "--open-hours", "-1")
    assert words == "shop: --open-hours (VMPOWER_OPEN_HOURS): must be at least 0\n"


def test_a_mistake_in_our_own_words_is_told_in_them_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--colour", "mauve") == "shop: --colour (VMPOWER_COLOUR): must be red or blue\n"


def test_a_mistake_of_several_settings_blames_no_flag_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--open-hours", "13") == "shop: name only one of --open-hours and --colour\n"


def test_all_mistakes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(told(capsys, "--open-hours", "many", "--colour", "mauve").splitlines()) == 2


def test_credentials_that_are_no_directory_are_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").touch()
    monkeypatch.setenv("VMPOWER_CREDENTIALS_DIR", str(tmp_path / "password"))
    assert told(capsys) == "shop: secrets_dir must reference a directory, not a file\n"


def test_a_variable_that_is_empty_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_OPEN_HOURS", "")
    assert Shop.load("shop", []).open_hours == 8


def test_a_directory_of_credentials_that_is_empty_names_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "VMPOWER_OPEN_HOURS").write_text("9")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VMPOWER_CREDENTIALS_DIR", "")
    assert Shop.load("shop", []).open_hours == 8


@pytest.mark.parametrize("address", ["127.0.0.1:0", "0.0.0.0:65535", "[::]:9443", "unix:///run/vmpower.sock"])
def test_a_server_listens_on_a_host_and_port_or_a_unix_socket(address: str) -> None:
    assert TypeAdapter(Listen).validate_python(address) == address


@pytest.mark.parametrize("address", ["", "9443", ":9443", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "[::]:-1"])
def test_a_server_listens_on_nothing_else(address: str) -> None:
    with pytest.raises(ValidationError, match="must be host:port, the port at most 65535"):
        TypeAdapter(Listen).validate_python(address)


@pytest.mark.parametrize("address", ["", "127.0.0.1:9090"])
def test_a_host_and_port_may_be_left_out(address: str) -> None:
    assert TypeAdapter(HostPort).validate_python(address) == address


@pytest.mark.parametrize("address", ["9090", "127.0.0.1:99999", "unix:///run/health.sock"])
def test_a_host_without_a_port_that_exists_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(HostPort).validate_python(address)


@pytest.mark.parametrize(("given", "read"), [("a, b,,c ", ("a", "b", "c")), ("", ()), (("a,b",), ("a,b",))])
def test_a_list_is_written_with_commas(given: object, read: tuple[str, ...]) -> None:
    assert comma_separated(given) == read


def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=f"{tmp_path}/none: No such file or directory; name a file that can be"):
        TypeAdapter(ReadableFile).validate_python(tmp_path / "none")
