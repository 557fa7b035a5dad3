"""Consumers of one stream: each gets every block in order, whoever has time for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from converters import lanes as lanes_module
from converters.lanes import RING_BLOCKS, Countdown, Lanes, Ring


@pytest.fixture(params=[1, 2, 8])
def processors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    count: int = request.param
    monkeypatch.setattr(lanes_module, "processors", lambda: count)
    return count


def block(number: int) -> memoryview:
    return memoryview(number.to_bytes(4, "little"))


def feed(lanes: Lanes, blocks: int) -> None:
    for number in range(blocks):
        lanes.feed(block(number))


def noting(seen: list[int]) -> Callable[[memoryview], None]:
    return lambda view: seen.append(int.from_bytes(view, "little"))


@pytest.mark.usefixtures("processors")
def test_each_consumer_gets_every_block_in_order() -> None:
    seen: list[list[int]] = [[], [], []]
    lanes = Lanes([noting(mine) for mine in seen])
    threads = list(lanes._helpers)
    feed(lanes, 500)
    lanes.finish()
    assert seen == [list(range(500))] * 3
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.usefixtures("processors")
def test_memory_is_reused_when_all_are_done_with_it_and_not_before() -> None:
    seen: list[list[int]] = [[], []]
    lanes, ring = Lanes([noting(mine) for mine in seen]), Ring(2, 4)
    for number in range(200):
        piece = ring.take(4, lanes)
        piece.view[:] = block(number)
        lanes.feed(piece.view, Countdown(2, piece.release))
    lanes.finish()
    assert seen == [list(range(200))] * 2


def test_who_feeds_works_where_the_others_are_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "processors", lambda: 2)
    here, held, let_go = threading.get_ident(), threading.Event(), threading.Event()
    workers: list[int] = []

    def slow(_: memoryview) -> None:
        held.set()
        assert let_go.wait(60)

    lanes = Lanes([slow, lambda _: workers.append(threading.get_ident())])
    lanes.feed(block(0))
    assert held.wait(60)  # the only helper; what follows is for this thread
    for number in range(1, RING_BLOCKS):
        lanes.feed(block(number))
    letting = threading.Timer(0.2, let_go.set)
    letting.start()
    lanes.feed(block(RING_BLOCKS))  # there is no room before the helper goes on
    lanes.finish()
    letting.join()
    assert workers.count(here) >= RING_BLOCKS - 1


@pytest.mark.usefixtures("processors")
def test_a_consumer_that_fails_fails_the_whole_and_blocks_nobody() -> None:
    def broken(_: memoryview) -> None:
        raise ValueError("broken consumer")

    seen: list[int] = []
    released: list[int] = []
    lanes = Lanes([broken, noting(seen)])
    for number in range(50):
        done = Countdown(2, lambda number=number: released.append(number))  # type: ignore[misc]
        lanes.feed(block(number), done)
    with pytest.raises(ValueError, match="broken consumer"):
        lanes.finish()
    assert seen == list(range(50))
    assert sorted(released) == list(range(50))


@pytest.mark.usefixtures("processors")
def test_leaving_early_ends_the_threads_whatever_is_left() -> None:
    lanes = Lanes([noting([]) for _ in range(3)])
    feed(lanes, RING_BLOCKS)
    before = list(lanes._helpers)
    lanes.abandon()
    assert not any(thread.is_alive() for thread in before)


def test_ctrl_c_while_working_for_others_is_not_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "processors", lambda: 2)
    here, held, let_go = threading.get_ident(), threading.Event(), threading.Event()

    def slow(_: memoryview) -> None:
        held.set()
        assert let_go.wait(60)

    def interrupted(_: memoryview) -> None:
        if threading.get_ident() == here:
            raise KeyboardInterrupt

    lanes = Lanes([slow, interrupted])
    lanes.feed(block(0))
    assert held.wait(60)
    with pytest.raises(KeyboardInterrupt):
        feed(lanes, RING_BLOCKS + 1)
    let_go.set()
    lanes.abandon()
