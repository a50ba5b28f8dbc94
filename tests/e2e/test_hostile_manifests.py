"""What no file, and nobody at the controller's ports, keeps it from: it brings down the VMs of the other manifests."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.hostile import connected, serves
from tests.rigs.controller import Controller
from tests.rigs.hostile_yaml import HOSTILE
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import Provider

SCRIPT = "guests: {web: {shutdown_time: 1s}, db: {shutdown_time: 1s}}"
SILENT = 500


@pytest.fixture
def health() -> int:
    return free_port()


@pytest.fixture
def metrics() -> int:
    return free_port()


@pytest.fixture
def controller(tmp_path: Path, health: int, metrics: int) -> Iterator[Controller]:
    """Not started yet; its provider runs."""
    (script := tmp_path / "script.yaml").write_text(SCRIPT)
    controller = Controller(tmp_path)
    controller.command += ["--health-listen", f"127.0.0.1:{health}", "--metrics-listen", f"127.0.0.1:{metrics}"]
    with Provider("sim", "--script", str(script)) as provider:
        controller.provider(provider.address)
        try:
            yield controller
        finally:
            controller.close()


def write_all(folder: Path) -> None:
    """Every file that is hostile by what is in it, and some that are by what they are."""
    folder.mkdir()
    for name, data in HOSTILE.items():
        (folder / f"{name}.yaml").write_bytes(data)
    os.mkfifo(folder / "fifo.yaml")
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "device.yaml").symlink_to("/dev/zero")
    Path(os.fsdecode(bytes(folder) + b"/\xff.yaml")).write_bytes(b"a: [")


def goes_down(controller: Controller, vm: str) -> str:
    controller.vm(vm, "OffGraceful")
    status = controller.wait_status(vm, lambda status: "lastPowerOff" in status)
    return str(status["lastPowerOff"]["outcome"])


def test_no_file_that_is_there_at_its_start_stops_it(controller: Controller) -> None:
    write_all(controller.manifests / "bad")
    controller.start()
    assert goes_down(controller, "web") == "GRACEFUL"
    assert controller.stop() == 0


def test_no_file_that_comes_later_stops_it(controller: Controller) -> None:
    controller.start()
    assert goes_down(controller, "web") == "GRACEFUL"
    write_all(controller.manifests / "bad")
    assert goes_down(controller, "db") == "GRACEFUL"
    assert controller.stop() == 0


@pytest.mark.parametrize("what", sorted(HOSTILE.keys() - {"a date of YAML 1.1", "digits"}))
def test_each_that_cannot_be_read_is_named(controller: Controller, what: str) -> None:
    (controller.manifests / "bad.yaml").write_bytes(HOSTILE[what])
    controller.start()
    controller.wait_output("bad.yaml")
    assert goes_down(controller, "web") == "GRACEFUL"


def test_connections_that_say_nothing_keep_no_probe_out_for_long(
    controller: Controller, health: int, metrics: int
) -> None:
    controller.start()
    assert goes_down(controller, "web") == "GRACEFUL"
    with ExitStack() as stack:
        for port in (health, metrics):
            for _ in range(SILENT):
                if end := connected(("127.0.0.1", port)):
                    stack.enter_context(end)
        poll(lambda: serves(health), timeout=10)
        assert goes_down(controller, "db") == "GRACEFUL"
    assert controller.stop() == 0
