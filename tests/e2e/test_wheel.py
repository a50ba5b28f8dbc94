"""The wheel as a user has it: installed into an environment of its own, and used from another directory."""

import os
import shutil
import site
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the installed commands. The libraries are those of the tests' own environment."""
    work = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns(".git", ".run", ".*_cache", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, work / "tree", ignore=skipped)
    subprocess.run([sys.executable, "-W", "ignore", "-c", BUILD], cwd=work / "tree", check=True, capture_output=True)
    (wheel,) = (work / "tree/dist").glob("*.whl")
    venv.create(work / "venv", symlinks=True)
    (libraries,) = (work / "venv/lib").glob("python3*/site-packages")
    (libraries / "of_the_tests.pth").write_text("\n".join(site.getsitepackages()))
    pip = [sys.executable, "-m", "pip", "--python", str(work / "venv/bin/python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    return work / "venv/bin"


@pytest.fixture
def sim(commands: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a sim that the installed command serves."""
    address = f"unix://{tmp_path}/sim.sock"
    arguments = ["sim", "--listen", address, "--state-dir", str(tmp_path)]
    with subprocess.Popen([commands / "vmpower-provider", *arguments], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert any(b"serving" in line for line in process.stderr)
        yield address
        process.terminate()


def call(command: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([command, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", ["vmpower", "vmpower-controller", "vmpower-provider"])
def test_each_command_tells_the_version_of_the_project(commands: Path, tmp_path: Path, program: str) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert call(commands / program, "--version", cwd=tmp_path).stdout == f"vmpower {wanted}\n"


def test_the_doctor_says_how_the_installed_provider_is_started(commands: Path, tmp_path: Path) -> None:
    away = f"unix://{tmp_path}/away.sock"
    said = call(commands / "vmpower", "doctor", "--provider", away, cwd=tmp_path).stdout
    assert f"do:  vmpower-provider TYPE --listen {away}\n" in said


def test_the_wheel_needs_what_the_requirements_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    listed = [
        line for part in ("app", "libvirt") for line in (ROOT / f"requirements/{part}.in").read_text().splitlines()
    ]
    assert sorted(needed) == sorted(line for line in listed if not line.startswith(("#", "-c")))


def test_the_installed_commands_list_the_vms_of_an_installed_sim(commands: Path, sim: str, tmp_path: Path) -> None:
    listed = call(commands / "vmpower", "--provider", sim, "list", cwd=tmp_path)
    assert (listed.returncode, "web" in listed.stdout) == (0, True), listed


@pytest.mark.parametrize("kind", ["libvirt", "vsphere", "proxmox", "sim"])
def test_each_type_of_provider_explains_its_flags(commands: Path, tmp_path: Path, kind: str) -> None:
    assert "--default-timeout" in call(commands / "vmpower-provider", kind, "--help", cwd=tmp_path).stdout


def test_the_controller_explains_its_flags(commands: Path, tmp_path: Path) -> None:
    assert "--manifests" in call(commands / "vmpower-controller", "--help", cwd=tmp_path).stdout
