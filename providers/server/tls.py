"""Where a server may listen without TLS, and its credentials where it may not."""

from datetime import timedelta
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.addresses import is_local, strangers
from common.files import stamps
from providers.core.settings import Settings

log = structlog.get_logger()


class InsecureAddress(Exception):
    """The address is open to others and TLS is not (fully) configured."""


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """mTLS credentials that follow the files, or None where none are needed.

    Raises:
        InsecureAddress: they are needed and not configured, or cannot be read.
    """
    files = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    if not any(files) and is_local(settings.listen):
        _require_loopback(settings.listen)
        return None
    if not all(files):
        raise InsecureAddress(
            f"{settings.listen} needs mutual TLS: set --tls-cert, --tls-key and --tls-client-ca, "
            "or listen on a unix socket or loopback."
        )
    try:
        follower = Follower(settings)
        configuration = follower.configuration()
    except (OSError, BadFiles) as error:
        raise InsecureAddress(f"{settings.listen} cannot have TLS: {error}; its operator mends that.") from error
    return grpc.dynamic_ssl_server_credentials(
        configuration,
        follower.reload,  # type: ignore[arg-type]  # None means "no change", which the stub does not know
        require_client_authentication=True,
    )


def options(settings: Settings) -> dict[str, int]:
    """gRPC's, for connections with TLS: none lasts for ever, so that certificates are shown anew. Streams are ended
    by then, each at the same age (clients.py); the grace is for the youngest."""
    age = settings.max_connection_age
    grace = age + timedelta(seconds=10)
    milliseconds = timedelta(milliseconds=1)
    return {
        "grpc.max_connection_age_ms": age // milliseconds,
        "grpc.max_connection_age_grace_ms": grace // milliseconds,
    }


def _require_loopback(address: str) -> None:
    """Raises InsecureAddress: without TLS, all that `localhost` means must be this machine."""
    if elsewhere := strangers(address):
        raise InsecureAddress(
            f"{address}: localhost is {', '.join(elsewhere)} here; the machine's administrator mends /etc/hosts, "
            "or listen on 127.0.0.1."
        )


class BadFiles(Exception):
    """The files cannot serve; the message says which, and why."""


class Follower:
    """Reads the certificate files, and again when one has changed (a rotation)."""

    def __init__(self, settings: Settings) -> None:
        self._files = [file for file in (settings.tls_key, settings.tls_cert, settings.tls_client_ca) if file]
        self._stamps, self._told = stamps(self._files), ""

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """What the files say now.

        Raises:
            OSError: one cannot be read.
            BadFiles: they do not fit together, or one is not what it should be. gRPC would serve no client with them.
        """
        key, cert, ca = (file.read_bytes() for file in self._files)
        _require_fit(dict(zip(self._files, (key, cert, ca), strict=True)))
        return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)

    def reload(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake: the new configuration, or None to keep the old one."""
        try:
            if (now := stamps(self._files)) == self._stamps:
                return None
            configuration = self.configuration()
        except (OSError, BadFiles) as error:
            if str(error) != self._told:
                log.warning("certificates not re-read, the old ones stay", error=str(error))
            self._told = str(error)  # once, though gRPC asks at each handshake
            return None
        self._stamps, self._told = now, ""
        log.info("certificates re-read")
        return configuration


def _require_fit(files: dict[Path, bytes]) -> None:
    (key_file, key), (cert_file, cert), (ca_file, ca) = files.items()
    certificate = _certificates(cert_file, cert)[0]
    _certificates(ca_file, ca)
    try:
        fits = load_pem_private_key(key, None).public_key() == certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadFiles(f"{key_file} has no private key in PEM without a password") from error
    if not fits:
        raise BadFiles(f"the key in {key_file} is not that of the certificate in {cert_file}")


def _certificates(file: Path, pem: bytes) -> list[x509.Certificate]:
    """At least one."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadFiles(f"{file} has no certificate in PEM, or a broken one") from error
