"""Prometheus metrics, on their own port."""

from collections import Counter as Counted
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from providers.core.inventory import Inventory
from providers.core.journal import Journal
from providers.core.model import Kind, Operation, State
from providers.core.operations import Operations

DURATIONS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


class Live(Collector):
    """What is true now, read when it is scraped."""

    def __init__(self, inventory: Inventory, operations: Operations, journal: Journal) -> None:
        self._inventory, self._operations, self._journal = inventory, operations, journal

    def collect(self) -> Iterable[Metric]:
        connected = GaugeMetricFamily("vmpower_hypervisor_connected", "1 while the hypervisor answers")
        connected.add_metric([], float(self._inventory.connected.is_set()))
        yield connected
        writable = GaugeMetricFamily("vmpower_journal_writable", "1 while operations can be written to disk")
        writable.add_metric([], float(not self._journal.failure))
        yield writable
        yield self._vms()
        yield self._active()

    def _vms(self) -> Metric:
        family = GaugeMetricFamily("vmpower_vms", "VMs by power state", labels=["power_state"])
        for state, count in sorted(Counted(vm.power_state for vm in self._inventory.vms.values()).items()):
            family.add_metric([state], count)
        return family

    def _active(self) -> Metric:
        family = GaugeMetricFamily("vmpower_operations_active", "Operations under way", labels=["kind", "state"])
        counts = Counted((operation.request.kind, operation.state) for operation in self._operations.active())
        for kind in Kind:
            for state in State:
                if not state.final:
                    family.add_metric([kind, state], counts[kind, state])
        return family


def registry(inventory: Inventory, operations: Operations, journal: Journal) -> CollectorRegistry:
    metrics = CollectorRegistry()
    metrics.register(Live(inventory, operations, journal))
    ended = Counter(
        "vmpower_operations_ended",
        "Operations by how they ended",
        ["kind", "state", "outcome", "reason", "signal"],
        registry=metrics,
    )
    durations = Histogram(
        "vmpower_operation_seconds", "From request to verdict", ["kind", "outcome"], buckets=DURATIONS, registry=metrics
    )

    def count(operation: Operation) -> None:
        if verdict := operation.verdict:
            kind = operation.request.kind
            ended.labels(kind, operation.state, verdict.outcome, verdict.reason or "", verdict.signal or "").inc()
            seconds = (verdict.end_time - verdict.start_time).total_seconds()
            durations.labels(kind, verdict.outcome).observe(seconds)

    operations.on_end.append(count)
    return metrics
