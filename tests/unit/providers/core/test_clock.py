import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from providers.core.clock import monotonic, system_clock


def test_the_machines_clock_tells_the_moment_in_utc() -> None:
    before = datetime.now(UTC)
    now = system_clock()
    assert before <= now <= datetime.now(UTC)
    assert now.utcoffset() == timedelta(0)


@pytest.mark.looptime
async def test_what_has_passed_is_told_by_the_event_loop() -> None:
    began = monotonic()
    await asyncio.sleep(3600)
    assert monotonic() - began == pytest.approx(3600)
