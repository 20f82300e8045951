"""Turns: whoever waits comes soon, however much the others send."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.service.turns import Turns


async def queued(turns: Turns, wanted: list[tuple[str, int]]) -> list[str]:
    """Who comes when, of messages that all wait for the same turn."""
    order: list[str] = []

    async def message(name: str, rows: int) -> None:
        async with turns.turn(name, rows):
            order.append(name)

    async with asyncio.TaskGroup() as group:
        for name, rows in wanted:
            group.create_task(message(name, rows))
    return order


async def test_a_flood_lets_the_others_pass_after_one_of_its_messages() -> None:
    order = await queued(
        Turns(), [("flood", 5_000)] * 200 + [("quiet", 100)] * 40 + [("other", 100)] * 40
    )
    assert order[0] == "flood"
    for name in ("quiet", "other"):
        assert order.index(name) <= 3
    last = max(order.index("quiet"), len(order) - 1 - order[::-1].index("quiet"))
    # 40 messages of 100 rows weigh less than one of 5,000: all of them pass in one such message.
    assert order[: last + 1].count("flood") <= 2


async def test_equal_publishers_take_turns() -> None:
    order = await queued(Turns(), [("a", 1_000)] * 20 + [("b", 1_000)] * 20)
    for start in range(1, 39, 2):
        assert set(order[start : start + 2]) == {"a", "b"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9_000)), min_size=1, max_size=60))
def test_nobody_who_waits_falls_behind_by_more_than_two_messages(
    wanted: list[tuple[str, int]],
) -> None:
    """Of any two publishers that both still wait, neither has had two of the largest messages more
    rows than the other: that is the bound of start-time fair queueing."""
    order = asyncio.run(queued(Turns(), wanted))
    assert sorted(order) == sorted(name for name, _ in wanted)
    left = Counter(name for name, _ in wanted)
    rows = {name: iter([n for who, n in wanted if who == name]) for name in left}
    had = dict.fromkeys(left, 0)
    largest = max(max(n, 50) for _, n in wanted)
    for name in order:
        waiting = [one for one in left if left[one] > 0]
        served = [had[one] for one in waiting]
        assert max(served) - min(served) <= 2 * largest
        had[name] += max(next(rows[name]), 50)
        left[name] -= 1


async def test_a_turn_that_nobody_takes_goes_on() -> None:
    turns = Turns()
    order: list[str] = []

    async def message(name: str) -> None:
        async with turns.turn(name, 10):
            order.append(name)

    async with turns.turn("first", 10):
        waiting = [asyncio.create_task(message(name)) for name in "abc"]
        await asyncio.sleep(0)
        assert turns.waiting == 3
        waiting[0].cancel()  # while it waits
    await asyncio.sleep(0)
    waiting[1].cancel()  # when it was just called
    await asyncio.wait(waiting)
    assert order in (["c"], ["b", "c"])
    with pytest.raises(RuntimeError, match="refused"):
        async with turns.turn("d", 10):
            raise RuntimeError("refused")
    async with asyncio.timeout(10.0):
        await message("e")
    assert order[-1] == "e"


async def test_the_event_loop_goes_on_between_two_turns() -> None:
    turns, seen = Turns(), []

    async def message(number: int) -> None:
        async with turns.turn("a", 10):
            seen.append(number)

    tasks = [asyncio.create_task(message(number)) for number in range(20)]
    counts = []
    while not all(task.done() for task in tasks):
        counts.append(len(seen))
        await asyncio.sleep(0)
    assert all(after - before <= 1 for before, after in pairwise(counts))
    assert seen == list(range(20))
