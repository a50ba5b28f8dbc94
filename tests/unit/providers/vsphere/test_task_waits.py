import asyncio

import pytest

from providers.core.errors import HypervisorUnavailable
from providers.vsphere.properties import Task
from providers.vsphere.task_waits import Endings

RUNNING, DONE = Task("task-1", state="running"), Task("task-1", state="success")


async def begun(endings: Endings, *tasks: Task) -> asyncio.Task[Task]:
    """Somebody who waits for task-1, having been told of these tasks."""
    waiting = asyncio.create_task(endings.of("task-1", {task.moid: task for task in tasks}))
    await asyncio.sleep(0)
    return waiting


async def test_a_task_that_has_ended_already_is_not_waited_for() -> None:
    assert await Endings().of("task-1", {"task-1": DONE}) is DONE


async def test_a_task_is_waited_for_until_it_ends() -> None:
    endings = Endings()
    waiting = await begun(endings, RUNNING)
    endings.look({"task-1": RUNNING})
    assert not waiting.done()
    endings.look({"task-1": DONE})
    assert await waiting is DONE


async def test_a_task_that_nobody_has_told_of_yet_is_waited_for() -> None:
    endings = Endings()
    waiting = await begun(endings)
    endings.look({"task-2": DONE})
    endings.look({"task-1": DONE})
    assert await waiting is DONE


async def test_a_task_that_is_listed_no_more_has_ended() -> None:
    endings = Endings()
    waiting = await begun(endings, RUNNING)
    endings.look({})
    assert await waiting is RUNNING


async def test_a_task_that_vcenter_has_forgotten_is_asked_again() -> None:
    endings = Endings()
    waiting = await begun(endings, RUNNING)
    endings.lose(endings.waiting(), {})
    with pytest.raises(HypervisorUnavailable, match="forgotten"):
        await waiting


async def test_a_task_that_vcenter_still_lists_is_not_lost() -> None:
    endings = Endings()
    waiting = await begun(endings, RUNNING)
    endings.lose(endings.waiting(), {"task-1": RUNNING})
    endings.look({"task-1": DONE})
    assert await waiting is DONE


async def test_a_task_that_began_after_the_list_was_made_is_not_lost() -> None:
    endings = Endings()
    before = endings.waiting()
    waiting = await begun(endings)
    endings.lose(before, {})
    endings.look({"task-1": DONE})
    assert await waiting is DONE


async def test_nobody_waits_any_more_after_giving_up() -> None:
    endings = Endings()
    waiting = await begun(endings, RUNNING)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert endings.waiting() == frozenset()
