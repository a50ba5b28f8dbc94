"""Where a server may listen without TLS, and its credentials where it may not."""

import grpc
import structlog

from common.addresses import is_local
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
        return None
    if not all(files):
        raise InsecureAddress(
            f"{settings.listen} needs mutual TLS: set --tls-cert, --tls-key and --tls-client-ca, "
            "or listen on a unix socket or loopback."
        )
    try:
        follower = Follower(settings)
        configuration = follower.configuration()
    except OSError as error:
        raise InsecureAddress(f"{settings.listen} cannot have TLS: {error}.") from error
    return grpc.dynamic_ssl_server_credentials(
        configuration,
        follower.reload,  # type: ignore[arg-type]  # None means "no change", which the stub does not know
        require_client_authentication=True,
    )


class Follower:
    """Reads the certificate files, and again when one has changed (a rotation)."""

    def __init__(self, settings: Settings) -> None:
        self._files = [file for file in (settings.tls_key, settings.tls_cert, settings.tls_client_ca) if file]
        self._stamps = stamps(self._files)

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """What the files say now."""
        key, cert, ca = (file.read_bytes() for file in self._files)
        return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)

    def reload(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake: the new configuration, or None to keep the old one."""
        try:
            if (now := stamps(self._files)) == self._stamps:
                return None
            configuration = self.configuration()
        except OSError as error:
            log.warning("certificates not re-read, the old ones stay", error=str(error))
            return None
        self._stamps = now
        log.info("certificates re-read")
        return configuration
