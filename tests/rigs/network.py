"""How this machine's programs reach package registries, as files for another system. Nothing of it is in the tree."""

import os
import re
import subprocess
import sys
from pathlib import Path

BUNDLE = "/etc/ssl/machine.pem"
"""Where the other system has the certificates that this one trusts."""
APT = re.compile(r'Acquire::(https?|Check-Date|Check-Valid-Until|Retries)\b.* "."')
GO = ("GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE")
PIP = ("index-url", "extra-index-url", "trusted-host")


def pip_files() -> dict[str, bytes]:
    """pip's settings, and the certificates that it trusts."""
    bundle = _pip_setting("cert") or os.environ.get("SSL_CERT_FILE", "")
    settings = {name: _pip_setting(name) for name in PIP} | {"cert": BUNDLE if bundle else ""}
    lines = [f"{name} = {value}\n" for name, value in settings.items() if value]
    own = {BUNDLE: Path(bundle).read_bytes()} if bundle else {}
    return own | {"/etc/pip.conf": "".join(["[global]\n", *lines]).encode()}


def apt_files() -> dict[str, bytes]:
    """How apt fetches; its sources come with a system (debian/system.py)."""
    lines = [line for line in _printed("apt-config", "dump", "Acquire").splitlines() if APT.match(line)]
    return {"/etc/apt/apt.conf.d/99machine": "\n".join([*lines, ""]).encode()}


def go_files() -> dict[str, bytes]:
    """Where Go fetches modules from, for root."""
    return {"/root/.config/go/env": "".join(f"{name}={value}\n" for name, value in _go().items()).encode()}


def _pip_setting(name: str) -> str:
    """One of pip's settings as they are for us; "" if it has none."""
    listed = _printed(sys.executable, "-m", "pip", "config", "list")
    found = re.findall(rf"^(?::env:|global)\.{name}='(.*)'$", listed, re.MULTILINE)
    return str(found[0]) if found else ""


def _go() -> dict[str, str]:
    told = _printed(str(Path(sys.executable).parent / "go"), "env", *GO).splitlines()
    return {name: value for name, value in zip(GO, told, strict=True) if value}


def _printed(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
