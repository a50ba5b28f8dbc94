import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.cache import cache
from tests.rigs.process import interruptible
from tests.unit.cli.fake import FakeProvider
from tests.unit.cli.samples import running, vm

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-P", "-m", "cli"]


@pytest.fixture
def environment(address: str) -> dict[str, str]:
    return os.environ | {"VMPOWER_PROVIDER": address, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def waiting(provider: FakeProvider) -> FakeProvider:
    """A shutdown that never ends: its stream stays open after the first state."""
    provider.answers["Shutdown"] = running()
    return provider


def test_ctrl_c_leaves_the_operation_running_and_says_what_can_be_done(
    waiting: FakeProvider, environment: dict[str, str]
) -> None:
    command = interruptible([*COMMAND, "shutdown", "web"])
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert waiting.opened.get(timeout=60) == "WatchOperation"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The SHUTDOWN of web goes on without us:" in err
    assert all(f"vmpower {word} op-web" in err for word in ("watch", "extend", "force", "cancel"))
    assert "Traceback" not in err
    assert waiting.requests("CancelOperation") == []


def test_a_terminal_gets_a_live_countdown(waiting: FakeProvider, environment: dict[str, str]) -> None:
    waiting.answers["Shutdown"] = running(force_after={"seconds": 4_000_000_000})
    ours, theirs = pty.openpty()
    command = interruptible([*COMMAND, "shutdown", "web"])
    process = subprocess.Popen(command, env=environment | {"TERM": "xterm"}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"powered off hard in" not in seen:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    os.close(ours)


def test_a_reader_that_leaves_early_causes_no_traceback(provider: FakeProvider, environment: dict[str, str]) -> None:
    provider.answers["ListVMs"] = pb.ListVMsResponse(vms=[vm("x" * 500) for _ in range(1000)])
    process = subprocess.Popen(
        [*COMMAND, "list"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(60)


def test_a_terminal_that_is_not_utf_8_gets_escapes(provider: FakeProvider, environment: dict[str, str]) -> None:
    provider.answers["GetVM"] = vm("straße")
    ascii_only = environment | {"PYTHONIOENCODING": "ascii"}
    ran = subprocess.run([*COMMAND, "get", "x"], env=ascii_only, capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert r"stra\xdfe" in ran.stdout


def test_the_wrapper_works_from_any_directory_and_through_a_link(
    provider: FakeProvider, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vmpower").symlink_to(ROOT / "vmpower")
    (tmp_path / "cli").mkdir()  # what stands where the caller stands is not ours
    (tmp_path / "cli" / "__main__.py").write_text("raise SystemExit('the wrong cli')")
    provider.answers["ListVMs"] = pb.ListVMsResponse(vms=[vm("web")])
    ran = subprocess.run(
        [tmp_path / "bin" / "vmpower", "list"],
        env=environment | {"VMPOWER_CACHE": str(cache())},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "web" in ran.stdout
