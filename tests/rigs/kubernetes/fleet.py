"""Many VirtualMachines at once, through many connections: what kubectl, a process for each, is too slow for."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kubernetes.aio import client, config

GROUP, VERSION, PLURAL = "infra.virtrigaud.io", "v1beta1", "virtualmachines"
MERGE = "application/merge-patch+json"
AT_ONCE = 32
"""Requests under way at the same moment."""


class Fleet:
    """The VirtualMachines of a namespace."""

    def __init__(self, connection: client.ApiClient, namespace: str) -> None:
        self._api, self._namespace = client.CustomObjectsApi(connection), namespace
        self._room = asyncio.Semaphore(AT_ONCE)

    async def create(self, names: Iterable[str], spec: Mapping[str, Any]) -> None:
        """Create them all, alike but for their names."""
        await asyncio.gather(*(self._create(name, spec) for name in names))

    async def patch(self, names: Iterable[str], patch: Mapping[str, Any]) -> dict[str, float]:
        """Patch them all in the same way; when each request was sent, in seconds since 1970."""
        sent = await asyncio.gather(*(self.patch_one(name, patch) for name in names))
        return dict(zip(names, sent, strict=True))

    async def patch_one(self, name: str, patch: Mapping[str, Any]) -> float:
        """Patch one (a merge patch), and say when it was sent."""
        return (await self.write(name, patch))[0]

    async def write(self, name: str, patch: Mapping[str, Any]) -> tuple[float, Any]:
        """Patch one; when that was sent, and the object as it is then."""
        async with self._room:
            sent = time.time()
            return sent, await self._api.patch_namespaced_custom_object(
                GROUP, VERSION, self._namespace, PLURAL, name, dict(patch), _content_type=MERGE
            )

    async def all(self) -> dict[str, Any]:
        """All of them as they are, by name."""
        found: Any = await self._api.list_namespaced_custom_object(GROUP, VERSION, self._namespace, PLURAL)
        return {item["metadata"]["name"]: item for item in found["items"]}

    async def _create(self, name: str, spec: Mapping[str, Any]) -> None:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "VirtualMachine",
            "metadata": {"name": name},
            "spec": dict(spec),
        }
        async with self._room:
            await self._api.create_namespaced_custom_object(GROUP, VERSION, self._namespace, PLURAL, body)


@asynccontextmanager
async def fleet(kubeconfig: Path, namespace: str) -> AsyncIterator[Fleet]:
    """A connection for as long as it is needed."""
    configuration = client.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        str(kubeconfig), client_configuration=configuration, persist_config=False
    )
    async with client.ApiClient(configuration) as connection:
        yield Fleet(connection, namespace)
