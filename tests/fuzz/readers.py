"""Every reader of files that others write, or that were written before: what it reads is a value or a refusal."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from cli import config
from cli.errors import Failure
from cli.hooks import HookOptions, credentials, gather
from common.pem import BadFile
from controller.sources import manifests
from providers.core.errors import JournalFailed
from providers.core.journal import Journal
from providers.core.settings import Settings
from providers.server import certificates, tls
from providers.server.certificates import BadCertificate, BadRevocations, Revocations
from providers.sim.script import SimError, load_script
from tests.unit.providers.server.pki import Authority

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reader:
    """Reads a file; `refusals` are how it may refuse, `good` is what it takes."""

    read: Callable[[Path], object]
    refusals: tuple[type[Exception], ...]
    good: bytes

    def try_on(self, data: bytes) -> bool:
        """Whether a file with this in it is read; anything but that and a refusal is raised."""
        with tempfile.TemporaryDirectory(prefix="vmp-fuzz-") as folder:
            file = Path(folder) / "file"
            file.write_bytes(data)
            try:
                self.read(file)
            except self.refusals:
                return False
        return True


def _hooks(file: Path) -> object:
    return gather(HookOptions(None, None, None, file))


def _configuration(file: Path) -> object:
    with mock.patch.dict(os.environ, {"VMPOWER_CONFIG": str(file)}):
        return config.load().meant("")


def _server_files(changed: str) -> Callable[[Path], object]:
    """The server's key, certificate or client CA, of which this one is the file."""

    def read(file: Path) -> object:
        names = {"tls_key": SERVER.key, "tls_cert": SERVER.cert, "tls_client_ca": AUTHORITY.pem}
        given = {name: file.with_name(name) for name in names}
        for name, content in names.items():
            given[name].write_bytes(file.read_bytes() if name == changed else content)
        settings: dict[str, Any] = {"listen": "unix:///nowhere", "state_dir": file.parent, **given}
        return tls.Follower(Settings(**settings)).configuration()

    return read


def _revoked(file: Path) -> object:
    authorities = file.with_name("authorities")
    authorities.write_bytes(AUTHORITY.pem)
    return Revocations(file, authorities)


def _journal(file: Path) -> object:
    async def read() -> object:
        journal = Journal(file)
        try:
            return [await journal.active(), await journal.page(10, None, "", False), await journal.overtaken()]
        finally:
            await journal.close()

    return asyncio.run(read())


def _good_journal() -> bytes:
    with tempfile.TemporaryDirectory(prefix="vmp-fuzz-") as folder:
        _journal(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


def _good_revocations() -> bytes:
    with tempfile.TemporaryDirectory(prefix="vmp-fuzz-") as folder:
        AUTHORITY.revoke(Path(folder) / "crl", SERVER)
        return (Path(folder) / "crl").read_bytes()


AUTHORITY = Authority()
SERVER = AUTHORITY.issue("localhost", dns=["localhost"], uri=["spiffe://example/x"])
HOOKS = b"- {name: a, exec: {command: [sync]}, timeout: 30s, failurePolicy: ABORT}\n- httpGet: {url: 'http://web/'}\n"
CONFIGURATION = b"default: lab\nproviders:\n  lab: {address: 'unix:///run/x'}\n"
SCRIPT = b"guests:\n  web: {shutdown_time: 5s, hooks: [{match: save, takes: 1s}], faults: {get: [refuse x2, ok]}}\n"

READERS = {
    "a manifest": Reader(manifests.read, (), (ROOT / "examples" / "graceful-shutdown-vm.yaml").read_bytes()),
    "hooks": Reader(_hooks, (Failure,), HOOKS),
    "a login": Reader(credentials, (Failure,), b"username: root\npassword: '0123'\n"),
    "the configuration": Reader(_configuration, (Failure,), CONFIGURATION),
    "a script of the sim": Reader(load_script, (SimError,), SCRIPT),
    "what is revoked": Reader(_revoked, (BadRevocations,), _good_revocations()),
    "a server's key": Reader(_server_files("tls_key"), (BadFile,), SERVER.key),
    "a server's certificate": Reader(_server_files("tls_cert"), (BadFile,), SERVER.cert),
    "a clients' authority": Reader(_server_files("tls_client_ca"), (BadFile,), AUTHORITY.pem),
    "a client's certificate": Reader(lambda file: certificates.read(file.read_bytes()), (BadCertificate,), SERVER.cert),
    "the journal": Reader(_journal, (JournalFailed,), _good_journal()),
}
