import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from xml.parsers.expat import ExpatError

import aiohttp
import pytest
from pyVmomi import vim

from providers.shared.http import client
from providers.shared.tls import Trust, verifying
from providers.vsphere.stub import BROKEN, CALL_SECONDS, Stub
from tests.unit.providers.https import Server

COOKIE = 'vmware_soap_session="4a8e"'


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        return self.body


class FakeHttp:
    """Answers with what a test wants, or not at all, and remembers what was posted."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.posted = list[tuple[Mapping[str, str], bytes]]()

    @asynccontextmanager
    async def post(self, _url: str, *, data: bytes, headers: Mapping[str, str], **_: object) -> AsyncIterator[Answer]:
        self.posted.append((headers, data))
        yield self.answer or await asyncio.Future[Answer]()


@pytest.fixture
def http() -> FakeHttp:
    return FakeHttp()


@pytest.fixture
def stub(http: Any) -> Stub:
    return Stub("https://vcenter.example/sdk", http, verifying(Trust(insecure=True)))


@pytest.fixture
def vcenter(stub: Stub) -> Any:
    return vim.ServiceInstance("ServiceInstance", stub)


def envelope(body: str) -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>""".encode()


def time(cookie: str = "") -> Answer:
    """It is 2030."""
    body = "<returnval>2030-01-01T00:00:00Z</returnval>"
    said = envelope(f'<CurrentTimeResponse xmlns="urn:vim25">{body}</CurrentTimeResponse>')
    return Answer(200, {"set-cookie": cookie} if cookie else {}, said)


def fault(name: str, message: str) -> Answer:
    detail = f'<detail><{name}Fault xmlns="urn:vim25" xsi:type="{name}"/></detail>'
    code = f"<faultcode>ServerFaultCode</faultcode><faultstring>{message}</faultstring>"
    return Answer(500, {}, envelope(f"<soapenv:Fault>{code}{detail}</soapenv:Fault>"))


# What it says


async def test_a_call_returns_what_vcenter_says(http: FakeHttp, vcenter: Any) -> None:
    http.answer = time()
    assert await vcenter.CurrentTime() == datetime(2030, 1, 1, tzinfo=UTC)


async def test_an_object_in_an_answer_calls_by_the_same_way(http: FakeHttp, vcenter: Any) -> None:
    reference = '<returnval type="Task">task-1</returnval>'
    body = f'<PowerOnVM_TaskResponse xmlns="urn:vim25">{reference}</PowerOnVM_TaskResponse>'
    http.answer = Answer(200, {}, envelope(body))
    vm: Any = vim.VirtualMachine("vm-1", vcenter._stub)
    task = await vm.PowerOn()
    http.answer = Answer(200, {}, envelope('<CancelTaskResponse xmlns="urn:vim25"/>'))
    assert await task.Cancel() is None
    assert b'<_this versionId="6.5" type="Task">task-1</_this>' in http.posted[1][1]


async def test_vcenter_is_told_method_and_object(http: FakeHttp, vcenter: Any) -> None:
    http.answer = time()
    await vcenter.CurrentTime()
    [(_, body)] = http.posted
    this = '<_this versionId="6.5" type="ServiceInstance">ServiceInstance</_this>'
    assert f'<CurrentTime xmlns="urn:vim25">{this}</CurrentTime>' in body.decode()


async def test_vcenter_is_told_the_version_that_we_speak(http: FakeHttp, vcenter: Any) -> None:
    http.answer = time()
    await vcenter.CurrentTime()
    [(headers, _)] = http.posted
    assert (headers["soapaction"], headers["content-type"]) == ('"urn:vim25/6.5"', "text/xml; charset=utf-8")


async def test_a_fault_is_raised_with_its_words(http: FakeHttp, vcenter: Any) -> None:
    http.answer = fault("NotAuthenticated", "The session is not authenticated.")
    with pytest.raises(vim.fault.NotAuthenticated, match=r"The session is not authenticated\."):
        await vcenter.CurrentTime()


@pytest.mark.parametrize(("status", "named"), [(503, "503 Service Unavailable"), (403, "403 Forbidden"), (520, "520")])
async def test_another_status_is_told(http: FakeHttp, vcenter: Any, status: int, named: str) -> None:
    http.answer = time()._replace(status=status)
    with pytest.raises(ConnectionError, match=named):
        await vcenter.CurrentTime()


@pytest.mark.parametrize("body", [b"It works!", b"", envelope("")[:-20]], ids=["words", "nothing", "a part"])
async def test_what_is_no_xml_is_told(http: FakeHttp, vcenter: Any, body: bytes) -> None:
    http.answer = Answer(200, {}, body)
    with pytest.raises(ExpatError):
        await vcenter.CurrentTime()


@pytest.mark.parametrize("body", [b"<html><body>Welcome</body></html>", envelope("")], ids=["a page", "an envelope"])
async def test_what_is_xml_and_no_answer_is_told(http: FakeHttp, vcenter: Any, body: bytes) -> None:
    http.answer = Answer(200, {}, body)
    with pytest.raises(BROKEN):
        await vcenter.CurrentTime()


# The session


async def test_the_first_call_has_no_session(http: FakeHttp, vcenter: Any) -> None:
    http.answer = time()
    await vcenter.CurrentTime()
    assert [headers["cookie"] for headers, _ in http.posted] == [""]


async def test_the_cookie_of_a_login_goes_with_the_next_call_without_its_attributes(
    http: FakeHttp, vcenter: Any
) -> None:
    http.answer = time(f"{COOKIE}; Path=/; HttpOnly; Secure;")
    await vcenter.CurrentTime()
    await vcenter.CurrentTime()
    assert http.posted[1][0]["cookie"] == COOKIE


async def test_an_answer_without_a_cookie_keeps_the_session(http: FakeHttp, vcenter: Any) -> None:
    http.answer = time(COOKIE)
    await vcenter.CurrentTime()
    http.answer = time()
    await vcenter.CurrentTime()
    await vcenter.CurrentTime()
    assert http.posted[2][0]["cookie"] == COOKIE


# No answer


@pytest.mark.looptime
async def test_a_call_that_is_not_answered_fails_in_time(vcenter: Any) -> None:
    start = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await vcenter.CurrentTime()
    assert asyncio.get_running_loop().time() - start == CALL_SECONDS


# Over TLS on loopback


SQUEEZED = gzip.compress(time().body)


@pytest.fixture
async def far(server: Server) -> AsyncIterator[Any]:
    """A vCenter on that server."""
    server.body = time().body
    async with client() as http:
        stub = Stub(f"{server.url}/sdk", http, verifying(Trust(ca_file=server.ca)))
        yield vim.ServiceInstance("ServiceInstance", stub)


async def test_what_was_squeezed_is_unpacked(server: Server, far: Any) -> None:
    server.body, server.headers = SQUEEZED, {"content-encoding": "gzip"}
    assert (await far.CurrentTime()).year == 2030


@pytest.mark.parametrize("kept", [1, 9, 10, 11, 50, 200, len(SQUEEZED) - 12])
async def test_what_was_squeezed_and_is_cut_off_is_no_answer(server: Server, far: Any, kept: int) -> None:
    """The last eight bytes are a checksum and a length; without them, all of the answer may be there."""
    server.body, server.headers = SQUEEZED[:kept], {"content-encoding": "gzip"}
    with pytest.raises(BROKEN):
        await far.CurrentTime()


@pytest.mark.parametrize("body", [b"no gzip", SQUEEZED[:-8] + bytes(8)], ids=["no gzip", "another checksum"])
async def test_what_was_squeezed_badly_is_no_answer(server: Server, far: Any, body: bytes) -> None:
    server.body, server.headers = body, {"content-encoding": "gzip"}
    with pytest.raises(BROKEN):
        await far.CurrentTime()


async def test_what_is_shorter_than_its_announced_length_is_no_answer(server: Server, far: Any) -> None:
    far._stub._url = f"{server.url}/cut"
    with pytest.raises(aiohttp.ClientPayloadError):
        await far.CurrentTime()


async def test_a_vcenter_that_is_not_trusted_is_told_nothing(server: Server, far: Any) -> None:
    far._stub._tls = verifying(Trust())
    with pytest.raises(BROKEN, match="CERTIFICATE_VERIFY_FAILED"):
        await far.CurrentTime()
    assert server.received == []


async def test_no_redirection_is_followed(server: Server, far: Any) -> None:
    far._stub._url = f"{server.url}/moved"
    with pytest.raises(ConnectionError, match="307 Temporary Redirect"):
        await far.CurrentTime()
    assert len(server.received) == 1
