"""Who a client is, and what it may call: by its certificate, or by its user where it comes through a unix socket."""

import asyncio
import pwd
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol, TypeVar, cast

from common.grants import Right
from common.text import clean
from providers.core.adapter import VM
from providers.core.errors import Code, NotAllowed, VmpowerError
from providers.core.settings import NAME_TYPES, Settings
from providers.server import access, certificates
from providers.server.access import BadAccess, Rules
from providers.server.certificates import BadCertificate, Certificate, Revocations
from providers.server.unix_front import uid_of

T = TypeVar("T")


class CertificateRefused(VmpowerError):
    """The client's certificate has expired, is revoked or cannot be trusted; the connection may be older than that."""

    code = Code.UNAUTHENTICATED
    reason = "CERTIFICATE_REFUSED"
    who_acts = "the client's owner gets a new certificate from its authority"


class StreamAged(VmpowerError):
    """The stream has lasted as long as a connection may; nothing is wrong."""

    code = Code.UNAVAILABLE
    reason = "STREAM_AGED"
    who_acts = "the caller opens it again; the Python client does so by itself"


class Call(Protocol):
    """What is asked of gRPC about a call."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...
    def peer(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Client:
    """One client, for as long as its call lasts."""

    name: str
    """What is counted together: one certificate's name, one user of the socket, one host."""
    certificate: Certificate | None
    operates: bool
    why_not: str = ""
    shown: str = ""
    """Who that is, for people and in records: never what a request says."""
    delegates: bool = True
    """Whether it may say on whose behalf it asks."""
    rules: Rules | None = None
    """What it may have done to which VMs; None: everything to all."""

    def require(self, vm: VM, *rights: Right) -> None:
        """Raises NotAllowed: it may not have this done to this VM."""
        if self.rules is None:
            return
        missing = {*rights, Right.POWER} - access.granted(self.rules, vm)
        if missing:
            raise NotAllowed(
                f"{self.shown} may not have this done to {vm.name}: {', '.join(sorted(missing))} is not granted; the "
                "provider's operator grants it in --client-access."
            )


NOBODY = Client("", None, operates=True)
"""Before it is known whose call it is, and where there is none."""
CLIENT: ContextVar[Client] = ContextVar("client", default=NOBODY)
"""Whose call this is."""
SHOWN = 1_024
"""Characters of a client's names."""


class Clients:
    """Tells them apart. Neither TLS nor a resumed session looks at a certificate's end or revocation again, so both are
    looked at here, with each call."""

    def __init__(self, settings: Settings) -> None:
        """Raises BadRevocations, BadAccess."""
        self._rules, self._delegates = access.load(settings.client_access), frozenset(settings.delegates)
        _require_known_users(self._rules, settings)
        self._operators, self._uids = frozenset(settings.operators), settings.operator_uids
        self._revocations = Revocations(settings.tls_client_crl, settings.tls_client_ca)
        self._max_age = settings.max_connection_age.total_seconds()

    def admit(self, call: Call, method: str, *, writes: bool) -> Client:
        """The client of a call, which CLIENT is from then on.

        Raises:
            CertificateRefused: its certificate does not count, or not any more.
            NotAllowed: the call changes something, and the client is no operator.
        """
        client = self._client(call)
        self.require_valid(client)
        CLIENT.set(client)
        if writes and not client.operates:
            raise NotAllowed(f"{method} needs the operator role, which {client.why_not}")
        return client

    def require_valid(self, client: Client) -> None:
        """Raises CertificateRefused: since the call began, its certificate has ended."""
        if client.certificate is None:
            return
        if why := client.certificate.refusal(datetime.now(UTC)):
            raise _refused(why)
        if client.certificate in self._revocations:
            raise _refused("its authority has revoked it")

    async def while_valid(self, client: Client, responses: AsyncIterator[T]) -> AsyncIterator[T]:
        """What a stream says, until its client's certificate ends, or it is as old as a connection may be: gRPC closes
        an old connection only when its streams have ended.

        Raises:
            CertificateRefused, StreamAged
        """
        async with aclosing(cast(AsyncGenerator[T, None], responses)) as stream:
            if client.certificate is None:
                async for response in stream:
                    yield response
                return
            left = (client.certificate.ends - datetime.now(UTC)).total_seconds()
            end = asyncio.get_running_loop().time() + min(left, self._max_age)
            while True:
                try:
                    async with asyncio.timeout_at(end):
                        response = await anext(stream)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    self.require_valid(client)
                    raise StreamAged("The stream has lasted as long as a connection may; open it again.") from None
                self.require_valid(client)
                yield response

    def _client(self, call: Call) -> Client:
        auth = call.auth_context()
        if list(auth.get("transport_security_type", ())) != [b"ssl"]:
            return self._local(call)
        try:
            certificate = certificates.read(b"".join(auth.get("x509_pem_cert", ())))
        except BadCertificate as error:
            raise _refused(str(error)) from error
        why_not = "this client certificate does not have; the provider's operator adds its name to --operators."
        names = " ".join(sorted(certificate.names))
        return Client(
            names,
            certificate,
            self._operates(certificate),
            why_not,
            shown=" ".join(map(_as_one, sorted(certificate.names)))[:SHOWN],
            delegates=bool(self._delegates & certificate.names),
            rules=access.of_client(self._rules, certificate.names),
        )

    def _operates(self, certificate: Certificate) -> bool:
        """A rule without a type, of earlier configurations, means a common name or a DNS name."""
        untyped = {name.partition(":")[2] for name in certificate.names if not name.startswith("uri:")}
        return bool(self._operators & (certificate.names | {name for name in untyped if not _typed(name)}))

    def _local(self, call: Call) -> Client:
        """Without TLS and without --operator-uids the file system, or the machine, is the guard."""
        if not self._uids:
            place = call.peer().rpartition(":")[0]
            shown = "unix socket" if place == "unix" else f"this machine ({place})"
            return Client(place, None, operates=True, shown=shown, rules=access.of_client(self._rules, ()))
        uid = uid_of(call.peer())
        why_not = f"the user {uid} does not have; the provider's operator adds the number to --operator-uids."
        return Client(
            f"user {uid}",
            None,
            uid in self._uids,
            why_not,
            shown=f"uid:{uid} {_login(uid)}".rstrip() if uid is not None else "a user past the front",
            delegates=f"uid:{uid}" in self._delegates,
            rules=access.of_client(self._rules, (f"uid:{uid}",)),
        )


def _as_one(name: str) -> str:
    """A name as it is shown beside others: none looks like two, such as the common name `alice dns:boss.example`."""
    several = re.search(rf"\s({'|'.join((*NAME_TYPES, 'uid'))}):", name)
    return clean(name).replace(" ", "\\x20") if several else clean(name)


@lru_cache(1024)
def _login(uid: int) -> str:
    """The name of a user; empty where this machine knows none."""
    try:
        return clean(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return ""


def _require_known_users(rules: Rules, settings: Settings) -> None:
    """Raises BadAccess: rules are about users, who are not told apart."""
    users = [name for rule in rules for name in rule.clients if name.startswith("uid:")]
    if users and not settings.operator_uids:
        raise BadAccess(f"--client-access names {users[0]}, but only with --operator-uids are users told apart.")


def _typed(name: str) -> bool:
    return name.startswith(tuple(f"{kind}:" for kind in NAME_TYPES))


def _refused(why: str) -> Any:
    return CertificateRefused(f"Your client certificate is refused: {why}; get a new one from your authority.")
