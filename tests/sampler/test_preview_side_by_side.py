"""Many small renders go two at a time; what comes of them is as of one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.previewing import BASE, Sampler, Setting, Shelf, asset

from assetmgr.operations.failures import Failure
from assetmgr.operations.preview import render, side_by_side
from assetmgr.operations.preview.render import PlannedPreview, PreviewRequest, PreviewResult
from assetmgr.operations.preview.side_by_side import MANY
from assetmgr.operations.preview.subject import Subject
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from converters.errors import Cancelled, FileMissing
from converters.progress import Progress

LORAS = range(2, 3 + MANY)
"""As many as are worth a second sampler, after the first."""


class Small(Sampler):
    """Renders what is too small for several threads; `meeting` is between two samplers."""

    meeting: threading.Barrier | None = None

    def render(self, job: RenderJob, progress: Progress) -> RenderOutcome:
        if self.meeting is not None and job.subject.name in ("lora-3", "lora-4"):
            self.meeting.wait(30)
        if job.subject.name == "telling":
            progress.message("going on with less")
        if job.subject.name == "endless":
            while True:
                progress.advance(0)
        return replace(super().render(job, progress), one_thread=True)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "processors", lambda: 2)


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> list[Small]:
    """The samplers that are begun for help."""
    begun: list[Small] = []

    @contextmanager
    def begin() -> Iterator[Small]:
        begun.append(Small())
        yield begun[-1]

    monkeypatch.setattr(render, "_begun", begin)
    return begun


def setting(tmp_path: Path, *names: str) -> Setting:
    """A base and LoRAs, the first but one and so on with these names."""
    loras = [asset(number, "lora") for number in LORAS]
    for lora, name in zip(loras[1:], names, strict=False):
        lora.name = name
    return Setting(Shelf([BASE, *loras]), tmp_path, sampler=Small())


REQUEST = PreviewRequest(query="kind:lora")


def test_two_samplers_render_at_once_and_everything_is_recorded(
    tmp_path: Path, second: list[Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = setting(tmp_path)
    monkeypatch.setattr(Small, "meeting", threading.Barrier(2))
    results = library.run(REQUEST)
    (helper,) = second
    jobs = [job.subject.name for job in (*library.sampler.jobs, *helper.jobs)]
    assert sorted(jobs) == sorted(f"lora-{number}" for number in LORAS)
    assert helper.jobs
    assert set(library.shelf.previews) == set(LORAS)
    assert sorted(result.asset or 0 for result in results if isinstance(result, PreviewResult)) == [
        *LORAS
    ]


def test_what_fails_is_a_failure_of_its_own(tmp_path: Path, second: list[Small]) -> None:
    library = setting(tmp_path, "broken")
    failures = [result for result in library.run(REQUEST) if isinstance(result, Failure)]
    assert [failure.code for failure in failures] == ["corrupt"]
    assert len(library.shelf.previews) == len(LORAS) - 1
    assert second


class Listening(Progress):
    """Remembers what is said, and asks to stop after so many renders."""

    def __init__(self, renders: int) -> None:
        self.left = renders
        self.said: list[str] = []
        self.stages: list[str] = []

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.stages.append(label)
        self.left -= label.endswith("rendered")

    def advance(self, amount: int = 1) -> None:
        if self.left <= 0:
            raise Cancelled

    def message(self, text: str) -> None:
        self.said.append(text)


def test_cancelling_ends_what_is_being_rendered_and_keeps_what_is_done(
    tmp_path: Path, second: list[Small]
) -> None:
    library = setting(tmp_path, "endless")
    with pytest.raises(Cancelled):
        library.run(REQUEST, Listening(3))
    assert 3 <= len(library.shelf.previews) < len(LORAS)
    assert second


def test_what_cannot_be_rendered_any_more_counts_in_the_progress(
    tmp_path: Path, second: list[Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    def require(subject: Subject) -> None:
        if subject.file.name == "gone":
            raise FileMissing("no such file", path=subject.file.path)

    monkeypatch.setattr(render, "require_subject", require)
    progress = Listening(1000)
    results = setting(tmp_path, "gone").run(REQUEST, progress)
    assert [result.code for result in results if isinstance(result, Failure)] == ["not_found"]
    assert progress.stages[-1].startswith(f"{len(LORAS)} of {len(LORAS)}, ")
    assert second


def test_what_fills_all_cores_is_not_compared_with_all_that_is_left(
    tmp_path: Path, second: list[Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[PlannedPreview] = []
    monkeypatch.setattr(PlannedPreview, "strains_like", lambda _, other: compared.append(other))
    library = setting(tmp_path)
    library.sampler = Sampler()
    assert len(library.run(REQUEST)) == len(LORAS)
    assert (compared, second) == ([], [])


def test_what_samplers_say_is_passed_on(tmp_path: Path, second: list[Small]) -> None:
    progress = Listening(1000)
    setting(tmp_path, "telling").run(REQUEST, progress)
    assert progress.said == ["going on with less"]
    assert second


@pytest.mark.parametrize("reason", ["few", "one core", "several threads"])
def test_one_sampler_renders_alone_where_two_would_not_be_quicker(
    tmp_path: Path, second: list[Small], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    library = setting(tmp_path)
    if reason == "few":
        del library.shelf.content[-1]
    elif reason == "one core":
        monkeypatch.setattr(side_by_side, "processors", lambda: 1)
    else:
        library.sampler = Sampler()
    results = library.run(REQUEST)
    assert [r.asset for r in results if isinstance(r, PreviewResult)] == list(
        LORAS[: len(results)]
    ), "in their order"
    assert second == []
