"""Renders two at a time, where one alone would leave a core idle.

A network too small for several threads is computed in one. So a second sampler process takes turns
with the first where many renders of such a base are left. Each computes as it would alone: the
pictures are the same.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, Self, TypeVar

from assetmgr.sampler.process.client import POLL_SECONDS, SamplerClient
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from converters.lanes import processors
from converters.progress import CancellableProgress, Progress

MANY = 12
"""Renders that are worth the start of another process, which takes the time of some."""

_Tag = TypeVar("_Tag")


def leaves_cores_idle(outcome: RenderOutcome) -> bool:
    """Whether another render like this one could be made beside it."""
    return outcome.one_thread and processors() > 1


class SideBySide(Generic[_Tag]):
    """Hands jobs to samplers, a thread for each; use as a context manager, in one thread.

    Each job has a tag, by which its answer is known. Leaving before all are answered ends what is
    being rendered.
    """

    def __init__(self, samplers: Sequence[SamplerClient]) -> None:
        self._count = len(samplers)
        self._idle: queue.SimpleQueue[SamplerClient] = queue.SimpleQueue()
        for sampler in samplers:
            self._idle.put(sampler)
        self._threads = ThreadPoolExecutor(self._count, "samplers")
        self._relay = _Relay()
        self._tags: dict[Future[RenderOutcome], _Tag] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._relay.cancel()
        self._threads.shutdown(cancel_futures=True)

    @property
    def has_enough(self) -> bool:
        """Whether every sampler has a job, and another lies ready."""
        return len(self._tags) > self._count

    @property
    def is_done(self) -> bool:
        """Whether all jobs were answered."""
        return not self._tags

    def give(self, tag: _Tag, job: RenderJob) -> None:
        """Have a job rendered."""
        self._tags[self._threads.submit(self._render, job)] = tag

    def next(self, progress: Progress) -> tuple[_Tag, Future[RenderOutcome]]:
        """The next answer, with its tag. Raises Cancelled when `progress` asks to stop."""
        done: set[Future[RenderOutcome]] = set()
        while not done:
            done, _ = wait(self._tags, POLL_SECONDS, FIRST_COMPLETED)
            for text in self._relay.messages():
                progress.message(text)
            progress.advance(0)
        first = next(each for each in self._tags if each in done)
        return self._tags.pop(first), first

    def _render(self, job: RenderJob) -> RenderOutcome:
        sampler = self._idle.get()
        try:
            return sampler.render(job, self._relay)
        finally:
            self._idle.put(sampler)


class _Relay(CancellableProgress):
    """Keeps what samplers say until the operation's own thread passes it on."""

    def __init__(self) -> None:
        super().__init__()
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def message(self, text: str) -> None:
        self._said.put(text)

    def messages(self) -> list[str]:
        """What was said since the last call."""
        return [self._said.get() for _ in range(self._said.qsize())]
