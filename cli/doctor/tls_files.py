"""The three PEM files of mutual TLS: whether each is what it should be, and which one is not."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cli.doctor.finding import Check
from client.channel import Tls


class Fault(NamedTuple):
    """What is wrong, and with which file."""

    check: Check
    what: str
    file: Path


def fault(tls: Tls) -> Fault | None:
    """The first thing that is wrong: with one of the files, with how they fit together, with the certificate's time."""
    for file, lack, read in (
        (tls.ca, "no certificate in PEM", _certificate),
        (tls.cert, "no certificate in PEM", _certificate),
        (tls.key, "no private key in PEM, or one with a passphrase, which nobody could type", _public_half),
    ):
        if found := _unread(file, lack, read):
            return found
    certificate = x509.load_pem_x509_certificate(tls.cert.read_bytes())
    ends = certificate.not_valid_after_utc
    if ends <= datetime.now(UTC):
        what = f"Your certificate in {tls.cert} has expired: {ends:%Y-%m-%d %H:%M} UTC."
        return Fault(Check.OWN_CERTIFICATE_EXPIRED, what, tls.cert)
    if _certificate(tls.cert.read_bytes()) != _public_half(tls.key.read_bytes()):
        return Fault(Check.TLS_FILES, f"The key in {tls.key} is not that of the certificate in {tls.cert}.", tls.key)
    return None


def _unread(file: Path, lack: str, read: Callable[[bytes], bytes]) -> Fault | None:
    try:
        read(file.read_bytes())
    except OSError as error:
        return Fault(Check.TLS_FILES, f"The TLS file {file} cannot be read: {error.strerror or error}.", file)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return Fault(Check.TLS_FILES, f"The TLS file {file} has {lack}.", file)
    return None


def _certificate(pem: bytes) -> bytes:
    """The public key of the first one."""
    key = x509.load_pem_x509_certificates(pem)[0].public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_half(pem: bytes) -> bytes:
    key = load_pem_private_key(pem, password=None)
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
