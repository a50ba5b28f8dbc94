"""The calls that we make of an API server, with one kind of error.

All of them are here, so this file says which verbs the controller's Role must grant.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
import yaml
from kubernetes.aio import client, config

from controller.models import BESIDE, GROUP
from controller.source import Key, SourceError

VERSION = "v1beta1"
PLURALS = {
    "VirtualMachine": "virtualmachines",
    "Provider": "providers",
    "PowerPlan": "powerplans",
    "PowerRun": "powerruns",
}
NAMESPACES = "Namespace"
"""The kind of namespaces, whose labels a Provider's access may be about."""
OURS = "vmpower"
"""A category of our CRDs, as discovery tells it: those of another controller do not have it."""
PAGE = 500
"""Objects a page: an answer of a megabyte or two."""
NODES_PAGE = 50
"""Nodes a page, each of which names all images that it has: an answer of a megabyte or two."""
FEWER = {"PowerRun": 10}
"""Kinds of which one object may have a megabyte."""
CALL_TIMEOUT = 10.0
"""Seconds a call may take; a frozen server keeps connections open and never answers."""
WATCH_SECONDS = 240
"""How long the server keeps a watch open; beginning anew spreads watches over the API servers."""
SILENCE = 150.0
"""Seconds without an event or bookmark (one comes each minute) after which a watch counts as dead."""
TOKEN_AGE = 60.0
"""Seconds after which the kubeconfig's token is read again: some expire after a quarter of an hour."""
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"  # RFC 7386, RFC 6902

Object = dict[str, Any]
Operations = list[Object]
"""A JSON patch."""


class ApiError(SourceError):
    """A call failed. `status` is the HTTP status, 0 where there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Foreign(SourceError):
    """The resources of the group are another controller's."""


async def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A connection as the kubeconfig says, or as the pod's ServiceAccount.

    Raises:
        SourceError: neither says where the API server is.
    """
    configuration = client.Configuration()
    if kubeconfig is not None:
        _require_readable(kubeconfig)
    try:
        if kubeconfig is None:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            loader = await config.load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), client_configuration=configuration, persist_config=False
            )
            configuration.refresh_api_key_hook = _renewal(loader)  # type: ignore[assignment]  # declared as None
        connection = client.ApiClient(configuration)  # it reads the certificates
    except (config.ConfigException, OSError, ValueError, TypeError, yaml.YAMLError) as error:
        if kubeconfig is not None:
            said = f"{kubeconfig} is no kubeconfig that can be used: {str(error).rstrip('.')}"
            raise SourceError(f"{said}; its operator mends it or names another --kubeconfig.") from error
        raise SourceError(f"{error} Give --kubeconfig FILE, or run it as a pod with a ServiceAccount.") from error
    connection.user_agent = "vmpower"  # also what managedFields call us
    return connection


def _require_readable(kubeconfig: Path) -> None:
    """Raises SourceError. The library takes a file that is not there for an empty one."""
    try:
        kubeconfig.read_bytes()
    except OSError as error:
        what = f"--kubeconfig {kubeconfig}: {error.strerror}; its operator names a file that can be read."
        raise SourceError(what) from error


def _renewal(loader: Any) -> Callable[[client.Configuration], Awaitable[None]]:
    """A hook that reads the token, or asks its plugin for one, every TOKEN_AGE; the library does so in pods only."""
    read = time.monotonic()

    async def renew(configuration: client.Configuration) -> None:
        nonlocal read
        if time.monotonic() - read >= TOKEN_AGE:
            read = time.monotonic()
            async with asyncio.timeout(CALL_TIMEOUT):
                await loader.load_and_set(configuration)

    return renew


class Api:
    """Resources of one namespace, or of all (`namespace` is empty). Every call raises `ApiError`."""

    def __init__(self, connection: client.ApiClient, namespace: str = "", group: str = GROUP) -> None:
        self._namespace, self._group = namespace, group
        self._connection = connection
        self._resources = client.CustomObjectsApi(connection)
        self._core = client.CoreV1Api(connection)

    async def require_ours(self) -> None:
        """Make sure that the resources are those of our CRDs, by one read that every account may make.

        Raises:
            Foreign: they are another controller's, whose status ours would destroy.
        """
        with translated(self._group):
            found = await self._resources.get_api_resources(self._group, VERSION, _request_timeout=CALL_TIMEOUT)
        kinds = [each for each in found.resources if each.name in PLURALS.values()]
        foreign = sorted(each.name for each in kinds if OURS not in (each.categories or ()))
        if foreign:
            raise Foreign(
                f"The {' and '.join(foreign)} of {self._group} are another controller's here, for their CRDs are not "
                f"vmpower's: nothing is touched; to run vmpower beside it, install it with apiGroup {BESIDE} "
                "(docs/kubernetes.md, Beside another controller)."
            )

    async def list(self, kind: str) -> AsyncIterator[Object]:
        """All resources of a kind in pages, each with its `items` and the `metadata` of the list."""
        token, limit = "", FEWER.get(kind, PAGE)
        while True:
            with translated(self._group):
                page = _page(await self._list(kind, limit=limit, _continue=token, _request_timeout=CALL_TIMEOUT))
            yield page
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def watch(self, kind: str, version: str) -> AsyncIterator[Object]:
        """Events (`type`, `object`), bookmarks too, since `version`, until the server ends the stream."""
        since = {"resource_version": version, "allow_watch_bookmarks": True, "timeout_seconds": WATCH_SECONDS}
        with translated(self._group):
            async with asyncio.timeout(SILENCE):
                stream = await self._list(
                    kind, raw=True, watch=True, **since, _request_timeout=WATCH_SECONDS + CALL_TIMEOUT
                )
            # Not the library's Watch: it yields an error page as an event, and its exceptions look like bugs.
            async with stream:
                if stream.status != 200:
                    raise client.ApiException(stream.status, stream.reason, body=await stream.text())
                while line := await _line(stream):
                    yield _event(line)

    async def patch(self, key: Key, body: Any, content_type: str = MERGE) -> Object:
        """The object as it is after that."""
        with translated(self._group):
            changed: Any = await self._resources.patch_namespaced_custom_object(
                self._group, VERSION, key.namespace, PLURALS[key.kind], key.name, body,
                _content_type=content_type, _request_timeout=CALL_TIMEOUT,
            )  # fmt: skip
            return cast(Object, changed)

    async def patch_status(self, key: Key, operations: Operations) -> None:
        with translated(self._group):
            await self._resources.patch_namespaced_custom_object_status(
                self._group, VERSION, key.namespace, PLURALS[key.kind], key.name, operations,
                _content_type=JSON_PATCH, _request_timeout=CALL_TIMEOUT,
            )  # fmt: skip

    async def create_event(self, namespace: str, event: client.CoreV1Event) -> None:
        with translated(self._group):
            await self._core.create_namespaced_event(namespace, event, _request_timeout=CALL_TIMEOUT)

    async def create(self, key: Key, spec: Any) -> Object:
        """A new object, as it is then."""
        body = {
            "apiVersion": f"{self._group}/{VERSION}",
            "kind": key.kind,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": spec,
        }
        with translated(self._group):
            made: Any = await self._resources.create_namespaced_custom_object(
                self._group, VERSION, key.namespace, PLURALS[key.kind], body, _request_timeout=CALL_TIMEOUT
            )
            return cast(Object, made)

    async def delete_object(self, key: Key, uid: str) -> None:
        """The object of this uid; nothing, if there is none any more."""
        only = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=uid))
        try:
            with translated(self._group):
                await self._resources.delete_namespaced_custom_object(
                    self._group, VERSION, key.namespace, PLURALS[key.kind], key.name,
                    body=only, _request_timeout=CALL_TIMEOUT,
                )  # fmt: skip
        except ApiError as error:
            if error.status not in {404, 409}:
                raise

    async def secret(self, namespace: str, name: str) -> tuple[str, Mapping[str, str | bytes]]:
        """A secret's type, and its values in base64. The caller keeps none of it."""
        with translated(self._group):
            found = await self._core.read_namespaced_secret(name, namespace, _request_timeout=CALL_TIMEOUT)
            return found.type or "", found.data or {}

    async def system_uuids(self) -> Collection[str]:
        """Those of the cluster's nodes, as their firmware tells them; of a node that has told none, none."""
        found, token = list[str](), ""
        while True:
            with translated(self._group):
                # Without the library's models, which refuse a whole node for a field that another version has empty.
                answer = await self._core.list_node_without_preload_content(
                    limit=NODES_PAGE, _continue=token, _request_timeout=CALL_TIMEOUT
                )
                async with answer:
                    if answer.status != 200:
                        raise client.ApiException(answer.status, answer.reason, body=await answer.text())
                    page = _page(json.loads(await answer.read()))
            found += _system_uuids(page)
            token = page["metadata"].get("continue", "")
            if not token:
                return found

    async def _list(self, kind: str, *, raw: bool = False, **arguments: Any) -> Any:
        if kind == NAMESPACES:
            return await self._list_namespaces(raw, arguments)
        scope, place = ("namespaced", (self._namespace,)) if self._namespace else ("cluster", ())
        form = "_without_preload_content" if raw else ""
        method = getattr(self._resources, f"list_{scope}_custom_object{form}")
        return await method(self._group, VERSION, *place, PLURALS[kind], **arguments)

    async def _list_namespaces(self, raw: bool, arguments: Mapping[str, Any]) -> Any:
        if raw:
            return await self._core.list_namespace_without_preload_content(**arguments)
        found = await self._core.list_namespace(**arguments)
        return self._connection.sanitize_for_serialization(found)  # type: ignore[no-untyped-call]


def _page(answer: Any) -> Object:
    match answer:
        case {"items": [*_], "metadata": {"resourceVersion": str()}}:
            return cast(Object, answer)
    raise ValueError("no list of resources")


def _system_uuids(page: Object) -> Iterator[str]:
    for node in page["items"]:
        match node:
            case {"status": {"nodeInfo": {"systemUUID": str(uuid)}}} if uuid:
                yield uuid


async def _line(stream: aiohttp.ClientResponse) -> bytes:
    async with asyncio.timeout(SILENCE):
        return await stream.content.readline()


def _event(line: bytes) -> Object:
    """An event of a watch; raises the error that an ERROR event carries."""
    match json.loads(line):
        case {"type": "ERROR", "object": {"code": int(code), **status}}:
            raise client.ApiException(code, status.get("reason"), body=json.dumps(status))
        case {"type": str(), "object": {"metadata": {"resourceVersion": str()}}} as event:
            return cast(Object, event)
    raise ValueError("no event of a watch")


@contextmanager
def translated(group: str = GROUP) -> Iterator[None]:
    """The library's errors, and those of the connection under it, as `ApiError`."""
    try:
        yield
    except client.ApiException as error:
        raise ApiError(error.status or 0, _sentence(error, group)) from error
    except config.ConfigException as error:  # of a token that is read again
        raise ApiError(0, f"{error} It is tried again.") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        why = str(error) or type(error).__name__
        raise ApiError(0, f"The API server does not answer: {why}; it is tried again.") from error
    except ValueError:  # also of the library's models, which quote what they were given: a secret maybe
        raise ApiError(0, "What answers is no API server, or was cut off; it is tried again.") from None


def _terminating(body: Any) -> bool:
    """Whether a refusal is for the namespace that is being deleted, and for no right."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        causes = (json.loads(body).get("details") or {}).get("causes") or []
        return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
    return False


def _sentence(error: client.ApiException, group: str) -> str:
    said, body = str(error.reason or ""), error.body or ""
    with suppress(ValueError, TypeError, KeyError):  # whatever stands between may answer in HTML
        said = str(json.loads(body)["message"] or said)
    match error.status:
        case 403 if _terminating(body):
            return f"{said}; the namespace is being deleted, and takes nothing new: nobody has to do anything."
        case 403:
            return f"{said}; the cluster's administrator grants it in the controller's Role."
        case 404 if body.strip() == "404 page not found":
            return f"The API server does not know {group}/{VERSION}; apply controller/crds."
    return f"{said or 'refused'} (HTTP {error.status})"
