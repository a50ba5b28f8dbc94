"""All resources of one kind, then each change, through lost connections and expired versions."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from common.backoff import Backoff
from controller.source import Key
from controller.sources.kubernetes.api import NAMESPACES, Api, ApiError, Object

EXPIRED = 410
"""HTTP's Gone: the server has forgotten the version that we watch from, and everything is listed anew."""
FORBIDDEN = 403

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
    """All resources of the kind have been seen."""

    kind: str


Item = Seen | Gone | Listed


class Reflector:
    """List and watch, as API clients do:
    https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes"""

    def __init__(self, api: Api, kind: str, tell: Callable[[Item], None]) -> None:
        self._api, self._kind, self._tell = api, kind, tell
        self._known: dict[Key, str] = {}  # its uid
        self._version = ""
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
                self._missed(error)
            await asyncio.sleep(self._backoff.next())

    def _missed(self, error: ApiError) -> None:
        if error.status == EXPIRED:
            self._version = ""
        if error.status == FORBIDDEN and self._kind == NAMESPACES:  # by a Role of an earlier version: none has labels
            self._tell(Listed(self._kind))
        log.warning("watch broken; it is begun anew", kind=self._kind, error=str(error), relist=not self._version)

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
            self._version = raw["metadata"]["resourceVersion"]
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
