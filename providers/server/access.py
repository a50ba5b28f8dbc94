"""What each client may have done to which VMs (--client-access): whoever works here at all is told by --operators.

    - clients: [cn:team-a, "uid:1000"]
      vms: {labels: {team: a}}
      allow: [power]
    - clients: ["*"]
      allow: [power, http, snapshot]

Several rules add up. A client that no rule names has what the rules for "*" allow, or everything where there are none.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from common import grants
from common.grants import Right, Scope
from common.mistakes import sentence
from common.yaml_reader import Fault, field_path, load_file
from providers.core.adapter import VM
from providers.core.errors import VmpowerError

OTHERS = "*"


class BadAccess(VmpowerError):
    """The file of --client-access cannot be used; the message says why, and who acts."""


def _client(name: str) -> str:
    if name != OTHERS and not re.fullmatch(r"(cn|dns|uri):.+|uid:\d+", name, re.ASCII):
        raise ValueError("write cn:NAME, dns:NAME, uri:NAME, uid:NUMBER or *")
    return name


class Rule(BaseModel):
    """What some clients may have done to some VMs; without `vms`, to all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: Annotated[tuple[Annotated[str, AfterValidator(_client)], ...], Field(min_length=1)]
    vms: Scope | None = None
    allow: Annotated[tuple[Right, ...], Field(min_length=1)]


Rules = tuple[Rule, ...]
_RULES: TypeAdapter[Rules] = TypeAdapter(Rules)


def load(file: Path | None) -> Rules:
    """The rules of the file; none without one.

    Raises:
        BadAccess: it cannot be read, or has a mistake.
    """
    if file is None:
        return ()
    try:
        return _RULES.validate_python(load_file(file))
    except Fault as fault:
        raise BadAccess(f"--client-access {file}: {fault}; the provider's operator mends it.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        mistake = f"{field_path(first['loc'])}: {sentence(first)}"
        raise BadAccess(f"--client-access {file}: {mistake}; the provider's operator mends it.") from None


def of_client(rules: Rules, names: Iterable[str]) -> Rules | None:
    """Those for a client of these names; None: it may everything."""
    known = {*names}
    own = tuple(rule for rule in rules if known.intersection(rule.clients))
    return own or tuple(rule for rule in rules if OTHERS in rule.clients) or None


def granted(rules: Rules, vm: VM) -> frozenset[Right]:
    """The rights that these rules give to a VM."""
    return grants.granted(rules, vm.id, vm.name, vm.labels)
