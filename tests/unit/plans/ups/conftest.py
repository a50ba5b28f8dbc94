from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plans.ups.client import Login
from tests.unit.plans.ups.fake import FakeUpsd

PASSWORD = 'se "cret'


@pytest.fixture
async def upsd() -> AsyncIterator[FakeUpsd]:
    upsd = FakeUpsd()
    yield upsd
    await upsd.close()


@pytest.fixture
def login(tmp_path: Path) -> Login:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    return Login("vmpower", file)
