"""What a client certificate says: its names by type, how long it is valid, and whether its authority has revoked it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from common.files import stamps

KNOWN = 1024
"""Certificates whose contents are remembered, so that a connection's is parsed once and not at each call."""
CLOCK_SKEW_HINT = "or one of the two clocks is wrong"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Certificate:
    """One client certificate. `names` has its one common name and its alternative names, each with its type."""

    names: frozenset[str]
    issuer: bytes
    serial: int
    begins: datetime
    ends: datetime

    def refusal(self, now: datetime) -> str:
        """Why it does not count at this moment, or ""."""
        if now > self.ends:
            return f"it expired at {self.ends:%Y-%m-%d %H:%M:%S} UTC ({CLOCK_SKEW_HINT})"
        if now < self.begins:
            return f"it is not valid before {self.begins:%Y-%m-%d %H:%M:%S} UTC ({CLOCK_SKEW_HINT})"
        return ""


class BadCertificate(Exception):
    """Its names cannot be trusted, or it cannot be read."""


@lru_cache(KNOWN)
def read(pem: bytes) -> Certificate:
    """A certificate from PEM.

    Raises:
        BadCertificate: it has two common names, a NUL in a name, or cannot be read. Programs differ in which of two
            names, or how much of one, they take for the client's.
    """
    try:
        found = x509.load_pem_x509_certificate(pem)
        names = frozenset((*_common_name(found.subject), *_alternative_names(found)))
        issuer, serial = found.issuer.public_bytes(), found.serial_number
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise BadCertificate("it cannot be read") from error
    if any("\0" in name for name in names):
        raise BadCertificate("there is a NUL in one of its names")
    return Certificate(names, issuer, serial, found.not_valid_before_utc, found.not_valid_after_utc)


def _common_name(subject: x509.Name) -> list[str]:
    found = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(found) > 1:
        raise BadCertificate("its subject has more than one common name")
    return [f"cn:{value if isinstance(value, str) else value.decode()}" for value in found]


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    by_dns = [f"dns:{name}" for name in names.get_values_for_type(x509.DNSName)]
    return by_dns + [f"uri:{name}" for name in names.get_values_for_type(x509.UniformResourceIdentifier)]


class BadRevocations(Exception):
    """A revocation list cannot be used; the message says why, and who acts."""


class Revocations:
    """The certificates that their authority has revoked, read again when the file has changed."""

    def __init__(self, file: Path | None, authorities: Path | None) -> None:
        """Raises BadRevocations."""
        self._files = [each for each in (file, authorities) if each] if file else []
        self._stamps = stamps(self._files)
        self._revoked = _revoked(*self._files) if self._files else frozenset()

    def __contains__(self, certificate: Certificate) -> bool:
        self._follow()
        return (certificate.issuer, certificate.serial) in self._revoked

    def _follow(self) -> None:
        if not self._files or (now := stamps(self._files)) == self._stamps:
            return
        self._stamps = now
        try:
            self._revoked = _revoked(*self._files)
        except BadRevocations as error:
            log.warning("revocations not re-read, the old ones stay", error=str(error))
        else:
            log.info("revocations re-read", revoked=len(self._revoked))


def _revoked(file: Path, authorities_file: Path) -> frozenset[tuple[bytes, int]]:
    try:
        authorities = x509.load_pem_x509_certificates(authorities_file.read_bytes())
        lists = _lists(file.read_bytes())
        return frozenset(one for each in lists for one in _of_list(file, each, authorities))
    except OSError as error:
        raise BadRevocations(f"{error}; the provider's operator provides it") from error
    except ValueError as error:
        raise BadRevocations(f"{file} has no revocation list in PEM; the provider's operator replaces it") from error


def _lists(pem: bytes) -> list[x509.CertificateRevocationList]:
    """All lists of the file: one for each authority."""
    end = b"-----END X509 CRL-----"
    parts = pem.split(end)[:-1]
    if not parts:
        raise ValueError("no list")
    return [x509.load_pem_x509_crl(part + end) for part in parts]


def _of_list(
    file: Path, revocations: x509.CertificateRevocationList, authorities: list[x509.Certificate]
) -> list[tuple[bytes, int]]:
    if not any(_signed(revocations, authority) for authority in authorities):
        raise BadRevocations(
            f"{file}: the list of {revocations.issuer.rfc4514_string()} is not signed by an authority of "
            "--tls-client-ca; the provider's operator takes it from the authority that signs client certificates"
        )
    if revocations.next_update_utc and revocations.next_update_utc < datetime.now(UTC):
        log.warning("a revocation list is overdue; it stays in force", file=str(file), due=revocations.next_update_utc)
    issuer = revocations.issuer.public_bytes()
    return [(issuer, one.serial_number) for one in revocations]


def _signed(revocations: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    try:
        return authority.subject == revocations.issuer and revocations.is_signature_valid(key)  # type: ignore[arg-type]
    except (InvalidSignature, TypeError, UnsupportedAlgorithm):
        return False
