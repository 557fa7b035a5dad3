"""Calls of several threads that are done in one step."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.together import Together


class Slow:
    """Doubles numbers, the first time not before it is let; refuses thirteen."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(sorted(numbers))
        self.begun.set()
        assert self.may_go_on.wait(60)
        if 13 in numbers:
            raise ValueError("unlucky")
        return [2 * number for number in numbers]


def test_who_comes_while_one_is_at_work_is_done_together() -> None:
    slow = Slow()
    double = Together(slow)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(double, 1)
        assert slow.begun.wait(60)
        others = [pool.submit(double, number) for number in (2, 3, 4)]
        while len(double.waiting) < 3:
            threading.Event().wait(0.001)
        slow.may_go_on.set()
        assert [each.result(60) for each in (first, *others)] == [2, 4, 6, 8]
    assert slow.batches == [[1], [2, 3, 4]]


def test_what_fails_for_one_does_not_fail_for_the_others() -> None:
    slow = Slow()
    double = Together(slow)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(double, 1)
        assert slow.begun.wait(60)
        others = [pool.submit(double, number) for number in (2, 13, 4)]
        while len(double.waiting) < 3:
            threading.Event().wait(0.001)
        slow.may_go_on.set()
        assert (first.result(60), others[0].result(60), others[2].result(60)) == (2, 4, 8)
        with pytest.raises(ValueError, match="unlucky"):
            others[1].result(60)
    assert [13] in slow.batches
