"""The rig's guests from within: programs that really run, what they receive and what is left of them."""

import os
import shlex
import subprocess
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
from pyVmomi import vim

from tests.rigs.process import wait_for_end
from tests.rigs.vsphere.client import Inside, client, ended, machine
from tests.rigs.vsphere.vcenter import VCenter

CMD = r"C:\Windows\System32\cmd.exe"
ECHO = r"C:\Program Files\tool\echo.exe"
NASTY = ["", "a b", 'say "hi"', "it's", "$HOME `id` $(id)", "100%PATH%", "line\nbreak", "ünï ✓", "back\\slash\\", "*"]
VMS: dict[str, dict[str, object]] = {
    "linux": {"boot_time": 0},
    "windows": {"guest": "windows", "programs": {ECHO: "/bin/echo", r"C:\sleep.exe": "/bin/sleep"}},
}


@pytest.fixture(scope="module")
def rig() -> Iterator[VCenter]:
    with VCenter(VMS) as rig:
        yield rig


@pytest.fixture(scope="module")
def content(rig: VCenter) -> Iterator[Any]:
    with client(rig) as content:
        yield content


@pytest.fixture
def linux(rig: VCenter, content: Any) -> Inside:
    return Inside(content, machine(content, rig, "linux"))


@pytest.fixture
def windows(rig: VCenter, content: Any) -> Inside:
    return Inside(content, machine(content, rig, "windows"))


def received(rig: VCenter, name: str) -> list[str]:
    """The argv of the process that was started last."""
    argv: list[str] = rig.show(name)["processes"][-1]["argv"]
    return argv


def test_a_program_ends_with_its_exit_code(linux: Inside) -> None:
    process = linux.run("/bin/sh", "-c 'exit 3'")
    assert (process.exitCode, process.name, process.owner) == (3, "sh", "root")


def test_a_program_receives_what_the_guests_shell_makes_of_it(rig: VCenter, linux: Inside) -> None:
    linux.run("/bin/echo", shlex.join(NASTY))
    assert received(rig, "linux") == ["/bin/echo", *NASTY]


def test_what_is_not_quoted_is_the_shells(rig: VCenter, linux: Inside) -> None:
    linux.run("/bin/echo", 'a  b "$USER" ; exit 7')
    assert received(rig, "linux") == ["/bin/echo", "a", "b", "root"]
    assert rig.show("linux")["processes"][-1]["exit_code"] == 7


def test_output_goes_into_a_file_of_the_guests_and_comes_out_of_it(rig: VCenter, linux: Inside) -> None:
    path = linux.temporary()
    linux.run("/bin/sh", f"-c 'echo ✓; echo no >&2' > {path} 2>&1")
    assert linux.read(path) == "✓\nno\n".encode()
    linux.delete(path)
    assert rig.show("linux")["files"] == []


def test_the_environment_is_the_callers_alone(linux: Inside) -> None:
    path = linux.temporary()
    linux.run("/usr/bin/env", f"> {path}", envVariables=["ONE=1"])
    assert "ONE=1" in (lines := linux.read(path).decode().splitlines())
    assert not any(line.startswith(("HOME=", "VSPHERE_RIG")) for line in lines)
    linux.delete(path)


def test_the_working_directory_is_the_callers(linux: Inside) -> None:
    path = linux.temporary()
    linux.run("/bin/pwd", f"> {path}", workingDirectory="/")
    assert linux.read(path) == b"/\n"
    linux.delete(path)


@pytest.mark.parametrize(
    ("program", "fault"),
    [("/no/such", vim.fault.FileNotFound), ("echo", vim.fault.FileNotFound), ("/", vim.fault.GuestPermissionDenied)],
)
def test_what_cannot_be_run_is_refused(linux: Inside, program: str, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        linux.start(program)


def test_a_directory_that_is_none_is_refused(linux: Inside) -> None:
    with pytest.raises(vim.fault.NotADirectory):
        linux.start("/bin/true", workingDirectory="/etc/passwd")


@pytest.mark.parametrize("login", [("root", "wrong"), ("nobody", "guest")])
def test_a_wrong_login_is_refused(rig: VCenter, content: Any, login: tuple[str, str]) -> None:
    with pytest.raises(vim.fault.InvalidGuestLogin, match="Failed to authenticate"):
        Inside(content, machine(content, rig, "linux"), *login).start("/bin/true")


def test_without_tools_nobody_comes_in(rig: VCenter, linux: Inside) -> None:
    rig.set("linux", tools="not_running")
    with pytest.raises(vim.fault.GuestOperationsUnavailable):
        linux.start("/bin/true")
    rig.set("linux", tools="running")


def test_a_program_that_is_terminated_ends(linux: Inside) -> None:
    pid = linux.start("/bin/sleep", "300")
    linux.terminate(pid)
    assert linux.process(pid).exitCode == -1


def test_a_process_that_is_none_cannot_be_terminated(linux: Inside) -> None:
    with pytest.raises(vim.fault.GuestProcessNotFound):
        linux.terminate(1)


def test_programs_end_with_their_guest(rig: VCenter, content: Any, linux: Inside) -> None:
    pid = linux.start("/bin/sh", "-c 'sleep 300; true'")
    rig.power("linux", "off")
    wait_for_end(pid)
    ended(machine(content, rig, "linux").PowerOnVM_Task())


def test_a_file_is_to_be_had_once(linux: Inside) -> None:
    path = linux.temporary()
    url = linux.transfer(path).url
    trust = linux._stub.schemeArgs["context"]
    with urllib.request.urlopen(url, context=trust) as answer:
        assert answer.read() == b""
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(url, context=trust)
    linux.delete(path)


@pytest.mark.parametrize("path", ["/etc/passwd", "/no/such"])
def test_only_its_own_files_are_the_guests(linux: Inside, path: str) -> None:
    with pytest.raises(vim.fault.CannotAccessFile):
        linux.transfer(path)


def test_a_file_that_is_gone_is_not_found(linux: Inside) -> None:
    path = linux.temporary()
    linux.delete(path)
    with pytest.raises(vim.fault.FileNotFound):
        linux.delete(path)


def test_files_of_a_vcenters_guests_come_from_their_host(rig: VCenter, linux: Inside) -> None:
    path = linux.temporary()
    assert linux.transfer(path).url.split("/")[2] != rig.url.split("/")[2]
    linux.delete(path)


def test_the_vcenter_vouches_for_its_hosts_certificate(rig: VCenter, content: Any, linux: Inside) -> None:
    host = machine(content, rig, "linux").runtime.host
    assert host.summary.config.sslThumbprint not in {None, "", rig.thumbprint.sha1}


def test_files_of_a_hosts_guests_come_from_itself() -> None:
    with VCenter({"web": {}}, esx=True) as rig, client(rig) as content:
        inside = Inside(content, machine(content, rig, "web"))
        path = inside.temporary()
        assert inside.transfer(path).url.startswith("https://*:")
        assert inside.read(path) == b""


def test_a_windows_program_takes_its_command_line_apart_itself(rig: VCenter, windows: Inside) -> None:
    windows.run(ECHO, subprocess.list2cmdline(NASTY))
    assert received(rig, "windows") == [ECHO, *NASTY]


def test_cmd_replaces_variables_even_within_quotes(rig: VCenter, windows: Inside) -> None:
    windows.run(CMD, f'/s /c ""{ECHO}" "%OS% & %nobody%""')
    assert received(rig, "windows") == [ECHO, "Windows_NT & %nobody%"]


def test_cmd_writes_into_files(windows: Inside) -> None:
    path = windows.temporary()
    assert path.startswith("C:\\")
    process = windows.run(CMD, f'/s /c ""{ECHO}" "a b" > "{path}" 2>&1"')
    assert (process.exitCode, windows.read(path)) == (0, b"a b\n")
    windows.delete(path)


def test_cmd_within_cmd_ends_with_the_inner_ones_code(windows: Inside) -> None:
    assert windows.run(CMD, '/s /c "cmd /c exit 3"').exitCode == 3


def test_cmd_says_what_it_does_not_find(windows: Inside) -> None:
    path = windows.temporary()
    process = windows.run(CMD, f'/c nosuch 2> "{path}"')
    assert process.exitCode == 1
    assert windows.read(path).startswith(b"'nosuch' is not recognized")
    windows.delete(path)


def test_a_windows_program_that_is_missing_is_not_found(windows: Inside) -> None:
    with pytest.raises(vim.fault.FileNotFound):
        windows.start(r"C:\no\such.exe")


def test_nothing_of_a_guest_outlives_the_rig() -> None:
    with VCenter({"web": {}}) as rig, client(rig) as content:
        pid = Inside(content, machine(content, rig, "web")).start("/bin/sleep", "300")
        os.kill(pid, 0)
    wait_for_end(pid, timeout=5)
