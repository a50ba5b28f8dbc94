from datetime import UTC, datetime, timedelta

from providers.clock import system_clock


def test_the_machines_clock_tells_the_moment_in_utc() -> None:
    before = datetime.now(UTC)
    now = system_clock()
    assert before <= now <= datetime.now(UTC)
    assert now.utcoffset() == timedelta(0)
