"""All resources of one kind, then each change, through lost connections and expired versions."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from common.backoff import Backoff
from controller.models import OF_PLANS
from controller.source import Key
from controller.sources.kubernetes.api import NAMESPACES, Api, ApiError, Object

EXPIRED = 410
"""HTTP's Gone: the server has forgotten the version that we watch from, and everything is listed anew."""
FORBIDDEN, UNKNOWN = 403, 404
NOT_THERE: Mapping[str, frozenset[int]] = {
    NAMESPACES: frozenset({FORBIDDEN}),
    **dict.fromkeys(OF_PLANS, frozenset({FORBIDDEN, UNKNOWN})),
}
"""Kinds that a Role, or CRDs, of an earlier version do not have: VMs are looked after all the same."""
ABSENT = 30.0
"""Seconds until such a kind is looked for again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """A resource as it is now."""

    key: Key
    raw: Object


@dataclass(frozen=True, slots=True)
class Gone:
    """A resource that exists no more."""

    key: Key


@dataclass(frozen=True, slots=True)
class Listed:
    """All resources of the kind have been seen; or none can be, for the time being."""

    kind: str
    seen: bool = True


Item = Seen | Gone | Listed


class Reflector:
    """List and watch, as API clients do:
    https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes"""

    def __init__(self, api: Api, kind: str, tell: Callable[[Item], None]) -> None:
        self._api, self._kind, self._tell = api, kind, tell
        self._known: dict[Key, str] = {}  # its uid
        self._version = ""
        self._missed_for = ""
        self._backoff = Backoff(0.2, 5.0)

    async def run(self) -> None:
        """Raises Foreign once the resources are another controller's, whose CRDs may replace ours at any time; their
        API server then ends every watch."""
        while True:
            try:
                await self._api.require_ours()
                if not self._version:
                    await self._list()
                await self._watch()
            except ApiError as error:
                if self._missed(error):
                    await asyncio.sleep(ABSENT)
                    continue
            await asyncio.sleep(self._backoff.next())

    def _missed(self, error: ApiError) -> bool:
        """Whether the kind is not there at all."""
        if error.status == EXPIRED:
            self._version = ""
        is_absent = error.status in NOT_THERE.get(self._kind, ())
        if is_absent:
            self._tell(Listed(self._kind, seen=False))
        if str(error) != self._missed_for:  # what stays as it is would be told for days
            log.warning("watch broken; it is begun anew", kind=self._kind, error=str(error), relist=not self._version)
        self._missed_for = str(error)
        return is_absent

    async def _list(self) -> None:
        listed = set[Key]()
        version = ""
        async for page in self._api.list(self._kind):
            listed |= {self._see(raw) for raw in page["items"]}
            version = page["metadata"]["resourceVersion"]
        for key in self._known.keys() - listed:
            self._lose(key)
        self._version = version
        self._tell(Listed(self._kind))

    async def _watch(self) -> None:
        async for event in self._api.watch(self._kind, self._version):
            raw = event["object"]
            self._take_in(event["type"], raw)
            self._version, self._missed_for = raw["metadata"]["resourceVersion"], ""
            self._backoff.reset()

    def _take_in(self, kind_of_event: str, raw: Object) -> None:
        match kind_of_event:
            case "ADDED" | "MODIFIED":
                self._see(raw)
            case "DELETED":
                self._lose(self._key(raw))

    def _see(self, raw: Object) -> Key:
        key, uid = self._key(raw), raw["metadata"]["uid"]
        if self._known.get(key, uid) != uid:  # deleted and made anew while we could not look
            self._lose(key)
        self._known[key] = uid
        self._tell(Seen(key, raw))
        return key

    def _lose(self, key: Key) -> None:
        self._known.pop(key, None)
        self._tell(Gone(key))

    def _key(self, raw: Object) -> Key:
        return Key(self._kind, raw["metadata"].get("namespace", ""), raw["metadata"]["name"])
