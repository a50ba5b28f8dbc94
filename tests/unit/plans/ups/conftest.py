from collections.abc import AsyncIterator

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
def login() -> Login:
    return Login("vmpower", PASSWORD)
