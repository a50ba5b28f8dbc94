import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from xml.parsers.expat import ExpatError

import pytest
from pyVmomi import vim

from providers.shared.tls import Trust, verifying
from providers.vsphere.http2 import Answer
from providers.vsphere.stub import BROKEN, CALL_SECONDS, Stub
from providers.vsphere.transport import Transport

COOKIE = 'vmware_soap_session="4a8e"'


class FakeTransport(Transport):
    """Answers with what a test wants, or not at all, and remembers what was posted."""

    def __init__(self) -> None:
        super().__init__("https://vcenter.example/sdk", partial(verifying, Trust(insecure=True)))
        self.answer: Answer | None = None
        self.posted = list[tuple[Mapping[str, str], bytes]]()
        self.closed = False

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        self.posted.append((headers, body))
        return self.answer or await asyncio.Future[Answer]()

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def stub(transport: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub("https://vcenter.example/sdk", partial(verifying, Trust(insecure=True)))
    monkeypatch.setattr(stub, "_transport", transport)
    return stub


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


async def test_a_call_returns_what_vcenter_says(transport: FakeTransport, vcenter: Any) -> None:
    transport.answer = time()
    assert await vcenter.CurrentTime() == datetime(2030, 1, 1, tzinfo=UTC)


async def test_an_object_in_an_answer_calls_by_the_same_way(transport: FakeTransport, vcenter: Any) -> None:
    reference = '<returnval type="Task">task-1</returnval>'
    body = f'<PowerOnVM_TaskResponse xmlns="urn:vim25">{reference}</PowerOnVM_TaskResponse>'
    transport.answer = Answer(200, {}, envelope(body))
    vm: Any = vim.VirtualMachine("vm-1", vcenter._stub)
    task = await vm.PowerOn()
    transport.answer = Answer(200, {}, envelope('<CancelTaskResponse xmlns="urn:vim25"/>'))
    assert await task.Cancel() is None
    assert b'<_this versionId="6.5" type="Task">task-1</_this>' in transport.posted[1][1]


async def test_vcenter_is_told_method_and_object(transport: FakeTransport, vcenter: Any) -> None:
    transport.answer = time()
    await vcenter.CurrentTime()
    [(_, body)] = transport.posted
    this = '<_this versionId="6.5" type="ServiceInstance">ServiceInstance</_this>'
    assert f'<CurrentTime xmlns="urn:vim25">{this}</CurrentTime>' in body.decode()


async def test_vcenter_is_told_the_version_that_we_speak(transport: FakeTransport, vcenter: Any) -> None:
    transport.answer = time()
    await vcenter.CurrentTime()
    [(headers, _)] = transport.posted
    assert (headers["soapaction"], headers["content-type"]) == ('"urn:vim25/6.5"', "text/xml; charset=utf-8")


async def test_a_fault_is_raised_with_its_words(transport: FakeTransport, vcenter: Any) -> None:
    transport.answer = fault("NotAuthenticated", "The session is not authenticated.")
    with pytest.raises(vim.fault.NotAuthenticated, match=r"The session is not authenticated\."):
        await vcenter.CurrentTime()


@pytest.mark.parametrize(("status", "named"), [(503, "503 Service Unavailable"), (403, "403 Forbidden"), (520, "520")])
async def test_another_status_is_told(transport: FakeTransport, vcenter: Any, status: int, named: str) -> None:
    transport.answer = time()._replace(status=status)
    with pytest.raises(ConnectionError, match=named):
        await vcenter.CurrentTime()


@pytest.mark.parametrize("body", [b"It works!", b"", envelope("")[:-20]], ids=["words", "nothing", "a part"])
async def test_what_is_no_xml_is_told(transport: FakeTransport, vcenter: Any, body: bytes) -> None:
    transport.answer = Answer(200, {}, body)
    with pytest.raises(ExpatError):
        await vcenter.CurrentTime()


@pytest.mark.parametrize("body", [b"<html><body>Welcome</body></html>", envelope("")], ids=["a page", "an envelope"])
async def test_what_is_xml_and_no_answer_is_told(transport: FakeTransport, vcenter: Any, body: bytes) -> None:
    transport.answer = Answer(200, {}, body)
    with pytest.raises(BROKEN):
        await vcenter.CurrentTime()


# The session


async def test_the_first_call_has_no_session(transport: FakeTransport, vcenter: Any) -> None:
    transport.answer = time()
    await vcenter.CurrentTime()
    assert [headers["cookie"] for headers, _ in transport.posted] == [""]


async def test_the_cookie_of_a_login_goes_with_the_next_call_without_its_attributes(
    transport: FakeTransport, vcenter: Any
) -> None:
    transport.answer = time(f"{COOKIE}; Path=/; HttpOnly; Secure;")
    await vcenter.CurrentTime()
    await vcenter.CurrentTime()
    assert transport.posted[1][0]["cookie"] == COOKIE


async def test_an_answer_without_a_cookie_keeps_the_session(transport: FakeTransport, vcenter: Any) -> None:
    transport.answer = time(COOKIE)
    await vcenter.CurrentTime()
    transport.answer = time()
    await vcenter.CurrentTime()
    await vcenter.CurrentTime()
    assert transport.posted[2][0]["cookie"] == COOKIE


# No answer


@pytest.mark.looptime
async def test_a_call_that_is_not_answered_fails_in_time(vcenter: Any) -> None:
    start = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await vcenter.CurrentTime()
    assert asyncio.get_running_loop().time() - start == CALL_SECONDS


async def test_closing_closes_the_connections(transport: FakeTransport, stub: Stub) -> None:
    await stub.close()
    assert transport.closed
