"""The annotations by which people speak to the controller, beside the spec. Pure.

vmpower/decision   about a running shutdown: extend=5m, force or cancel
vmpower/on-delete  OffGraceful: the VM is brought down before the resource goes
vmpower/paused     "true": the VM is left alone for now
vmpower/reason     why, in a person's words: it goes with what is asked for from then on
vmpower/rebind     the id of the VM that takes the place of the one that the resource is bound to
"""

from collections.abc import Iterator, Mapping

PREFIX = "vmpower/"
DECISION = "vmpower/decision"
ON_DELETE = "vmpower/on-delete"
PAUSED = "vmpower/paused"
REASON = "vmpower/reason"
REBIND = "vmpower/rebind"
MAX_REASON = 256
"""Characters that providers take."""
BRING_DOWN = "OffGraceful"
VALUES = {
    DECISION: None,  # it is carried out, or refused with an Event, and taken away
    ON_DELETE: (BRING_DOWN,),
    PAUSED: ("true", "false"),
    REASON: None,  # one that is too long is cut, and said to be
    REBIND: None,  # an id that fits no VM is told by the condition Bound
}
"""What each may be; None: whatever text."""


def ours(annotations: Mapping[str, str]) -> dict[str, str]:
    """Those that are meant for this controller, misspelt ones too."""
    return {name: value for name, value in annotations.items() if name.startswith(PREFIX)}


def mistakes(annotations: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each that has no effect: its name is not known, or its value is not."""
    for name, value in sorted(ours(annotations).items()):
        if name not in VALUES:
            yield f"{name} is not known; write one of {', '.join(VALUES)}, or remove it."
        elif (known := VALUES[name]) and value not in known:
            yield f"{name}: {value!r} has no effect; write {' or '.join(known)}, or remove it."
        elif name == REASON and len(value) > MAX_REASON:
            yield f"{name} is cut after {MAX_REASON} characters; write less."
