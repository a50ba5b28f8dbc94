"""The session, with the call that logs in replaced; what a real vCenter makes of it is in tests/e2e/vsphere."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from pyVmomi import vim, vmodl

from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.core.lanes import AT_ONCE, Lane
from providers.vsphere import session as module
from providers.vsphere.config import VsphereSettings
from providers.vsphere.session import STREAMS, Link, Session, SessionLost
from tests.unit.providers.vsphere.fake import FakeStub, link

READ = Lane.READ


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

    async def log_in(self, _settings: VsphereSettings, _http: aiohttp.ClientSession, account: tuple[str, str]) -> Link:
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
async def session(vcenter: VCenter) -> AsyncIterator[Session]:
    session = Session(
        VsphereSettings(listen="unix:///x", url="https://vcenter.example", credentials_dir=vcenter.folder)
    )
    yield session
    await session.close()


def fails(*errors: Exception) -> Callable[[Link], Awaitable[str]]:
    """A call that raises these, one each time, and then succeeds."""
    left = list(errors)

    async def call(_link: Link) -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


async def test_callers_that_come_together_share_one_login(session: Session, vcenter: VCenter) -> None:
    assert await asyncio.gather(*(session.call(READ, fails()) for _ in range(10))) == ["done"] * 10
    assert len(vcenter.logins) == 1


async def test_an_expired_session_is_renewed_and_the_call_repeated(session: Session, vcenter: VCenter) -> None:
    assert await session.call(READ, fails(vim.fault.NotAuthenticated())) == "done"
    assert len(vcenter.logins) == 2


async def test_many_who_find_it_expired_share_one_login(session: Session, vcenter: VCenter) -> None:
    old = await session.link()

    async def call(link: Link) -> str:
        if link is old:
            raise vim.fault.NotAuthenticated
        return "done"

    assert await asyncio.gather(*(session.call(READ, call) for _ in range(10))) == ["done"] * 10
    assert len(vcenter.logins) == 2


async def test_a_watch_is_told_when_its_session_has_expired(session: Session) -> None:
    link = await session.link()
    assert not link.lost.is_set()
    await session.call(READ, fails(vim.fault.NotAuthenticated()))
    assert link.lost.is_set()


async def test_a_call_that_is_under_way_when_another_finds_the_session_expired_still_comes_back(
    session: Session, hanging: "Hanging"
) -> None:
    await session.call(READ, fails(vim.fault.NotAuthenticated()))
    hanging.free.set()
    assert await session.call(Lane.ASK, fails()) == "done"


async def test_a_call_that_is_bound_to_a_session_is_not_repeated_in_another(session: Session) -> None:
    with pytest.raises(SessionLost):
        await session.stream(await session.link(), fails(vim.fault.NotAuthenticated()))


async def test_a_session_that_expires_again_at_once_is_an_outage(session: Session) -> None:
    with pytest.raises(HypervisorUnavailable):
        await session.call(READ, fails(vim.fault.NotAuthenticated(), vim.fault.NotAuthenticated()))


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
    session: Session, error: Exception, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await session.call(READ, fails(error))


async def test_a_broken_connection_ends_no_session(session: Session, vcenter: VCenter) -> None:
    with pytest.raises(HypervisorUnavailable):
        await session.call(READ, fails(ConnectionResetError()))
    assert await session.call(READ, fails()) == "done"
    assert len(vcenter.logins) == 1


async def test_a_bug_of_ours_is_not_taken_for_an_outage(session: Session) -> None:
    with pytest.raises(ZeroDivisionError):
        await session.call(READ, fails(ZeroDivisionError()))


async def test_a_certificate_that_is_not_trusted_ends_the_session_so_that_the_next_one_reads_its_ca_anew(
    session: Session, vcenter: VCenter
) -> None:
    old = await session.link()
    with pytest.raises(HypervisorUnavailable, match="expired"):
        await session.call(READ, fails(untrusted("its certificate has expired")))
    assert old.lost.is_set()
    assert await session.link() is not old


def untrusted(why: str) -> aiohttp.ClientConnectorCertificateError:
    key: Any = SimpleNamespace(host="vcenter.example", port=443, is_ssl=True)
    return aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError(why))


# Limits


class Hanging:
    """A call that hangs; counts those that have begun."""

    def __init__(self) -> None:
        self.begun, self.free = 0, asyncio.Event()

    async def __call__(self, _link: Link) -> None:
        self.begun += 1
        await self.free.wait()


@pytest.fixture
async def hanging(session: Session) -> AsyncIterator[Hanging]:
    """A hundred guests are asked, and each call hangs."""
    hanging = Hanging()
    calls = [asyncio.create_task(session.call(Lane.ASK, hanging)) for _ in range(100)]
    for _ in range(10):
        await asyncio.sleep(0)
    yield hanging
    hanging.free.set()
    await asyncio.gather(*calls)


async def test_no_more_calls_of_a_lane_are_under_way_than_its_bound(hanging: Hanging) -> None:
    assert hanging.begun == AT_ONCE[Lane.ASK]


@pytest.mark.parametrize("lane", [lane for lane in Lane if lane is not Lane.ASK])
async def test_calls_that_hang_delay_no_other_lane(session: Session, hanging: Hanging, lane: Lane) -> None:
    assert await asyncio.wait_for(session.call(lane, fails()), 1) == "done"


async def test_calls_that_hang_do_not_delay_the_stream(session: Session, hanging: Hanging) -> None:
    assert await asyncio.wait_for(session.stream(await session.link(), fails()), 1) == "done"


async def test_calls_to_one_host_that_hang_delay_no_other_host(vcenter: VCenter) -> None:
    own = Session(
        VsphereSettings(
            listen="unix:///x", url="https://vcenter.example", credentials_dir=vcenter.folder, max_per_host=2
        )
    )
    hanging = Hanging()
    calls = [asyncio.create_task(own.call(Lane.ASK, hanging, host="host-1")) for _ in range(20)]
    other = asyncio.create_task(own.call(Lane.ASK, fails(), host="host-2"))  # so that it begins after those
    assert await asyncio.wait_for(other, 1) == "done"
    assert hanging.begun == 2
    hanging.free.set()
    await asyncio.gather(*calls)
    await own.close()


async def test_no_more_calls_wait_for_updates_than_a_watch_and_a_list_need(session: Session) -> None:
    link, waiting = await session.link(), Hanging()
    calls = [asyncio.create_task(session.stream(link, waiting)) for _ in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert waiting.begun == STREAMS
    waiting.free.set()
    await asyncio.gather(*calls)


async def test_calls_that_wait_go_on_when_others_have_come_back(session: Session, hanging: Hanging) -> None:
    hanging.free.set()
    assert await session.call(Lane.ASK, fails()) == "done"
    assert hanging.begun == 100


# Logging in


async def test_the_login_is_read_anew_each_time(session: Session, vcenter: VCenter) -> None:
    await session.link()
    vcenter.set_password("second")
    await session.call(READ, fails(vim.fault.NotAuthenticated()))
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
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + module.REFUSED_SECONDS)
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
        session._credentials._seconds = 0
        with pytest.raises(HypervisorUnavailable) as refused:
            await session.link()
        assert "geheim" not in str(refused.value)


async def test_a_login_that_cannot_be_read_names_the_setting(session: Session, vcenter: VCenter) -> None:
    (vcenter.folder / "password").unlink()
    with pytest.raises(HypervisorUnavailable, match=r"password.*--credentials-dir"):
        await session.link()


async def test_closing_closes_the_connections(session: Session) -> None:
    await session.link()
    http = session._http
    await session.close()
    assert http
    assert http.closed


async def test_a_session_that_never_began_can_be_closed(session: Session, vcenter: VCenter) -> None:
    await session.close()
    assert vcenter.logins == []
