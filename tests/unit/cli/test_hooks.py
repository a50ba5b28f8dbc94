from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider
from tests.unit.cli.samples import ended


@pytest.fixture(autouse=True)
def willing(provider: FakeProvider) -> None:
    for method in ("Shutdown", "PowerOn"):
        provider.answers[method] = ended()


def sent(provider: FakeProvider) -> list[pb.Hook]:
    return list(provider.request("Shutdown").pre_stop)


def test_a_command_is_split_as_a_shell_splits_it(vmpower: Shell, provider: FakeProvider) -> None:
    assert vmpower("shutdown", "web", "--pre-stop-exec", "sh -c 'sync; true'").code == 0
    assert sent(provider) == [pb.Hook(exec=pb.ExecHook(command=["sh", "-c", "sync; true"]))]


def test_a_command_with_an_open_quote_is_a_usage_error(vmpower: Shell, provider: FakeProvider) -> None:
    ended = vmpower("shutdown", "web", "--pre-stop-exec", "sh -c 'sync")
    assert ended.code == 2
    assert "No closing quotation" in ended.err
    assert provider.requests("Shutdown") == []


def test_hooks_run_commands_first_then_urls_snapshots_and_the_file(
    vmpower: Shell, provider: FakeProvider, tmp_path: Path
) -> None:
    file = tmp_path / "hooks.yaml"
    file.write_text("name: last\nexec: {command: [sync]}\n")
    vmpower(
        *("shutdown", "web", "--hooks", str(file), "--pre-stop-snapshot", "before"),
        *("--pre-stop-http", "http://web/drain", "--pre-stop-exec", "a", "--pre-stop-exec", "b"),
    )
    kinds = [hook.WhichOneof("handler") for hook in sent(provider)]
    assert kinds == ["exec", "exec", "http_get", "snapshot", "exec"]


def test_the_file_knows_every_field_in_the_manifests_spelling(
    vmpower: Shell, provider: FakeProvider, tmp_path: Path
) -> None:
    file = tmp_path / "hooks.yaml"
    file.write_text(
        "- name: drain\n"
        "  httpGet: {url: 'http://web/drain', headers: {X-Key: k}, expectStatus: 204}\n"
        "  timeout: 1m30s\n"
        "  failurePolicy: Abort\n"
        "- snapshot: {name: s, description: d, includeMemory: true}\n"
    )
    assert vmpower("shutdown", "web", "--hooks", str(file)).code == 0
    drain, snapshot = sent(provider)
    get = pb.HttpGetHook(url="http://web/drain", headers={"X-Key": "k"}, expect_status=204)
    assert (drain.http_get, drain.timeout.seconds) == (get, 90)
    assert drain.failure_policy == pb.FAILURE_POLICY_ABORT
    assert snapshot.snapshot == pb.SnapshotHook(name="s", description="d", include_memory=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- exec: {comand: [x]}", "hook 1: "),
        ("- exec: {command: [x]}\n- just text", "hook 2 is not a mapping"),
        ("- {exec: {command: [x]}, timeout: soon}", "hook 1: "),
        ("- {exec: {command: [x]}, failurePolicy: Explode}", "'Explode' is none of CONTINUE, ABORT"),
        ("a: [\n", "line 2: not YAML: "),
    ],
)
def test_a_mistake_in_the_file_is_a_usage_error_that_names_its_place(
    vmpower: Shell, provider: FakeProvider, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "hooks.yaml"
    file.write_text(text)
    ended = vmpower("shutdown", "web", "--hooks", str(file))
    assert ended.code == 2
    assert said in ended.err
    assert provider.requests("Shutdown") == []


def test_timeout_and_failure_of_the_hooks_given_as_options(vmpower: Shell, provider: FakeProvider) -> None:
    options = ("--pre-stop-exec", "sync", "--hook-timeout", "5s", "--hook-failure", "abort")
    vmpower("shutdown", "web", *options)
    (hook,) = sent(provider)
    assert (hook.timeout.seconds, hook.failure_policy) == (5, pb.FAILURE_POLICY_ABORT)


def test_post_start_hooks_go_with_on(vmpower: Shell, provider: FakeProvider) -> None:
    vmpower("on", "web", "--post-start-exec", "systemctl start app")
    (hook,) = provider.request("PowerOn").post_start
    assert hook.exec.command == ["systemctl", "start", "app"]


@pytest.mark.parametrize(
    ("options", "probe"),
    [
        (("--ready-tcp", "5432"), pb.Probe(tcp=pb.TcpProbe(port=5432))),
        (
            ("--ready-exec", "pg_isready -q", "--ready-timeout", "2m"),
            pb.Probe(exec=pb.ExecHook(command=["pg_isready", "-q"]), timeout=Duration(seconds=120)),
        ),
        (("--ready-exec", ""), pb.Probe(exec=pb.ExecHook())),  # which its provider refuses
    ],
)
def test_a_probe_goes_with_on(
    vmpower: Shell, provider: FakeProvider, options: tuple[str, ...], probe: pb.Probe
) -> None:
    vmpower("on", "web", *options)
    assert provider.request("PowerOn").ready == probe


def test_without_a_probe_none_is_sent(vmpower: Shell, provider: FakeProvider) -> None:
    vmpower("on", "web")
    assert not provider.request("PowerOn").HasField("ready")


@pytest.mark.parametrize(
    "options",
    [("--ready-tcp", "22", "--ready-exec", "id"), ("--ready-timeout", "2m"), ("--ready-tcp", "0")],
)
def test_what_is_no_probe_is_refused(vmpower: Shell, provider: FakeProvider, options: tuple[str, ...]) -> None:
    assert vmpower("on", "web", *options).code == 2
    assert provider.requests("PowerOn") == []


def test_guest_credentials_come_from_a_file_as_they_are_written(
    vmpower: Shell, provider: FakeProvider, tmp_path: Path
) -> None:
    file = tmp_path / "login.yaml"
    file.write_text("username: admin\npassword: 007\n")
    assert vmpower("shutdown", "web", "--guest-credentials", str(file)).code == 0
    assert provider.request("Shutdown").guest_credentials == pb.GuestCredentials(username="admin", password="007")


@pytest.mark.parametrize("text", ["password: s3cret", "username: a\npassword: {s3cret", "s3cret", "\tusername: s3cret"])
def test_a_bad_credentials_file_is_refused_without_quoting_it(vmpower: Shell, tmp_path: Path, text: str) -> None:
    file = tmp_path / "login.yaml"
    file.write_text(text)
    ended = vmpower("shutdown", "web", "--guest-credentials", str(file))
    assert ended.code == 2
    assert str(file) in ended.err
    assert "s3cret" not in ended.err
