"""One engine for all tests of images, and the image that the Dockerfile makes there."""

from collections.abc import Iterator

import pytest

from tests.rigs.docker.engine import BASE, Engine
from tests.rigs.docker.image import IMAGE


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """Its name; it was made as docs/docker.md says, from a base of this machine."""
    arguments = ("--build-arg", f"BASE={BASE}", "--build-arg", "VERSION=0.1.0")
    engine.docker("build", "--network", "host", *arguments, "--tag", IMAGE, ".")
    return IMAGE
