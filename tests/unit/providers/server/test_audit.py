import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from protos.power.v1 import power_pb2 as pb
from providers.core.errors import NotAllowed
from providers.server.audit import LONGEST, Audit, AuditUnusable

REQUEST = pb.ShutdownRequest(vm="web", reason="kernel update", on_behalf_of="VirtualMachine a/web")
OPERATION = pb.Operation(id="op-1", vm="id-1", vm_name="web", kind=pb.OPERATION_KIND_SHUTDOWN)


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    with closing(Audit(tmp_path / "audit")) as audit:
        yield audit


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_says_who_asked_what_for_whom_and_why_and_what_came_of_it(audit: Audit, tmp_path: Path) -> None:
    audit.note("cn:alice", "Shutdown", REQUEST, OPERATION)
    (line,) = lines(tmp_path / "audit")
    assert line.pop("time")
    assert line == {
        "client": "cn:alice",
        "method": "Shutdown",
        "vm": "web",
        "reason": "kernel update",
        "on_behalf_of": "VirtualMachine a/web",
        "result": "OK",
        "operation": "op-1",
        "kind": "SHUTDOWN",
        "vm_id": "id-1",
        "vm_name": "web",
    }


def test_a_refusal_is_a_line_too(audit: Audit, tmp_path: Path) -> None:
    audit.note("cn:eve", "PowerOff", pb.PowerOffRequest(vm="web"), NotAllowed("No."))
    (line,) = lines(tmp_path / "audit")
    assert (line["result"], line["error"], line["message"]) == ("PERMISSION_DENIED", "NOT_ALLOWED", "No.")


def test_secrets_are_in_no_line(audit: Audit, tmp_path: Path) -> None:
    login = pb.GuestCredentials(username="root", password="hunter2")
    hook = pb.Hook(http_get=pb.HttpGetHook(url="http://a/", headers={"Authorization": "hunter2"}))
    request = pb.ShutdownRequest(vm="web", guest_credentials=login, pre_stop=[hook])
    audit.note("cn:alice", "Shutdown", request, OPERATION)
    assert "hunter2" not in (tmp_path / "audit").read_text()


def test_what_a_request_says_makes_no_second_line_and_none_that_is_too_long(audit: Audit, tmp_path: Path) -> None:
    audit.note("cn:eve", "PowerOff", pb.PowerOffRequest(vm="a\n{}" + "x" * 9_999), OPERATION)
    (line,) = lines(tmp_path / "audit")
    assert len(line["vm"]) == LONGEST


@pytest.mark.usefixtures("audit")
def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_moved_away_is_begun_anew(audit: Audit, tmp_path: Path) -> None:
    audit.note("cn:alice", "Shutdown", REQUEST, OPERATION)
    (tmp_path / "audit").rename(tmp_path / "audit.1")
    audit.note("cn:alice", "Shutdown", REQUEST, OPERATION)
    assert (len(lines(tmp_path / "audit")), len(lines(tmp_path / "audit.1"))) == (1, 1)


def test_without_a_file_the_lines_are_among_the_logs() -> None:
    with capture_logs() as logs:
        Audit(None).note("cn:alice", "Shutdown", REQUEST, OPERATION)
    assert (logs[0]["event"], logs[0]["client"], logs[0]["operation"]) == ("asked", "cn:alice", "op-1")


def test_a_file_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AuditUnusable, match="operator names another file"):
        Audit(tmp_path / "none" / "audit")


def test_a_client_that_hangs_up_leaves_a_line_too(audit: Audit, tmp_path: Path) -> None:
    audit.note("cn:eve", "PowerOff", pb.PowerOffRequest(vm="web"), asyncio.CancelledError())
    (line,) = lines(tmp_path / "audit")
    assert (line["vm"], line["result"]) == ("web", "CANCELLED")
