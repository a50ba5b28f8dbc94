"""The session, with the call that logs in replaced; what a real vCenter makes of it is in tests/e2e/vsphere."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from pyVmomi import vim, vmodl

from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.vsphere import session as module
from providers.vsphere.config import VsphereSettings
from providers.vsphere.session import Link, Room, Session, SessionLost
from tests.unit.providers.vsphere.fake import FakeStub, link


class VCenter:
    """Takes logins, unless it was told to raise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logins = list[tuple[str, str]]()
        self.raises: Exception | None = None
        self.set_password("first")

    def set_password(self, password: str) -> None:
        (self.folder / "username").write_text("vmpower")
        (self.folder / "password").write_text(password)

    async def log_in(self, _settings: VsphereSettings, account: tuple[str, str]) -> Link:
        self.logins.append(account)
        if self.raises:
            raise self.raises
        return link(FakeStub())


@pytest.fixture
def vcenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VCenter:
    vcenter = VCenter(tmp_path)
    monkeypatch.setattr(module, "_log_in", vcenter.log_in)
    return vcenter


@pytest.fixture
def session(vcenter: VCenter) -> Session:
    return Session(VsphereSettings(listen="unix:///x", url="https://vcenter.example", credentials_dir=vcenter.folder))


@pytest.fixture
def room(session: Session) -> Room:
    return Room(session, 4)


def fails(*errors: Exception) -> Callable[[Link], Awaitable[str]]:
    """A call that raises these, one each time, and then succeeds."""
    left = list(errors)

    async def call(_link: Link) -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


async def test_callers_that_come_together_share_one_login(session: Session, vcenter: VCenter, room: Room) -> None:
    assert await asyncio.gather(*(room.call(fails()) for _ in range(10))) == ["done"] * 10
    assert len(vcenter.logins) == 1


async def test_an_expired_session_is_renewed_and_the_call_repeated(
    session: Session, vcenter: VCenter, room: Room
) -> None:
    assert await room.call(fails(vim.fault.NotAuthenticated())) == "done"
    assert len(vcenter.logins) == 2


async def test_many_who_find_it_expired_share_one_login(session: Session, vcenter: VCenter, room: Room) -> None:
    old = await session.link()

    async def call(link: Link) -> str:
        if link is old:
            raise vim.fault.NotAuthenticated
        return "done"

    assert await asyncio.gather(*(room.call(call) for _ in range(10))) == ["done"] * 10
    assert len(vcenter.logins) == 2


async def test_whoever_follows_an_expired_session_is_told(session: Session, room: Room) -> None:
    link = await session.link()
    assert not link.lost.is_set()
    await room.call(fails(vim.fault.NotAuthenticated()))
    assert link.lost.is_set()


async def test_a_call_that_is_bound_to_a_session_is_not_repeated_in_another(session: Session, room: Room) -> None:
    with pytest.raises(SessionLost):
        await session.run(await session.link(), fails(vim.fault.NotAuthenticated()))


async def test_a_session_that_expires_again_at_once_is_an_outage(session: Session, room: Room) -> None:
    with pytest.raises(HypervisorUnavailable):
        await room.call(fails(vim.fault.NotAuthenticated(), vim.fault.NotAuthenticated()))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (vmodl.fault.ManagedObjectNotFound(), VMNotFound),
        (vim.fault.ToolsUnavailable(), CommandFailed),
        (ConnectionRefusedError(), HypervisorUnavailable),
        (TimeoutError(), HypervisorUnavailable),
        (aiohttp.ServerDisconnectedError("503 Service Unavailable"), HypervisorUnavailable),
    ],
)
async def test_what_a_call_raises_becomes_an_error_of_ours(
    session: Session, room: Room, error: Exception, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await room.call(fails(error))


async def test_a_broken_connection_ends_no_session(session: Session, vcenter: VCenter, room: Room) -> None:
    with pytest.raises(HypervisorUnavailable):
        await room.call(fails(ConnectionResetError()))
    assert await room.call(fails()) == "done"
    assert len(vcenter.logins) == 1


async def test_a_bug_of_ours_is_not_taken_for_an_outage(session: Session, room: Room) -> None:
    with pytest.raises(ZeroDivisionError):
        await room.call(fails(ZeroDivisionError()))


# Logging in


async def test_the_login_is_read_anew_each_time(session: Session, vcenter: VCenter, room: Room) -> None:
    await session.link()
    vcenter.set_password("second")
    await room.call(fails(vim.fault.NotAuthenticated()))
    assert vcenter.logins == [("vmpower", "first"), ("vmpower", "second")]


async def test_a_login_that_failed_is_tried_again_at_the_next_call(session: Session, vcenter: VCenter) -> None:
    vcenter.raises = ConnectionRefusedError()
    with pytest.raises(HypervisorUnavailable, match=r"https://vcenter\.example/sdk"):
        await session.link()
    vcenter.raises = None
    await session.link()


async def test_a_refused_login_is_not_tried_again_at_once(session: Session, vcenter: VCenter) -> None:
    vcenter.raises = vim.fault.InvalidLogin()
    for _ in range(5):
        with pytest.raises(HypervisorUnavailable, match="refuses the user or password"):
            await session.link()
    assert len(vcenter.logins) == 1


async def test_a_refused_login_is_tried_again_as_soon_as_it_is_another(session: Session, vcenter: VCenter) -> None:
    vcenter.raises = vim.fault.InvalidLogin()
    with pytest.raises(HypervisorUnavailable):
        await session.link()
    vcenter.raises = None
    vcenter.set_password("second")
    await session.link()
    assert vcenter.logins == [("vmpower", "first"), ("vmpower", "second")]


async def test_a_refused_login_is_tried_again_after_a_minute(
    session: Session, vcenter: VCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcenter.raises = vim.fault.InvalidLogin()
    with pytest.raises(HypervisorUnavailable):
        await session.link()
    vcenter.raises = None
    monkeypatch.setattr(module, "REFUSED_SECONDS", 0.0)
    await session.link()
    assert len(vcenter.logins) == 2


async def test_an_account_without_a_role_is_told_so(session: Session, vcenter: VCenter) -> None:
    vcenter.raises = vim.fault.NoPermission(privilegeId="System.View")
    with pytest.raises(HypervisorUnavailable, match="refuses to log in vmpower"):
        await session.link()


async def test_no_message_has_the_password(session: Session, vcenter: VCenter) -> None:
    vcenter.set_password("geheim")
    for error in (vim.fault.InvalidLogin(), vim.fault.NoPermission(), OSError("no route")):
        vcenter.raises = error
        session._refused = None
        with pytest.raises(HypervisorUnavailable) as refused:
            await session.link()
        assert "geheim" not in str(refused.value)


async def test_a_login_that_cannot_be_read_names_the_setting(session: Session, vcenter: VCenter) -> None:
    (vcenter.folder / "password").unlink()
    with pytest.raises(HypervisorUnavailable, match=r"password.*--credentials-dir"):
        await session.link()


async def test_a_session_that_never_began_can_be_closed(session: Session, vcenter: VCenter) -> None:
    await session.close()
    assert vcenter.logins == []
