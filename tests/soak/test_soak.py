"""What a seed decides, and that no harm is left half done."""

import asyncio

import pytest

from tests.soak.attack import to_its_end
from tests.soak.soak import ALL, GROUNDS, Case


def harms(seed: int, ground: str = "sim", allowed: frozenset[str] = ALL) -> frozenset[str]:
    return Case(ground, seed, 1, allowed).harms


def test_a_seed_has_the_same_harms_each_time() -> None:
    assert [harms(seed) for seed in range(20)] == [harms(seed) for seed in range(20)]


def test_seeds_differ_in_their_harms() -> None:
    assert len({harms(seed) for seed in range(20)}) > 10


@pytest.mark.parametrize("ground", GROUNDS)
def test_no_history_is_without_harm(ground: str) -> None:
    assert all(harms(seed, ground, frozenset({"kill"})) == {"kill"} for seed in range(20))


def test_a_ground_has_only_harms_that_it_knows() -> None:
    assert all(not harms(seed, "sim") & {"libvirtd", "qemu", "api"} for seed in range(20))


async def test_what_was_begun_is_ended_before_it_is_cancelled() -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def harm() -> None:
        begun.set()
        await go_on.wait()
        ended.set()

    task = asyncio.create_task(to_its_end(harm()))
    await begun.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
