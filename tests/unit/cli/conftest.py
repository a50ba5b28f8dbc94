"""A fake provider, and the command line to talk to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from tests.unit.cli.fake import FakeProvider, serving


@dataclass
class Shell:
    """Runs `vmpower` with the fake provider as the default one."""

    address: str

    def __call__(self, *arguments: str) -> "Ended":
        result = CliRunner().invoke(app, list(arguments), env={"VMPOWER_PROVIDER": self.address}, prog_name="vmpower")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads the configuration of whoever runs it; the file does not exist until a test writes it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("VMPOWER_CONFIG", "VMPOWER_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config" / "vmpower" / "config.yaml"


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def address(provider: FakeProvider, tmp_path: Path) -> Iterator[str]:
    with serving(provider, f"unix://{tmp_path}/provider.sock") as address:
        yield address


@pytest.fixture
def vmpower(address: str) -> Shell:
    return Shell(address)
