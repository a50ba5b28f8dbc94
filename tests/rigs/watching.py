"""Waiting for what others write into files."""

import time
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch


def wait_for_change(folder: Path, happened: Callable[[], bool], failure: Callable[[], str], timeout: float) -> None:
    """Look again at each change in `folder`, and each half second for one that came before the watch began.

    Raises:
        TimeoutError: it has not happened; the message has the `failure`.
    """
    deadline = time.monotonic() + timeout
    changes = watch(folder, watch_filter=None, step=10, debounce=50, rust_timeout=500, yield_on_timeout=True)
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout} s: {failure()}")
        next(changes)
