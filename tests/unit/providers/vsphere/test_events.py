"""What vCenter's events prove, as a table."""

from collections.abc import Sequence
from typing import Any

import pytest
from pyVmomi import vim

from providers.core.adapter import OffCause
from providers.vsphere.events import ended_by

US, COLLEAGUE = "VSPHERE.LOCAL\\vmpower", "VSPHERE.LOCAL\\colleague"


def event(kind: str, user: str = "") -> Any:
    return getattr(vim.event, kind)(userName=user)


ON, OFF = event("VmPoweredOnEvent"), event("VmPoweredOffEvent")
ASKED, CRASHED = event("VmGuestShutdownEvent", US), event("VmGuestOSCrashedEvent")
CUT, ISOLATED = event("VmPoweredOffEvent", COLLEAGUE), event("VmPowerOffOnIsolationEvent")


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        ([], None),
        ([CUT], OffCause.HOST),
        ([ASKED, CUT], OffCause.HOST),
        ([ISOLATED], OffCause.HOST),
        ([ASKED, OFF], OffCause.GUEST),
        ([ASKED, CRASHED, OFF], OffCause.CRASHED),
        ([CRASHED, OFF], OffCause.CRASHED),
        ([CRASHED, CUT], OffCause.HOST),
        ([OFF], None),
        ([ASKED, event("VmPoweredOffEvent", US)], None),
        ([ASKED], None),
        ([CUT, ON], None),
        ([ASKED, OFF, ON], None),
        ([CUT, event("DrsVmPoweredOnEvent"), ASKED, OFF], OffCause.GUEST),
        ([ASKED, OFF, ON, OFF], None),
    ],
    ids=lambda value: "-".join(each._wsdlName for each in value) if isinstance(value, list) else "",
)
def test_only_what_the_last_runs_events_prove_is_told(events: Sequence[Any], cause: OffCause | None) -> None:
    assert ended_by(events) is cause
