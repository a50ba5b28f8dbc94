"""What the operating system lets this process have, and that a request to end always ends it."""

import asyncio
import resource
import signal

MOST_FILES = 16_384
"""File descriptors that are asked for; the hard limit may allow fewer."""
RESERVED_FILES = 256
"""Of these, clients' connections get none: the journal, the hypervisor, hooks and probes have them."""
LEAST_CONNECTIONS = 64
STOP_RESERVE = 20
"""Seconds beyond the drain timeout until a process that was told to end is ended by the kernel."""


def raise_file_limit() -> int:
    """Ask for more file descriptors than the shell gives, for each connection takes one; return how many there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def most_connections(files: int) -> int:
    """How many connections clients may have open."""
    return max(LEAST_CONNECTIONS, min(files, MOST_FILES) - RESERVED_FILES)


async def asked_to_stop(drain_seconds: float) -> None:
    """Wait for SIGTERM or SIGINT. From then on the kernel ends the process if it has not ended by itself: by an alarm,
    which needs no thread and no turn of the loop. The journal survives that as it survives a kill."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(_number: int, _frame: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, drain_seconds + STOP_RESERVE)
        loop.call_soon_threadsafe(stop.set)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    await stop.wait()
