"""The image by itself, run by a real engine as docker-compose.yml and the chart run it."""

import json
from collections.abc import Callable, Iterator

import pytest

from common.version import version
from tests.rigs.docker.engine import BASE, Engine
from tests.rigs.docker.image import LOCKED_DOWN, Container
from tests.rigs.polling import poll

SIM = ("vmpower-provider", "sim", "--listen=unix:///run/vmpower/sim/provider.sock")
LIBVIRT = ("vmpower-provider", "libvirt", "--listen=unix:///run/vmpower/libvirt/provider.sock")
QUICK = ("--network=none", "--health-interval=1s", "--health-start-period=0s")
FORK_TWICE = """
import os
if os.fork() == 0:
    print(os.fork(), flush=True)
    os._exit(0)
os.wait()
"""
"""Prints the number of a process whose parent has ended, and 0."""
Run = Callable[..., Container]

pytestmark = pytest.mark.timeout(1800)  # the first test builds the image


@pytest.fixture
def run(engine: Engine, image: str) -> Iterator[Run]:
    """Runs a program of the image with no more rights than it needs."""
    running = list[Container]()

    def start(*program: str, flags: tuple[str, ...] = ("--network=none",)) -> Container:
        volumes = ("--volume=/var/lib/vmpower", "--volume=/run/vmpower")
        running.append(Container(engine, *LOCKED_DOWN, *flags, *volumes, image, *program))
        return running[-1]

    yield start
    for container in running:
        container.remove()


@pytest.fixture
def typed(engine: Engine, image: str) -> Callable[..., str]:
    """What a command printed that is run in a container of its own."""
    return lambda *command: engine.docker("run", "--rm", "--network=none", *LOCKED_DOWN, image, *command)


def test_it_says_the_version_that_its_label_says(engine: Engine, image: str, typed: Callable[..., str]) -> None:
    (labels,) = json.loads(engine.docker("inspect", image))
    assert typed("vmpower", "--version") == f"vmpower {version()}"
    assert labels["Config"]["Labels"]["org.opencontainers.image.version"] == version()


@pytest.mark.parametrize("kind", ["libvirt", "vsphere", "proxmox", "sim"])
def test_it_has_every_provider_with_its_library(typed: Callable[..., str], kind: str) -> None:
    assert "--default-timeout DURATION" in typed("vmpower-provider", kind, "--help")


def test_it_has_the_controller_with_its_library_for_clusters(typed: Callable[..., str]) -> None:
    assert typed("python", "-c", "import controller.__main__, controller.sources.kubernetes.source") == ""


def test_its_program_is_a_user_with_an_entry_and_without_rights(run: Run) -> None:
    script = "import os, pwd; print(pwd.getpwuid(os.getuid())); print(open('/proc/self/status').read())"
    told = run(*SIM).python(script)
    assert "pw_uid=65532, pw_gid=65532" in told
    assert "CapEff:\t0000000000000000" in told
    assert "NoNewPrivs:\t1" in told


@pytest.mark.parametrize("tool", ["gcc", "cc", "ld", "make", "pip", "pip3"])
def test_nothing_is_left_that_builds_or_installs(engine: Engine, image: str, tool: str) -> None:
    found = engine.try_docker("run", "--rm", "--network=none", image, "sh", "-c", f"command -v {tool}")
    assert (found.returncode, found.stdout) == (127, "")


def test_ssh_knows_the_user(engine: Engine, image: str) -> None:
    ssh = ("ssh", "-o", "BatchMode=yes", "-p", "1", "127.0.0.1", "true")
    said = engine.try_docker("run", "--rm", "--network=none", *LOCKED_DOWN, image, *ssh).stdout
    assert "Connection refused" in said


def test_ssh_looks_for_known_hosts_among_the_credentials_and_can_keep_more_with_the_state(run: Run) -> None:
    container = run(*SIM)
    config = container.python("import subprocess; subprocess.run(['ssh', '-G', 'kvm1.example'])").splitlines()
    container.python(
        "import pathlib; home = pathlib.Path.home() / '.ssh'; home.mkdir(); (home / 'known_hosts').touch()"
    )
    assert "globalknownhostsfile /etc/vmpower/credentials/known_hosts /etc/ssh/ssh_known_hosts" in config
    assert "userknownhostsfile /var/lib/vmpower/.ssh/known_hosts /var/lib/vmpower/.ssh/known_hosts2" in config


def test_a_provider_that_serves_is_healthy(run: Run) -> None:
    run(*SIM, flags=QUICK).wait_health("healthy")


def test_a_provider_without_its_hypervisor_is_not_healthy(run: Run) -> None:
    run(*LIBVIRT, flags=QUICK).wait_health("unhealthy")


def test_a_controller_is_healthy(run: Run) -> None:
    run("vmpower-controller", "--manifests=/tmp", flags=QUICK).wait_health("healthy")


def test_a_program_that_is_told_to_end_ends(run: Run) -> None:
    container = run(*SIM)
    container.wait_log("serving")
    assert container.stop() == 0


def test_a_program_that_is_told_to_end_before_it_has_begun_ends(run: Run) -> None:
    assert run(*SIM).stop() in (0, 143)


def test_a_process_whose_parent_is_gone_is_reaped_when_it_ends(run: Run) -> None:
    container = run(*SIM)
    orphan = max(int(line) for line in container.python(FORK_TWICE).split())
    poll(lambda: container.python(f"import os; print(os.path.exists('/proc/{orphan}'))") == "False")


def test_its_size_and_the_time_until_its_programs_serve(
    engine: Engine, image: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {name: int(engine.docker("inspect", "--format={{.Size}}", name)) for name in (image, BASE)}
    parts = run("sleep", "infinity").python(
        "import subprocess; subprocess.run(['du', '-sm', '/opt/vmpower', '/usr', '/etc', '/var'])"
    )
    sim = run(*SIM).seconds_until("serving")
    controller = run("vmpower-controller", "--manifests=/tmp").seconds_until("synced")
    with capsys.disabled():
        print(f"\n{image}: {sizes[image] / 1e6:.0f} MB, of which the base {sizes[BASE] / 1e6:.0f} MB\nMiB of {parts}")
        print(f"from the container's start: sim serves after {sim:.1f} s, controller after {controller:.1f} s")
    assert sizes[image] - sizes[BASE] < 350e6  # 334 MB in November 2026; docs/adr/0025 says of what
