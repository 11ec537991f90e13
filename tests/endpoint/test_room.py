"""Room in a local server's context: who waits, and that nobody waits for ever."""

import asyncio

import pytest

from bestfor.endpoint.room import ContextRoom, tokens_of


def test_a_prompt_is_estimated_by_its_bytes_and_its_answers_are_counted_whole():
    assert tokens_of("", 7) == 7
    assert tokens_of("abcd", 0) == 2
    assert tokens_of("\u4e2d" * 5, 1) == 6


@pytest.mark.parametrize(("wanted", "at_once"), [(40, 2), (50, 2), (51, 1), (500, 1), (1, 12)])
def test_no_more_are_under_way_than_there_is_room_for(wanted, at_once):
    async def all_of_them():
        room, now, most = ContextRoom(100), 0, 0

        async def one():
            nonlocal now, most
            async with room.hold(wanted):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0)
                now -= 1

        await asyncio.gather(*(one() for _ in range(12)))
        return most

    assert asyncio.run(all_of_them()) == at_once


def test_whoever_fails_or_is_cancelled_leaves_its_room_to_others():
    async def both():
        room, begun = ContextRoom(10), asyncio.Event()

        async def for_ever():
            async with room.hold(10):
                begun.set()
                await asyncio.Event().wait()

        async def waits():
            async with room.hold(10):
                raise AssertionError

        holder = asyncio.ensure_future(for_ever())
        await begun.wait()
        waiting = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        for task in (waiting, holder):
            task.cancel()
        await asyncio.gather(waiting, holder, return_exceptions=True)
        with pytest.raises(ValueError, match="failed"):
            async with room.hold(10):
                raise ValueError("failed")
        async with room.hold(10):
            return True

    assert asyncio.run(both())
