from pathlib import Path

import pytest

from common.pem import File, KeyOfAnother, NoPem, require_fit
from tests.unit.providers.server.pki import Authority

AUTHORITY = Authority()
ISSUED, OTHER = AUTHORITY.issue("one"), AUTHORITY.issue("other")


def fit(key: bytes = ISSUED.key, cert: bytes = ISSUED.cert, ca: bytes = AUTHORITY.pem) -> None:
    require_fit(File(Path("key"), key), File(Path("cert"), cert), File(Path("ca"), ca))


def test_files_that_fit_are_accepted() -> None:
    fit()


def test_one_file_may_hold_the_certificate_and_its_key() -> None:
    both = File(Path("both"), ISSUED.cert + ISSUED.key)
    require_fit(both, both, File(Path("ca"), AUTHORITY.pem))


@pytest.mark.parametrize("which", ["key", "cert", "ca"])
def test_the_file_that_is_no_pem_is_the_one_that_is_named(which: str) -> None:
    with pytest.raises(NoPem, match=f"^{which} has no ") as refused:
        fit(**{which: b"no PEM"})
    assert refused.value.file == Path(which)


def test_a_key_of_another_certificate_is_told_as_that() -> None:
    with pytest.raises(KeyOfAnother, match="the key in key is not that of the certificate in cert"):
        fit(key=OTHER.key)
