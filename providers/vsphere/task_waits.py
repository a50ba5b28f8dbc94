"""Waiting for the ends of tasks, of which the watch tells. A wait outlives its watch: the next one tells."""

import asyncio
from collections.abc import Mapping

from providers.core.errors import HypervisorUnavailable
from providers.vsphere.properties import Task
from providers.vsphere.states import has_ended


class TaskWaits:
    """The waits, by the ids of their tasks."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Task]] = {}
        self._seen: set[str] = set()

    async def until_ended(self, moid: str, tasks: Mapping[str, Task]) -> Task:
        """The task when it has ended; `tasks` are those that are known now.

        Raises:
            HypervisorUnavailable: vCenter tells its end no more; whether it was done is for the caller to find out.
        """
        ending = self._waiting.setdefault(moid, asyncio.get_running_loop().create_future())
        self.update(tasks)
        try:
            return await ending
        finally:
            self._waiting.pop(moid, None)
            self._seen.discard(moid)

    def update(self, tasks: Mapping[str, Task]) -> None:
        """End the waits for tasks that have ended, of those listed now. Waits for one that was listed, and is no more,
        fail: its end was not told."""
        for moid, ending in self._waiting.items():
            task = tasks.get(moid)
            if task is None and moid in self._seen:
                _fail(ending, "vCenter tells the end of the task no more; it is asked again.")
            elif task is not None:
                self._seen.add(moid)
                if has_ended(task) and not ending.done():
                    ending.set_result(task)

    def waiting(self) -> frozenset[str]:
        return frozenset(self._waiting)

    def fail_forgotten(self, moids: frozenset[str], tasks: Mapping[str, Task]) -> None:
        """vCenter was restarted, and lists of these no others than `tasks`: waits for the others fail."""
        for moid in moids - tasks.keys():
            if ending := self._waiting.get(moid):
                _fail(ending, "vCenter has forgotten the task; it is asked again.")


def _fail(ending: asyncio.Future[Task], message: str) -> None:
    if not ending.done():
        ending.set_exception(HypervisorUnavailable(message))
