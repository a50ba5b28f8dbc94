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
        self._seen: dict[str, Task] = {}

    async def until_ended(self, moid: str, tasks: Mapping[str, Task]) -> Task:
        """The task when it has ended; `tasks` are those that are known now.

        Raises:
            HypervisorUnavailable: vCenter has forgotten it; whether it was done is for the caller to find out.
        """
        ending = self._waiting.setdefault(moid, asyncio.get_running_loop().create_future())
        self.update(tasks)
        try:
            return await ending
        finally:
            self._waiting.pop(moid, None)
            self._seen.pop(moid, None)

    def update(self, tasks: Mapping[str, Task]) -> None:
        """End the waits for tasks that have ended, of those listed now; one that is listed no more has ended, too."""
        for moid, ending in self._waiting.items():
            task = tasks.get(moid)
            if task is not None:
                self._seen[moid] = task
            runs = task is not None and not has_ended(task)
            ended = task or self._seen.get(moid)
            if ended and not runs and not ending.done():
                ending.set_result(ended)

    def waiting(self) -> frozenset[str]:
        return frozenset(self._waiting)

    def fail_forgotten(self, moids: frozenset[str], tasks: Mapping[str, Task]) -> None:
        """vCenter was restarted, and lists of these no others than `tasks`: waits for the others fail."""
        for moid in moids - tasks.keys():
            if (ending := self._waiting.get(moid)) and not ending.done():
                ending.set_exception(HypervisorUnavailable("vCenter has forgotten the task; it is asked again."))
