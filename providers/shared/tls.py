"""How a hypervisor proves who it is, by a CA or a pinned certificate."""

import hashlib
import hmac
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from providers.core.errors import ConnectionProblem, HypervisorUnavailable


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates are accepted: those of a CA, pinned ones (SHA-256 or SHA-1), or with `insecure` all.

    With none of the three set: those of the CAs that the system trusts; more than one is a ValueError. `flag` is the
    setting that names `pins`, for messages.
    """

    ca_file: Path | None = None
    pins: Sequence[str] = ()
    insecure: bool = False
    flag: str = "--fingerprint"

    def __post_init__(self) -> None:
        if (self.ca_file is not None) + bool(self.pins) + self.insecure > 1:
            raise ValueError(f"name only one of --ca-file, {self.flag} and --insecure")


class _Verified(ssl.SSLObject):
    """One connection; every one of a `Verifying` is such, so that none escapes the check."""

    def do_handshake(self) -> None:
        """Shake hands, and compare with the pinned certificates if there are any.

        Raises:
            ssl.SSLCertVerificationError
        """
        super().do_handshake()
        self.context.check(self.getpeercert(binary_form=True) or b"")  # type: ignore[attr-defined]  # ours

    def unwrap(self) -> None:
        """Tell the other end that the connection is closed, without waiting for it to say so too.

        RFC 8446 6.1 asks for no more; asyncio would keep the socket for up to 30 s.
        """
        with suppress(ssl.SSLWantReadError):
            super().unwrap()


class Verifying(ssl.SSLContext):
    """A client's context that also knows pinned certificates."""

    pins: frozenset[str] = frozenset()
    flag = ""
    sslobject_class = _Verified

    def check(self, certificate: bytes) -> None:
        """Compare a peer's certificate (DER) with those that are pinned, if any is.

        Raises:
            ssl.SSLCertVerificationError: it is another one.
        """
        digests = [hashlib.new(algorithm, certificate).hexdigest() for algorithm in ("sha256", "sha1")]
        if self.pins and not any(hmac.compare_digest(pin, digest) for pin in self.pins for digest in digests):
            what = self.flag.strip("-")
            raise ssl.SSLCertVerificationError(f"its certificate has another {what} than {self.flag} says")


def verifying(trust: Trust) -> Verifying:
    """The context for this trust; its file is read now.

    Raises:
        HypervisorUnavailable: the CA's file cannot be read, or has no certificate.
    """
    context = Verifying(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.pins, context.flag = normal(trust.pins), trust.flag
    if trust.pins or trust.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif trust.ca_file:
        try:
            context.load_verify_locations(trust.ca_file)
        except OSError as error:
            message = f"The CA cannot be read ({error}); the provider's operator mends --ca-file {trust.ca_file}."
            raise HypervisorUnavailable(message, problem=ConnectionProblem.CERTIFICATE) from error
    else:
        context.load_default_certs()
    return context


def normal(pins: Iterable[str]) -> frozenset[str]:
    """Fingerprints as `hexdigest` writes them."""
    return frozenset(pin.replace(":", "").lower() for pin in pins)
