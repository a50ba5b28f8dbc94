"""The connections of a run, its own: what they need is read when it begins, as where that is may go down too."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from client.errors import ProviderError
from controller.client import ProviderClient
from controller.hosted_run import targets
from controller.models import Provider, Runtime, VirtualMachine
from controller.plan_scope import called
from controller.plan_terms import World
from controller.source import GuestCredentials, SecretUnavailable, Source, SourceError, key_of
from plans.frozen import Target
from plans.history import History

log = structlog.get_logger()


def opened(world: World, providers: Mapping[str, Provider]) -> dict[str, ProviderClient]:
    """One to each of these."""
    return {name: world.open(provider) for name, provider in providers.items()}


def reopened(world: World, history: History) -> dict[str, ProviderClient]:
    """One to each provider of a run; to one that is not declared any more, none that answers."""
    namespace = history.start.namespace
    known = {called(namespace, provider): provider for provider in world.providers()}
    needed = {target.provider for target in targets(history)}
    return {
        name: world.open(known[name]) if name in known else ProviderClient(Runtime(), lambda _: None) for name in needed
    }


async def close(clients: Mapping[str, ProviderClient]) -> None:
    """All of them."""
    await asyncio.gather(*(client.close() for client in clients.values()))


async def read_logins(
    source: Source | None,
    history: History,
    clients: Mapping[str, ProviderClient],
    machine: Callable[[Target], VirtualMachine | None],
) -> dict[str, GuestCredentials]:
    """The guests' credentials, by the keys of their VMs, and the certificates of the connections. `machine` is the
    resource of a VM."""
    for name, client in clients.items():
        try:
            await client.prepare()
            client.read_tls = None
        except ProviderError as error:
            log.warning("a certificate is not read", provider=name, error=error.message)
    found = dict[str, GuestCredentials]()
    for tier in history.start.tiers:
        asked = history.start.spec.ready(tier.name).exec is not None
        for target in tier.targets:
            resource = machine(target) if target.resource else None
            if resource is None or source is None or not clients[target.provider].trusted:
                continue
            if (login := await _login(source, resource, asked=asked)) is not None:
                found[target.key] = login
    return found


async def _login(source: Source, resource: VirtualMachine, *, asked: bool) -> GuestCredentials | None:
    """Those that its hooks need, or the program that it is `asked` by, if they need some and they can be read: a broken
    hook keeps no machine up."""
    lifecycle = resource.spec.lifecycle
    reference = lifecycle.guest_credentials_secret_ref
    runs = asked or any(hook.exec for hook in (*lifecycle.pre_stop, *lifecycle.post_start))
    if reference is None or not runs:
        return None
    try:
        return await source.guest_credentials(resource.metadata.namespace, reference.name)
    except (SecretUnavailable, SourceError) as error:
        log.warning("guest credentials are not read", resource=str(key_of(resource)), error=str(error))
        return None
