"""A real etcd and a real kube-apiserver, and the keys and tokens that they need, in one folder."""

import secrets
import ssl
from pathlib import Path

import trustme

from tests.rigs.kubernetes.audit import POLICY
from tests.rigs.kubernetes.server import Server, free_port


class ControlPlane:
    """Both servers, not yet started. `address` is the API's, `ca` vouches for it, `token` is its administrator's."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.programs = programs
        self.token = secrets.token_hex(16)
        self.ca = folder / "ca.pem"
        self.audit_log = folder / "audit" / "audit.log"
        self._folder = folder
        tls = self._write_secrets()
        etcd_port, port = free_port(), free_port()
        self.address = f"https://127.0.0.1:{port}"
        self.etcd = self._server("etcd", self._etcd_flags(etcd_port), etcd_port, "/health")
        self.api = self._server("kube-apiserver", self._api_flags(etcd_port, port), port, "/readyz", tls)

    def _server(self, name: str, flags: list[str], port: int, path: str, tls: ssl.SSLContext | None = None) -> Server:
        return Server([str(self.programs / name), *flags], self._folder / f"{name}.log", port, path, tls)

    def _write_secrets(self) -> ssl.SSLContext:
        authority = trustme.CA()
        served = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(self.ca)
        served.cert_chain_pems[0].write_to_path(self._folder / "tls.pem")
        served.private_key_pem.write_to_path(self._folder / "tls.key")
        authority.issue_cert("service-accounts").private_key_pem.write_to_path(self._folder / "service-accounts.key")
        (self._folder / "tokens.csv").write_text(f"{self.token},admin,admin,system:masters\n")
        (self._folder / "audit-policy.yaml").write_text(POLICY)
        self.audit_log.parent.mkdir()
        return ssl.create_default_context(cafile=self.ca)

    def _etcd_flags(self, port: int) -> list[str]:
        url = f"http://127.0.0.1:{port}"
        return [
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            "--listen-peer-urls=http://127.0.0.1:0",  # it has no peers
            "--unsafe-no-fsync",  # the data need not outlive the machine
            "--log-level=warn",
        ]

    def _api_flags(self, etcd_port: int, port: int) -> list[str]:
        key = self._folder / "service-accounts.key"
        return [
            f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # the Service `kubernetes` may not lead to loopback
            f"--tls-cert-file={self._folder / 'tls.pem'}",
            f"--tls-private-key-file={self._folder / 'tls.key'}",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",  # as clusters have it: PodSecurity decides
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",  # nobody here makes a namespace's `default` account
            "--shutdown-watch-termination-grace-period=1s",  # else a stop waits a minute for watches to end
            f"--audit-policy-file={self._folder / 'audit-policy.yaml'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=100000",  # MB: marks are places in one file
        ]
