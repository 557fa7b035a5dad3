"""Many previews in a row: their order, what is there already, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from assetmgr.operations.preview_plan import Subject, base_of
from assetmgr.sampler.jobs import Check, Parameters, RenderJob, RenderOutcome
from converters.progress import Progress


def in_order(
    subjects: list[Subject], bases: Mapping[str, Subject]
) -> list[tuple[Subject, Subject]]:
    """Subjects with what renders them; what renders on one base together, so that it loads once.

    A base renders in the midst of its adapters; checkpoints that are nobody's base come last.
    """
    order = {base.file.path: number for number, base in enumerate(bases.values())}
    pairs = [(each, base) for each in subjects if (base := base_of(each, bases)) is not None]
    return sorted(pairs, key=lambda pair: order.get(pair[1].file.path, len(order)))


def finished(subject: Subject, job: RenderJob) -> RenderOutcome | None:
    """What the library knows of this very render; None unless it passed and its pictures are there.

    Where the job leaves device and type of the weights open, any will do. A render that failed is
    no reason not to try again.
    """
    last = subject.last
    if last is None or last.verdict != "ok" or last.path is None or last.thumbnail is None:
        return None
    known = last.parameters
    device, dtype = (
        str(known.get(name)) if wish == "auto" else wish
        for name, wish in (("device", job.device), ("dtype", job.dtype))
    )
    parameters = job.parameters(device, dtype)
    if asdict(parameters) != dict(known) or last.path != job.image:
        return None
    if not all(Path(picture).is_file() for picture in (last.path, last.thumbnail)):
        return None
    return _outcome(subject, parameters)


def _outcome(subject: Subject, parameters: Parameters) -> RenderOutcome | None:
    last = subject.last
    if last is None:
        return None
    checks = tuple(Check(**asdict(check)) for check in last.checks)
    return RenderOutcome(last.path, last.thumbnail, checks, 0.0, 0.0, None, parameters)


class BatchProgress(Progress):
    """Passes everything on and says which render of how many it is, and the time left.

    The time is what renders have taken on the average so far.
    """

    def __init__(
        self, inner: Progress, total: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner = inner
        self._total = total
        self._clock = clock
        self._started = clock()
        self._number = 0
        self._name = ""

    def begin(self, name: str) -> None:
        """The next render begins."""
        self._number += 1
        self._name = name

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """A stage of the render at hand."""
        if self._total > 1:
            label = f"{self._number} of {self._total}{self._left()}, {self._name}: {label}"
        self._inner.stage(label, total, unit)

    def advance(self, amount: int = 1) -> None:
        """As the render at hand."""
        self._inner.advance(amount)

    def message(self, text: str) -> None:
        """As the render at hand."""
        self._inner.message(text)

    def _left(self) -> str:
        done = self._number - 1
        if done == 0:
            return ""
        each = (self._clock() - self._started) / done
        return f", {duration(each * (self._total - done))} left"


def duration(seconds: float) -> str:
    """A rough time in words: `40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
