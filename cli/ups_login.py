"""The login at upsd that a plan names: its password, and the authority of upsd's certificate, in files."""

import asyncio
from pathlib import Path

from common.yaml_reader import Fault, read_text
from plans.model import Nut
from plans.ups.client import Credentials, Login, UpsError


def credentials(nut: Nut, plan: Path) -> Credentials:
    """Reads them. Paths are relative to the plan's file.

    Raises:
        ValueError: the plan names a Secret.
    """
    if nut.user is None or nut.password_file is None:
        raise ValueError("secretRef is for the controller; write user and passwordFile")
    user, folder = nut.user, plan.absolute().parent
    password = folder / Path(nut.password_file).expanduser()
    authority = folder / Path(nut.tls.ca).expanduser() if nut.tls else None

    def read() -> Login:
        word = _text("the password", password).removesuffix("\n").removesuffix("\r")
        try:
            return Login(user, word, _text("tls.ca", authority) if authority else None)
        except UpsError as error:
            raise UpsError(f"{password}: {error}") from None

    async def login() -> Login:
        return await asyncio.to_thread(read)

    return login


def _text(what: str, file: Path) -> str:
    """
    Raises:
        UpsError
    """
    try:
        return read_text(file)
    except Fault as fault:
        raise UpsError(f"{what} cannot be read from {file}: {fault}") from None
