"""What an API server knows and does, in memory, at the level of our `Api`; and the two kinds of patches."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from kubernetes.aio import client

from controller.models import API_VERSION
from controller.source import Key
from controller.sources.kubernetes.api import MERGE, ApiError, Object, Operations

WEB = Key("VirtualMachine", "default", "web")
GONE = ApiError(410, "too old resource version")
AWAY = ApiError(0, "The API server does not answer.")


def raw(name: str = "web", *, kind: str = "VirtualMachine", uid: str = "", generation: int = 1, **parts: Any) -> Object:
    """An object as the API has it; `parts` are its spec, status, and what else its metadata has."""
    body: Object = {"spec": {"providerRef": {"name": "local"}, "powerState": "OffGraceful"}}
    if kind == "Provider":
        body = {"spec": {"type": "sim", "runtime": {"endpoint": "unix:///run/p.sock"}}}
    body |= {part: parts.pop(part) for part in ("spec", "status") if part in parts}
    meta = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "generation": generation, **parts}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"resourceVersion": "1", **meta}, **body}


def key_of(found: Object) -> Key:
    return Key(found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"])


class FakeApi:
    """A test puts and deletes objects, and breaks the watches; calls are kept as (time, verb, ...)."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.page = 500
        self.forgotten = 0
        """Versions up to this one cannot be watched from."""
        self.calls: list[tuple[Any, ...]] = []
        self.events: list[tuple[str, Any]] = []
        self.secrets: dict[str, Mapping[str, str | bytes]] = {}
        self.types: dict[str, str] = {}
        """Those of secrets that are not Opaque."""
        self.nodes: list[str] = []
        """The UUIDs of the cluster's nodes."""
        self.answers = asyncio.Event()
        """While this is not set, what is patched is changed and the answer still to come."""
        self.answers.set()
        self._failures: dict[str, deque[Exception | None]] = {}
        self._history: list[tuple[int, str, Object]] = []
        self._streams: list[tuple[str, asyncio.Queue[Object | ApiError | None]]] = []
        self._version = 100

    # What a test does

    def put(self, changed: Object) -> None:
        """An object is made or changed."""
        event = "MODIFIED" if key_of(changed) in self.objects else "ADDED"
        self.objects[key_of(changed)] = stamped = deepcopy(changed)
        self._happened(event, stamped)

    def delete(self, key: Key = WEB) -> None:
        self._happened("DELETED", self.objects.pop(key))

    def bookmark(self, kind: str = "VirtualMachine") -> None:
        self._happened("BOOKMARK", {"kind": kind, "metadata": {}})

    def end(self, error: ApiError | None = None) -> None:
        """All watches end, with an error or as the server's time is up."""
        for _, stream in self._streams:
            stream.put_nowait(error)
        self._streams.clear()

    def fail(self, verb: str, *failures: Exception | None) -> None:
        """The next calls, pages of lists counted one by one, fail so; None is one that does not."""
        self._failures.setdefault(verb, deque()).extend(failures)

    def forget(self) -> None:
        """The history up to now is forgotten."""
        self.forgotten = self._version

    def asked(self, verb: str) -> list[tuple[Any, ...]]:
        """The calls with this verb, without their times."""
        return [call[2:] for call in self.calls if call[1] == verb]

    def times(self, verb: str) -> list[float]:
        return [call[0] for call in self.calls if call[1] == verb]

    # What our code calls

    async def require_ours(self) -> None:
        self._called("require_ours")

    async def list(self, kind: str) -> AsyncIterator[Object]:
        items = [found for key, found in self.objects.items() if key.kind == kind]
        for start in range(0, max(len(items), 1), self.page):
            self._called("list", kind)
            yield {"metadata": {"resourceVersion": str(self._version)}, "items": items[start : start + self.page]}

    async def watch(self, kind: str, version: str) -> AsyncIterator[Object]:
        self._called("watch", kind, version)
        if int(version) < self.forgotten:
            raise GONE
        stream: asyncio.Queue[Object | ApiError | None] = asyncio.Queue()
        for number, event, found in self._history:
            if number > int(version) and found["kind"] == kind:
                stream.put_nowait({"type": event, "object": found})
        self._streams.append((kind, stream))
        while (told := await stream.get()) is not None:
            if isinstance(told, ApiError):
                raise told
            yield told

    async def patch(self, key: Key, body: Any, content_type: str = MERGE) -> Object:
        self._called("patch", key, body, content_type)
        found = self._found(key)
        self.put(merged(found, body) if content_type == MERGE else patched(found, body))
        made = self.objects[key]
        await self.answers.wait()
        return made

    async def patch_status(self, key: Key, operations: Operations) -> None:
        self._called("patch_status", key, operations)
        self.put(patched(self._found(key), operations))

    async def create_event(self, namespace: str, event: client.CoreV1Event) -> None:
        self._called("create_event", namespace, event)
        self.events.append((namespace, event))

    async def create(self, key: Key, spec: Any) -> Object:
        self._called("create", key, spec)
        self.put(raw(key.name, kind=key.kind, namespace=key.namespace, spec=spec))
        return self.objects[key]

    async def delete_object(self, key: Key, uid: str) -> None:
        self._called("delete_object", key, uid)
        self.delete(key)

    async def secret(self, namespace: str, name: str) -> tuple[str, Mapping[str, str | bytes]]:
        self._called("secret", namespace, name)
        if name not in self.secrets:
            raise ApiError(404, f'secrets "{name}" not found')
        return self.types.get(name, "Opaque"), self.secrets[name]

    async def system_uuids(self) -> Sequence[str]:
        self._called("system_uuids")
        return self.nodes

    # Inside

    def _called(self, verb: str, *arguments: Any) -> None:
        self.calls.append((asyncio.get_running_loop().time(), verb, *arguments))
        failures = self._failures.get(verb)
        failure = failures.popleft() if failures else None
        if failure is not None:
            raise failure

    def _found(self, key: Key) -> Object:
        if key not in self.objects:
            raise ApiError(404, f"{key} not found")
        return self.objects[key]

    def _happened(self, event: str, found: Object) -> None:
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        self._history.append((self._version, event, found))
        for kind, stream in self._streams:
            if kind == found["kind"]:
                stream.put_nowait({"type": event, "object": found})


def merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch, RFC 7386; a resourceVersion that is not the object's is a conflict."""
    if not isinstance(patch, dict):
        return patch
    version = patch.get("resourceVersion")
    if version is not None and version != target["resourceVersion"]:
        raise ApiError(409, "the object has been modified")
    kept = {name: value for name, value in (target or {}).items() if name not in patch}
    return kept | {name: merged((target or {}).get(name), value) for name, value in patch.items() if value is not None}


def patched(target: Object, operations: Operations) -> Object:
    """A JSON patch, RFC 6902, as far as we use it. What cannot be done is answered with 422, as the API does."""
    result = deepcopy(target)
    for operation in operations:
        *path, last = (step.replace("~1", "/") for step in operation["path"].removeprefix("/").split("/"))
        try:
            _operate(result, path, last, operation)
        except (KeyError, IndexError) as error:
            raise ApiError(422, "the server rejected our request due to an error in our request") from error
    return result


def _operate(place: Any, path: list[str], last: str, operation: Object) -> None:
    for step in path:
        place = place[int(step) if isinstance(place, list) else step]
    name = int(last) if isinstance(place, list) else last
    match operation["op"]:
        case "test":
            if place[name] != operation["value"]:
                raise KeyError(name)
        case "remove":
            del place[name]
        case "replace":
            _ = place[name]
            place[name] = operation["value"]
        case "add":
            place[name] = operation["value"]
