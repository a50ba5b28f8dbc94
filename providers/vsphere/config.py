"""What the vSphere provider can be told beyond what every provider can."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from providers.core.settings import Settings
from providers.shared.addresses import https
from providers.shared.tls import Trust


class VsphereSettings(Settings):
    """One vCenter, or one ESXi host."""

    url: str = Field(description="https://vcenter.example, or that of an ESXi host; the path is /sdk unless named")
    credentials_dir: Path = Field(
        description="has the files username and password, which are read at each login, so that they may change"
    )
    scope: str = Field(
        "",
        description="inventory path of a datacenter, folder, cluster or resource pool, outside which no VM exists here",
    )
    ca_file: Path | None = Field(
        None, description="the CA of vCenter's certificate, PEM; without one, those that the system trusts"
    )
    thumbprint: str = Field(
        "",
        pattern=r"^([0-9A-Fa-f]:?){40}$|^([0-9A-Fa-f]:?){64}$|^$",
        description="SHA-256 (or SHA-1) of vCenter's certificate, which then needs no CA",
    )
    insecure: bool = Field(False, description="do not verify vCenter's certificate: for a test, never for work")
    guest_credentials_dir: Path | None = Field(
        None, description="the guests' login where a request brings none: files username and password"
    )

    @field_validator("url")
    @classmethod
    def _with_path(cls, url: str) -> str:
        parts = https(url)
        if parts is None:
            raise ValueError("must be https://HOST or https://HOST:PORT, without a login")
        return parts._replace(path=parts.path.rstrip("/") or "/sdk", query="", fragment="").geturl()

    @model_validator(mode="after")
    def _verified_in_one_way(self) -> Self:
        _trust = self.trust  # which refuses more than one way
        return self

    @property
    def trust(self) -> Trust:
        pins = (self.thumbprint,) if self.thumbprint else ()
        return Trust(self.ca_file, pins, self.insecure, "--thumbprint")
