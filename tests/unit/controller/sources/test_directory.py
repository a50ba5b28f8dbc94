"""On a real directory with real edits."""

import asyncio
import os
import shutil
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from watchfiles import watch

from controller.models import PlanRef, PowerRunSpec, VirtualMachine
from controller.run_status import PowerRunStatus
from controller.source import (
    Applied,
    Change,
    Deleted,
    Event,
    GuestCredentials,
    Key,
    ResourceGone,
    SecretUnavailable,
    SourceError,
    Synced,
    TlsSecret,
    UpsSecret,
)
from controller.sources import directory as module
from controller.sources.directory import DirectorySource
from controller.sources.manifests import Reading, read
from controller.status_models import Binding, VirtualMachineStatus
from tests.rigs.hostile_yaml import HOSTILE
from tests.unit.controller.builders import NOW

WEB = Key("VirtualMachine", "default", "web")


def manifest(name: str = "web", power: str = "OffGraceful") -> str:
    return (
        "apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachine\n"
        f"metadata: {{name: {name}}}\nspec: {{providerRef: {{name: local}}, powerState: {power}}}\n"
    )


class Directory:
    """Manifests, and what the source says of them."""

    def __init__(self, root: Path) -> None:
        self.manifests, self.state = root / "manifests", root / "state"
        self.manifests.mkdir()
        self.source = DirectorySource(self.manifests, self.state)
        self.changes = self.source.watch()

    def write(self, name: str, text: str) -> Path:
        file = self.manifests / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    async def next(self) -> Change:
        return await asyncio.wait_for(anext(self.changes), 20)

    async def first(self) -> list[Change]:
        """Everything up to Synced."""
        found = [await self.next()]
        while not isinstance(found[-1], Synced):
            found.append(await self.next())
        return found[:-1]

    async def applied(self) -> VirtualMachine:
        change = await self.next()
        assert isinstance(change, Applied)
        assert isinstance(change.resource, VirtualMachine)
        return change.resource


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Directory]:
    made = Directory(tmp_path)
    async with aclosing(made.changes):  # type: ignore[type-var]
        yield made


def names(changes: list[Change]) -> set[str]:
    return {change.resource.metadata.name for change in changes if isinstance(change, Applied)}


async def test_all_levels_are_read_and_hidden_files_are_not(directory: Directory) -> None:
    directory.write("a.yaml", manifest("a") + "---\n" + manifest("b"))
    directory.write("deep/down/c.yml", manifest("c"))
    directory.write(".hidden.yaml", manifest("d"))
    directory.write(".git/e.yaml", manifest("e"))
    directory.write("notes.txt", manifest("f"))
    assert names(await directory.first()) == {"a", "b", "c"}


async def test_an_edit_is_another_generation(directory: Directory) -> None:
    file = directory.write("web.yaml", manifest())
    await directory.first()
    file.write_text(manifest(power="On"))
    resource = await directory.applied()
    assert (resource.spec.power_state, resource.metadata.generation) == ("On", 2)


async def test_an_editor_that_renames_over_the_file_is_noticed(directory: Directory) -> None:
    file = directory.write("web.yaml", manifest())
    await directory.first()
    directory.write("web.yaml.swp", manifest(power="Off")).rename(file)
    assert (await directory.applied()).spec.power_state == "Off"


async def test_a_new_file_in_a_new_directory_is_noticed(directory: Directory) -> None:
    assert await directory.first() == []
    directory.write("new/web.yaml", manifest())
    assert (await directory.applied()).metadata.name == "web"


async def test_a_comment_is_no_change(directory: Directory) -> None:
    file = directory.write("web.yaml", manifest())
    await directory.first()
    file.write_text("# nothing new\n" + manifest())
    directory.write("z.yaml", manifest("z"))
    assert (await directory.applied()).metadata.name == "z"


async def test_a_manifest_that_is_taken_away_is_told(directory: Directory) -> None:
    file = directory.write("web.yaml", manifest())
    await directory.first()
    file.unlink()
    assert await directory.next() == Deleted(WEB)


async def test_a_manifest_that_comes_back_is_the_same_resource(directory: Directory) -> None:
    file = directory.write("web.yaml", manifest())
    (before,) = await directory.first()
    await directory.source.write_status(WEB, VirtualMachineStatus(phase="Off"))
    file.unlink()
    await directory.next()
    directory.write("other.yaml", manifest())
    after = await directory.applied()
    assert isinstance(before, Applied)
    assert (after.metadata, after.status.phase) == (before.resource.metadata, "Off")


async def test_a_mistake_leaves_what_was_declared_before_in_effect(directory: Directory) -> None:
    file = directory.write("web.yaml", manifest())
    await directory.first()
    file.write_text("kind: [")
    directory.write("z.yaml", manifest("z"))
    assert (await directory.applied()).metadata.name == "z"
    file.write_text(manifest(power="On"))
    assert (await directory.applied()).spec.power_state == "On"


async def test_a_mistake_is_logged_once_with_file_line_and_field(directory: Directory) -> None:
    file = directory.write("bad.yaml", manifest(power="Sideways"))
    directory.write("web.yaml", manifest())
    with capture_logs() as logs:
        assert names(await directory.first()) == {"web"}
        directory.write("z.yaml", manifest("z"))
        await directory.applied()
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (entry["file"], entry["line"], entry["field"]) == (str(file), 4, "spec.powerState")


async def test_a_resource_that_is_declared_twice_is_taken_from_the_first_file(directory: Directory) -> None:
    directory.write("a.yaml", manifest(power="Off"))
    second = directory.write("b.yaml", manifest(power="On"))
    with capture_logs() as logs:
        (change,) = await directory.first()
    assert isinstance(change, Applied)
    assert isinstance(change.resource, VirtualMachine)
    assert change.resource.spec.power_state == "Off"
    assert [entry["file"] for entry in logs if entry["log_level"] == "error"] == [str(second)]


async def test_a_file_that_sorts_earlier_takes_nothing_over(directory: Directory) -> None:
    first = directory.write("b.yaml", manifest(power="On"))
    await directory.first()
    with capture_logs() as logs:
        second = directory.write("a.yaml", manifest(power="Off"))
        directory.write("z.yaml", manifest("z"))
        assert names([await directory.next()]) == {"z"}
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (entry["file"], entry["line"], f"already, in {first}:1;" in entry["error"]) == (str(second), 1, True)


async def again(directory: Directory) -> list[Change]:
    """What another process reads first."""
    await directory.changes.aclose()  # type: ignore[attr-defined]
    directory.source = DirectorySource(directory.manifests, directory.state)
    directory.changes = directory.source.watch()
    return await directory.first()


def powers(changes: list[Change]) -> list[str | None]:
    resources = [change.resource for change in changes if isinstance(change, Applied)]
    return [resource.spec.power_state for resource in resources if isinstance(resource, VirtualMachine)]


async def test_nor_does_it_after_a_restart(directory: Directory) -> None:
    directory.write("b.yaml", manifest(power="On"))
    await directory.first()
    directory.write("a.yaml", manifest(power="Off"))
    assert powers(await again(directory)) == ["On"]


async def test_nor_if_the_first_file_cannot_be_read_after_a_restart(directory: Directory) -> None:
    file = directory.write("b.yaml", manifest(power="On"))
    await directory.first()
    directory.write("a.yaml", manifest(power="Off"))
    file.write_text("kind: [")
    assert powers(await again(directory)) == []
    file.write_text(manifest(power="On"))
    assert (await directory.applied()).spec.power_state == "On"


async def test_nor_if_the_first_file_gets_a_mistake(directory: Directory) -> None:
    file = directory.write("b.yaml", manifest(power="On"))
    await directory.first()
    directory.write("a.yaml", manifest(power="Off"))
    file.write_text("kind: [")
    directory.write("z.yaml", manifest("z"))
    assert names([await directory.next()]) == {"z"}


async def test_a_manifest_that_is_moved_to_another_file_stays_in_effect_there(directory: Directory) -> None:
    directory.write("b.yaml", manifest(power="On"))
    await directory.first()
    (directory.manifests / "b.yaml").rename(directory.manifests / "c.yaml")
    directory.write("z.yaml", manifest("z"))
    assert names([await directory.next()]) == {"z"}
    directory.write("a.yaml", manifest(power="Off"))
    assert powers(await again(directory)) == ["On", "OffGraceful"]


async def test_the_second_declaration_counts_once_the_first_is_gone(directory: Directory) -> None:
    file = directory.write("b.yaml", manifest(power="On"))
    await directory.first()
    directory.write("a.yaml", manifest(power="Off"))
    file.unlink()
    assert (await directory.applied()).spec.power_state == "Off"


async def test_a_restart_writes_no_state(directory: Directory) -> None:
    directory.write("b.yaml", manifest(power="On"))
    await directory.first()
    state = directory.state / "default" / "VirtualMachine" / "web.yaml"
    before = state.stat().st_ino
    await again(directory)
    assert state.stat().st_ino == before


@pytest.mark.parametrize("what", HOSTILE)
async def test_whatever_is_in_one_file_the_others_count(directory: Directory, what: str) -> None:
    (directory.manifests / "bad.yaml").write_bytes(HOSTILE[what])
    directory.write("web.yaml", manifest())
    assert names(await directory.first()) == {"web"}


@pytest.mark.parametrize("what", sorted(HOSTILE.keys() - {"a date of YAML 1.1", "digits"}))
async def test_a_file_that_cannot_be_read_is_a_line_about_that_file(directory: Directory, what: str) -> None:
    (directory.manifests / "bad.yaml").write_bytes(HOSTILE[what])
    with capture_logs() as logs:
        await directory.first()
    (entry,) = logs
    assert (entry["event"], Path(entry["file"]).name) == ("bad manifest", "bad.yaml")
    assert entry["line"] >= 1


async def test_a_bug_in_reading_a_file_is_a_line_about_that_file(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> Reading:
        if path.name == "bad.yaml":
            raise RecursionError
        return read(path)

    monkeypatch.setattr(module, "read", broken)
    directory.write("bad.yaml", "a: 1")
    directory.write("web.yaml", manifest())
    with capture_logs() as logs:
        assert names(await directory.first()) == {"web"}
    assert [entry["event"] for entry in logs] == ["a bug in vmpower", "bad manifest"]


async def test_a_name_that_is_not_utf_8_is_read_like_any_other(directory: Directory) -> None:
    directory.write(os.fsdecode(b"\xff/web.yaml"), manifest())
    assert names(await directory.first()) == {"web"}
    directory.write(os.fsdecode(b"\xfe.yaml"), manifest("db"))
    assert (await directory.applied()).metadata.name == "db"


async def test_a_fifo_is_not_waited_for(directory: Directory) -> None:
    os.mkfifo(directory.manifests / "a.yaml")
    directory.write("web.yaml", manifest())
    assert names(await directory.first()) == {"web"}


async def test_a_directory_that_goes_away_in_mid_walk_ends_nothing(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write("a/web.yaml", manifest())
    directory.write("b/db.yaml", manifest("db"))
    scan = os.scandir

    def meanwhile(path: str) -> Any:
        if str(path).endswith("/b"):
            shutil.rmtree(path, ignore_errors=True)
        return scan(path)

    monkeypatch.setattr(os, "scandir", meanwhile)
    assert names(await directory.first()) == {"web"}


async def test_what_is_below_a_directory_that_cannot_be_listed_stays_in_effect(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write("a/web.yaml", manifest())
    await directory.first()
    scan = os.scandir

    def refused(path: str) -> Any:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    directory.write("z.yaml", manifest("z"))
    with capture_logs() as logs:
        assert names([await directory.next()]) == {"z"}
    (entry,) = logs
    assert (entry["file"], entry["error"]) == (str(directory.manifests / "a"), "cannot be listed: Permission denied")


async def test_status_goes_to_the_state_directory_and_wakes_nobody(directory: Directory) -> None:
    inside = DirectorySource(directory.manifests, directory.manifests / "state")
    directory.write("web.yaml", manifest())
    changes = inside.watch()
    async with aclosing(changes):  # type: ignore[type-var]
        assert isinstance(await anext(changes), Applied)
        assert isinstance(await anext(changes), Synced)
        await inside.write_status(WEB, VirtualMachineStatus(phase="Off"))
        directory.write("z.yaml", manifest("z"))
        change = await asyncio.wait_for(anext(changes), 20)
    assert names([change]) == {"z"}


async def test_a_directory_that_is_replaced_is_followed(directory: Directory, tmp_path: Path) -> None:
    directory.write("web.yaml", manifest())
    await directory.first()
    replacement = tmp_path / "replacement"
    replacement.mkdir()
    (replacement / "web.yaml").write_text(manifest(power="On"))
    directory.manifests.rename(tmp_path / "old")
    replacement.rename(directory.manifests)
    seen = await directory.next()
    while not isinstance(seen, Applied):  # in between there may have been nothing
        seen = await directory.next()
    directory.write("z.yaml", manifest("z"))
    assert (await directory.applied()).metadata.name == "z"


async def test_a_directory_that_was_away_for_a_while_is_followed(directory: Directory, tmp_path: Path) -> None:
    directory.write("web.yaml", manifest())
    await directory.first()
    directory.manifests.rename(tmp_path / "old")
    assert await directory.next() == Deleted(WEB)
    waiting = asyncio.ensure_future(directory.next())
    (tmp_path / "old").rename(directory.manifests)
    assert names([await waiting]) == {"web"}
    directory.write("z.yaml", manifest("z"))
    assert (await directory.applied()).metadata.name == "z"


async def test_an_edit_before_the_watch_has_begun_is_not_lost(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = threading.Event()

    def late(*arguments: Any, **options: Any) -> Iterator[Any]:
        edited.wait(20)
        return watch(*arguments, **options)

    monkeypatch.setattr(module, "watch", late)
    assert await directory.first() == []
    directory.write("web.yaml", manifest())
    edited.set()
    assert (await directory.applied()).metadata.name == "web"


async def test_a_directory_that_goes_away_before_the_watch_has_begun_is_waited_for(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    def late(*arguments: Any, **options: Any) -> Iterator[Any]:
        gone.wait(20)
        return watch(*arguments, **options)

    monkeypatch.setattr(module, "watch", late)
    directory.write("web.yaml", manifest())
    await directory.first()
    directory.manifests.rename(tmp_path / "old")
    gone.set()
    assert await directory.next() == Deleted(WEB)
    (tmp_path / "old").rename(directory.manifests)
    assert names([await directory.next()]) == {"web"}


async def test_a_directory_that_cannot_be_watched_is_an_error_that_names_it(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **options: Any) -> Iterator[Any]:
        raise OSError("no more inotify watches")

    monkeypatch.setattr(module, "watch", refuse)
    with pytest.raises(SourceError, match="manifests: no more inotify watches"):
        for _ in range(3):
            await directory.next()


async def test_the_status_of_an_unknown_resource_is_refused(directory: Directory) -> None:
    with pytest.raises(ResourceGone):
        await directory.source.write_status(WEB, VirtualMachineStatus())


async def test_no_such_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        await anext(DirectorySource(tmp_path / "nowhere", tmp_path / "state").watch())


async def test_a_file_in_place_of_the_directory_is_an_error_that_says_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").touch()
    with pytest.raises(SourceError, match=f"web.yaml: this is a file; name its directory, {tmp_path}."):
        await anext(DirectorySource(tmp_path / "web.yaml", tmp_path / "state").watch())


async def test_a_second_controller_on_the_same_state_is_refused(directory: Directory) -> None:
    await directory.first()
    with pytest.raises(SourceError, match="Another controller"):
        await anext(DirectorySource(directory.manifests, directory.state).watch())


async def test_what_happens_is_logged(directory: Directory) -> None:
    with capture_logs() as logs:
        await directory.source.emit_event(WEB, Event("Warning", "Forced", "Powered off hard."))
    assert logs == [{"event": "Powered off hard.", "resource": str(WEB), "reason": "Forced", "log_level": "warning"}]


async def test_two_thousand_manifests_are_read(directory: Directory) -> None:
    for i in range(20):
        directory.write(f"{i}.yaml", "---\n".join(manifest(f"vm-{i}-{j}") for j in range(100)))
    assert len(names(await directory.first())) == 2000


def login(secrets: Path, **files: bytes) -> DirectorySource:
    """A source whose secret default/login has these files."""
    folder = secrets / "default" / "login"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return DirectorySource(secrets / "manifests", secrets / "state", secrets)


async def test_a_login_is_read_from_two_files_of_its_secret(tmp_path: Path) -> None:
    source = login(tmp_path, username=b"root", password="hünter 2 ".encode())
    assert await source.guest_credentials("default", "login") == GuestCredentials("root", "hünter 2 ")


async def test_the_end_of_the_line_is_no_part_of_a_login(tmp_path: Path) -> None:
    source = login(tmp_path, username=b"root\r\n", password=b"hunter2\n")
    assert await source.guest_credentials("default", "login") == GuestCredentials("root", "hunter2")


async def test_a_login_is_read_anew_at_each_use(tmp_path: Path) -> None:
    for password in ("old", "new"):
        source = login(tmp_path, username=b"root", password=password.encode())
        assert (await source.guest_credentials("default", "login")).password == password


async def test_without_a_directory_of_secrets_it_is_told_which_flag_is_missing(directory: Directory) -> None:
    with pytest.raises(SecretUnavailable, match="needs --secrets-dir"):
        await directory.source.guest_credentials("default", "login")


@pytest.mark.parametrize("files", [{}, {"username": b"root"}, {"username": b"root", "password": b"hunter2\xff"}])
async def test_a_secret_that_is_no_login_is_named_and_not_quoted(tmp_path: Path, files: dict[str, bytes]) -> None:
    source = login(tmp_path, **files)
    with pytest.raises(SecretUnavailable, match=f"{tmp_path}/default/login.*; whoever owns the secret") as raised:
        await source.guest_credentials("default", "login")
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


async def test_a_secret_of_another_namespace_is_not_found(tmp_path: Path) -> None:
    source = login(tmp_path, username=b"root", password=b"hunter2")
    with pytest.raises(SecretUnavailable, match="other/login"):
        await source.guest_credentials("other", "login")


# What is bound

BOUND = Binding(
    provider="uid-local", hypervisor="sim", id="id-web", provider_ref="default/local", name="web", since=NOW
)


def led_elsewhere(rebind: str = "", **spec: str) -> str:
    """Another manifest for web, each field on a line of its own."""
    annotation = f"  annotations: {{vmpower/rebind: {rebind}}}\n" if rebind else ""
    lines = "".join(f"  {name}: {value}\n" for name, value in ({"providerRef": "{name: local}"} | spec).items())
    head = "apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachine\nmetadata:\n  name: web\n"
    return f"{head}{annotation}spec:\n  powerState: OffGraceful\n{lines}"


@pytest.mark.parametrize(
    ("spec", "line", "field"),
    [({"providerRef": "{name: other}"}, 7, "spec.providerRef"), ({"vmName": "db"}, 8, "spec.vmName")],
)
async def test_an_edit_that_leads_a_bound_resource_elsewhere_is_refused_with_file_line_and_field(
    directory: Directory, spec: dict[str, str], line: int, field: str
) -> None:
    file = directory.write("web.yaml", led_elsewhere())
    await directory.first()
    await directory.source.write_status(WEB, VirtualMachineStatus(vm=BOUND))
    directory.write("other.yaml", manifest("other"))
    await directory.applied()
    with capture_logs() as logs:
        directory.write("web.yaml", led_elsewhere(**spec))
        directory.write("other.yaml", manifest("other", "On"))
        assert (await directory.applied()).metadata.name == "other"
    (told,) = (entry for entry in logs if entry["event"] == "bad manifest")
    assert (told["file"], told["line"], told["field"]) == (str(file), line, field)


async def test_such_an_edit_is_refused_also_if_no_controller_saw_it(directory: Directory, tmp_path: Path) -> None:
    directory.write("web.yaml", led_elsewhere())
    await directory.first()
    await directory.source.write_status(WEB, VirtualMachineStatus(vm=BOUND))
    await directory.changes.aclose()  # type: ignore[attr-defined]
    directory.write("web.yaml", led_elsewhere(vmName="db"))
    again = DirectorySource(directory.manifests, directory.state)
    async with aclosing(again.watch()) as changes:  # type: ignore[type-var]
        assert isinstance(await anext(changes), Synced)


async def test_other_edits_of_a_bound_resource_count(directory: Directory) -> None:
    directory.write("web.yaml", led_elsewhere())
    await directory.first()
    await directory.source.write_status(WEB, VirtualMachineStatus(vm=BOUND))
    directory.write("web.yaml", led_elsewhere(vmName="web", lifecycle="{escalation: Never}"))
    assert (await directory.applied()).metadata.generation == 2


async def test_a_resource_that_is_not_bound_may_be_mended(directory: Directory) -> None:
    directory.write("web.yaml", led_elsewhere(vmName="wbe"))
    await directory.first()
    await directory.source.write_status(WEB, VirtualMachineStatus())
    directory.write("web.yaml", led_elsewhere(vmName="db"))
    assert (await directory.applied()).vm_name == "db"


async def test_a_rebind_may_lead_to_another_vm(directory: Directory) -> None:
    directory.write("web.yaml", led_elsewhere())
    await directory.first()
    await directory.source.write_status(WEB, VirtualMachineStatus(vm=BOUND))
    directory.write("web.yaml", led_elsewhere("id-db", vmName="db"))
    applied = await directory.applied()
    assert (applied.vm_name, applied.metadata.rebind) == ("db", "id-db")


async def test_what_a_provider_proves_itself_by_is_read_from_files_of_its_secret(tmp_path: Path) -> None:
    source = login(tmp_path, **{"ca.crt": b"ca", "tls.crt": b"cert", "tls.key": b"key"})
    assert await source.tls_secret("default", "login") == TlsSecret(b"ca", b"cert", b"key")


async def test_a_secret_without_a_key_is_named(tmp_path: Path) -> None:
    source = login(tmp_path, **{"ca.crt": b"ca", "tls.crt": b"cert"})
    with pytest.raises(SecretUnavailable, match="default/login"):
        await source.tls_secret("default", "login")
    with pytest.raises(SecretUnavailable, match="--secrets-dir"):
        await DirectorySource(tmp_path, tmp_path / "state").tls_secret("default", "login")


RUN = """\
apiVersion: infra.virtrigaud.io/v1beta1
kind: PowerRun
metadata: {{name: tonight}}
spec: {{planRef: {{name: {plan}}}}}
"""


async def test_a_run_is_a_resource_and_its_status_outlives_the_process(directory: Directory, tmp_path: Path) -> None:
    directory.write("run.yaml", RUN.format(plan="night"))
    await directory.first()
    await directory.source.write_status(Key("PowerRun", "default", "tonight"), PowerRunStatus(phase="Held", run="x"))
    await directory.changes.aclose()  # type: ignore[attr-defined]
    async with aclosing(DirectorySource(directory.manifests, directory.state).watch()) as changes:  # type: ignore[type-var]
        change = await anext(changes)
    assert isinstance(change, Applied)
    assert change.resource.status == PowerRunStatus(phase="Held", run="x")


async def test_a_run_does_not_change(directory: Directory) -> None:
    file = directory.write("run.yaml", RUN.format(plan="night"))
    await directory.first()
    with capture_logs() as logs:
        file.write_text(RUN.format(plan="day"))
        directory.write("web.yaml", manifest())
        assert names([await directory.next()]) == {"web"}
    (line,) = [line for line in logs if line["event"] == "bad manifest"]
    assert (line["field"], "is carried out once" in line["error"]) == ("spec", True)


TONIGHT = Key("PowerRun", "default", "tonight")


async def gone_afterwards(directory: Directory) -> bool:
    """Whether the run is gone for the next process."""
    await directory.changes.aclose()  # type: ignore[attr-defined]
    source = DirectorySource(directory.manifests, directory.state)
    async with aclosing(source.watch()) as changes:  # type: ignore[type-var]
        while not isinstance(await anext(changes), Synced):
            pass
        return source.is_gone(TONIGHT)


async def test_a_run_whose_manifest_was_taken_away_meanwhile_is_gone(directory: Directory) -> None:
    file = directory.write("run.yaml", RUN.format(plan="night"))
    await directory.first()
    assert not directory.source.is_gone(TONIGHT)
    file.unlink()
    directory.write("web.yaml", manifest())
    assert await gone_afterwards(directory)


@pytest.mark.parametrize("text", ["{", RUN.format(plan="day")], ids=["broken", "edited"])
async def test_a_run_whose_manifest_cannot_count_now_is_not_gone(directory: Directory, text: str) -> None:
    file = directory.write("run.yaml", RUN.format(plan="night"))
    await directory.first()
    file.write_text(text)
    assert not await gone_afterwards(directory)


async def test_a_run_that_was_never_declared_is_not_gone(directory: Directory) -> None:
    await directory.first()
    assert not directory.source.is_gone(TONIGHT)


async def test_a_login_at_upsd_is_read_with_its_authority_if_that_is_there(tmp_path: Path) -> None:
    source = login(tmp_path, username=b"vmpower\n", password=b"word\n")
    assert await source.ups_secret("default", "login") == UpsSecret("vmpower", "word")
    source = login(tmp_path, **{"ca.crt": b"authority"})
    assert await source.ups_secret("default", "login") == UpsSecret("vmpower", "word", "authority")


async def test_it_declares_nothing_itself(directory: Directory) -> None:
    with pytest.raises(SourceError, match="declares no resources"):
        await directory.source.make_run("night-1", "default", PowerRunSpec(plan_ref=PlanRef(name="night")))


async def test_its_machine_is_this_host(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "system_uuid", lambda: "4c4c4544-0042-3510-8051-b8c04f4e3132")
    assert await directory.source.own_machines() == ["4c4c4544-0042-3510-8051-b8c04f4e3132"]


async def test_a_host_whose_uuid_cannot_be_read_is_told_with_who_acts(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "system_uuid", lambda: "")
    with pytest.raises(SourceError, match=r"product_uuid cannot be read.*the controller's operator"):
        await directory.source.own_machines()
