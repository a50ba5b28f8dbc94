"""When cron's expressions say that something happens, by the clocks of a time zone. Pure.

cronsim reads the expressions and finds days, hours and minutes. What becomes of those that clocks leave out or show
twice is decided here, as Debian's cron does it (cron(8)). cronsim means the same, but it misses moments where clocks
change by half an hour, and tells one that has passed when it is asked in the second of two equal hours.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""As Kubernetes' CronJob has them."""
SOME_DAY = datetime(2000, 1, 1)
"""What comes at all comes within 50 years of it: until 2028 a 29 February has been each day of the week."""
LONGEST_SETBACK = timedelta(days=1)
"""Of clocks, anywhere, ever: where the date line was moved."""


def checked(cron: str) -> str:
    """The same, if it is an expression that comes at some time.

    Raises:
        ValueError
    """
    try:
        next(CronSim(_fields(cron), SOME_DAY))
    except CronSimError as error:
        raise ValueError(f"there is no such {str(error).removeprefix('Bad ')}") from None
    except StopIteration:
        raise ValueError("no such day ever comes") from None
    return cron


def known(zone: str) -> str:
    """The same, if there is such a time zone.

    Raises:
        ValueError
    """
    try:
        ZoneInfo(zone)
    except (LookupError, OSError, ValueError):  # OSError: a folder of zones, such as Europe
        raise ValueError(f"there is no time zone {zone!r}; write one of IANA's, such as Europe/Berlin or UTC") from None
    return zone


def next_moment(cron: str, zone: ZoneInfo, after: datetime) -> datetime:
    """The first moment after that one, in UTC. `cron` has been checked.

    A time of day that clocks leave out is when they go on; one that they show twice is the first of both. But where the
    minutes or the hours begin with a star the expression means what clocks show: twice, or never.
    """
    fields, after = _fields(cron), after.astimezone(UTC)
    of = _shown if any(field.startswith("*") for field in fields.split()[:2]) else _once
    later: list[datetime] = []
    # From before clocks were set back: in the second of two equal hours more of the first ones may be to come.
    for shown in CronSim(fields, after.astimezone(zone).replace(tzinfo=None) - LONGEST_SETBACK):
        later += [moment for moment in of(shown, zone) if moment > after]
        if later and shown.replace(tzinfo=zone).astimezone(UTC) > after:
            return min(later)  # what clocks show later than this they show for the first time later than this
    raise AssertionError(f"{cron!r} never comes, so that it was not checked")


def _fields(cron: str) -> str:
    """
    Raises:
        ValueError
    """
    fields = NAMES.get(cron, cron)
    if len(fields.split()) != 5 or not (fields.isascii() and fields.isprintable()):
        raise ValueError("write five fields: minute, hour, day of the month, month and weekday; or @daily and the like")
    return fields


def _once(shown: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    while not (moments := [*_shown(shown, zone)]):
        shown += timedelta(minutes=1)
    yield moments[0]


def _shown(shown: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Each moment, in UTC, at which clocks show this: none, one or two."""
    folds = {shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    for moment in sorted(folds):
        if moment.astimezone(zone).replace(tzinfo=None, fold=0) == shown:
            yield moment
