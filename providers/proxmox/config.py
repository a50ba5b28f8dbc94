"""Settings of the Proxmox VE provider, beyond those of every provider."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from common.durations import Timeout
from providers.core.settings import Names, Settings
from providers.shared.addresses import https
from providers.shared.login import read_login
from providers.shared.tls import Trust

PORT = 8006
"""pveproxy's, where an address names none."""
USER = re.compile(r"[^\s:/]+@[A-Za-z][\w.-]+", re.ASCII)
"""user@realm, as PVE::Auth::Plugin has it; the user's own part may be an e-mail address."""
TOKEN_ID = re.compile(USER.pattern + r"![A-Za-z][\w.-]+", re.ASCII)
TOKEN_SECRET = re.compile(r"[\x21-\x7e]+")
FINGERPRINT = re.compile(r"([0-9A-Fa-f]{2}:?){32}")


class ProxmoxSettings(Settings):
    """One cluster, or a single node."""

    url: Names = Field(
        description="https://HOST or https://HOST:PORT (8006 unless named) of one or more nodes of one cluster, "
        "separated by commas; the next one serves when one cannot be reached"
    )
    credentials_dir: Path = Field(
        description="has the files token-id (user@realm!name) and token-secret, or else username (user@realm) and "
        "password, which are read at each login, so that they may change"
    )
    ca_file: Path | None = Field(
        None, description="the CA of the nodes' certificates, PEM; without one, those that the system trusts"
    )
    fingerprint: Names = Field(
        (),
        description="SHA-256 of the nodes' certificates, separated by commas, as the nodes' own ones differ; "
        "they then need no CA",
    )
    insecure: bool = Field(False, description="do not verify the nodes' certificates: for a test, never for work")
    max_reads: int = Field(
        64, ge=1, description="calls that read the cluster, at all nodes, that may be under way at once"
    )
    max_asks: int = Field(64, ge=1, description="guests that may be asked at once, at all nodes")
    max_programs: int = Field(64, ge=1, description="calls to guest agents, and snapshots, at once, at all nodes")
    max_cuts: int = Field(64, ge=1, description="guests whose power may be cut at once, at all nodes")
    max_starts: int = Field(64, ge=1, description="guests that may be started at once, at all nodes")
    max_saves: int = Field(64, ge=1, description="guests whose memory may be saved at once, at all nodes")

    active_interval: Timeout = Field(
        timedelta(seconds=2), description="how often the cluster is read while an operation is active"
    )
    idle_interval: Timeout = Field(timedelta(seconds=15), description="how often it is read otherwise")

    @field_validator("url")
    @classmethod
    def _normal(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not urls:
            raise ValueError("must name at least one https://HOST or https://HOST:PORT")
        return tuple(dict.fromkeys(_address(url) for url in urls))

    @field_validator("fingerprint")
    @classmethod
    def _sha256(cls, fingerprints: tuple[str, ...]) -> tuple[str, ...]:
        if not all(FINGERPRINT.fullmatch(one) for one in fingerprints):
            raise ValueError("must be SHA-256 in hexadecimal, with colons or without")
        return tuple(one.replace(":", "").lower() for one in fingerprints)

    @model_validator(mode="after")
    def _verified_in_one_way(self) -> Self:
        _trust = self.trust  # which refuses more than one way
        return self

    @property
    def trust(self) -> Trust:
        return Trust(self.ca_file, self.fingerprint, self.insecure)


@dataclass(frozen=True, slots=True)
class Login:
    """Who the provider is to Proxmox VE: a token `user@realm!name`, or a user `user@realm`."""

    name: str
    secret: str = field(repr=False)

    @property
    def is_token(self) -> bool:
        """Whether it is sent with each call; a user logs in and gets a ticket."""
        return "!" in self.name.rpartition("@")[2]


def login(folder: Path) -> Login:
    """The login in a directory as Kubernetes mounts a Secret. Where both kinds are there, the token counts.

    Raises:
        OSError, ValueError: a file cannot be read, or does not say what its name promises.
    """
    if (folder / "token-id").exists():
        token = Login(*read_login(folder, ("token-id", "token-secret")))
        _must_match(TOKEN_ID, token.name, "token-id must be user@realm!name")
        _must_match(TOKEN_SECRET, token.secret, "token-secret must be what PVE showed when the token was made")
        return token
    user = Login(*read_login(folder))
    _must_match(USER, user.name, "username must be user@realm")
    return user


def _must_match(pattern: re.Pattern[str], text: str, sentence: str) -> None:
    """Raise with `sentence` alone: the text may be a secret in the wrong file."""
    if not pattern.fullmatch(text):
        raise ValueError(sentence)


def _address(url: str) -> str:
    parts = https(url)
    if parts is None or parts.query or parts.fragment or parts.path.strip("/"):
        raise ValueError("must be https://HOST or https://HOST:PORT, without a login or a path")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"https://{host}:{parts.port or PORT}"
