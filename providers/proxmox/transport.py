"""HTTPS to the nodes of a cluster: proxmoxer's addresses and verbs, carried by aiohttp."""

import json
import os
import socket
import ssl
from http import HTTPStatus
from typing import Any, Literal

import aiohttp
from proxmoxer import ProxmoxResource, ResourceException

from providers.shared.tls import watch_over

CONNECT_SECONDS = 5.0
"""How long a node may take to be found and to shake hands; then the next one is asked."""
IDLE_SECONDS = 4.0
"""How long an unused connection is kept. A node closes it after 5 s (pve-http-server, `timeout`), and a request that it
crosses on the way is lost."""
LINE_OCTETS = 65536
"""The longest status line that is read: it has the whole text of an error."""
Method = Literal["GET", "POST", "PUT", "DELETE"]


class NotConnected(Exception):
    """There is no connection to a node that proves who it is, so nothing was sent. The message is a clause."""


class Untrusted(NotConnected):
    """Its certificate is not one that is trusted here."""


class Broken(Exception):
    """A request was sent, and no answer of Proxmox VE's came: it may have been done. The message is a clause."""


def client() -> aiohttp.ClientSession:
    """Connections to all nodes, one for each call under way. No cookies, no proxy or .netrc of the environment."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS, socket_factory=_socket)
    http = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json"},
        max_line_size=LINE_OCTETS,
    )
    http._retry_connection = False  # it would send a DELETE or PUT again that may have been done
    return http


class Resource(ProxmoxResource):  # type: ignore[misc]  # proxmoxer has no types
    """An address of the API. proxmoxer builds it and puts parameters into the query or the body of a request, which is
    awaited here, and sent by `http` with these `headers`; `timeout`, in seconds, is for its answer.
    """

    def __call__(self, resource_id: Any = None) -> "Resource":
        """The address below this one; proxmoxer's own would block."""
        return Resource(**super().__call__(resource_id)._store)

    async def _request(self, method: str, data: Any = None, params: Any = None) -> Any:
        """What get, post, put and delete are made of: one request, sent once; the `data` of its answer.

        Raises:
            NotConnected, Broken
            proxmoxer.ResourceException: Proxmox VE refuses it.
        """
        status, reason, body = await self._send(method, data, params)
        try:
            answer = dict(json.loads(body))
        except (ValueError, TypeError):
            answer = {}
        if status >= HTTPStatus.BAD_REQUEST:
            raise ResourceException(status, "", reason, answer.get("errors"))
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise Broken("what answers there is not Proxmox VE, but sends us elsewhere")
        if "data" not in answer:
            raise Broken("what answers there is not Proxmox VE")
        return answer["data"]

    async def _send(self, method: str, data: Any, params: Any) -> tuple[int, str, bytes]:
        """Status, its text, and body. `data` goes as JSON, not as a form: there an empty value loses the others of its
        name, and a list of one is none (pve-http-server, `decode_urlencoded`).
        """
        how, seconds = self._store, self._store["timeout"]
        limits = aiohttp.ClientTimeout(CONNECT_SECONDS + seconds, connect=CONNECT_SECONDS, sock_read=seconds)
        request = {"params": params, "json": data, "headers": how["headers"], "ssl": how["tls"], "timeout": limits}
        try:
            async with how["http"].request(method, how["base_url"], allow_redirects=False, **request) as response:
                return response.status, _text(response.reason or ""), await response.read()
        except aiohttp.ClientConnectorCertificateError as error:
            raise Untrusted(_distrust(error.certificate_error)) from error
        except aiohttp.ClientConnectorError as error:
            raise NotConnected(_unreachable(error.os_error)) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise NotConnected("it does not answer") from error
        except TimeoutError as error:
            raise Broken("it does not answer") from error
        except aiohttp.ClientError as error:
            raise Broken("the connection broke") from error


def _text(reason: str) -> str:
    """A status line's text: UTF-8, for which aiohttp takes it, or else Latin-1."""
    octets = reason.encode("utf-8", "surrogateescape")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _distrust(error: Exception) -> str:
    if why := getattr(error, "verify_message", ""):
        return f"its certificate does not verify, {why}: --ca-file or --fingerprint names the right one"
    return str(error)


def _unreachable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"it does not speak TLS as we do, {error.reason or error}"
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error) or "it ends the connection at once"


def _socket(address: Any) -> socket.socket:
    made = socket.socket(*address[:3])
    watch_over(made)
    return made
