"""The calls that we make of an API server, with one kind of error.

All of them are here, so this file says which verbs the controller's Role must grant.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.watch import Watch

from controller.models import GROUP
from controller.source import Key, SourceError

VERSION = "v1beta1"
PLURALS = {"VirtualMachine": "virtualmachines", "Provider": "providers"}
PAGE = 500
"""Objects a page: an answer of a megabyte or two."""
CALL_TIMEOUT = 10.0
"""Seconds a call may take; a server that is stopped, not gone, would hold us for ever."""
WATCH_SECONDS = 240
"""A watch is begun anew after that long, as all clients do, so that servers share the load of them."""
SILENCE = 150.0
"""Seconds without a word, not even the bookmark of each minute, after which a watch counts as dead."""
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"  # RFC 7386, RFC 6902

Object = dict[str, Any]


class ApiError(SourceError):
    """A call failed. `status` is the HTTP status, 0 where there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A connection as the kubeconfig says, or as the pod's ServiceAccount.

    Raises:
        SourceError: neither says where the API server is.
    """
    configuration = client.Configuration()
    try:
        if kubeconfig is None:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), client_configuration=configuration, persist_config=False
            )
    except (config.ConfigException, OSError, ValueError) as error:
        raise SourceError(f"{error}; give --kubeconfig, or run it as a pod with a ServiceAccount.") from error
    return client.ApiClient(configuration)


class Api:
    """Resources of one namespace, or of all (`namespace` is empty). Every call raises `ApiError`."""

    def __init__(self, connection: client.ApiClient, namespace: str = "") -> None:
        self._namespace = namespace
        self._resources = client.CustomObjectsApi(connection)
        self._core = client.CoreV1Api(connection)

    async def list(self, kind: str) -> AsyncIterator[Object]:
        """All resources of a kind in pages, each with its `items` and the `metadata` of the list."""
        token = ""
        while True:
            with translated():
                page = await self._list(kind, limit=PAGE, _continue=token, _request_timeout=CALL_TIMEOUT)
            yield cast(Object, page)
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def watch(self, kind: str, version: str) -> AsyncIterator[Object]:
        """Events (`type`, `raw_object`), bookmarks too, since `version`, until the server ends the stream."""

        async def open_stream(**arguments: Any) -> Any:
            arguments.pop("_preload_content")
            return await self._list(kind, raw=True, **arguments)

        since = {"resource_version": version, "allow_watch_bookmarks": True, "timeout_seconds": WATCH_SECONDS}
        with translated():
            async with Watch() as watch:  # type: ignore[no-untyped-call]
                stream = watch.stream(open_stream, **since, _request_timeout=WATCH_SECONDS + CALL_TIMEOUT)
                with suppress(StopAsyncIteration):
                    while True:
                        async with asyncio.timeout(SILENCE):
                            event = await anext(stream)
                        yield event

    async def patch(self, key: Key, body: Any, content_type: str = MERGE) -> None:
        """Change a resource's metadata."""
        with translated():
            await self._resources.patch_namespaced_custom_object(
                GROUP, VERSION, key.namespace, PLURALS[key.kind], key.name, body,
                _content_type=content_type, _request_timeout=CALL_TIMEOUT,
            )  # fmt: skip

    async def patch_status(self, key: Key, body: Mapping[str, Any]) -> None:
        """Change a resource's status."""
        with translated():
            await self._resources.patch_namespaced_custom_object_status(
                GROUP, VERSION, key.namespace, PLURALS[key.kind], key.name, dict(body),
                _content_type=MERGE, _request_timeout=CALL_TIMEOUT,
            )  # fmt: skip

    async def create_event(self, namespace: str, event: client.CoreV1Event) -> None:
        """Tell people something."""
        with translated():
            await self._core.create_namespaced_event(namespace, event, _request_timeout=CALL_TIMEOUT)

    async def secret(self, namespace: str, name: str) -> Mapping[str, str | bytes]:
        """A secret's values in base64. The caller keeps none of it."""
        with translated():
            found = await self._core.read_namespaced_secret(name, namespace, _request_timeout=CALL_TIMEOUT)
            return found.data or {}

    async def _list(self, kind: str, *, raw: bool = False, **arguments: Any) -> Any:
        scope, place = ("namespaced", (self._namespace,)) if self._namespace else ("cluster", ())
        form = "_without_preload_content" if raw else ""
        method = getattr(self._resources, f"list_{scope}_custom_object{form}")
        return await method(GROUP, VERSION, *place, PLURALS[kind], **arguments)


@contextmanager
def translated() -> Iterator[None]:
    """The library's errors, and those of the connection under it, as `ApiError`."""
    try:
        yield
    except client.ApiException as error:
        raise ApiError(error.status or 0, _sentence(error)) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        why = str(error) or type(error).__name__
        raise ApiError(0, f"The API server does not answer: {why}; it is tried again.") from error


def _sentence(error: client.ApiException) -> str:
    said = str(error.reason or "")
    with suppress(ValueError, TypeError, AttributeError):  # whatever stands between may answer in HTML
        said = json.loads(error.body or "")["message"]
    match error.status:
        case 403:
            return f"{said}; whoever runs the controller grants it in its Role."
        case 404 if "could not find the requested resource" in said or said == "404 page not found":
            return f"The API server does not know {GROUP}/{VERSION}; apply controller/crds."
    return f"{said or 'refused'} (HTTP {error.status})"
