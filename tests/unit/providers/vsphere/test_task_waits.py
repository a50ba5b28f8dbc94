import asyncio

import pytest

from providers.core.errors import HypervisorUnavailable
from providers.vsphere.properties import Task
from providers.vsphere.task_waits import TaskWaits

RUNNING, DONE = Task("task-1", state="running"), Task("task-1", state="success")


async def begun(waits: TaskWaits, *tasks: Task) -> asyncio.Task[Task]:
    """Somebody who waits for task-1, having been told of these tasks."""
    waiting = asyncio.create_task(waits.until_ended("task-1", {task.moid: task for task in tasks}))
    await asyncio.sleep(0)
    return waiting


async def test_a_task_that_has_ended_already_is_not_waited_for() -> None:
    assert await TaskWaits().until_ended("task-1", {"task-1": DONE}) is DONE


async def test_a_task_is_waited_for_until_it_ends() -> None:
    waits = TaskWaits()
    waiting = await begun(waits, RUNNING)
    waits.update({"task-1": RUNNING})
    assert not waiting.done()
    waits.update({"task-1": DONE})
    assert await waiting is DONE


async def test_a_task_that_is_not_listed_yet_is_waited_for() -> None:
    waits = TaskWaits()
    waiting = await begun(waits)
    waits.update({"task-2": DONE})
    waits.update({"task-1": DONE})
    assert await waiting is DONE


async def test_a_task_that_is_listed_no_more_and_was_not_seen_to_end_is_asked_again() -> None:
    waits = TaskWaits()
    waiting = await begun(waits, RUNNING)
    waits.update({})
    with pytest.raises(HypervisorUnavailable, match="tells the end of the task no more"):
        await waiting


async def test_a_task_that_is_listed_no_more_after_its_end_has_ended() -> None:
    waits = TaskWaits()
    waiting = await begun(waits, RUNNING)
    waits.update({"task-1": DONE})
    waits.update({})
    assert await waiting is DONE


async def test_a_task_that_vcenter_has_forgotten_is_asked_again() -> None:
    waits = TaskWaits()
    waiting = await begun(waits, RUNNING)
    waits.fail_forgotten(waits.waiting(), {})
    with pytest.raises(HypervisorUnavailable, match="forgotten"):
        await waiting


async def test_a_task_that_vcenter_still_lists_is_not_lost() -> None:
    waits = TaskWaits()
    waiting = await begun(waits, RUNNING)
    waits.fail_forgotten(waits.waiting(), {"task-1": RUNNING})
    waits.update({"task-1": DONE})
    assert await waiting is DONE


async def test_a_task_that_began_after_the_list_was_made_is_not_lost() -> None:
    waits = TaskWaits()
    before = waits.waiting()
    waiting = await begun(waits)
    waits.fail_forgotten(before, {})
    waits.update({"task-1": DONE})
    assert await waiting is DONE


async def test_a_wait_that_is_cancelled_is_gone() -> None:
    waits = TaskWaits()
    waiting = await begun(waits, RUNNING)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waits.waiting() == frozenset()
