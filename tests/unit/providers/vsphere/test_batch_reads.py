import asyncio
from collections.abc import Mapping, Sequence

import pytest

from providers.core.errors import HypervisorUnavailable
from providers.core.lanes import PATIENCE
from providers.vsphere.batch_reads import BatchReads
from providers.vsphere.properties import Update, VMProperties


class VCenter:
    """Answers each call when it is let go."""

    def __init__(self) -> None:
        self.calls = list[list[str]]()
        self.free = asyncio.Event()
        self.fails = False

    async def read(self, moids: Sequence[str]) -> Mapping[str, Update]:
        self.calls.append(list(moids))
        await self.free.wait()
        if self.fails:
            raise HypervisorUnavailable("It is away.")
        return {moid: Update(VMProperties, moid, {}) for moid in moids if moid != "gone"}


async def ask(reads: BatchReads, *moids: str) -> list[asyncio.Task[Update | None]]:
    """Callers who all wait by now."""
    tasks = [asyncio.create_task(reads.read(moid)) for moid in moids]
    await asyncio.sleep(0)
    return tasks


async def test_those_who_ask_while_a_call_is_under_way_share_the_next() -> None:
    vcenter = VCenter()
    reads = BatchReads(vcenter.read)
    first = await ask(reads, "a")
    await asyncio.sleep(0)
    others = await ask(reads, "b", "c")
    vcenter.free.set()
    assert [update.moid for update in await asyncio.gather(*first, *others) if update] == ["a", "b", "c"]
    assert vcenter.calls == [["a"], ["b", "c"]]


async def test_a_later_read_gets_no_answer_to_an_earlier_one() -> None:
    vcenter = VCenter()
    reads = BatchReads(vcenter.read)
    first = await ask(reads, "a")
    await asyncio.sleep(0)
    second = await ask(reads, "a")
    vcenter.free.set()
    await asyncio.gather(*first, *second)
    assert vcenter.calls == [["a"], ["a"]]


async def test_a_vm_that_does_not_exist_is_none() -> None:
    vcenter = VCenter()
    vcenter.free.set()
    assert await BatchReads(vcenter.read).read("gone") is None


async def test_a_call_that_fails_fails_only_the_reads_it_was_made_for() -> None:
    vcenter = VCenter()
    vcenter.fails = True
    vcenter.free.set()
    reads = BatchReads(vcenter.read)
    with pytest.raises(HypervisorUnavailable):
        await reads.read("a")
    vcenter.fails = False
    assert await reads.read("a")


async def test_one_who_gives_up_spoils_nothing_for_the_others() -> None:
    vcenter = VCenter()
    reads = BatchReads(vcenter.read)
    gives_up, stays = await ask(reads, "a", "a")
    gives_up.cancel()
    vcenter.free.set()
    assert await stays


@pytest.mark.looptime
async def test_a_call_that_is_not_answered_holds_up_the_next_for_a_second_only() -> None:
    hanging, calls = asyncio.Event(), list[list[str]]()

    async def read(moids: Sequence[str]) -> Mapping[str, Update]:
        calls.append(list(moids))
        if calls == [["hangs"]]:
            await hanging.wait()
        return {moid: Update(VMProperties, moid, {}) for moid in moids}

    reads = BatchReads(read)
    first = await ask(reads, "hangs")
    await asyncio.sleep(0.5)
    async with asyncio.timeout(PATIENCE):
        assert (await reads.read("a") or Update(VMProperties, "", {})).moid == "a"
    await asyncio.sleep(PATIENCE)
    assert (await reads.read("b") or Update(VMProperties, "", {})).moid == "b"
    assert not first[0].done()
    hanging.set()
    await asyncio.gather(*first)
    assert (await reads.read("c") or Update(VMProperties, "", {})).moid == "c"
    assert calls == [["hangs"], ["a"], ["b"], ["c"]]
