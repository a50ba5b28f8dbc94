"""docker-compose.yml by the real engine and the real Docker Compose."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from common.version import version
from tests.rigs.docker.compose import Project
from tests.rigs.docker.engine import Engine
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import ROOT

UP = "from urllib.request import urlopen as get; print(get('http://prometheus:9090/api/v1/query?query=up').read().decode())"
GUESTS = "{guests: {web: {shutdown_time: 1s}, slow: {shutdown_time: 20s}}}"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

pytestmark = [pytest.mark.timeout(1800), pytest.mark.usefixtures("image")]


@pytest.fixture
def project(engine: Engine) -> Iterator[Project]:
    """A clone whose sim has the guests `web` and `slow`, and whose ./examples has the provider alone."""
    with Project(engine) as project:
        (project.folder / "examples" / "sim" / "guests.yaml").write_text(GUESTS)
        for manifest in (project.folder / "examples").glob("*.yaml"):
            if manifest.name != "provider.yaml":
                manifest.unlink()
        project.compose("up", "--detach")
        yield project


STATUS = """
import pathlib
for file in pathlib.Path('/var/lib/vmpower').rglob('*.yaml'):
    print(file.read_text())
"""


def status(project: Project) -> str:
    """All that the controller keeps."""
    return project.compose("exec", "--no-TTY", "controller", "python", "-c", STATUS)


def test_a_manifest_that_is_dropped_brings_its_vm_down(project: Project) -> None:
    project.declare("web", "OffGraceful")
    assert project.operation("web", "SUCCEEDED")["verdict"]["outcome"] == "GRACEFUL"


def test_a_provider_that_is_killed_goes_on_with_the_same_operation(project: Project) -> None:
    project.declare("slow", "OffGraceful", '{gracefulShutdownTimeout: "60s"}')
    begun = project.operation("slow", "WAITING_FOR_GUEST")
    before = project.process("sim")
    project.kill("sim")
    ended = project.operation("slow", "SUCCEEDED")
    assert project.process("sim") != before
    assert (ended["id"], ended["forceAfter"]) == (begun["id"], begun["forceAfter"])
    assert ended["verdict"]["outcome"] == "GRACEFUL"
    assert [one["id"] for one in project.operations("slow") or ()] == [begun["id"]]


def test_down_and_up_lose_nothing(project: Project) -> None:
    project.declare("web", "OffGraceful")
    web = project.operation("web", "SUCCEEDED")
    project.declare("slow", "OffGraceful", '{gracefulShutdownTimeout: "60s"}')
    begun = project.operation("slow", "WAITING_FOR_GUEST")
    project.compose("down")
    project.compose("up", "--detach")
    ended = project.operation("slow", "SUCCEEDED")
    assert (ended["id"], ended["verdict"]["outcome"]) == (begun["id"], "GRACEFUL")
    assert [one["id"] for one in project.operations() or ()] == [begun["id"], web["id"]]
    poll(lambda: ended["id"] in status(project))
    assert "GRACEFUL" in status(project)


def test_prometheus_finds_what_runs(project: Project, prometheus_image: str) -> None:
    with (project.folder / ".env").open("a") as settings:
        settings.write(f"PROMETHEUS_IMAGE={prometheus_image}\nPROMETHEUS_PORT={free_port()}\n")
    project.compose("--profile=metrics", "up", "--detach")

    def up() -> set[str]:
        told = project.compose("exec", "--no-TTY", "controller", "python", "-c", UP)
        series = json.loads(told)["data"]["result"]
        return {one["metric"]["instance"] for one in series if one["value"][1] == "1"}

    assert poll(lambda: (found := up()) == {"controller", "sim"} and found, 120)


def test_a_clone_builds_its_image(engine: Engine) -> None:
    with Project(engine, VMPOWER_IMAGE="vmpower:composed") as project:
        project.compose("build")
    assert engine.docker("run", "--rm", "vmpower:composed", "vmpower", "--version") == f"vmpower {version()}"


@pytest.mark.parametrize("profile", ["libvirt", "vsphere", "proxmox", "metrics"])
def test_each_profile_is_valid_with_the_example_s_settings(engine: Engine, profile: str) -> None:
    with Project(engine) as project:
        lines = (project.folder / ".env.example").read_text()
        (project.folder / ".env").write_text(re.sub("^#(?=[A-Z_]+=.)", "", lines, flags=re.MULTILINE))
        project.compose(f"--profile={profile}", "config", "--quiet")


def test_each_setting_of_the_example_is_one_of_the_file() -> None:
    named = re.findall("^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    used = re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text())
    assert set(named) - {"COMPOSE_PROFILES", "PIP_INDEX_URL"} == set(used) - {"VMPOWER_IMAGE"}


def test_each_program_has_a_read_only_root_and_no_rights() -> None:
    ours = {name: one for name, one in COMPOSE["services"].items() if name != "prometheus"}
    assert {name for name, one in ours.items() if not one["read_only"] or one["cap_drop"] != ["ALL"]} == set()


def test_its_image_has_the_version_of_the_tree() -> None:
    program = COMPOSE["x-program"]
    assert program["image"] == f"${{VMPOWER_IMAGE:-vmpower:{version()}}}"
    assert program["build"]["args"]["VERSION"] == version()
