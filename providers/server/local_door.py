"""The door for this machine's users: who may come in without a certificate, and that it is said at the start."""

import grp
import os

import structlog

from common.addresses import is_local, socket_path
from providers.core.settings import Settings
from providers.server.unix_front import FILES_EACH, UnixFront

log = structlog.get_logger()


class Unusable(Exception):
    """What the settings ask of the door cannot be had; the message says why, and who acts."""


class LocalDoor:
    """A unix socket's group and, with --operator-uids, the front that knows its users."""

    def __init__(self, settings: Settings, *, secured: bool, files: int) -> None:
        """`secured`: the listener has TLS, so that a certificate counts, and not the user. `files`: so many file
        descriptors are for clients' connections.

        Raises:
            Unusable
        """
        self._settings, self._secured = settings, secured
        self._path = socket_path(settings.listen)
        if not self._path and (settings.operator_uids or settings.socket_group):
            raise Unusable("--operator-uids and --socket-group need --listen unix:///PATH; its operator writes that.")
        self._group = _group(settings.socket_group)
        self._front = self._make_front(files) if settings.operator_uids and not secured else None

    @property
    def grpc_address(self) -> str:
        """Where gRPC itself listens."""
        return self._front.inner if self._front else self._settings.listen

    async def open(self) -> None:
        """Let clients in, once gRPC serves, and say who may come.

        Raises:
            Unusable
        """
        try:
            if self._front:
                await self._front.start()
            if self._path and self._group is not None:
                os.chown(self._path, -1, self._group)
        except OSError as error:
            raise Unusable(f"{self._settings.listen}: {error}; its operator names another --listen.") from error
        self._tell()

    def close(self) -> None:
        """Let nobody in any more; those who are in stay until gRPC ends their connections."""
        if self._front:
            self._front.close()

    def _make_front(self, files: int) -> UnixFront:
        folder = self._settings.state_dir / "door"
        try:
            return UnixFront(self._path, folder, files // FILES_EACH)
        except (OSError, ValueError) as error:
            raise Unusable(f"{folder}: {error}; its operator names another --state-dir.") from error

    def _tell(self) -> None:
        listen, uids = self._settings.listen, list(self._settings.operator_uids)
        if self._secured:
            return
        if self._front:
            log.info("users of the socket with these numbers may change power", address=listen, operator_uids=uids)
        elif self._path:
            log.info("the owner and the group of the socket may change power", address=listen)
        elif is_local(listen):
            log.warning(
                "every user and every program of this machine may change power: nothing guards this address; "
                "listen on unix:///PATH, or set --tls-cert, --tls-key and --tls-client-ca",
                address=listen,
            )


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except KeyError as error:
        raise Unusable(f"--socket-group: there is no group {name}; its operator names another.") from error
