"""A run's record in the status of its PowerRun, for a controller that has not got it on its disk. Pure.

A Kubernetes API takes objects of about 1.5 MB: what does not fit is left out here, and nowhere else.
"""

import base64
import gzip
import zlib
from typing import Final

from controller.run_status import ENDED, PowerRunStatus, RunTier, RunVM, run_status
from plans.history import History
from plans.journal import history_of, line

MOST: Final = 1_200_000
"""Bytes of a status. 2,000 VMs that went down and came up again take 960,000, with their record."""
UNPACKED: Final = 64 * 1024 * 1024
"""Bytes of a record that are read."""
LEFT_OUT = "The VMs are too many for this status; `vmpower plan report` at the controller tells them."
NO_RECORD = (
    "The record is too large for this status: only a controller with this one's state directory can go on with the run."
)


def recorded_status(history: History) -> PowerRunStatus:
    """The status of a run, with its record while there is something left to do; no larger than MOST."""
    status = run_status(history)
    if status.phase in ENDED:
        return _fitting(status)
    return _fitting(status.model_copy(update={"record": packed(history)}))


def packed(history: History) -> str:
    """The record of a run as text."""
    lines = "\n".join(map(line, (history.start, *history.events)))
    return base64.b64encode(gzip.compress(lines.encode(), 6, mtime=0)).decode()


def unpacked(record: str) -> History:
    """What `packed` wrote.

    Raises:
        ValueError: it is not readable, or by another version only.
    """
    reader = zlib.decompressobj(wbits=31)  # gzip's header
    try:
        lines = reader.decompress(base64.b64decode(record, validate=True), UNPACKED)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if reader.unconsumed_tail or not reader.eof:
        raise ValueError("the record is cut off, or too large")
    return history_of(lines.split(b"\n"))


def later(one: History, other: History) -> History:
    """Of two records of a run the one that knows more: each was written by who carried the run out at the time, and
    both begin alike. The first, if they are the same."""

    def known(history: History) -> tuple[object, int]:
        last = max((event.at for event in history.events), default=history.start.at)
        return last, len(history.events)

    return max(one, other, key=known)


def size(status: PowerRunStatus) -> int:
    """Bytes, as it is written."""
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def _fitting(status: PowerRunStatus) -> PowerRunStatus:
    """What people need least goes first; the record last, as without it a run that is under way has no other host."""
    if size(status) <= MOST:
        return status
    shorter = status.model_copy(update={"tiers": tuple(map(_terse, status.tiers))})
    if size(shorter) <= MOST:
        return shorter
    tiers = tuple(tier.model_copy(update={"vms": ()}) for tier in status.tiers)
    bare = status.model_copy(update={"tiers": tiers, "message": _and(status.message, LEFT_OUT)})
    if size(bare) <= MOST:
        return bare
    return bare.model_copy(update={"record": "", "message": _and(bare.message, NO_RECORD)})


def _terse(tier: RunTier) -> RunTier:
    """A tier whose VMs say no more than how they ended."""
    kept = {"vm", "id", "outcome", "off", "ended_at", "up"}
    vms = tuple(RunVM(**{name: getattr(vm, name) for name in kept}) for vm in tier.vms)
    return tier.model_copy(update={"vms": vms})


def _and(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
