"""`python -m controller --manifests DIR` or `--kubernetes`: keep VMs as their resources want them; `--check PATH`: say
what is wrong with manifests."""

import asyncio
import signal
import sys
from contextlib import suppress
from functools import partial

import structlog

from common import logs, service_manager
from common.listening import CannotListen, listening
from common.metrics_server import MetricsServer
from controller.check import check
from controller.client import ProviderClient, own_certificate
from controller.config import Settings
from controller.health import Health
from controller.metrics import Metrics
from controller.plan_host import PlanHost
from controller.plan_server import PlanServer
from controller.runner import Runner
from controller.source import LeadLost, Source, SourceError
from controller.sources.directory import DirectorySource

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM or SIGINT; operations that are under way go on at their providers."""
    settings = Settings.load("controller")
    if settings.check is not None:
        verdict, lines = check(settings.check)
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.exit(verdict)
    logs.configure(settings.log_level)
    try:
        asyncio.run(_run(settings))
    except (SourceError, CannotListen) as error:
        sys.exit(f"controller: {error}")


async def _run(settings: Settings) -> None:
    running = asyncio.create_task(_serve(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):
        await running
    log.info("stopped")


async def _serve(settings: Settings) -> None:
    health = Health(settings.health_listen) if settings.health_listen else None
    metrics = Metrics()
    scrapes = MetricsServer(metrics.registry)
    source, connect = _source(settings), partial(ProviderClient, own=own_certificate(settings))
    plans = PlanHost(settings.state_dir, self_namespace=settings.self_namespace)
    server = PlanServer(settings.listen, plans) if settings.listen else None
    if health is not None:
        await health.start()
    if server is not None:
        await server.start()
    if settings.metrics_listen:
        with listening(settings.metrics_listen, "--metrics-listen"):
            await scrapes.start(settings.metrics_listen)
    log.info("started", **settings.model_dump(mode="json", include={"kubernetes", "manifests", "identity"}))
    service_manager.ready()
    try:
        while True:
            with suppress(LeadLost):
                runner = Runner(source, connect, settings.workers, trust=settings.trust, plans=plans)
                metrics.follow(runner)
                await runner.run()
            log.warning("lead lost; standing by again")
    finally:
        if server is not None:
            await server.stop()
        await plans.close()
        await source.close()
        await scrapes.stop()
        if health is not None:
            await health.stop()


def _source(settings: Settings) -> Source:
    """The Kubernetes client takes a third of a second and 25 MiB to load: only for those who need it."""
    if settings.manifests is not None:
        return DirectorySource(settings.manifests, settings.state_dir, settings.secrets_dir)
    from controller.sources.kubernetes.lease import Terms  # noqa: PLC0415
    from controller.sources.kubernetes.source import KubernetesSource  # noqa: PLC0415

    terms = Terms(settings.lease_namespace, settings.lease_name, settings.identity, settings.lease_duration)
    return KubernetesSource(settings.kubeconfig, settings.namespace, terms, settings.api_group)


if __name__ == "__main__":
    main()
