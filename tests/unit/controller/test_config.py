from datetime import timedelta
from pathlib import Path

import pytest

from controller.config import Settings


def test_flags_say_where_manifests_and_state_are() -> None:
    settings = Settings.load("controller", ["--manifests", "examples/", "--state-dir", ".run/state"])
    assert (settings.manifests, settings.state_dir) == (Path("examples"), Path(".run/state"))


def test_variables_say_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_MANIFESTS", "/etc/vmpower")
    monkeypatch.setenv("VMPOWER_LOG_LEVEL", "debug")
    settings = Settings.load("controller", [])
    assert (settings.manifests, settings.log_level) == (Path("/etc/vmpower"), "debug")


def test_state_is_kept_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert Settings.load("controller", ["--manifests", "m"]).state_dir == Path("/var/state/vmpower/controller")


def test_a_lease_is_written_as_go_writes_durations() -> None:
    settings = Settings.load("controller", ["--kubernetes", "--lease-duration", "1m30s"])
    assert settings.lease_duration == timedelta(seconds=90)


def test_the_lease_is_in_the_namespace_of_the_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("vmpower-system\n")
    monkeypatch.setattr("controller.config.NAMESPACE_FILE", tmp_path / "namespace")
    assert Settings.load("controller", ["--kubernetes"]).lease_namespace == "vmpower-system"


def test_a_container_that_is_started_again_is_the_same_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("vmpower-system\n")
    monkeypatch.setattr("controller.config.NAMESPACE_FILE", tmp_path / "namespace")
    first, second = (Settings.load("controller", ["--kubernetes"]).identity for _ in range(2))
    assert first == second


def test_two_processes_of_one_host_are_two() -> None:
    first, second = (Settings.load("controller", ["--kubernetes"]).identity for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ([], "give either --kubernetes, --manifests DIR or --check PATH"),
        (["--kubernetes", "--manifests", "m"], "give either --kubernetes, --manifests DIR or --check PATH"),
        (["--manifests", "m", "--namespace", "a"], "--namespace is for --kubernetes"),
        (["--kubernetes", "--namespace", "a", "--self-namespace", "b"], "--self-namespace names a namespace whose"),
        (["--kubernetes", "--lease-duration", "1s"], "--lease-duration"),
        (["--kubernetes", "--health-listen", "here"], "--health-listen"),
        (["--manifests", "m", "--log-level", "loud"], "--log-level"),
        (["--manifests", "m", "--workers", "0"], "--workers"),
    ],
)
def test_a_mistake_is_named_and_ends_with_2(
    arguments: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        Settings.load("controller", arguments)
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err


def test_the_operators_providers_are_those_of_its_namespace_and_those_that_are_named() -> None:
    trust = Settings.load(
        "controller",
        ["--kubernetes", "--lease-namespace", "ops", "--trusted-providers", "a/lab=unix:///p,b/kvm=kvm:9443"],
    ).trust
    assert (trust.namespace, sorted(trust.providers)) == ("ops", ["a/lab=unix:///p", "b/kvm=kvm:9443"])
    assert not (trust.everybody or trust.files or trust.certificate)


def test_who_writes_all_manifests_is_the_operator_unless_providers_are_named() -> None:
    named = ["--trusted-providers", "a/lab=unix:///p"]
    alone, listed = (Settings.load("controller", ["--manifests", "m", *more]).trust for more in ([], named))
    assert (alone.everybody, listed.everybody, listed.namespace, listed.files) == (True, False, "", True)


@pytest.mark.parametrize("wrong", ["lab", "a/lab", "a/lab=", "=unix:///p"])
def test_a_provider_is_trusted_by_its_name_and_endpoint(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.load("controller", ["--kubernetes", "--trusted-providers", wrong])
    assert "--trusted-providers" in capsys.readouterr().err


def test_a_certificate_has_a_key_and_authorities(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.load("controller", ["--kubernetes", "--tls-cert", "cert.pem"])
    assert "give all three" in capsys.readouterr().err


def test_a_kubeconfig_that_is_not_there_is_a_mistake_in_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Settings.load("controller", ["--kubernetes", "--kubeconfig", "/nowhere/config"])
    words = "/nowhere/config: No such file or directory; name a file that can be read"
    said = f"controller: --kubeconfig (VMPOWER_KUBECONFIG): {words}\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, said)


@pytest.mark.parametrize("address", ["unix:///run/vmpower/controller.sock", "127.0.0.1:9444", ""])
def test_plans_are_served_to_this_machine(address: str) -> None:
    assert Settings.load("controller", ["--manifests", "m", "--listen", address]).listen == address


@pytest.mark.parametrize("address", ["0.0.0.0:9444", "c.example:9444", "127.0.0.1"])
def test_and_to_no_other(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.load("controller", ["--manifests", "m", "--listen", address])
    assert "--listen" in capsys.readouterr().err
