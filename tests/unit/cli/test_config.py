from pathlib import Path

import pytest

from cli import config
from cli.errors import ExitCode, Failure
from client.channel import Tls
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider

TLS = "tls: {ca: ca.pem, cert: me.pem, key: me.key}"


@pytest.fixture
def written(own_configuration: Path) -> Path:
    own_configuration.parent.mkdir(parents=True)
    own_configuration.write_text(
        "default: lab\n"
        "providers:\n"
        '  lab: {address: "unix:///run/lab.sock"}\n'
        f'  prod: {{address: "vmpower.example.com:9443", {TLS}}}\n'
        '  open: {address: "10.0.0.7:9443"}\n'
    )
    return own_configuration


def only(provider: str) -> config.Endpoint:
    (endpoint,) = config.load().meant(provider).values()
    return endpoint


def refused(provider: str) -> Failure:
    with pytest.raises(Failure) as caught:
        config.load().meant(provider)
    assert caught.value.code is ExitCode.USAGE
    return caught.value


@pytest.mark.usefixtures("written")
def test_a_name_is_looked_up() -> None:
    assert only("prod").address == "vmpower.example.com:9443"


def test_all_are_meant_when_nothing_is_given(written: Path) -> None:
    written.write_text('providers: {lab: {address: "localhost:9443"}, pve: {address: "unix:///run/pve.sock"}}')
    assert {name: endpoint.address for name, endpoint in config.load().meant("").items()} == {
        "lab": "localhost:9443",
        "pve": "unix:///run/pve.sock",
    }


def test_a_default_that_is_none_of_the_providers_is_a_mistake_in_the_file(written: Path) -> None:
    written.write_text('default: lba\nproviders: {lab: {address: "localhost:9443"}}')
    assert "default: no provider is called 'lba'" in refused("").message


def test_an_address_needs_no_file() -> None:
    assert only("unix:///run/x.sock").address == "unix:///run/x.sock"


@pytest.mark.usefixtures("written")
def test_an_address_that_the_file_knows_brings_its_tls() -> None:
    assert only("vmpower.example.com:9443").tls is not None


@pytest.mark.usefixtures("written")
def test_an_unknown_name_lists_the_known_ones() -> None:
    assert "knows: lab, prod, open" in refused("lba").message


def test_nothing_given_says_how_to_give_it() -> None:
    assert "Which provider?" in refused("").message


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("provider", ["open", "10.0.0.7:9443", "vm.example.com:1", "dns:///example.com:1"])
def test_an_address_beyond_this_machine_needs_tls(provider: str) -> None:
    assert "needs mutual TLS" in refused(provider).message


@pytest.mark.parametrize("provider", ["127.0.0.1:", "dns:///localhost", "/run/p.sock", "http://127.0.0.1:1"])
def test_an_address_without_a_port_is_a_usage_error(provider: str) -> None:
    assert "is no address of a provider: it must be unix:///path, or host:port" in refused(provider).message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("providers: {lab: {adress: x}}", "providers.lab.address: is missing"),
        ("providers: {lab: {address: 'unix:x', tls: {ca: c}}}", "providers.lab.tls.cert: is missing"),
        ("defaults: lab", "defaults: is not known here"),
    ],
)
def test_a_mistake_in_the_file_is_named_by_its_field(written: Path, text: str, said: str) -> None:
    written.write_text(text)
    assert said in refused("lab").hints


def test_a_file_that_is_not_yaml_is_a_usage_error(written: Path) -> None:
    written.write_text("{")
    assert f"{written} cannot be read" in refused("lab").message


def test_a_file_named_by_the_environment_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VMPOWER_CONFIG", str(tmp_path / "absent.yaml"))
    assert "absent.yaml cannot be read" in refused("lab").message


@pytest.mark.usefixtures("written")
def test_a_missing_certificate_is_a_usage_error_that_names_the_file() -> None:
    ended = Shell("")("list", "--provider", "prod")
    assert ended.code == 2
    assert "vmpower/ca.pem" in ended.err


def test_tls_files_are_beside_the_configuration_and_keep_their_servers_name(written: Path) -> None:
    named = f"{TLS[:-1]}, server_name: lab}}"
    written.write_text(f'providers: {{prod: {{address: "10.0.0.7:9443", {named}}}}}')
    folder = written.parent
    expected = Tls(folder / "ca.pem", folder / "me.pem", folder / "me.key", "lab")
    assert config.tls_files(only("prod")) == expected


def test_a_configuration_file_whose_variable_is_empty_is_the_usual_one(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMPOWER_CONFIG", "")
    assert config.path() == written
    written.unlink()
    assert config.load() == config.Config()


def test_an_empty_name_of_a_provider_means_all(
    written: Path, provider: FakeProvider, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written.write_text(f'providers: {{lab: {{address: "{address}"}}}}')
    assert Shell("")("info").code == 0


# The controller


def controller(address: str) -> Failure:
    with pytest.raises(Failure) as caught:
        config.load().controller_meant(address)
    assert caught.value.code is ExitCode.USAGE
    return caught.value


def test_without_a_controller_it_is_said_how_to_name_one() -> None:
    assert "--controller" in controller("").hints[0]


@pytest.mark.parametrize(("address", "why"), [("nowhere", "no address"), ("10.0.0.7:9443", "mutual TLS")])
def test_an_address_of_a_controller_that_cannot_serve_is_refused(address: str, why: str) -> None:
    assert why in controller(address).message


def test_the_controller_of_the_configuration_keeps_its_certificates(own_configuration: Path) -> None:
    own_configuration.parent.mkdir(parents=True)
    own_configuration.write_text(f'controller: {{address: "c.example:9443", {TLS}}}')
    loaded = config.load()
    assert loaded.controller_meant("") == loaded.controller_meant("c.example:9443") == loaded.controller
