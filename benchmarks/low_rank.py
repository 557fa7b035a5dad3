"""The truncated decomposition of extractions and resizes, against the whole one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.measure import Result
from converters.merge.low_rank import Size, truncated

T = TypeVar("T")

GOAL, GOAL_ERROR = 0.2, 1.01
_RANK = 32


def low_rank(_: Path, scale: float, rounds: int) -> Iterator[Result]:
    """Rank 32 of a layer of SDXL, in time and in error as ratios to the whole decomposition."""
    out, inner = (1280, 5120) if scale >= 1 else (160, 320)
    random = np.random.default_rng(0)
    decay = (np.arange(1, out + 1) ** -0.7).astype(np.float32)
    left = random.standard_normal((out, out), np.float32) * decay
    matrix = left @ random.standard_normal((out, inner), np.float32) / np.float32(out)
    whole, best = [], 0.0
    short, error = [], 0.0
    for _round in range(rounds):
        seconds, values = _timed(lambda: np.linalg.svd(matrix, full_matrices=False)[1])
        whole.append(seconds)
        best = float(np.sqrt(np.square(values[_RANK:], dtype=np.float64).sum()))
        seconds, spectrum = _timed(lambda: truncated(matrix, Size(rank=_RANK)))
        short.append(seconds)
        up, down = spectrum.factors()
        error = float(np.linalg.norm(matrix - up @ down))
    ratios = tuple(mine / limit for mine, limit in zip(short, whole, strict=True))
    case = f"rank {_RANK} of {out}x{inner}"
    value = statistics.median(ratios)
    yield Result("low rank", case, value, "x", GOAL, tuple(short), ratios)
    yield Result("low rank: error", case, error / best, "x", GOAL_ERROR)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result
