"""Renders jobs one after the other, keeping what the next job may need again.

A job that memory does not suffice for is attempted again with more thrift, and what that took is
remembered for jobs like it.
"""

from __future__ import annotations

import torch

from assetmgr.sampler.process.attempt import Attempt
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from assetmgr.sampler.process.warm import Kept
from assetmgr.sampler.rendering.devices import choose_device, round_convolutions, start_measuring
from assetmgr.sampler.rendering.memory import Measure, Thrift, is_exhausted, release_cache
from assetmgr.sampler.rendering.render import Picture
from converters.errors import OutOfMemory
from converters.progress import Progress


class Session:
    """The state of a sampler process; `learned` are the measures that jobs under a strain took."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.learned: dict[tuple[object, ...], frozenset[Measure]] = {}

    def render(self, job: RenderJob, progress: Progress) -> RenderOutcome:
        """Render a job, judge the picture, write its files.

        A subject that loads or renders badly is an outcome with failed checks. Raises the errors of
        files that cannot be read or used, NotAvailable for a missing device, and OutOfMemory when
        the memory does not suffice, whatever is done to save it.
        """
        return self.drawn(job, progress)[0]

    def drawn(self, job: RenderJob, progress: Progress) -> tuple[RenderOutcome, Picture | None]:
        """As `render`, and the picture; None where nothing could be drawn."""
        device = choose_device(job.device)
        start_measuring(device)
        round_convolutions(job.dtype)
        thrift = Thrift.begin(device, job.low_vram, self.learned.get(_strain(job), frozenset()))
        while True:
            try:
                return Attempt(self.kept, job, thrift, progress).outcome()
            except (MemoryError, RuntimeError, OutOfMemory) as error:
                if not is_exhausted(error):
                    raise
                measure = thrift.tighten(progress)
                if measure is None:
                    self.kept.forget()
                    raise _exhausted(job, device) from error
            finally:
                self.learned[_strain(job)] = frozenset(thrift.forced)
            if measure is Measure.OFFLOAD:
                self.kept.forget()
            elif self.kept.warm is not None:
                self.kept.warm.bundle.spares.clear()
            release_cache()


def _exhausted(job: RenderJob, device: torch.device) -> OutOfMemory:
    return OutOfMemory(
        f"not enough memory to render {job.width}x{job.height} on {device.type}",
        path=job.subject.path,
        hint="a smaller --size needs less",
    )


def _strain(job: RenderJob) -> tuple[object, ...]:
    """What the memory that a job needs depends on: where one failed, the next will."""
    return (job.checkpoint.path, job.device, job.dtype, job.width, job.height)
