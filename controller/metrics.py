"""Prometheus metrics of the controller, at --metrics-listen. No label has an unbounded set of values."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.metrics_server import build_info
from controller.runner import Load, Result, Runner, Turn, Work

SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
READINESS = ("True", "False", "Unknown")


class Metrics(Collector):
    """Of one process, whose runners follow each other as the lead comes and goes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._runner: Runner | None = None
        self._build = build_info()
        self._turns = {
            Work.RECONCILE: Counter(
                "vmpower_controller_reconciles",
                "Times that a VM was compared with its resource, by how that ended",
                ["result"],
                registry=self.registry,
            ),
            Work.STATUS: Counter(
                "vmpower_controller_status_updates",
                "Times that a status was brought up to date, by how that ended; nothing new is no write",
                ["result"],
                registry=self.registry,
            ),
        }
        self._seconds = Histogram(
            "vmpower_controller_reconcile_duration_seconds",
            "Seconds of a reconcile, which never waits for a shutdown",
            buckets=SECONDS,
            registry=self.registry,
        )
        for turns in self._turns.values():
            for result in Result:
                turns.labels(result)

    def follow(self, runner: Runner) -> None:
        """Count what this runner does; what is true now is read from it alone."""
        self._runner = runner
        runner.on_turn.append(self._count)

    def _count(self, turn: Turn) -> None:
        self._turns[turn.work].labels(turn.result).inc()
        if turn.work is Work.RECONCILE:
            self._seconds.observe(turn.seconds)

    def collect(self) -> Iterable[Metric]:
        """What is true now."""
        load = self._runner.load() if self._runner else Load()
        yield self._build
        yield GaugeMetricFamily("vmpower_controller_leader", "1 while this one leads", value=float(load.leads))
        queued = GaugeMetricFamily("vmpower_controller_queue_depth", "Resources that wait for a turn", labels=["work"])
        for work in Work:
            queued.add_metric([work], load.queued[work])
        yield queued
        machines = GaugeMetricFamily(
            "vmpower_controller_virtual_machines", "VirtualMachines by their condition Ready", labels=["ready"]
        )
        for ready in READINESS:
            machines.add_metric([ready], load.ready[ready])
        yield machines
        yield GaugeMetricFamily("vmpower_controller_providers", "Providers declared", value=load.providers)
        meaning = "Providers that do not answer, or whose hypervisor does not"
        yield GaugeMetricFamily("vmpower_controller_providers_unreachable", meaning, value=load.unreachable)
