from datetime import timedelta
from pathlib import Path

import pytest

from cli.doctor.finding import Check
from cli.doctor.tls_files import fault
from client.channel import Tls
from tests.unit.providers.server.pki import Authority


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    """Files that are as they should be."""
    authority = Authority()
    made = authority.issue("operator")
    files = Tls(tmp_path / "ca.pem", tmp_path / "me.pem", tmp_path / "me.key")
    for file, content in zip((files.ca, files.cert, files.key), (authority.pem, made.cert, made.key), strict=True):
        file.write_bytes(content)
    return files


def test_nothing_is_wrong_with_files_that_fit_together(tls: Tls) -> None:
    assert fault(tls) is None


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_file_that_is_not_there_is_named(tls: Tls, name: str) -> None:
    file: Path = getattr(tls, name)
    file.unlink()
    found = fault(tls)
    assert found is not None
    assert (found.check, found.file) == (Check.TLS_FILES, file)
    assert found.what == f"The TLS file {file} cannot be read: No such file or directory."


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_file_that_is_no_pem_is_named(tls: Tls, name: str) -> None:
    file: Path = getattr(tls, name)
    file.write_bytes(b"not PEM")
    found = fault(tls)
    assert found is not None
    assert (found.check, found.file) == (Check.TLS_FILES, file)
    assert found.what.startswith(f"{file} has no ")


def test_a_key_of_another_certificate_is_named(tls: Tls) -> None:
    tls.key.write_bytes(Authority().issue("operator").key)
    found = fault(tls)
    assert found is not None
    assert (found.check, found.file) == (Check.TLS_KEY, tls.key)
    assert found.what == f"The key in {tls.key} is not that of the certificate in {tls.cert}."


def test_a_certificate_that_has_ended_is_told_with_its_end(tls: Tls) -> None:
    made = Authority().issue("operator", begins=timedelta(days=-2), ends=timedelta(days=-1))
    tls.cert.write_bytes(made.cert)
    tls.key.write_bytes(made.key)
    found = fault(tls)
    assert found is not None
    assert (found.check, found.file) == (Check.OWN_CERTIFICATE_EXPIRED, tls.cert)
