"""What vCenter's own record of events proves of how a VM's run ended.

Their names and fields are those of the vSphere Web Services API reference (Event, VmEvent): `userName` is "the user who
caused the event", and empty where no user did.
"""

from collections.abc import Sequence
from typing import Any

from providers.core.adapter import OffCause

ON, OFF = frozenset({"VmPoweredOnEvent", "DrsVmPoweredOnEvent"}), "VmPoweredOffEvent"
ISOLATED, ASKED, CRASHED = "VmPowerOffOnIsolationEvent", "VmGuestShutdownEvent", "VmGuestOSCrashedEvent"
EVENTS = (*sorted(ON), OFF, ISOLATED, ASKED, CRASHED)


def ended_by(events: Sequence[Any]) -> OffCause | None:
    """Who ended the last run of a VM that is off, by its events, oldest first; None: they do not prove it.

    A user who caused the power-off cut it, and so did HA on an isolated host; of a user who had asked the guest before,
    either may be meant. If no user caused it, the guest went by itself where vCenter had asked it, and crashed where
    vCenter saw that. Without either it is not known: a host that goes down switches its VMs off as well.
    """
    run = list[Any]()
    for event in events:
        run = [] if _kind(event) in ON else [*run, event]
    off = run[-1] if run else None
    if off is None or _kind(off) not in (OFF, ISOLATED):
        return None
    if _kind(off) == ISOLATED:
        return OffCause.HOST
    asked = [str(event.userName) for event in run if _kind(event) == ASKED]
    if off.userName:
        return None if off.userName in asked else OffCause.HOST
    if any(_kind(event) == CRASHED for event in run):
        return OffCause.CRASHED
    return OffCause.GUEST if asked else None


def _kind(event: Any) -> str:
    return str(event._wsdlName)
