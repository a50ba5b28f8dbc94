"""How many calls vCenter is sent at once."""

from enum import Enum


class CallClass(Enum):
    """What a call is for, with `limit`: how many of its class may be under way, each on a connection of its own.

    Calls wait for others of their class only: those that hang, however many, hold up no other class.
    """

    STREAM = "waits for updates", 2
    """Held by vCenter until there are any: the watch's, and that of a list beside it."""
    READ = "reads", 4
    """One for all VMs that are read at the same time; the others look up ids that the watch has not told of."""
    ASK = "asks a guest", 8
    """Of hundreds that begin at once. A guest's hanging tools can hold each as long as a call may take."""
    POWER = "switches, or takes a snapshot", 4
    """Answered at once with a task, whose end the stream tells."""
    PROGRAM = "works in a guest", 4
    """Starts, looks after and fetches from programs, by the guest's tools and its host; both can hang."""

    def __init__(self, _purpose: str, limit: int) -> None:
        self.limit = limit
