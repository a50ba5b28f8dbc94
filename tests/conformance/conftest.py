"""Options and fixtures: which server is tested, and its VMs, each made ready by the contract itself.

With `--addr` the suite tests that server; without, it starts each rig of `rigs.py` and tests it.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.conformance import rigs
from tests.conformance.client import Power, duration
from tests.conformance.target import Commands, Known, Target


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "conformance to power.v1.PowerService")
    group.addoption("--addr", help="the server's gRPC target: unix:///path or host:port")
    group.addoption("--vms", type=Path, help="YAML file: which VM there plays which role; without it none is touched")
    group.addoption("--tls-ca", type=Path, help="the CA of the server's certificate, PEM")
    group.addoption("--tls-cert", type=Path, help="the client's certificate, PEM")
    group.addoption("--tls-key", type=Path, help="its key, PEM")
    group.addoption("--rig", action="append", help="start and test only this rig; may be repeated")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" not in metafunc.fixturenames:
        return
    addr = metafunc.config.getoption("--addr", None)
    names = [addr] if addr else metafunc.config.getoption("--rig", None) or list(rigs.RIGS)
    metafunc.parametrize("target", names, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests share one event loop: grpc.aio keeps to the first that it meets."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    option = request.config.getoption
    if not option("--addr", None):
        with rigs.start(request.param) as started:
            yield started
        return
    tls = {name: option("--" + name.replace("_", "-")) for name in ("tls_ca", "tls_cert", "tls_key")}
    yield Target(address=option("--addr"), known=Known.load(option("--vms")) if option("--vms") else Known(), **tls)


@pytest.fixture(autouse=True)
def server_log(target: Target) -> Iterator[None]:
    """Shows, beneath a test that fails, what the server printed meanwhile."""
    start = target.log.stat().st_size if target.log else 0
    yield
    if target.log:
        print(target.log.read_bytes()[start:].decode(errors="replace"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def power(target: Target) -> AsyncIterator[Power]:
    async with target.channel() as channel:
        yield Power(channel, target.known.patience_seconds)


@pytest.fixture
def commands(target: Target) -> Commands:
    return target.known.commands


@pytest.fixture
def grace(target: Target) -> Callable[[float], Duration]:
    """A grace period that a test can live through, in seconds as they suit this target."""
    return lambda seconds: duration(target.seconds(seconds))


def _name(target: Target, *roles: str) -> str:
    for role in roles:
        if name := getattr(target.known.vms, role):
            return str(name)
    pytest.skip(f"no VM here plays the role {' or '.join(roles)}; --vms names them")


def _hears_agent(vm: pb.VM) -> bool:
    return any(signal != pb.SIGNAL_ACPI for signal in vm.forecast.signals)


def _hears_acpi(vm: pb.VM) -> bool:
    return pb.SIGNAL_ACPI in vm.forecast.signals


def _hears_something(vm: pb.VM) -> bool:
    return bool(vm.forecast.signals)


def _is_on(_vm: pb.VM) -> bool:
    return True


def _running(*roles: str, hears: Callable[[pb.VM], bool]) -> Any:
    """A fixture: the VM of the first role that has one, on, idle and hearing what it should."""

    async def vm(target: Target, power: Power) -> pb.VM:
        return await power.make_ready(_name(target, *roles), hears)

    return pytest_asyncio.fixture(loop_scope="session")(vm)


agent = _running("agent", hears=_hears_agent)
acpi = _running("acpi", hears=_hears_acpi)
deaf = _running("deaf", hears=_hears_something)
slow = _running("slow", hears=_hears_agent)
unreachable = _running("unreachable", hears=_is_on)
snapshot = _running("snapshot", hears=_is_on)
running = _running("deaf", "unreachable", "plain", "acpi", "agent", hears=_is_on)
"""Any VM that is on; one that need not boot to be of use comes first."""


@pytest_asyncio.fixture(loop_scope="session")
async def off(target: Target, power: Power) -> pb.VM:
    """A VM that is off."""
    return await power.make_off(_name(target, "spare", "deaf", "unreachable", "plain", "acpi"))


@pytest.fixture
def named(target: Target) -> Callable[[str], str]:
    """The name that plays a role, for roles that are only looked at."""
    return lambda role: _name(target, role)
