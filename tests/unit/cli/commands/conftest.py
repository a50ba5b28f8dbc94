"""A plan over one provider, and the command that carries it out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Ended, Shell
from tests.unit.cli.fake import FakeProvider
from tests.unit.cli.samples import ended, running

SPEC: dict[str, Any] = {
    "budget": {"total": "10m", "reserve": "1m"},
    "tiers": [
        {"name": "apps", "members": [{"vms": ["lab/web"]}]},
        {"name": "databases", "members": [{"vms": ["lab/db"]}]},
    ],
    "others": "Ignore",
    "bringUp": {},
}
Plan = Callable[..., Ended]


@pytest.fixture
def vms(provider: FakeProvider) -> list[pb.VM]:
    graceful = pb.Forecast(graceful=True, signals=[pb.SIGNAL_ACPI])
    vms = [
        pb.VM(id=f"id-{name}", name=name, power_state=pb.POWER_STATE_ON, forecast=graceful) for name in ("web", "db")
    ]
    info = pb.GetProviderInfoResponse(type="fake")
    info.default_timeout.FromSeconds(60)
    provider.answers["GetProviderInfo"] = info
    provider.answers["ListVMs"] = pb.ListVMsResponse(vms=vms)
    return vms


@pytest.fixture
def obedient(provider: FakeProvider, vms: list[pb.VM]) -> FakeProvider:
    """Each VM that is asked goes down."""

    def asked(request: pb.ShutdownRequest) -> pb.Operation:
        name = request.vm.removeprefix("id-")
        provider.streams.append([running(name), ended(name)])
        next(vm for vm in vms if vm.id == request.vm).power_state = pb.POWER_STATE_OFF
        provider.answers["ListVMs"] = pb.ListVMsResponse(vms=vms)
        return running(name)

    provider.answers["Shutdown"] = asked
    return provider


@pytest.fixture
def plan(
    vmpower: Shell, own_configuration: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> Plan:
    """`vmpower plan`; FILE is the plan, with these changes."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    own_configuration.parent.mkdir(parents=True)
    own_configuration.write_text(yaml.safe_dump({"providers": {"lab": {"address": address}}}))
    file = tmp_path / "night.yaml"

    def run(*words: str, name: str = "night", **changes: Any) -> Ended:
        document = {"apiVersion": "infra.virtrigaud.io/v1beta1", "kind": "PowerPlan", "metadata": {"name": name}}
        file.write_text(yaml.safe_dump(document | {"spec": SPEC | changes}))
        return vmpower("plan", *(str(file) if word == "FILE" else word for word in words))

    return run
