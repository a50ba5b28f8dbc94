"""From what was seen to findings: pure functions, each of which looks at one thing."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cli.doctor.finding import Check, Finding, Level
from cli.doctor.remedies import CERTIFICATE, REMEDIES
from client.times import moment
from client.words import short
from common.version import provider_command
from protos.power.v1 import power_pb2 as pb

CLOCKS_DIFFER, CLOCKS_FAR_APART = timedelta(seconds=5), timedelta(minutes=1)
"""From when on a difference is told, and is a problem: certificates and tickets are good for minutes at the least."""
CONNECTION_CHECKS = {
    pb.CONNECTION_PROBLEM_LOGIN_REFUSED: Check.HYPERVISOR_LOGIN,
    pb.CONNECTION_PROBLEM_CERTIFICATE: Check.HYPERVISOR_CERTIFICATE,
    pb.CONNECTION_PROBLEM_NOT_PERMITTED: Check.HYPERVISOR_PERMISSION,
}
"""All others: nothing answers there."""
BUTTON_BESIDE_AGENT = ("libvirt", "sim")
"""Hypervisors that offer ACPI beside an agent wherever there is ACPI. Proxmox VE chooses by itself, and offers one."""
AGENTS = ("AGENT_MISSING", "AGENT_STOPPED", "AGENT_BUSY", "AGENT_UNKNOWN")


@dataclass(frozen=True)
class Answer:
    """What a provider said of itself, and when: `asked` and `heard` by this machine's clock.

    `prefix` stands before the names of its VMs in commands, and `vmpower` is how these begin; `certificate` is the file
    by which we prove who we are.
    """

    info: pb.GetProviderInfoResponse
    address: str
    asked: datetime
    heard: datetime
    provider: str = ""
    prefix: str = ""
    vmpower: str = "vmpower"
    certificate: Path | None = None


def of(check: str, level: Level, what: str, *, hypervisor: str = "", provider: str = "", **words: str) -> Finding:
    """A finding with its remedy. `words` fill the commands of that and, quoted already, are as a shell takes them."""
    remedy = REMEDIES[check]
    words = {"vmpower": "vmpower", "program": provider_command("TYPE")} | words
    commands = tuple(command.format_map(_Words(words)) for command in remedy.of(hypervisor))
    why = remedy.why.format_map(_Words(words))
    return Finding(check, level, what or remedy.what, why, remedy.who, commands, provider)


class _Words(dict[str, str]):
    """What is not known stands as its name, for a person to fill in."""

    def __missing__(self, name: str) -> str:
        return name.upper()


# The provider


def provider(answer: Answer) -> Iterator[Finding]:
    """All that its information tells."""
    yield from _role(answer)
    yield from _journal(answer)
    yield from _connection(answer)
    yield from _privileges(answer)
    yield from _clock(answer)
    yield from _hypervisor_clock(answer)
    yield from _guest_exec(answer)


def _role(answer: Answer) -> Iterator[Finding]:
    if answer.info.role == pb.ROLE_READER:
        what = "You have no operator's role here: you may only read."
        if answer.certificate is None:
            yield _about(answer, Check.READER_ONLY, Level.PROBLEM, what)
        else:
            cert = shlex.quote(str(answer.certificate))
            yield of(
                Check.READER_ONLY, Level.PROBLEM, what, hypervisor=CERTIFICATE, provider=answer.provider, cert=cert
            )


def _journal(answer: Answer) -> Iterator[Finding]:
    if said := answer.info.journal_error:
        what = f"The provider cannot write its operations to disk: {said}."
        yield _about(answer, Check.JOURNAL_FAILED, Level.PROBLEM, what)


def _connection(answer: Answer) -> Iterator[Finding]:
    info = answer.info
    if info.connected:
        return
    error = info.connection_error
    check = CONNECTION_CHECKS.get(error.problem, Check.HYPERVISOR_UNREACHABLE)
    what = error.message or f"The hypervisor {info.endpoint} does not answer; the provider has not found out yet why."
    yield _about(answer, check, Level.PROBLEM, what)


def _privileges(answer: Answer) -> Iterator[Finding]:
    for each in answer.info.missing_privileges:
        what = f"The provider's account has no {each.privilege} on {each.place}."
        level = Level.PROBLEM if each.required else Level.WARNING
        words = {"privilege": each.privilege, "place": each.place, "purpose": each.purpose}
        yield _about(answer, Check.PRIVILEGE_MISSING, level, what, **words)


def _clock(answer: Answer) -> Iterator[Finding]:
    """Half of the round trip is how far the middle of it may be from when the answer was written."""
    if not answer.info.HasField("time"):
        return
    half = (answer.heard - answer.asked) / 2
    ahead = moment(answer.info.time) - (answer.asked + half)
    if abs(ahead) - half >= CLOCKS_DIFFER:
        what = f"The provider's clock is {_apart(ahead)} this machine's."
        yield _about(answer, Check.CLOCK, _far(ahead), what)


def _hypervisor_clock(answer: Answer) -> Iterator[Finding]:
    ahead = answer.info.hypervisor_clock_ahead.ToTimedelta()
    if abs(ahead) >= CLOCKS_DIFFER:
        what = f"The hypervisor's clock is {_apart(ahead)} the provider's."
        yield _about(answer, Check.HYPERVISOR_CLOCK, _far(ahead), what)


def _guest_exec(answer: Answer) -> Iterator[Finding]:
    if not answer.info.guest_exec:
        what = "Hooks may run no programs in guests: that is turned off at this provider."
        yield _about(answer, Check.GUEST_EXEC_DISABLED, Level.WARNING, what)


def _far(ahead: timedelta) -> Level:
    return Level.PROBLEM if abs(ahead) >= CLOCKS_FAR_APART else Level.WARNING


def _apart(ahead: timedelta) -> str:
    """`1:00:00 ahead of`, to a second."""
    seconds = timedelta(seconds=round(abs(ahead).total_seconds()))
    return f"{seconds} {'ahead of' if ahead > timedelta(0) else 'behind'}"


# Its VMs


def vm(answer: Answer, found: pb.VM) -> Iterator[Finding]:
    """What stands in the way of a graceful shutdown of one, and what would, if its best signal were lost."""
    told = set[str]()
    for problem in found.forecast.problems:
        level = Level.PROBLEM if problem.reason else Level.WARNING
        what = problem.message
        for cause in _causes(problem):
            if cause not in told:
                yield _about_vm(answer, found, cause, level, what)
                what = ""  # the sentence is told once; the other causes have their own
                told.add(cause)
    yield from _unsaid(answer, found, told)


def _causes(problem: pb.Problem) -> list[str]:
    """What it comes from; of a provider that names no cause, or a newer one, what its reason says of that."""
    known = [name for name in (short(pb.Cause, each) for each in problem.causes) if name in REMEDIES]
    if known or not problem.reason:
        return known
    reason = short(pb.Reason, problem.reason)
    return [reason if reason in REMEDIES else Check.NOT_GRACEFUL]


def _unsaid(answer: Answer, found: pb.VM, told: set[str]) -> Iterator[Finding]:
    """What follows from the signals that a running guest does not hear, where no problem says why."""
    heard, offered = found.forecast.signals, answer.info.signals
    if found.power_state != pb.POWER_STATE_ON or not heard or pb.SIGNAL_INIT in heard or "LOCKED" in told:
        return
    if pb.SIGNAL_GUEST_AGENT in offered and pb.SIGNAL_GUEST_AGENT not in heard and not told.intersection(AGENTS):
        yield _about_vm(answer, found, Check.AGENT_MISSING, Level.WARNING, "")
    both = answer.info.type in BUTTON_BESIDE_AGENT
    if both and pb.SIGNAL_ACPI not in heard and "ACPI_MISSING" not in told:
        yield _about_vm(answer, found, Check.ACPI_MISSING, Level.WARNING, "")


def unknown(name: str, names: Mapping[str, str], vmpower: str) -> Finding:
    """A VM that no provider has. `names` are those of VMs that there are, and what they are written like; `vmpower` is
    how a command begins that lists them."""
    near = [shown for known, shown in names.items() if known.lower() == name.rpartition("/")[2].lower()]
    said = f" Is it {' or '.join(near)}?" if near else ""
    return of(Check.VM_UNKNOWN, Level.PROBLEM, f"No VM has the id or name {name!r}.{said}", vmpower=vmpower)


def _about(answer: Answer, check: str, level: Level, what: str, **words: str) -> Finding:
    info = answer.info
    known = {
        "uri": shlex.quote(info.endpoint),
        "address": shlex.quote(answer.address),
        "peer": _peer(info.endpoint),
        "vmpower": answer.vmpower,
    }
    return of(check, level, what, hypervisor=info.type, provider=answer.provider, **known | words)


def _about_vm(answer: Answer, found: pb.VM, check: str, level: Level, what: str) -> Finding:
    container = found.labels.get("kind") == "lxc"
    words = {
        "vm": shlex.quote(f"{answer.prefix}{found.name}"),
        "id": shlex.quote(found.id),
        "path": shlex.quote(found.labels.get("path") or found.name),
        "tool": "pct" if container else "qm",
        "sid": f"{'ct' if container else 'vm'}:{found.id}",
    }
    made = _about(answer, check, level, what, **words)
    return Finding(**vars(made) | {"vm": found.name or found.id})


def _peer(url: str) -> str:
    """`host:port` of an https address, as openssl takes it."""
    try:
        parts = urlsplit(url.partition(",")[0])
        return shlex.quote(f"{parts.hostname}:{parts.port or 443}") if parts.hostname else "HOST:PORT"
    except ValueError:
        return "HOST:PORT"
