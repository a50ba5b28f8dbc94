"""What is said at the start of who may change power without a certificate, and what cannot be asked of the door."""

import grp
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from providers.core.settings import Settings
from providers.server.local_door import LocalDoor, Unusable


def door(listen: str, *, secured: bool = False, **settings: Any) -> LocalDoor:
    state = Path(listen.removeprefix("unix://")).parent
    return LocalDoor(Settings(listen=listen, state_dir=state, **settings), secured=secured, files=300)


async def said(door: LocalDoor) -> list[tuple[str, str]]:
    with capture_logs() as logs:
        await door.open()
    door.close()
    return [(each["log_level"], each["event"]) for each in logs]


@pytest.mark.parametrize("listen", ["127.0.0.1:9443", "localhost:9443", "[::1]:9443", "unix-abstract:vmpower"])
async def test_an_address_that_every_local_user_reaches_is_warned_of(listen: str) -> None:
    ((level, event),) = await said(door(listen))
    assert level == "warning"
    assert event.startswith("every user and every program of this machine may change power")


async def test_of_a_unix_socket_it_is_said_whose_it_is(tmp_path: Path) -> None:
    assert await said(door(f"unix://{tmp_path}/s")) == [
        ("info", "the owner and the group of the socket may change power")
    ]


async def test_with_rules_for_users_it_is_said_who_they_are(tmp_path: Path) -> None:
    assert await said(door(f"unix://{tmp_path}/s", operator_uids="0,1000")) == [
        ("info", "users of the socket with these numbers may change power")
    ]


async def test_with_tls_certificates_count_and_nothing_is_said() -> None:
    assert await said(door("127.0.0.1:9443", secured=True)) == []


def test_without_rules_for_users_grpc_listens_itself(tmp_path: Path) -> None:
    assert door(f"unix://{tmp_path}/s").grpc_address == f"unix://{tmp_path}/s"


@pytest.mark.parametrize("given", [{"operator_uids": "0"}, {"socket_group": "root"}])
@pytest.mark.parametrize("listen", ["127.0.0.1:9443", "unix-abstract:vmpower"])
def test_rules_for_users_need_a_socket_in_the_file_system(listen: str, given: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match="need --listen unix:///PATH; its operator writes that"):
        door(listen, **given)


def test_a_group_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="there is no group nonesuch"):
        door(f"unix://{tmp_path}/s", socket_group="nonesuch")


async def test_the_socket_is_given_to_the_group(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgroups()[-1] if os.getgroups() else os.getegid())
    one = door(f"unix://{tmp_path}/s", operator_uids="0", socket_group=group.gr_name)
    await one.open()
    assert (tmp_path / "s").stat().st_gid == group.gr_gid
    one.close()


async def test_a_socket_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    one = door(f"unix://{tmp_path}/s", operator_uids="0")
    (tmp_path / "s").mkdir()
    with pytest.raises(Unusable, match="names another --listen"):
        await one.open()
