"""What runs on the workers of a Ray cluster in tests: importable there by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from assetmgr.operations.preview.ray_cluster import RemoteJob, Rendered
from assetmgr.sampler.process.jobs import Check, RenderOutcome


def die_once_or_always(items: Sequence[tuple[str, int]]) -> Iterator[tuple[int, int]]:
    """The number of each item with the process that did it.

    An item's folder says which numbers kill their worker: files `always-N`, and `once-N`, which
    disappears as it does so.
    """
    for folder, number in items:
        once, always = Path(folder, f"once-{number}"), Path(folder, f"always-{number}")
        if once.exists():
            once.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if always.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        yield number, os.getpid()


def pretend_to_render(items: Sequence[RemoteJob]) -> Iterator[Rendered]:
    """A picture of some bytes for each; its worker dies once in the middle of the first base."""
    for item in items:
        killer = Path(item.job.checkpoint.path).parent / "once"
        if killer.exists() and item.number == 1:
            killer.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        parameters = item.job.parameters("cpu", "fp32")
        check = Check("finite", True, None, None, "")
        outcome = RenderOutcome("/there.png", "/there.webp", (check,), 1.0, 0.5, None, parameters)
        image = b"png of " + item.job.subject.name.encode()
        yield Rendered(outcome, None, image, b"webp", b"small png")


def only_here(items: Sequence[int]) -> Iterator[int]:
    """Tests have the workers look for it where it is not."""
    yield from items
