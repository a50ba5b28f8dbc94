"""The three PEM files of mutual TLS: which one of them cannot serve, and why."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from cli.doctor.finding import Check
from client.channel import Tls
from common.pem import BadFile, File, KeyOfAnother, require_fit


class Fault(NamedTuple):
    """What is wrong, and with which file."""

    check: Check
    what: str
    file: Path


def fault(tls: Tls) -> Fault | None:
    """The first thing that is wrong: with one of the files, with how they fit together, with the certificate's time."""
    files = list[File]()
    for path in (tls.ca, tls.cert, tls.key):
        try:
            files.append(File(path, path.read_bytes()))
        except OSError as error:
            return Fault(Check.TLS_FILES, f"The TLS file {path} cannot be read: {error.strerror or error}.", path)
    ca, cert, key = files
    try:
        require_fit(key, cert, ca)
    except BadFile as error:
        check, said = Check.TLS_KEY if isinstance(error, KeyOfAnother) else Check.TLS_FILES, str(error)
        return Fault(check, f"{said[0].upper()}{said[1:]}.", error.file)
    ends = x509.load_pem_x509_certificate(cert.pem).not_valid_after_utc
    if ends <= datetime.now(UTC):
        what = f"Your certificate in {tls.cert} has expired: {ends:%Y-%m-%d %H:%M} UTC."
        return Fault(Check.OWN_CERTIFICATE_EXPIRED, what, tls.cert)
    return None
