"""Where a server may listen without TLS, and its credentials where it may not."""

from datetime import timedelta

import grpc
import structlog

from common.addresses import is_local, strangers
from common.files import stamps
from common.pem import BadFile, File, require_fit
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
    except (OSError, BadFile) as error:
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


class Follower:
    """Reads the certificate files, and again when one has changed (a rotation)."""

    def __init__(self, settings: Settings) -> None:
        self._files = [file for file in (settings.tls_key, settings.tls_cert, settings.tls_client_ca) if file]
        self._stamps, self._told = stamps(self._files), ""

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """What the files say now.

        Raises:
            OSError: one cannot be read.
            BadFile: they do not fit together, or one is not what it should be. gRPC would serve no client with them.
        """
        key, cert, ca = (File(file, file.read_bytes()) for file in self._files)
        require_fit(key, cert, ca)
        return grpc.ssl_server_certificate_configuration([(key.pem, cert.pem)], root_certificates=ca.pem)

    def reload(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake: the new configuration, or None to keep the old one."""
        try:
            if (now := stamps(self._files)) == self._stamps:
                return None
            configuration = self.configuration()
        except (OSError, BadFile) as error:
            if str(error) != self._told:
                log.warning("certificates not re-read, the old ones stay", error=str(error))
            self._told = str(error)  # once, though gRPC asks at each handshake
            return None
        self._stamps, self._told = now, ""
        log.info("certificates re-read")
        return configuration
