"""NUT's protocol (RFC 9271) as far as a secondary speaks it: LOGIN, three variables, LOGOUT.

While we are logged in, the primary that has set FSD waits for us before it runs its SHUTDOWNCMD, for HOSTSYNC seconds
at most. A secondary has no word of its own in the protocol: it is who logs in and does not ask to be PRIMARY. A
connection logs in to one UPS.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Self, cast

from plans.model import UPS
from plans.ups.stages import Reading

PORT: Final = 3493
LONGEST_LINE: Final = 4096
"""Bytes of an answer; upsd's own lines have at most 1024."""
LONGEST_ANSWER: Final = 5.0
"""Seconds for a connection, and for each answer."""
LONGEST_USER: Final = 128
LONGEST_PASSWORD: Final = 1024
MOST_SECONDS: Final = 10 * 365 * 86400
"""Of runtime: what is more is no time."""
_VALUE = re.compile(r'VAR \S+ \S+ "((?:[^"\\]|\\.)*)"')
_NO_TLS = frozenset({"FEATURE-NOT-SUPPORTED", "FEATURE-NOT-CONFIGURED", "UNKNOWN-COMMAND"})
_NOT_LET_IN = frozenset({"ACCESS-DENIED", "INVALID-USERNAME", "INVALID-PASSWORD", "USERNAME-REQUIRED", "UNKNOWN-UPS"})
"""What does not pass: the operator has to set something."""


class UpsError(Exception):
    """A UPS cannot be read; the message says why."""


class Refused(UpsError):
    """upsd answers ERR. `code` is its word for that."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def lasts(self) -> bool:
        """Whether only the operator can change that."""
        return self.code in _NOT_LET_IN


@dataclass(frozen=True, slots=True)
class Address:
    """A UPS and its upsd."""

    ups: str
    host: str
    port: int

    @classmethod
    def of(cls, name: str) -> Self:
        """UPS, UPS@HOST or UPS@HOST:PORT.

        Raises:
            ValueError: it is none of these.
        """
        found = re.fullmatch(UPS, name)
        if found is None:
            raise ValueError(f"{name!r} is no UPS; write UPS@HOST")
        return cls(found["ups"], (found["host"] or "localhost").strip("[]"), int(found["port"] or PORT))


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are at upsd. `ca`, in PEM, is the authority of its certificate: with it TLS is required.

    Raises:
        UpsError: the name or the password is none that can be sent.
    """

    user: str
    password: str = field(repr=False)
    ca: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for what, word, longest in (("name", self.user, LONGEST_USER), ("password", self.password, LONGEST_PASSWORD)):
            if not (0 < len(word) <= longest and word.isascii() and word.isprintable()):
                raise UpsError(f"the {what} for upsd is not one line of ASCII text, of at most {longest} characters")

    def context(self) -> ssl.SSLContext:
        """
        Raises:
            UpsError: the certificate authority is none.
        """
        if self.ca == "":  # which the library takes for none, and lets the system's authorities vouch
            raise UpsError("the authority of upsd's certificate is not in PEM: it is empty")
        try:
            context = ssl.create_default_context(cadata=self.ca)
        except (ssl.SSLError, ValueError) as error:
            raise UpsError(f"the authority of upsd's certificate is not in PEM: {error}") from None
        if self.ca is None:  # against who only listens: upsd's own clients do not know it either
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


Credentials = Callable[[], Awaitable[Login]]
"""Reads the login, for each session anew; raises UpsError where it cannot be read."""


class Session:
    """A login to one UPS, from `open` to `close`."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ups, self._reader, self._writer = address.ups, reader, writer

    @classmethod
    async def open(cls, address: Address, login: Login) -> Self:
        """Connect, by TLS where upsd has it, and log in as a secondary.

        Raises:
            UpsError
        """
        try:
            async with asyncio.timeout(LONGEST_ANSWER):
                streams = await asyncio.open_connection(address.host, address.port, limit=LONGEST_LINE)
        except (OSError, TimeoutError) as error:
            raise UpsError(f"no upsd answers at {address.host}:{address.port} ({error or 'time-out'})") from None
        session = cls(address, *streams)
        try:
            await session._log_in(address, login)
        except BaseException:
            await session.close()
            raise
        return session

    async def _log_in(self, address: Address, login: Login) -> None:
        await self._start_tls(address, login)
        await self._ask(f"USERNAME {_quoted(login.user)}")
        await self._ask(f"PASSWORD {_quoted(login.password)}")
        await self._ask(f"LOGIN {self._ups}")

    async def _start_tls(self, address: Address, login: Login) -> None:
        try:
            await self._ask("STARTTLS")
        except Refused as refused:
            if refused.code not in _NO_TLS or login.ca is not None:
                raise
            return
        context = login.context()
        await self._require_nothing_more()
        try:
            await self._writer.start_tls(context, server_hostname=address.host, ssl_handshake_timeout=LONGEST_ANSWER)
        except (OSError, ssl.SSLError) as error:
            raise UpsError(f"no TLS with upsd at {address.host}: {error}") from None

    async def _require_nothing_more(self) -> None:
        """What came behind the last answer would be read as if it had been said by TLS (CVE-2011-0411).

        Raises:
            UpsError
        """
        transport = cast(asyncio.Transport, self._writer.transport)
        transport.pause_reading()  # TLS resumes it: nothing comes in between
        more = asyncio.ensure_future(self._reader.read(1))
        await asyncio.sleep(0)  # it is done now if there is anything
        if not more.done():
            more.cancel()
            await asyncio.wait([more])
            return
        with suppress(OSError):  # the connection is lost, which TLS will tell
            if await more:
                transport.resume_reading()
                raise UpsError("upsd says more than it was asked before TLS begins: somebody may stand between")

    async def read(self) -> Reading:
        """What the UPS says now.

        Raises:
            UpsError: its status cannot be read; also if upsd has no news of it.
        """
        words = frozenset(await self._variable("ups.status"))
        charge = _number(await self._optional("battery.charge"), 100)
        runtime = _number(await self._optional("battery.runtime"), MOST_SECONDS)
        return Reading(words, charge, None if runtime is None else timedelta(seconds=runtime))

    async def close(self) -> None:
        """LOGOUT, which lets the primary go on; then the connection is closed."""
        with suppress(UpsError):
            await self._ask("LOGOUT")
        self._writer.close()
        with suppress(OSError, TimeoutError, ssl.SSLError):
            async with asyncio.timeout(LONGEST_ANSWER):
                await self._writer.wait_closed()

    async def _optional(self, name: str) -> list[str]:
        try:
            return await self._variable(name)
        except Refused as refused:
            if refused.code == "VAR-NOT-SUPPORTED":
                return []
            raise

    async def _variable(self, name: str) -> list[str]:
        """The words of a variable."""
        answer = await self._ask(f"GET VAR {self._ups} {name}")
        found = _VALUE.fullmatch(answer)
        if found is None or answer.split()[1:3] != [self._ups, name]:
            raise UpsError(f"upsd's answer to GET VAR {name} is not one of its protocol")
        return re.sub(r"\\(.)", r"\1", found[1]).split()

    async def _ask(self, line: str) -> str:
        """An answer of one line. What was asked stands in no message, as it may be a password.

        Raises:
            UpsError
        """
        try:
            async with asyncio.timeout(LONGEST_ANSWER):
                self._writer.write(f"{line}\n".encode())
                await self._writer.drain()
                answer = await self._reader.readuntil(b"\n")
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, ssl.SSLError) as error:
            raise UpsError(f"the connection to upsd is lost ({_why(error)})") from None
        text = answer.decode(errors="replace").rstrip("\r\n")
        if text.startswith("ERR "):
            code = text.split()[1] if len(text.split()) > 1 else ""
            raise Refused(code, f"upsd answers {text[4:200]!r}")
        return text


def _why(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {LONGEST_ANSWER:g} s"
        case EOFError():
            return "it was closed"
        case asyncio.LimitOverrunError():
            return f"an answer of more than {LONGEST_LINE} bytes"
    return type(error).__name__


def _number(words: list[str], most: float) -> float | None:
    """A number from 0 to `most`; None: it is none."""
    with suppress(ValueError, IndexError):
        number = float(words[0])
        return number if 0 <= number <= most else None
    return None


def _quoted(word: str) -> str:
    """As upsd reads a word with blanks and quotes."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
