from pathlib import Path
from typing import Any

import pytest
import trustme

from cli.ups_login import credentials
from plans.model import Nut
from plans.ups.client import Login, UpsError


def nut(**more: Any) -> Nut:
    return Nut.model_validate({"ups": [{"name": "a"}], "user": "vmpower", "passwordFile": "password"} | more)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("secret\n")
    return tmp_path / "plan.yaml"


async def test_the_password_is_read_from_beside_the_plan(plan: Path) -> None:
    assert await credentials(nut(), plan)() == Login("vmpower", "secret")


async def test_it_is_read_anew_for_each_login(plan: Path) -> None:
    login = credentials(nut(), plan)
    await login()
    (plan.parent / "password").write_text("another")
    assert (await login()).password == "another"


async def test_the_authority_is_read_too(plan: Path) -> None:
    authority = trustme.CA().cert_pem.bytes()
    (plan.parent / "ca.pem").write_bytes(authority)
    assert (await credentials(nut(tls={"ca": "ca.pem"}), plan)()).ca == authority.decode()


@pytest.mark.parametrize("content", [b"", b"a\nb\n", b"a\0", b"x" * 2000, b"\xff"])
async def test_a_file_that_is_no_password_is_told_with_its_path(plan: Path, content: bytes) -> None:
    (plan.parent / "password").write_bytes(content)
    with pytest.raises(UpsError, match=str(plan.parent / "password")):
        await credentials(nut(), plan)()


async def test_a_password_that_cannot_be_read_is_told(plan: Path) -> None:
    (plan.parent / "password").unlink()
    with pytest.raises(UpsError, match=r"the password cannot be read from .*/password: No such file or directory"):
        await credentials(nut(), plan)()


async def test_an_authority_that_cannot_be_read_is_told(plan: Path) -> None:
    with pytest.raises(UpsError, match=r"tls\.ca cannot be read from .*/nothing: No such file"):
        await credentials(nut(tls={"ca": "nothing"}), plan)()


def test_a_secret_is_for_the_controller(plan: Path) -> None:
    asked = Nut.model_validate({"ups": [{"name": "a"}], "secretRef": {"name": "ups"}})
    with pytest.raises(ValueError, match="secretRef is for the controller"):
        credentials(asked, plan)
