"""What the account may do that the commands of docs/proxmox.md make: `pveum` is on nodes of Proxmox VE alone."""

import re
import shlex
from collections.abc import Mapping

from tests.rigs.page import examples
from tests.rigs.process import ROOT

AGENT, AGENT_8 = "VM.GuestAgent.Unrestricted", "VM.Monitor"
"""In Proxmox VE 8 the second stands for the first, as the page says."""
COMMANDS = [
    shlex.split(example.command)
    for example in examples(ROOT / "docs" / "proxmox.md")
    if example.command.startswith("pveum ")
]


def _of(*beginning: str) -> list[list[str]]:
    """The words that follow, of each command that begins so."""
    return [words[len(beginning) + 1 :] for words in COMMANDS if words[1 : len(beginning) + 1] == list(beginning)]


def _option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


ROLES = {words[0]: tuple(re.split(r"[ ,]+", _option(words, "--privs"))) for words in _of("role", "add")}
GRANTS: Mapping[str, tuple[str, ...]] = {words[0]: ROLES[_option(words, "--roles")] for words in _of("acl", "modify")}
"""The privileges by the path that they are given on."""
(USER,) = {_option(words, "--users") for words in _of("acl", "modify")}
TOKENS = [f"{user}!{name}" for user, name, *_ in _of("user", "token", "add")]
GUESTS, NODES, TOP = (GRANTS[path] for path in ("/vms", "/nodes", "/"))
GUESTS_8 = tuple(AGENT_8 if one == AGENT else one for one in GUESTS)
