"""What time it is at the provider, as its news tells: its clock is never compared with this machine's."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from client.times import moment
from protos.power.v1 import power_pb2 as pb


class ProviderClock:
    """The clock of one provider, known from the moment on at which something was heard as it happened.

    `seconds` is a clock of this machine that does not step.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._heard: tuple[datetime, float] | None = None

    def hear(self, stamp: datetime) -> None:
        """Something has just happened, at this moment by the provider's clock."""
        self._heard = stamp, self.seconds()

    def set_by(self, step: timedelta) -> None:
        """The provider's clock was set."""
        if self._heard is not None:
            stamp, at = self._heard
            self._heard = stamp + step, at

    @property
    def now(self) -> datetime | None:
        """None: not yet known."""
        if self._heard is None:
            return None
        stamp, at = self._heard
        return stamp + timedelta(seconds=self.seconds() - at)


def latest(operation: pb.Operation) -> datetime:
    """The last moment that the operation tells of: at the provider it is that late at least."""
    stamps = [operation.create_time, *(step.time for step in operation.steps)]
    stamps += [step.last_time for step in operation.steps if step.HasField("last_time")]
    return max(map(moment, stamps))
