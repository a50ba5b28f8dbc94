"""A plan in three tiers over two providers, and its run in virtual time."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from plans.calls import ROOM, Calls
from plans.clock import Clock
from plans.freeze import freeze
from plans.journal import Journal, Runs
from plans.model import PlanSpec
from plans.run import Run
from tests.unit.plans.builders import here
from tests.unit.plans.fake import FakeProvider, wall


class Engine:
    """Where runs are carried out: their records are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.runs = Runs(folder, here)
        self._journals: list[Journal] = []

    async def start(
        self, spec: PlanSpec, own: Collection[str] = (), room: int = ROOM, **providers: FakeProvider
    ) -> Run:
        """A new run."""
        clock = Clock(wall)
        frozen = await freeze(spec, providers, clock, own=own)
        history, journal = await self.runs.create(frozen.start("test", spec, clock()))
        self._journals.append(journal)
        return Run(history, journal, Calls(providers, room), clock)

    def resume(self, run: Run, **providers: FakeProvider) -> Run:
        """The same run, by the next process."""
        run._journal.close()
        history, journal = self.runs.resume(run.history.start.run)
        self._journals.append(journal)
        return Run(history, journal, Calls(providers), Clock(wall))

    def close(self) -> None:
        for journal in self._journals:
            journal.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.close()


def outcomes(run: Run) -> dict[str, str]:
    return {vm: ended.outcome for vm, ended in run.history.ended.items()}


def begun(run: Run) -> Sequence[str]:
    return list(run.history.begun)
