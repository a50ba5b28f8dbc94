"""Prometheus metrics of a provider, on their own port. No label has an unbounded set of values."""

from collections import Counter as Counted
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.metrics_server import build_info
from providers.core.adapter import VM, Adapter, PowerState, Reason, Signal
from providers.core.inventory import Inventory
from providers.core.journal import Journal
from providers.core.lanes import Call, Lane
from providers.core.model import HookState, Kind, Operation, Outcome, State
from providers.core.operations import Operations

SHUTDOWN_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
CALL_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)
WRITE_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
BRINGS_DOWN = (Kind.SHUTDOWN, Kind.REBOOT)
RUNS = (PowerState.ON, PowerState.PAUSED)
NO_SIGNAL, REFUSED = "NO_SIGNAL", "REFUSED"
"""Why a shutdown would not be graceful, where no reason of the contract says so."""


class Live(Collector):
    """What is true now, read when it is scraped."""

    def __init__(self, adapter: Adapter, inventory: Inventory, operations: Operations, journal: Journal) -> None:
        self._lanes, self._inventory, self._operations, self._journal = adapter.lanes, inventory, operations, journal
        self._build = build_info(provider=adapter.type)

    def collect(self) -> Iterable[Metric]:
        yield self._build
        yield _gauge(
            "vmpower_hypervisor_connected", "1 while the hypervisor answers", self._inventory.connected.is_set()
        )
        writable = not self._journal.failure
        yield _gauge("vmpower_journal_writable", "1 while operations can be written to disk", writable)
        yield self._vms()
        yield self._not_graceful()
        yield self._active()
        yield from self._calls()

    def _vms(self) -> Metric:
        family = GaugeMetricFamily("vmpower_vms", "VMs by power state", labels=["power_state"])
        counts = Counted(vm.power_state for vm in self._inventory.vms.values())
        for state in PowerState:
            family.add_metric([state], counts[state])
        return family

    def _not_graceful(self) -> Metric:
        meaning = "Running VMs that a shutdown now would not bring down gracefully, by the first reason"
        family = GaugeMetricFamily("vmpower_vms_not_graceful", meaning, labels=["reason"])
        vms = (vm for vm in self._inventory.vms.values() if vm.power_state in RUNS and not vm.graceful)
        for reason, count in sorted(Counted(map(_reason, vms)).items()):
            family.add_metric([reason], count)
        return family

    def _active(self) -> Metric:
        family = GaugeMetricFamily("vmpower_operations_active", "Operations under way", labels=["kind", "state"])
        counts = Counted((operation.request.kind, operation.state) for operation in self._operations.active())
        for kind in Kind:
            for state in State:
                if not state.final:
                    family.add_metric([kind, state], counts[kind, state])
        return family

    def _calls(self) -> Iterable[Metric]:
        active = GaugeMetricFamily("vmpower_hypervisor_calls_active", "Calls under way by lane", labels=["lane"])
        waiting = GaugeMetricFamily("vmpower_hypervisor_calls_waiting", "Calls that wait for a place", labels=["lane"])
        for lane in Lane:
            active.add_metric([lane], self._lanes.under_way(lane))
            waiting.add_metric([lane], self._lanes.waiting(lane).total())
        yield active
        yield waiting


def _gauge(name: str, meaning: str, holds: bool) -> Metric:
    return GaugeMetricFamily(name, meaning, value=float(holds))


def _reason(vm: VM) -> str:
    if vm.refused:
        return REFUSED
    return next((str(problem.reason) for problem in vm.problems if problem.reason), NO_SIGNAL)


def registry(adapter: Adapter, inventory: Inventory, operations: Operations, journal: Journal) -> CollectorRegistry:
    """All metrics of a provider; from now on they count."""
    metrics = CollectorRegistry()
    metrics.register(Live(adapter, inventory, operations, journal))
    operations.on_end.append(Ends(adapter.type, metrics).count)
    _time_calls(adapter, metrics)
    writes = "Seconds of a write to the journal, which several operations may share"
    seconds = Histogram("vmpower_journal_write_duration_seconds", writes, buckets=WRITE_SECONDS, registry=metrics)
    journal.on_write.append(seconds.observe)
    return metrics


class Ends:
    """How operations end."""

    def __init__(self, provider: str, metrics: CollectorRegistry) -> None:
        self._provider = provider
        self._ended = Counter(
            "vmpower_operations_ended", "Operations by kind and by how they ended", ["kind", "state"], registry=metrics
        )
        self._shutdowns = Counter(
            "vmpower_shutdowns",
            "Shutdowns and reboots by how the VM went down",
            ["provider", "outcome", "reason", "signal"],
            registry=metrics,
        )
        self._seconds = Histogram(
            "vmpower_shutdown_duration_seconds",
            "From the request of a shutdown or reboot to its verdict",
            ["provider", "outcome"],
            buckets=SHUTDOWN_SECONDS,
            registry=metrics,
        )
        self._hooks = Counter("vmpower_hooks", "Hooks by how they ended", ["state"], registry=metrics)
        for state in HookState:
            self._hooks.labels(state)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """The usual endings are there from the start: Prometheus sees no increase from nothing to 1."""
        graceful = [(Outcome.GRACEFUL, "", signal) for signal in Signal]
        forced = [(Outcome.FORCED, reason, "") for reason in Reason]
        others = [(outcome, "", "") for outcome in Outcome if outcome not in (Outcome.GRACEFUL, Outcome.FORCED)]
        for outcome, reason, signal in (*graceful, *forced, *others):
            self._shutdowns.labels(self._provider, outcome, reason, signal)
        for outcome in Outcome:
            self._seconds.labels(self._provider, outcome)

    def count(self, operation: Operation) -> None:
        kind, verdict = operation.request.kind, operation.verdict
        self._ended.labels(kind, operation.state).inc()
        if verdict is None:
            return
        for hook in verdict.hooks:
            self._hooks.labels(hook.state).inc()
        if kind in BRINGS_DOWN:
            outcome = verdict.outcome
            self._shutdowns.labels(self._provider, outcome, verdict.reason or "", verdict.signal or "").inc()
            seconds = (verdict.end_time - verdict.start_time).total_seconds()
            self._seconds.labels(self._provider, outcome).observe(seconds)


def _time_calls(adapter: Adapter, metrics: CollectorRegistry) -> None:
    seconds = Histogram(
        "vmpower_hypervisor_call_duration_seconds",
        "Seconds until a call to the hypervisor was answered or failed, without its waiting for a place",
        ["lane"],
        buckets=CALL_SECONDS,
        registry=metrics,
    )
    failures = Counter("vmpower_hypervisor_call_failures", "Calls that failed", ["lane"], registry=metrics)
    for lane in Lane:
        seconds.labels(lane)
        failures.labels(lane)

    def observe(call: Call) -> None:
        seconds.labels(call.lane).observe(call.took)
        if call.failed:
            failures.labels(call.lane).inc()

    adapter.lanes.on_call.append(observe)
