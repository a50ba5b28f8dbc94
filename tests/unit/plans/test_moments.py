"""A table of moments, and what holds for all of them: each minute is asked whether it is one."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from plans.moments import NAMES, checked, known, next_moment

MINUTE = timedelta(minutes=1)


def moments(cron: str, zone: str, after: str, count: int = 3) -> list[str]:
    """The next ones, as clocks of the zone show them."""
    moment, found = datetime.fromisoformat(after), []
    for _ in range(count):
        moment = next_moment(cron, ZoneInfo(zone), moment)
        found.append(f"{moment.astimezone(ZoneInfo(zone)):%m-%d %H:%M%z}")
    return found


@pytest.mark.parametrize(
    ("cron", "after", "next_ones"),
    [
        ("0 22 * * *", "2025-07-01T21:59:59Z", ["07-01 22:00+0000", "07-02 22:00+0000", "07-03 22:00+0000"]),
        ("0 22 * * *", "2025-07-01T22:00:00Z", ["07-02 22:00+0000", "07-03 22:00+0000", "07-04 22:00+0000"]),
        ("0 22 * * *", "2025-07-02T01:00:00+02:00", ["07-02 22:00+0000", "07-03 22:00+0000", "07-04 22:00+0000"]),
        ("0 22 * * FRI", "2025-07-01T00:00:00Z", ["07-04 22:00+0000", "07-11 22:00+0000", "07-18 22:00+0000"]),
        ("0 0 1,15 * 7", "2025-07-01T00:00:00Z", ["07-06 00:00+0000", "07-13 00:00+0000", "07-15 00:00+0000"]),
        ("0 0 L * *", "2025-01-01T00:00:00Z", ["01-31 00:00+0000", "02-28 00:00+0000", "03-31 00:00+0000"]),
        ("0 3 * * SUN#1", "2025-07-01T00:00:00Z", ["07-06 03:00+0000", "08-03 03:00+0000", "09-07 03:00+0000"]),
        ("@weekly", "2025-07-01T00:00:00Z", ["07-06 00:00+0000", "07-13 00:00+0000", "07-20 00:00+0000"]),
    ],
)
def test_the_next_moments(cron: str, after: str, next_ones: list[str]) -> None:
    assert moments(cron, "UTC", after) == next_ones


def test_a_moment_may_be_decades_away() -> None:
    moment = next_moment("0 0 29 2 MON#5", ZoneInfo("UTC"), datetime(2073, 1, 1, tzinfo=UTC))
    assert moment == datetime(2076, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "next_ones"),
    [
        ("30 2 * * *", ["03-30 03:00+0200", "03-31 02:30+0200", "04-01 02:30+0200"]),  # left out: when clocks go on
        ("15,45 2 * * *", ["03-30 03:00+0200", "03-31 02:15+0200", "03-31 02:45+0200"]),  # both at once
        ("30 1,2,3 * * *", ["03-30 01:30+0100", "03-30 03:00+0200", "03-30 03:30+0200"]),
        ("30 */2 * * *", ["03-30 04:30+0200", "03-30 06:30+0200", "03-30 08:30+0200"]),  # clocks never show 02:30
        ("*/30 * * * *", ["03-30 01:30+0100", "03-30 03:00+0200", "03-30 03:30+0200"]),
    ],
)
def test_where_clocks_are_put_forward(cron: str, next_ones: list[str]) -> None:
    assert moments(cron, "Europe/Berlin", "2025-03-30T01:15:00+01:00") == next_ones


@pytest.mark.parametrize(
    ("cron", "next_ones"),
    [
        ("30 2 * * *", ["10-26 02:30+0200", "10-27 02:30+0100", "10-28 02:30+0100"]),  # shown twice: the first
        ("30 2,3 * * *", ["10-26 02:30+0200", "10-26 03:30+0100", "10-27 02:30+0100"]),
        ("30 */2 * * *", ["10-26 02:30+0200", "10-26 02:30+0100", "10-26 04:30+0100"]),  # clocks show 02:30 twice
        ("*/40 * * * *", ["10-26 02:00+0200", "10-26 02:40+0200", "10-26 02:00+0100"]),
    ],
)
def test_where_clocks_are_put_back(cron: str, next_ones: list[str]) -> None:
    assert moments(cron, "Europe/Berlin", "2025-10-26T01:45:00+02:00") == next_ones


def test_in_the_second_of_two_equal_hours_the_first_one_is_over() -> None:
    assert moments("45 2 * * *", "Europe/Berlin", "2025-10-26T02:30:00+01:00", 1) == ["10-27 02:45+0100"]


def test_clocks_may_change_by_half_an_hour() -> None:
    assert moments("0 */3 * * *", "Australia/Lord_Howe", "2025-10-05T00:01:00+10:30", 1) == ["10-05 03:00+1100"]


def test_a_day_may_be_left_out() -> None:
    assert moments("30 8 * * *", "Pacific/Apia", "2011-12-29T09:00:00-10:00", 2) == [
        "12-31 00:00+1400",
        "12-31 08:30+1400",
    ]


FIELDS = (
    st.sampled_from(["*", "*/7", "0", "30", "10-50/20", "5,59"]),
    st.sampled_from(["*", "*/3", "0", "1", "2", "1-3", "0,23"]),
    st.sampled_from(["*", "*/2", "1", "26-31"]),
    st.sampled_from(["*", "3-4", "10,11"]),
    st.sampled_from(["*", "SUN", "MON-FRI", "7"]),
)
# Half an hour, midnight, the south, the date line, none.
ZONES = ["Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "America/Santiago", "Pacific/Apia", "Asia/Kathmandu"]
CHANGES = [datetime(2011, 12, 30, 10), datetime(2025, 3, 30, 1), datetime(2025, 4, 5, 15), datetime(2025, 10, 4, 15)]
CHANGES += [datetime(2025, 10, 26, 1), datetime(2025, 3, 9, 5), datetime(2025, 11, 2, 5), datetime(2025, 9, 7, 4)]


def is_one(cron: str, zone: ZoneInfo, minute: datetime) -> bool:
    """Whether cron runs something in this minute, found from what clocks show in it and in the one before."""
    shown = minute.astimezone(zone)
    if any(field.startswith("*") for field in cron.split()[:2]):
        return matches(cron, shown)
    before = (minute - MINUTE).astimezone(zone)
    first = shown.fold == 0
    left_out = int((shown.replace(tzinfo=None) - before.replace(tzinfo=None)) / MINUTE) - 1
    return (first and matches(cron, shown)) or any(
        matches(cron, before.replace(tzinfo=None) + (number + 1) * MINUTE) for number in range(left_out)
    )


def matches(cron: str, shown: datetime) -> bool:
    """Whether clocks show a moment of it."""
    naive = shown.replace(tzinfo=None, fold=0)
    return next(CronSim(cron, naive - MINUTE)) == naive


@given(
    st.tuples(*FIELDS).map(" ".join),
    st.sampled_from(ZONES).map(ZoneInfo),
    st.sampled_from(CHANGES),
    st.integers(-5 * 60, 5 * 60),
    st.integers(0, 59),
)
def test_the_next_moment_is_later_and_none_is_between(
    cron: str, zone: ZoneInfo, change: datetime, minutes: int, seconds: int
) -> None:
    after = change.replace(tzinfo=UTC) + minutes * MINUTE + timedelta(seconds=seconds)
    moment = next_moment(cron, zone, after)
    assert moment > after
    minute, last = after.replace(second=0) + MINUTE, min(moment, after + timedelta(hours=6))
    while minute < last:
        assert not is_one(cron, zone, minute)
        minute += MINUTE
    if moment == last:
        assert is_one(cron, zone, moment)


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("", "write five fields"),
        ("0 22 * *", "write five fields"),
        ("0 0 22 * * *", "write five fields"),  # no seconds
        ("TZ=UTC 0 22 * * *", "write five fields"),
        ("@every 1h", "write five fields"),
        ("@reboot", "write five fields"),
        ("0 22 *\n* *", "write five fields"),
        ("60 22 * * *", "there is no such minute"),
        ("0 22-21 * * *", "there is no such hour"),
        ("0 22 * * FUN", "there is no such day-of-week"),
        ("0 22 * 13 *", "there is no such month"),
        ("0 22 30 2 *", "there is no such day-of-month"),
        ("0 22 31 4,6,9,11 *", "there is no such day-of-month"),
        ("0 22 */8 2 MON#5", "no such day ever comes"),
    ],
)
def test_what_never_comes_is_refused(cron: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(cron)


@pytest.mark.parametrize("cron", [*NAMES, "0 22 29 2 *", "*/5  1-5,7 LW JAN-MAR,12 MON#1"])
def test_what_comes_is_taken_as_it_is(cron: str) -> None:
    assert checked(cron) == cron


@given(st.text(st.sampled_from("0123456789*/,-#LWMON@ \t²\0"), max_size=200) | st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert checked(text) == text
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_a_time_zone_is_named_as_iana_names_it(zone: str) -> None:
    assert known(zone) == zone


@pytest.mark.parametrize("zone", ["", "Europe", "Europe/Atlantis", "/etc/localtime", "../UTC", "zone.tab", "a\0"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="there is no time zone"):
        known(zone)
