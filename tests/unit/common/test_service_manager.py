"""The service manager is told when a process serves, on the socket that it names."""

import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from common.service_manager import ready


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told_that_the_process_serves(
    abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        ready()
        assert manager.recv(100, socket.MSG_DONTWAIT) == b"READY=1"


def test_without_a_service_manager_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with capture_logs() as logs:
        ready()
    assert logs == []


def test_a_service_manager_that_cannot_be_told_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with capture_logs() as logs:
        ready()
    assert [line["log_level"] for line in logs] == ["warning"]
