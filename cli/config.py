"""Which providers are meant, from `--provider`, VMPOWER_PROVIDER or the configuration file.

# ~/.config/vmpower/config.yaml, or the file that VMPOWER_CONFIG names
default: lab # where a VM named without its provider is looked for first
providers:
  lab: {address: "unix:///run/vmpower/libvirt.sock"}
  prod:
    address: vmpower.example.com:9443
    tls: {ca: ca.pem, cert: me.pem, key: me.key} # relative to this file
controller: {address: "unix:///run/vmpower/controller.sock"} # which hosts plans
"""

import re
from dataclasses import astuple, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cli.errors import usage
from cli.files import read_as
from client.channel import Tls
from common.addresses import is_local, mistake
from common.environment import variable


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Endpoint(_Strict):
    """Where a provider listens (a gRPC target) and how to prove who we are; no `tls`: in plain text."""

    address: str
    tls: Tls | None = None


class Config(_Strict):
    """The configuration file."""

    providers: dict[str, Endpoint] = {}
    default: str = ""
    controller: Endpoint | None = None

    def controller_meant(self, address: str) -> Endpoint:
        """The controller that hosts plans: at this address or, if empty, the one that is configured.

        Raises:
            Failure: none is meant, the address is none, or needs TLS and no files are configured.
        """
        known = self.controller
        endpoint = Endpoint(address=address) if address and not (known and known.address == address) else known
        if endpoint is None:
            raise usage(
                "Which controller? None is given and none is configured.",
                "Give --controller ADDRESS (unix:///path or host:port), set VMPOWER_CONTROLLER,",
                f"or name it in {path()}: controller: {{address: ...}}",
            )
        _require_usable(endpoint, "controller")
        return endpoint

    def meant(self, provider: str) -> dict[str, Endpoint]:
        """By name, the endpoint that a name or an address means; if empty, all that are configured.

        Raises:
            Failure: none is meant, a name is unknown, an address is none, or needs TLS and no files are configured.
        """
        if self.default and self.default not in self.providers:
            raise usage(f"{path()}: default: no provider is called {self.default!r}.")
        found = {provider: self._endpoint(provider)} if provider else self.providers
        if not found:
            raise usage(
                "Which provider? None is given and none is configured.",
                "Give --provider ADDRESS (unix:///path or host:port), set VMPOWER_PROVIDER,",
                f"or name your providers in {path()}.",
            )
        for endpoint in found.values():
            advice = f"Name its certificates in {path()}: providers: {{NAME: {{address, tls: {{ca, cert, key}}}}}}"
            _require_usable(endpoint, "provider", advice)
        return found

    def _endpoint(self, wanted: str) -> Endpoint:
        if wanted in self.providers:
            return self.providers[wanted]
        if not re.search("[:/]", wanted):
            known = ", ".join(self.providers) or "none"
            raise usage(f"No provider is called {wanted!r}; {path()} knows: {known}.")
        same = (endpoint for endpoint in self.providers.values() if endpoint.address == wanted)
        return next(same, Endpoint(address=wanted))


def _require_usable(endpoint: Endpoint, of: str, *advice: str) -> None:
    """Raises Failure: its address is none, or needs TLS and has no files; `advice` says what to write then."""
    if wrong := mistake(endpoint.address):
        raise usage(f"{endpoint.address!r} is no address of a {of}: it {wrong}.")
    if endpoint.tls is None and not is_local(endpoint.address):
        raise usage(f"{endpoint.address} is not on this machine, so it needs mutual TLS.", *advice)


def path() -> Path:
    """Where the configuration file is, or would be."""
    home = variable("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(variable("VMPOWER_CONFIG") or Path(home) / "vmpower" / "config.yaml").expanduser()


def load() -> Config:
    """Read the configuration file; without one nothing is configured.

    Raises:
        Failure: it cannot be read or means nothing; says which field.
    """
    file = path()
    if not file.exists() and not variable("VMPOWER_CONFIG"):
        return Config()
    return read_as(Config, file, "is not a vmpower configuration")


def tls_files(endpoint: Endpoint) -> Tls | None:
    """The endpoint's PEM files; their paths are relative to the configuration file."""
    if endpoint.tls is None:
        return None
    ca, cert, key = (path().parent / file.expanduser() for file in astuple(endpoint.tls)[:3])
    return replace(endpoint.tls, ca=ca, cert=cert, key=key)
