"""An authority that signs what a careful one would not: certificates of the past, with odd names, and revocations."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOUR = timedelta(hours=1)


def common_names(names: Sequence[str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


class Issued:
    """A certificate with its key, in PEM."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.serial = certificate.serial_number
        self.cert = certificate.public_bytes(serialization.Encoding.PEM)
        self.key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


class Authority:
    """Signs certificates and revocation lists."""

    def __init__(self, name: str = "authority") -> None:
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), common_names([name])
        now = datetime.now(UTC)
        made = self._builder(self._name, self._key, now - HOUR, now + 24 * HOUR)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *cn: str,
        dns: Sequence[str] = (),
        uri: Sequence[str] = (),
        begins: timedelta = -HOUR,
        ends: timedelta = HOUR,
    ) -> Issued:
        """A certificate with these names, valid from and until so long from now."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        made = self._builder(common_names(cn), key, now + begins, now + ends)
        names = [*map(x509.DNSName, dns), *map(x509.UniformResourceIdentifier, uri)]
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued(made.sign(self._key, hashes.SHA256()), key)

    def revoke(self, file: Path, *revoked: Issued, due: timedelta = HOUR) -> None:
        """Write the list of what is revoked."""
        now = datetime.now(UTC)
        made = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        made = made.last_update(now - 2 * HOUR).next_update(now + due)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(now - HOUR).build()
            made = made.add_revoked_certificate(entry)
        file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(begins).not_valid_after(ends)
