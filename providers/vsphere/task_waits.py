"""Who waits for the end of which task. A wait outlives the watch that would have told of it."""

import asyncio
from collections.abc import Mapping

from providers.core.errors import HypervisorUnavailable
from providers.vsphere.properties import Task
from providers.vsphere.states import has_ended


class Endings:
    """Waits for tasks, by their ids."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Task]] = {}
        self._seen: dict[str, Task] = {}

    async def of(self, moid: str, tasks: Mapping[str, Task]) -> Task:
        """The task when it has ended; `tasks` are those that are known now.

        Raises:
            HypervisorUnavailable: vCenter has forgotten it; whether it was done is for the caller to find out.
        """
        ending = self._waiting.setdefault(moid, asyncio.get_running_loop().create_future())
        self.look(tasks)
        try:
            return await ending
        finally:
            self._waiting.pop(moid, None)
            self._seen.pop(moid, None)

    def look(self, tasks: Mapping[str, Task]) -> None:
        """Tell those who wait for tasks that have ended. One that was listed and is no more has ended, too."""
        for moid, ending in self._waiting.items():
            task = tasks.get(moid)
            if task is not None:
                self._seen[moid] = task
            runs = task is not None and not has_ended(task)
            ended = task or self._seen.get(moid)
            if ended and not runs and not ending.done():
                ending.set_result(ended)

    def waiting(self) -> frozenset[str]:
        """The tasks that somebody waits for."""
        return frozenset(self._waiting)

    def lose(self, moids: frozenset[str], tasks: Mapping[str, Task]) -> None:
        """Of these, vCenter lists no others than `tasks`: it was restarted."""
        for moid in moids - tasks.keys():
            if (ending := self._waiting.get(moid)) and not ending.done():
                ending.set_exception(HypervisorUnavailable("vCenter has forgotten the task; it is asked again."))
