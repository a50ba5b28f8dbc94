import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any
from xml.parsers.expat import ExpatError

import pytest
from pyVmomi import vim

from providers.vsphere import stub as module
from providers.vsphere.http2 import Answer
from providers.vsphere.stub import Stub
from providers.vsphere.wire import pinned

ENVELOPE = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>{}</soapenv:Body></soapenv:Envelope>"""
TIME = '<CurrentTimeResponse xmlns="urn:vim25"><returnval>2026-11-25T08:00:00Z</returnval></CurrentTimeResponse>'
FAULT = """<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>Not now.</faultstring><detail>
<NotAuthenticatedFault xmlns="urn:vim25" xsi:type="NotAuthenticated"/></detail></soapenv:Fault>"""


class Transport:
    """Answers as a test wants, and remembers what it was sent."""

    def __init__(self) -> None:
        self.answer: Answer | None = Answer(200, {}, ENVELOPE.format(TIME).encode())
        self.headers: list[Mapping[str, str]] = []

    async def post(self, headers: Mapping[str, str], _body: bytes) -> Answer:
        self.headers.append(headers)
        if self.answer is None:
            await asyncio.Event().wait()
        assert self.answer
        return self.answer


@pytest.fixture
async def stub() -> Stub:
    return Stub("https://vcenter.example/sdk", partial(pinned, ""))


@pytest.fixture
def transport(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Transport:
    transport = Transport()
    monkeypatch.setattr(stub, "_transport", transport)
    return transport


@pytest.fixture
def service(stub: Stub) -> Any:
    return vim.ServiceInstance("ServiceInstance", stub)


async def test_a_method_returns_what_vcenter_says(transport: Transport, service: Any) -> None:
    assert (await service.CurrentTime()).hour == 8


async def test_a_fault_is_raised(transport: Transport, service: Any) -> None:
    transport.answer = Answer(500, {}, ENVELOPE.format(FAULT).encode())
    with pytest.raises(vim.fault.NotAuthenticated, match="Not now"):
        await service.CurrentTime()


@pytest.mark.parametrize(("status", "words"), [(503, "503 Service Unavailable"), (599, "599$")])
async def test_another_status_is_no_answer(transport: Transport, service: Any, status: int, words: str) -> None:
    transport.answer = Answer(status, {}, b"")
    with pytest.raises(ConnectionError, match=words):
        await service.CurrentTime()


async def test_what_is_no_soap_is_no_answer(transport: Transport, service: Any) -> None:
    transport.answer = Answer(200, {}, b"starting ...")
    with pytest.raises(ExpatError):
        await service.CurrentTime()


async def test_the_cookie_of_the_session_is_sent_from_then_on(transport: Transport, service: Any) -> None:
    cookie = 'vmware_soap_session="52ab"; Path=/; HttpOnly; Secure;'
    transport.answer = Answer(200, {"set-cookie": cookie}, ENVELOPE.format(TIME).encode())
    await service.CurrentTime()
    await service.CurrentTime()
    assert [headers["cookie"] for headers in transport.headers] == ["", 'vmware_soap_session="52ab"']


async def test_a_call_is_not_waited_for_without_end(
    transport: Transport, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALL_SECONDS", 0.01)
    transport.answer = None
    with pytest.raises(TimeoutError):
        await service.CurrentTime()
