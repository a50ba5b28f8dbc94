"""`vmpower doctor`, and what it found."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from typer.testing import CliRunner

from cli.__main__ import app
from tests.rigs.process import ROOT

POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
"""Before a command: root then has no more right to files than their modes give to others."""


class Findings(NamedTuple):
    """What it printed, and its exit code."""

    all: list[dict[str, Any]]
    code: int

    def only(self, check: str) -> dict[str, Any]:
        """The one with this check."""
        found = [each for each in self.all if each["check"] == check]
        assert len(found) == 1, self.all
        return found[0]

    @property
    def checks(self) -> set[str]:
        return {each["check"] for each in self.all}


def doctor(provider: str, *vms: str, env: Mapping[str, str] | None = None) -> Findings:
    """What it finds at one provider, or, if `provider` is empty, at those of the configuration that `env` names."""
    ended = CliRunner().invoke(app, _words(provider, *vms), env=env, prog_name="vmpower")
    assert ended.stdout, ended.stderr
    return Findings(json.loads(ended.stdout), ended.exit_code)


def powerless_doctor(provider: str) -> Findings:
    """The same, of a user who may open what is open to all; in a process of its own."""
    before = POWERLESS if os.geteuid() == 0 else []
    command = [*before, sys.executable, "-m", "cli", *_words(provider)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    return Findings(json.loads(ended.stdout), ended.returncode)


def _words(provider: str, *vms: str) -> list[str]:
    return ["doctor", *(["--provider", provider] if provider else []), *vms, "-o", "json"]
