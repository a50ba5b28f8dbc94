"""Which of several controllers leads: the one that holds a Lease of the API.

The election is the client library's; here it learns to survive an API server that does not answer, and to
hand over at once instead of letting the lease run out.
"""

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from kubernetes.aio import client
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from controller.sources.kubernetes.api import JSON_PATCH, ApiError, Operations, translated

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Terms:
    """Where the lease is, who we are, and how long it holds without being renewed."""

    namespace: str
    name: str
    identity: str
    duration: timedelta = timedelta(seconds=15)

    @property
    def retry(self) -> float:
        """Seconds between attempts to acquire or renew the lease; client-go has the same proportion."""
        return max(1.0, self.duration.total_seconds() / 7.5)

    @property
    def deadline(self) -> float:
        """Seconds without a renewal after which we stop leading: two thirds of the lease, before another may begin."""
        return self.duration.total_seconds() * 2 / 3


class Lease:
    """The lead, to be acquired, kept and given back."""

    def __init__(self, connection: client.ApiClient, terms: Terms) -> None:
        self._terms = terms
        self._leases = client.CoordinationV1Api(connection)
        self._lock = _Lock(terms, connection)
        self.another_led = self._lock.another_led
        """Set once the Lease was seen to be another's; whoever heeds it clears it."""
        self._keeping: asyncio.Task[None] | None = None

    async def acquire(self) -> "asyncio.Task[None]":
        """Wait until we lead. The task that is returned keeps the lead, and ends when it is lost."""
        if self._keeping is None or self._keeping.done():
            election = LeaderElection(self._config())
            log.info("standing by", lease=f"{self._terms.namespace}/{self._terms.name}", identity=self._terms.identity)
            await election.acquire()
            log.info("leading", identity=self._terms.identity)
            self._keeping = asyncio.create_task(self._keep(election))
        return self._keeping

    async def _keep(self, election: LeaderElection) -> None:
        """Renew the lease until that has failed for `deadline`. The library measures by the wall clock, which may
        be set, and between calls only, when another controller may lead already."""
        renewing = asyncio.create_task(election.renew_loop())
        try:
            while not renewing.done() and (left := self._lock.renewed + self._terms.deadline - _now()) > 0:
                await asyncio.wait([renewing], timeout=min(left, self._terms.retry))
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def release(self) -> None:
        """Give up the lead, if it is ours, so that another controller leads at once."""
        if self._keeping is None or self._keeping.done():
            return
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        freed: Operations = [
            {"op": "test", "path": "/spec/holderIdentity", "value": self._terms.identity},
            {"op": "replace", "path": "/spec/holderIdentity", "value": ""},
            {"op": "replace", "path": "/spec/leaseDurationSeconds", "value": 1},
        ]
        try:
            with translated():
                await self._leases.patch_namespaced_lease(
                    self._terms.name, self._terms.namespace, freed, _content_type=JSON_PATCH, _request_timeout=5.0
                )
        except ApiError as error:
            log.warning("lease not given back; it runs out", error=str(error))
        else:
            log.info("handed over", identity=self._terms.identity)

    def _config(self) -> Config:
        terms = self._terms
        duration = math.ceil(terms.duration.total_seconds())  # the API's are whole seconds
        return Config(self._lock, duration, terms.deadline, terms.retry, _nothing, _nothing)


async def _nothing() -> None:
    """A callback that the library wants; `acquire` is awaited instead."""


class _Lock(LeaseLock):
    """The library's lock with a timeout for each call, and with failures as return values, as its election expects."""

    def __init__(self, terms: Terms, connection: client.ApiClient) -> None:
        super().__init__(terms.name, terms.namespace, terms.identity, connection)
        self._timeout = terms.retry
        self.another_led = asyncio.Event()
        self.renewed = -math.inf
        """Loop time at which the last successful write of the lease began."""

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        try:
            with translated():
                async with asyncio.timeout(self._timeout):
                    found, record = await super().get(name, namespace)
        except ApiError as error:
            return False, client.ApiException(error.status, str(error))
        if isinstance(record, LeaderElectionRecord) and record.holder_identity not in {None, "", self.identity}:
            self.renewed = -math.inf
            self.another_led.set()
        return found, record  # type: ignore[return-value]  # the pair is one of those above

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        # Not the library's: it asks for `pretty=True`, which its own API class refuses (37.0.2).
        begun = _now()
        meta, spec = client.V1ObjectMeta(name=name), self.update_lease(_in_utc(election_record))
        try:
            with translated():
                await self.api_instance.create_namespaced_lease(
                    namespace, client.V1Lease(metadata=meta, spec=spec), _request_timeout=self._timeout
                )
        except ApiError as error:
            log.info("lease not created", error=str(error))
            return False
        self.renewed = begun
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        begun = _now()
        try:
            with translated():
                async with asyncio.timeout(self._timeout):
                    written = await super().update(name, namespace, _in_utc(updated_record))
        except ApiError:
            return False
        if written:
            self.renewed = begun
        return written


def _in_utc(record: LeaderElectionRecord) -> LeaderElectionRecord:
    """The library writes local time and calls it UTC."""
    utc = datetime.now(UTC).replace(tzinfo=None)
    now = str(utc.replace(microsecond=utc.microsecond or 1))  # neither it nor the API reads one without a fraction
    if record.acquire_time == record.renew_time:  # it is being acquired, not renewed
        record.acquire_time = now
    record.renew_time = now
    return record


def _now() -> float:
    return asyncio.get_running_loop().time()
