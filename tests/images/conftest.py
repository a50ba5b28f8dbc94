"""One engine for all tests of images, and the image that the Dockerfile makes there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.version import version
from tests.rigs import prometheus
from tests.rigs.docker.engine import BASE, Engine
from tests.rigs.docker.image import IMAGE


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """Its name; it was made as docs/docker.md says, from a base of this machine."""
    arguments = ("--build-arg", f"BASE={BASE}", "--build-arg", f"VERSION={version()}")
    engine.docker("build", "--network", "host", *arguments, "--tag", IMAGE, ".")
    return IMAGE


@pytest.fixture(scope="session")
def prometheus_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image of Debian's Prometheus, which takes the place of the public one."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(prometheus.programs() / "prometheus", folder)
    Path(folder, "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY prometheus /bin/prometheus\nRUN install -d -o 65534 /prometheus\n"
        'USER 65534\nENTRYPOINT ["/bin/prometheus"]\n'
    )
    name = "vmpower-prometheus:tests"
    engine.docker("build", "--network=host", "--tag", name, str(folder))
    return name
