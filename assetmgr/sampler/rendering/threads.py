"""How many threads compute: many tensors one each, and what is small not in several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch

WORKERS = min(8, os.cpu_count() or 1)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


WORTH_A_THREAD = 1 << 18
"""Bytes of a tensor below which threads wait for the interpreter more than they work."""


def side_by_side(
    work: Callable[[_Item], _Result], items: Sequence[_Item], nbytes: int, device: torch.device
) -> Iterator[_Result]:
    """What `work` makes of the items, in their order; they have so many bytes on a device.

    While it runs, torch uses no threads of its own; what it used before it has again afterwards.
    Apple's backend is never called by several. Raises what `work` raises first.
    """
    with one_thread():
        if device.type == "mps" or nbytes < len(items) * WORTH_A_THREAD:
            yield from map(work, items)
            return
        pool = ThreadPoolExecutor(WORKERS, "tensors")
        try:
            yield from pool.map(work, items)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside torch computes each operation in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


SMALL = 2e9
"""Weights times places of a picture up to which threads wait for each other more than they work.

The demo's UNet at 64 pixels has 4e8 and takes half as long again in two threads as in one; Stable
Diffusion 1 has 6e10 there.
"""


def threads_for(weights: int, latents: int) -> AbstractContextManager[None]:
    """Threads for calls of a network of so many weights on so many latents of a picture.

    More or fewer threads may round otherwise: a picture must not depend on what ran before.
    """
    return one_thread() if is_small(weights, latents) else nullcontext()


def is_small(weights: int, latents: int) -> bool:
    """Whether several threads would wait for each other more than they work."""
    return weights * latents < SMALL
