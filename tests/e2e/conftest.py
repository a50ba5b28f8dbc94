"""What tests of outages share: a UPS, and guests that go down one after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.nut.site import Site
from tests.rigs.process import Provider

THREE = """
guests:
  batch: {shutdown_time: 1s}
  app: {shutdown_time: 4s}
  db: {shutdown_time: 1s}
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def three_guests(tmp_path: Path) -> Iterator[Provider]:
    """A sim with the guests batch, app and db."""
    (tmp_path / "guests.yaml").write_text(THREE)
    with Provider("sim", "--script", str(tmp_path / "guests.yaml"), "--default-timeout", "20s") as provider:
        yield provider
