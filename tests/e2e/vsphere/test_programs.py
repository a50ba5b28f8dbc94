"""Programs in guests: what they really receive, how they end, and that nothing is left of them."""

import ast
from collections.abc import Iterator

import pytest

from providers.core.adapter import GuestCredentials, GuestExit, GuestProcess
from providers.core.errors import CommandFailed
from providers.vsphere.adapter import VsphereAdapter
from tests.e2e.following import ended, watching
from tests.e2e.vsphere.conftest import Settings
from tests.rigs.vsphere.vcenter import VCenter

LOGIN = GuestCredentials("root", "guest")
ECHO = r"C:\Program Files\tool\echo.exe"
ARGV = ("/usr/bin/env", "python3", "-c", "import sys; print(ascii(sys.argv[1:]))")
"""Prints what it received."""
NASTY = [
    "a b",
    "",
    'say "hi"',
    "it's",
    "$HOME `id` $(id)",
    "100% %PATH%",
    "!x!",
    "^ & | < > ( )",
    "back\\slash\\",
    "*",
    "ü ☕",
]
VMS: dict[str, dict[str, object]] = {
    "linux": {"boot_time": 0},
    "windows": {
        "guest": "windows",
        "programs": {ECHO: "/bin/echo", r"C:\sh.exe": "/bin/sh", r"C:\sleep.exe": "/bin/sleep"},
    },
    "silent": {"tools": "not_running"},
}


@pytest.fixture(scope="module")
def vcenter() -> Iterator[VCenter]:
    with VCenter(VMS) as vcenter:
        yield vcenter


async def start(
    vcenter: VCenter, adapter: VsphereAdapter, key: str, *command: str, login: GuestCredentials = LOGIN
) -> GuestProcess:
    async with watching(adapter):
        return await adapter.guest_exec(vcenter.show(key)["instance_uuid"], command, login)


async def execute(vcenter: VCenter, adapter: VsphereAdapter, key: str, *command: str) -> GuestExit:
    return await ended(await start(vcenter, adapter, key, *command))


async def test_a_linux_program_receives_exactly_its_words(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    words = [*NASTY, "two\nlines\n", "tab\there"]
    end = await execute(vcenter, adapter, "linux", *ARGV, *words)
    assert ast.literal_eval(end.output.decode()) == words


async def test_a_windows_program_receives_exactly_its_words(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    await execute(vcenter, adapter, "windows", ECHO, *NASTY)
    assert vcenter.show("windows")["processes"][-1]["argv"] == [ECHO, *NASTY]


async def test_a_windows_program_receives_line_breaks_and_its_output_is_said_to_be_lost(
    vcenter: VCenter, adapter: VsphereAdapter
) -> None:
    words = [*NASTY, "two\nlines\n", "\n"]
    end = await execute(vcenter, adapter, "windows", ECHO, *words)
    assert vcenter.show("windows")["processes"][-1]["argv"] == [ECHO, *words]
    assert (end.exit_code, b"not collected" in end.output) == (0, True)


@pytest.mark.parametrize(("key", "shell"), [("linux", "/bin/sh"), ("windows", r"C:\sh.exe")])
async def test_a_program_reports_its_exit_code_and_both_streams(
    vcenter: VCenter, adapter: VsphereAdapter, key: str, shell: str
) -> None:
    end = await execute(vcenter, adapter, key, shell, "-c", "echo out; echo err >&2; exit 7")
    assert end == GuestExit(7, b"out\nerr\n")


async def test_a_program_is_found_by_its_name_alone(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    assert await execute(vcenter, adapter, "linux", "printf", "%s", "ü") == GuestExit(0, "ü".encode())


async def test_a_program_that_runs_has_no_end_yet(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    process = await start(vcenter, adapter, "linux", "/bin/sleep", "60")
    assert await process.poll() is None
    assert (await execute(vcenter, adapter, "linux", "/bin/kill", process.pid)).exit_code == 0
    assert (await ended(process)).exit_code != 0


@pytest.mark.parametrize(
    ("key", "words"), [("linux", "not found"), ("windows", "is not recognized as an internal or external command")]
)
async def test_a_missing_program_is_reported_in_the_guests_words(
    vcenter: VCenter, adapter: VsphereAdapter, key: str, words: str
) -> None:
    end = await execute(vcenter, adapter, key, "nosuch")
    assert end.exit_code != 0
    assert words in end.output.decode()


async def test_the_end_of_a_megabyte_of_output_arrives(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    end = await execute(vcenter, adapter, "linux", "sh", "-c", "yes 12345678 | head -c 1200000; echo end >&2")
    assert len(end.output) == 1 << 20
    assert end.output.endswith(b"end\n")


async def test_nothing_is_left_in_the_guest(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    before = vcenter.show("linux")["files"]
    await execute(vcenter, adapter, "linux", "/bin/echo", "ü")
    with pytest.raises(CommandFailed):
        await start(vcenter, adapter, "linux", "/bin/echo", "\0")
    assert vcenter.show("linux")["files"] == before


@pytest.mark.parametrize("way", ["ca_file", "thumbprint", "insecure"])
async def test_output_is_fetched_whatever_vouches_for_vcenter(vcenter: VCenter, settings: Settings, way: str) -> None:
    trust = {"ca_file": vcenter.ca, "thumbprint": vcenter.thumbprint.sha256, "insecure": True}
    adapter = VsphereAdapter(settings(**{way: trust[way]}))
    assert (await execute(vcenter, adapter, "linux", "/bin/echo", "ü")).output == "ü\n".encode()
    await adapter.close()


async def test_a_wrong_login_is_reported_and_not_repeated(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    with pytest.raises(CommandFailed, match="refuses the login") as refused:
        await start(vcenter, adapter, "linux", "true", login=GuestCredentials("root", "geheim"))
    assert "geheim" not in str(refused.value)


async def test_a_guest_without_tools_runs_no_program(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    with pytest.raises(CommandFailed, match="GuestOperationsUnavailable"):
        await start(vcenter, adapter, "silent", "true")


async def test_a_program_costs_five_calls_and_one_for_each_look(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    await execute(vcenter, adapter, "linux", "true")
    vcenter.reset_calls()
    process = await start(vcenter, adapter, "linux", "true")
    await ended(process)
    calls = vcenter.calls()
    once = ("CreateTemporaryFileInGuest", "StartProgramInGuest", "InitiateFileTransferFromGuest", "DeleteFileInGuest")
    assert [calls[method] for method in once] == [1] * 4
