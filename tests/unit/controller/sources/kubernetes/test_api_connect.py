"""Where the API server is, and who we are to it."""

import json
from pathlib import Path

import pytest
import trustme
from kubernetes.aio.config import incluster_config

from controller.source import SourceError
from controller.sources.kubernetes import api as module
from controller.sources.kubernetes.api import ApiError, connect
from tests.unit.controller.sources.kubernetes.server import Called, page

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: lab, user: me}}]
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: me, user: {token: hunter2}}]
"""


def at(http: Called, user: str) -> str:
    """A kubeconfig for the server on loopback."""
    here = KUBECONFIG.replace("https://127.0.0.1:6443", http.connection.configuration.host)
    return here.replace("token: hunter2", user)


def exec_credential(token: str, expiration: str) -> str:
    kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    return json.dumps(kind | {"status": {"token": token, "expirationTimestamp": expiration}})


async def test_a_kubeconfig_tells_where_the_server_is_and_who_we_are(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(KUBECONFIG)
    async with await connect(file) as connection:
        assert connection.configuration.host == "https://127.0.0.1:6443"
        assert connection.configuration.api_key == {"BearerToken": "Bearer hunter2"}
        assert connection.user_agent == "vmpower"


@pytest.mark.parametrize(
    "written",
    [
        "",
        "[]",
        "just words",
        "{[ hunter2",
        "\xff",
        "current-context: here",
        KUBECONFIG.replace("current-context: here", "current-context: there"),
        KUBECONFIG.replace("token: hunter2", "tokenFile: /nowhere"),
        KUBECONFIG.replace('6443"', '6443", certificate-authority: /nowhere'),
        KUBECONFIG.replace('6443"', '6443", certificate-authority-data: bm9uZQ=='),
        KUBECONFIG.replace('6443"', '6443", certificate-authority-data: "//"'),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_named_and_not_quoted(tmp_path: Path, written: str) -> None:
    file = tmp_path / "config"
    file.write_text(written, encoding="latin-1")
    with pytest.raises(SourceError, match=f"^{file} is no kubeconfig") as raised:
        await connect(file)
    assert "hunter2" not in str(raised.value)


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=f"^--kubeconfig {tmp_path / 'config'}: No such file or directory; its operator"
    ):
        await connect(tmp_path / "config")


async def test_a_token_in_a_file_is_read_again(http: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKEN_AGE", 0)
    token, file = tmp_path / "token", tmp_path / "config"
    token.write_text("first")
    file.write_text(at(http, f"tokenFile: {token}"))
    async with await connect(file) as connection:
        http.answer(page())
        await Called(http.server, connection).items()
        token.write_text("second")
        http.answer(page())
        await Called(http.server, connection).items()
    assert [asked.authorization for asked in http.server.asked] == ["Bearer first", "Bearer second"]


async def test_a_token_of_a_plugin_is_asked_for_again_when_it_has_expired(
    http: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKEN_AGE", 0)
    credential = tmp_path / "credential.json"
    file = tmp_path / "config"
    plugin = f"exec: {{apiVersion: client.authentication.k8s.io/v1, command: cat, args: [{credential}]}}"
    file.write_text(at(http, plugin))
    credential.write_text(exec_credential("first", "2020-01-01T00:00:00Z"))
    async with await connect(file) as connection:
        credential.write_text(exec_credential("second", "2100-01-01T00:00:00Z"))
        http.answer(page())
        await Called(http.server, connection).items()
        credential.write_text(exec_credential("third", "2100-01-01T00:00:00Z"))
        http.answer(page())
        await Called(http.server, connection).items()
    assert [asked.authorization for asked in http.server.asked] == ["Bearer second", "Bearer second"]


async def test_a_token_that_cannot_be_read_again_is_an_error_without_an_answer(
    http: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKEN_AGE", 0)
    token, file = tmp_path / "token", tmp_path / "config"
    token.write_text("first")
    file.write_text(at(http, f"tokenFile: {token}"))
    async with await connect(file) as connection:
        token.unlink()
        with pytest.raises(ApiError) as raised:
            await Called(http.server, connection).items()
    assert raised.value.status == 0


async def test_in_a_pod_its_service_account_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("mine")
    trustme.CA().cert_pem.write_to_path(str(authority))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    async with await connect(None) as connection:
        assert connection.configuration.host == "https://127.0.0.1:6443"
        assert connection.configuration.api_key == {"BearerToken": "bearer mine"}


async def test_without_a_kubeconfig_and_outside_of_a_pod_it_is_told_what_to_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SourceError, match="Give --kubeconfig FILE, or run it as a pod"):
        await connect(None)
