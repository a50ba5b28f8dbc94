"""What a client certificate says, and what its authority says of it later."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from providers.server.certificates import BadCertificate, BadRevocations, Revocations, read
from tests.unit.providers.server.pki import HOUR, Authority

AUTHORITY = Authority()


def test_each_name_has_its_type() -> None:
    issued = AUTHORITY.issue("alice", dns=["alice.example"], uri=["spiffe://example/alice"])
    assert read(issued.cert).names == {"cn:alice", "dns:alice.example", "uri:spiffe://example/alice"}


def test_a_common_name_with_a_nul_is_refused() -> None:
    with pytest.raises(BadCertificate, match="NUL"):
        read(AUTHORITY.issue("op\0.evil").cert)


def test_an_alternative_name_with_a_nul_is_refused() -> None:
    with pytest.raises(BadCertificate, match="NUL"):
        read(AUTHORITY.issue("eve", dns=["op\0.evil"]).cert)


def test_a_second_common_name_is_refused() -> None:
    with pytest.raises(BadCertificate, match="more than one common name"):
        read(AUTHORITY.issue("eve", "op").cert)


@pytest.mark.parametrize("pem", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(pem: bytes) -> None:
    with pytest.raises(BadCertificate, match="cannot be read"):
        read(pem)


def test_a_certificate_counts_from_its_beginning_to_its_end() -> None:
    certificate, now = read(AUTHORITY.issue("alice").cert), datetime.now(UTC)
    assert certificate.refusal(now) == ""
    assert certificate.refusal(now + 2 * HOUR).startswith("it expired at ")
    assert certificate.refusal(now - 2 * HOUR).startswith("it is not valid before ")


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(AUTHORITY.pem)
    return path


def test_without_a_list_nothing_is_revoked(ca: Path) -> None:
    assert read(AUTHORITY.issue("alice").cert) not in Revocations(None, ca)


def test_what_the_list_names_is_revoked_and_nothing_else(ca: Path, tmp_path: Path) -> None:
    lost, kept = AUTHORITY.issue("alice"), AUTHORITY.issue("alice")
    AUTHORITY.revoke(tmp_path / "crl.pem", lost)
    revocations = Revocations(tmp_path / "crl.pem", ca)
    assert read(lost.cert) in revocations
    assert read(kept.cert) not in revocations


def test_the_lists_of_two_authorities_count_each_for_its_own(ca: Path, tmp_path: Path) -> None:
    other, ours, theirs = Authority("other"), tmp_path / "ours", tmp_path / "theirs"
    ca.write_bytes(AUTHORITY.pem + other.pem)
    lost = other.issue("bob")
    AUTHORITY.revoke(ours)
    other.revoke(theirs, lost)
    both = tmp_path / "crl.pem"
    both.write_bytes(ours.read_bytes() + theirs.read_bytes())
    assert read(lost.cert) in Revocations(both, ca)


def test_a_list_that_changes_is_read_again(ca: Path, tmp_path: Path) -> None:
    lost = AUTHORITY.issue("alice")
    AUTHORITY.revoke(tmp_path / "crl.pem")
    revocations = Revocations(tmp_path / "crl.pem", ca)
    assert read(lost.cert) not in revocations
    AUTHORITY.revoke(tmp_path / "new.pem", lost)
    (tmp_path / "new.pem").rename(tmp_path / "crl.pem")
    assert read(lost.cert) in revocations


def test_a_list_that_becomes_unreadable_leaves_the_old_one_in_force_and_that_is_said_once(
    ca: Path, tmp_path: Path
) -> None:
    lost = AUTHORITY.issue("alice")
    AUTHORITY.revoke(tmp_path / "crl.pem", lost)
    revocations = Revocations(tmp_path / "crl.pem", ca)
    (tmp_path / "crl.pem").write_text("garbage")
    with capture_logs() as logs:
        assert read(lost.cert) in revocations
        assert read(lost.cert) in revocations
    assert [each["event"] for each in logs] == ["revocations not re-read, the old ones stay"]


def test_a_list_of_an_authority_that_signs_no_clients_is_refused(ca: Path, tmp_path: Path) -> None:
    Authority().revoke(tmp_path / "crl.pem")
    with pytest.raises(BadRevocations, match="not signed by an authority of --tls-client-ca"):
        Revocations(tmp_path / "crl.pem", ca)


@pytest.mark.parametrize("content", ["", "garbage", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_a_file_without_a_list_is_refused_by_name(ca: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "crl.pem").write_text(content)
    with pytest.raises(BadRevocations, match=r"crl\.pem has no revocation list"):
        Revocations(tmp_path / "crl.pem", ca)


def test_a_list_that_is_overdue_stays_in_force_and_that_is_said(ca: Path, tmp_path: Path) -> None:
    lost = AUTHORITY.issue("alice")
    AUTHORITY.revoke(tmp_path / "crl.pem", lost, due=-timedelta(minutes=1))
    with capture_logs() as logs:
        assert read(lost.cert) in Revocations(tmp_path / "crl.pem", ca)
    assert logs[0]["event"] == "a revocation list is overdue; it stays in force"
