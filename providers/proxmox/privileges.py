"""The privileges that the provider's role has (docs/proxmox.md), and which of them an account lacks, and where."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from common.text import some
from providers.core.adapter import MissingPrivilege
from providers.proxmox.guests import Guest, Rights

GUESTS, NODES = "/vms", "/nodes"


@dataclass(frozen=True, slots=True)
class _Need:
    """One of these privileges, the first of which is the one to grant, and what it is for. `required`: without it no
    guest can be shut down."""

    privileges: tuple[str, ...]
    purpose: str
    required: bool = False


_POWER = _Need(("VM.PowerMgmt",), "every shutdown, start and stop", required=True)
_SNAPSHOT = _Need(("VM.Snapshot",), "snapshot hooks")
_TASKS = _Need(("Sys.Audit",), "who stopped a guest, and who holds a lock")
_AUDIT = _Need(("VM.Audit",), "seeing guests at all", required=True)
_PROGRAMS = "exec hooks, and whether a guest's agent answers"
_PINGS = "whether a guest's agent answers"


def missing(
    rights: Rights, guests: Sequence[Guest], *, programs: bool, before_nine: bool
) -> tuple[MissingPrivilege, ...]:
    """What the account lacks. `programs`: whether hooks may run some in guests; `before_nine`: the cluster is older
    than Proxmox VE 9, where VM.Monitor stands for both privileges of the agent."""
    if not guests and not rights.has("VM.Audit", GUESTS):
        return (MissingPrivilege("VM.Audit", GUESTS, _AUDIT.purpose, required=True),)
    places = [f"{GUESTS}/{guest.id}" for guest in guests]
    nodes = sorted({f"{NODES}/{guest.node}" for guest in guests})
    found = [
        *_lacking(rights, (_POWER, _agent(programs, before_nine), _SNAPSHOT), places, GUESTS),
        *_lacking(rights, (_TASKS,), nodes, NODES),
    ]
    return tuple(found)


def _agent(programs: bool, before_nine: bool) -> _Need:
    if before_nine:
        return _Need(("VM.Monitor",), _PROGRAMS if programs else _PINGS)
    unrestricted = ("VM.GuestAgent.Unrestricted",)
    return _Need(unrestricted, _PROGRAMS) if programs else _Need(("VM.GuestAgent.Audit", *unrestricted), _PINGS)


def _lacking(rights: Rights, needs: Iterable[_Need], places: Sequence[str], above: str) -> Iterator[MissingPrivilege]:
    for need in needs:
        without = [place for place in places if not any(rights.has(name, place) for name in need.privileges)]
        if without:
            where = above if len(without) == len(places) else some(without)
            yield MissingPrivilege(need.privileges[0], where, need.purpose, need.required)
