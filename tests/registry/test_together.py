"""Calls of several threads that are done in one step."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from helpers.waiting import PATIENCE, wait_until

from registry.storage.together import Together


class Slow:
    """Doubles numbers, the first time not before it is let; refuses thirteen."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(sorted(numbers))
        self.begun.set()
        assert self.may_go_on.wait(PATIENCE)
        if 13 in numbers:
            raise ValueError("unlucky")
        return [2 * number for number in numbers]


def doubled_at_once(slow: Slow, first: int, others: Sequence[int]) -> list[Future[int]]:
    """What comes of a number, and of others that came while it was at work."""
    double = Together(slow)
    with ThreadPoolExecutor(1 + len(others)) as pool:
        begun = pool.submit(double, first)
        assert slow.begun.wait(PATIENCE)
        waiting = [pool.submit(double, number) for number in others]
        wait_until(lambda: len(double.waiting) == len(others))
        slow.may_go_on.set()
    return [begun, *waiting]


def test_who_comes_while_one_is_at_work_is_done_together() -> None:
    slow = Slow()
    assert [each.result() for each in doubled_at_once(slow, 1, (2, 3, 4))] == [2, 4, 6, 8]
    assert slow.batches == [[1], [2, 3, 4]]


def test_what_fails_for_one_does_not_fail_for_the_others() -> None:
    slow = Slow()
    first, second, unlucky, last = doubled_at_once(slow, 1, (2, 13, 4))
    assert (first.result(), second.result(), last.result()) == (2, 4, 8)
    with pytest.raises(ValueError, match="unlucky"):
        unlucky.result()
    assert [13] in slow.batches
