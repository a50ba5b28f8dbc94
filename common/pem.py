"""Whether the PEM files of one side of TLS can serve, told of the file that cannot."""

from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key


class File(NamedTuple):
    """A file, and what was read from it."""

    path: Path
    pem: bytes


class BadFile(Exception):
    """`file` cannot serve; the message says why."""

    def __init__(self, file: Path, message: str) -> None:
        super().__init__(message)
        self.file = file


class NoPem(BadFile):
    """What is in it is not what it should be."""


class KeyOfAnother(BadFile):
    """The key is not that of the certificate."""


def require_fit(key: File, cert: File, ca: File) -> None:
    """Make sure that each is what it should be, and that the key is that of the first certificate.

    Raises:
        BadFile
    """
    certificate = _certificates(cert)[0]
    _certificates(ca)
    try:
        fits = load_pem_private_key(key.pem, None).public_key() == certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise NoPem(key.path, f"{key.path} has no private key in PEM without a password") from error
    if not fits:
        raise KeyOfAnother(key.path, f"the key in {key.path} is not that of the certificate in {cert.path}")


def _certificates(file: File) -> list[x509.Certificate]:
    """At least one."""
    try:
        return x509.load_pem_x509_certificates(file.pem)
    except ValueError as error:
        raise NoPem(file.path, f"{file.path} has no certificate in PEM, or a broken one") from error
