"""Every command of docs/docker.md, typed from top to bottom in a clone: its output is what the page shows."""

from collections.abc import Iterator

import pytest

from tests.rigs.docker.compose import FILES, Project
from tests.rigs.docker.engine import BASE, Engine
from tests.rigs.page import Result, examples, require_shown, type_all
from tests.rigs.ports import free_port
from tests.rigs.process import ROOT

PAGE = examples(ROOT / "docs" / "docker.md")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def results(engine: Engine, image: str, prometheus_image: str) -> Iterator[list[Result]]:
    """What each command printed. The image is there already; Compose finds that it need not be built."""
    environment = {"BASE": BASE, "COMPOSE_FILE": FILES, "VMPOWER_IMAGE": image}
    prometheus = {"PROMETHEUS_IMAGE": prometheus_image, "PROMETHEUS_PORT": str(free_port())}
    with Project(engine) as project:
        (project.folder / ".env").unlink()
        yield type_all(PAGE, project.folder, engine.environment | environment | prometheus)


@pytest.mark.parametrize("number", range(len(PAGE)), ids=[" ".join(one.command.split()[2:7]) for one in PAGE])
def test_a_command_of_the_page_does_what_the_page_shows(results: list[Result], number: int) -> None:
    require_shown(PAGE, number, results[number])
