"""pyvmomi's calls on asyncio: it has vSphere's types, and writes and reads its SOAP; its own connections block."""

import asyncio
from http import HTTPStatus
from http.client import responses
from io import BytesIO
from typing import Any
from xml.parsers.expat import ExpatError

import aiohttp
from pyVmomi.SoapAdapter import SoapResponseDeserializer, SoapStubAdapterBase

from providers.shared.tls import Verifying

API_VERSION = "vim.version.version11"
"""That of vSphere 6.5. A newer vCenter speaks it too, and says nothing in it that pyvmomi does not know."""
CALL_SECONDS = 30
"""How long vCenter may take to answer a call; none of ours waits for a guest or a task."""

BROKEN = (OSError, aiohttp.ClientError, ExpatError)
"""What a call raises when there is no answer, or none that is SOAP."""


class _Deserializer(SoapResponseDeserializer):
    """Tells an empty response (which is valid: there are no updates) from a document that is no response."""

    answered = False

    def StartElementHandler(self, tag: str, attr: Any) -> None:  # noqa: N802 - pyvmomi's
        super().StartElementHandler(tag, attr)  # type: ignore[no-untyped-call]
        self.answered |= self.isFault or tag.endswith("Response")


class Stub(SoapStubAdapterBase):
    """Where pyvmomi's objects send their calls: each method returns something to await."""

    def __init__(self, url: str, http: aiohttp.ClientSession, tls: Verifying) -> None:
        super().__init__(version=API_VERSION)  # type: ignore[no-untyped-call]
        self.requestContext = None  # SerializeRequest would put it into the envelope's header
        self._url, self._http, self._tls = url, http, tls
        self._cookie = ""

    async def InvokeMethod(self, mo: Any, info: Any, args: Any) -> Any:  # noqa: N802 - pyvmomi's
        """Call a method of a managed object.

        Raises:
            vmodl.MethodFault: what vCenter says.
            OSError, aiohttp.ClientError, ExpatError: BROKEN.
        """
        request = self.SerializeRequest(mo, info, args)  # type: ignore[no-untyped-call]
        answer = await self._post(request)
        reader: Any = _Deserializer(self)  # type: ignore[no-untyped-call]
        result = reader.Deserialize(BytesIO(answer), info.result)  # of a file, for of bytes it misses the end
        if isinstance(result, Exception):
            raise result
        if not reader.answered:
            raise ConnectionError("it answers with XML that is no answer")
        return result

    async def _post(self, request: bytes) -> bytes:
        headers = {"content-type": "text/xml; charset=utf-8", "soapaction": self.versionId, "cookie": self._cookie}
        async with (
            asyncio.timeout(CALL_SECONDS),
            self._http.post(self._url, data=request, headers=headers, ssl=self._tls, allow_redirects=False) as answer,
        ):
            body = await answer.read()
        if answer.status not in {HTTPStatus.OK, HTTPStatus.INTERNAL_SERVER_ERROR}:
            raise ConnectionError(f"it answers {answer.status} {responses.get(answer.status, '')}".rstrip())
        if cookie := answer.headers.get("set-cookie"):
            self._cookie = cookie.partition(";")[0]
        return body
