"""VirtualMachines and Providers as people see and change them: with kubectl.

vms = Resources(cluster, namespace)
vms.declare_provider("lab", "unix:///run/provider.sock")
vms.declare("web", "OffGraceful", {"gracefulShutdownTimeout": "20s"})
verdict = vms.wait_status("web", lambda status: "lastPowerOff" in status)["lastPowerOff"]
"""

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.rigs.kubernetes.cluster import Cluster

Object = dict[str, Any]
LINES = 'jsonpath={@}{"\\n"}'
"""kubectl's output as one line of JSON for each state of each object."""


class Resources:
    """Those of one namespace. All calls block; `kind` is any that kubectl knows.

    `explain` is asked when something does not happen; what it says is in the message.
    """

    def __init__(self, cluster: Cluster, namespace: str, explain: Callable[[], str] = str) -> None:
        self.namespace = namespace
        self._cluster, self._explain = cluster, explain

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 (subprocess.run calls it so)
        """What kubectl printed.

        Raises:
            RuntimeError: it failed; the message has what it said.
        """
        return self._cluster.kubectl("--namespace", self.namespace, *args, input=input)

    # What people do

    def apply(self, *objects: Object) -> None:
        """Create them, or make them what they are here."""
        self.kubectl(
            "apply", "--filename", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        )

    def declare_provider(self, name: str, address: str) -> None:
        """A Provider of type sim at this gRPC target."""
        self.apply(made("Provider", name, {"type": "sim", "runtime": {"endpoint": address}}))

    def declare(self, name: str, power_state: str, lifecycle: Object | None = None) -> None:
        """A VirtualMachine of the provider `lab`."""
        self.apply(virtual_machine(name, power_state, lifecycle))

    def change(self, name: str, **spec: object) -> None:
        """Merge this into the VM's spec; None removes a field."""
        self.kubectl("patch", "vm", name, "--type", "merge", "--patch", json.dumps({"spec": spec}))

    def annotate(self, name: str, annotation: str) -> None:
        """`KEY=VALUE`, or `KEY-` to remove it."""
        self.kubectl("annotate", "vm", name, annotation, "--overwrite")

    # What people see

    def get(self, name: str, kind: str = "vm") -> Object:
        """It as it is."""
        found: Object = json.loads(self.kubectl("get", kind, name, "--output", "json"))
        return found

    def status(self, name: str, kind: str = "vm") -> Object:
        """Its status, or nothing yet."""
        return self.get(name, kind).get("status") or {}

    def events(self, name: str) -> list[Object]:
        """The Events about one object, in the order in which they were sent."""
        found = json.loads(self.kubectl("get", "events", *_about(name), "--output", "json"))["items"]
        return sorted(found, key=lambda event: str(event["metadata"]["name"]))

    def wait(self, name: str, holds: Callable[[Object], bool], kind: str = "vm", timeout: float = 60) -> Object:
        """It as soon as it is there and `holds`.

        Raises:
            TimeoutError: it does not; the message has the last state.
        """
        last: Object = {}
        for last in self._follow(kind, "--field-selector", f"metadata.name={name}", timeout=timeout):
            if holds(last):
                return last
        last.get("metadata", {}).pop("managedFields", None)
        raise TimeoutError(f"{kind} {name}: {json.dumps(last, indent=2)}\n{self._explain()}")

    def wait_all(self, names: Iterable[str], holds: Callable[[Object], bool], kind: str = "vm") -> None:
        """Until each of these has been seen as `holds` wants it, within a minute.

        Raises:
            TimeoutError: some have not; the message has their names.
        """
        missing = set(names)
        for state in self._follow(kind, timeout=60):
            if holds(state):
                missing.discard(state["metadata"]["name"])
            if not missing:
                return
        raise TimeoutError(f"{kind}: {sorted(missing)}\n{self._explain()}")

    def wait_status(self, name: str, holds: Callable[[Object], bool], kind: str = "vm", timeout: float = 60) -> Object:
        """Its status as soon as it `holds`.

        Raises:
            TimeoutError: it does not; the message has the last state.
        """
        found = self.wait(name, lambda state: holds(state.get("status") or {}), kind, timeout)
        status: Object = found["status"]
        return status

    def wait_event(self, name: str, reason: str, timeout: float = 60) -> Object:
        """The first Event about it with this reason.

        Raises:
            TimeoutError: there is none; the message has all others.
        """
        seen: list[Object] = []
        for event in self._follow("events", *_about(name), timeout=timeout):
            if event["reason"] == reason:
                return event
            seen.append(event)
        others = "\n".join(f"{event['reason']}: {event['message']}" for event in seen)
        raise TimeoutError(f"no {reason} about {name}, only\n{others}\n{self._explain()}")

    def _follow(self, *what: str, timeout: float) -> Iterator[Object]:
        """What there is, then each change, until so many seconds have passed or the API ends it."""
        get = ("get", *what, "--watch", "--output", LINES, "--request-timeout", f"{timeout}s")
        command = ["kubectl", "--namespace", self.namespace, *get]
        with subprocess.Popen(command, env=self._cluster.environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                yield from map(json.loads, process.stdout)
            finally:
                process.kill()


def condition(state: Object, name: str) -> Object:
    """The condition of this type, or nothing yet."""
    found = (one for one in state.get("status", {}).get("conditions", []) if one["type"] == name)
    return next(found, {})


def virtual_machine(name: str, power_state: str, lifecycle: Object | None = None) -> Object:
    """A VirtualMachine of the provider `lab`."""
    spec = {"providerRef": {"name": "lab"}, "powerState": power_state, "lifecycle": lifecycle or {}}
    return made("VirtualMachine", name, spec)


def made(kind: str, name: str, spec: Object) -> Object:
    """A resource of ours."""
    return {
        "apiVersion": "infra.virtrigaud.io/v1beta1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def _about(name: str) -> tuple[str, str]:
    return ("--field-selector", f"involvedObject.name={name}")
