"""Many previews in a row: what is made again, in which order, and what survives a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.previewing import BASE, LORA, Setting, Shelf, asset
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.config import Settings, load_settings
from assetmgr.operations.failures import Failure
from assetmgr.operations.preview.bases import base_of
from assetmgr.operations.preview.batch import in_order
from assetmgr.operations.preview.render import PreviewRequest, PreviewResult
from assetmgr.operations.preview.subject import Subject, from_asset
from assetmgr.operations.read_ahead import ReadAhead
from assetmgr.paths import Paths
from assetmgr.sampler.process.batch_progress import BatchProgress, duration
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from converters.errors import BadValue, Cancelled
from converters.progress import Progress
from registry.records import File


@pytest.fixture
def library(tmp_path: Path) -> Setting:
    return Setting(Shelf([BASE, LORA]), tmp_path)


def rendered(library: Setting, request: PreviewRequest) -> list[str]:
    """The names of what a request has rendered."""
    library.sampler.jobs.clear()
    library.run(request)
    return [job.subject.name for job in library.sampler.jobs]


def test_a_second_run_renders_nothing_and_gives_the_same_results(library: Setting) -> None:
    first = library.run(PreviewRequest())
    library.sampler.jobs.clear()
    second = library.run(PreviewRequest())
    assert library.sampler.jobs == []
    assert all(isinstance(result, PreviewResult) and result.skipped for result in second)
    for mine, again in zip(first, second, strict=True):
        assert isinstance(mine, PreviewResult)
        assert isinstance(again, PreviewResult)
        outcome = replace(mine.outcome, seconds=0.0, load_seconds=0.0)
        assert again == replace(mine, skipped=True, outcome=outcome)


def test_an_interrupted_run_goes_on_where_it_was(library: Setting) -> None:
    library.shelf.content.append(asset(3, "lora", name="cancelled"))
    library.shelf.content.append(asset(4, "lora"))
    with pytest.raises(Cancelled):
        library.run(PreviewRequest())
    assert set(library.shelf.previews) == {1, 2}
    library.shelf.content[2] = asset(3, "lora", name="patient")
    assert rendered(library, PreviewRequest()) == ["patient", "lora-4"]


class StopAt(Progress):
    """Cancels at one of the events."""

    def __init__(self, event: int) -> None:
        self.left = event

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.advance()

    def advance(self, amount: int = 1) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled


@pytest.mark.parametrize("event", range(6))
def test_what_was_done_before_a_cancellation_is_kept_whenever_it_comes(
    library: Setting, event: int
) -> None:
    library.shelf.content.append(asset(3, "lora"))
    with pytest.raises(Cancelled):
        library.run(PreviewRequest(), StopAt(event))
    done = event // 2  # each render has two events
    assert len(library.shelf.previews) == done
    assert len(rendered(library, PreviewRequest())) == 3 - done


def scanned(path: Path, number: int) -> SimpleNamespace:
    """A LoRA as the library knows it from a scan of its file."""
    path.write_bytes(b"as scanned")
    status = path.stat()
    file = File(number, str(path), "present", 10, status.st_mtime_ns, status.st_ino)
    return asset(number, "lora", path=str(path), files=(file,))


@pytest.mark.parametrize(
    ("happen", "code"),
    [
        (Path.unlink, "not_found"),
        (lambda path: path.write_bytes(b"another one"), "source_changed"),
    ],
    ids=["gone", "changed"],
)
def test_a_file_that_vanishes_or_changes_on_the_way_is_an_error_of_its_own(
    library: Setting, tmp_path: Path, happen: Callable[[Path], object], code: str
) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("before", "during", "sound")]
    library.shelf.content += [scanned(path, 3 + n) for n, path in enumerate(paths)]
    happen(paths[0])
    draw = library.sampler.render

    def render(job: RenderJob, progress: Progress) -> RenderOutcome:
        outcome = draw(job, progress)
        if job.subject.path == str(paths[1]):
            happen(paths[1])
        return outcome

    library.sampler.render = render
    results = library.run(PreviewRequest())
    failures = [result for result in results if isinstance(result, Failure)]
    assert [failure.path for failure in failures] == [str(path) for path in paths[:2]]
    assert {failure.code for failure in failures} == {code}
    assert set(library.shelf.previews) == {1, 2, 5}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"steps": 5},
        {"cfg": 3.0},
        {"prompt": "another"},
        {"negative": "blurry"},
        {"sampler": "Euler"},
        {"size": (64, 64)},
        {"device": "cuda"},
        {"dtype": "fp16"},
        {"again": True},
    ],
)
def test_another_setting_or_the_wish_for_it_renders_all_again(
    library: Setting, change: dict[str, object]
) -> None:
    library.run(PreviewRequest())
    assert len(rendered(library, replace(PreviewRequest(), **change))) == 2


def test_a_model_that_chose_another_sampler_is_not_rendered_again(library: Setting) -> None:
    edm = asset(5, "checkpoint", base="sdxl", prediction="edm")
    library.shelf.content[:] = [edm, asset(6, "lora", base="sdxl"), BASE]
    library.run(PreviewRequest())
    for number, sampler in ((5, "DPM++ 2M Karras"), (6, "DPM++ 2M"), (1, "DPM++ 2M")):
        before = library.shelf.previews[number]
        parameters = {**before.parameters, "sampler": sampler}
        library.shelf.record_preview(number, replace(before, parameters=parameters))
    assert rendered(library, PreviewRequest()) == [BASE.name], "which takes the one asked for"
    assert set(rendered(library, PreviewRequest(sampler="Euler"))) == {
        "checkpoint-5",
        "lora-6",
        BASE.name,
    }


def test_what_has_no_strength_does_not_care_for_another_one(library: Setting) -> None:
    library.run(PreviewRequest())
    assert rendered(library, PreviewRequest(weight=0.5)) == [LORA.name]


def test_another_base_renders_its_adapters_again(library: Setting) -> None:
    library.shelf.content.append(asset(8, "checkpoint"))
    library.run(PreviewRequest())
    assert rendered(library, PreviewRequest(base="#8")) == [LORA.name]


@pytest.mark.parametrize("lost", [".png", ".webp", ".thumbnail.png"])
def test_what_failed_or_lost_a_picture_is_rendered_again(library: Setting, lost: str) -> None:
    library.shelf.content.append(asset(3, "lora", name="weak"))
    library.run(PreviewRequest())
    picture = library.shelf.previews[2].path
    assert picture is not None
    Path(picture.removesuffix(".png") + lost).unlink()
    assert rendered(library, PreviewRequest()) == [LORA.name, "weak"]


def test_a_preview_of_an_older_version_is_made_again(library: Setting) -> None:
    library.run(PreviewRequest())
    before = library.shelf.previews[1]
    settings = {name: v for name, v in before.parameters.items() if name != "negative"}
    library.shelf.record_preview(1, replace(before, parameters=settings))
    assert rendered(library, PreviewRequest()) == [BASE.name]


def test_named_assets_are_rendered_whatever_is_known_of_them(library: Setting) -> None:
    library.run(PreviewRequest())
    assert rendered(library, PreviewRequest(("#1",))) == [BASE.name]


def test_a_query_chooses_among_all_of_the_library(library: Setting) -> None:
    assert rendered(library, PreviewRequest(query="kind:lora")) == [LORA.name]


KINDS = st.lists(
    st.tuples(st.sampled_from(["checkpoint", "lora", "vae"]), st.sampled_from(["sd-1", "sdxl"])),
    max_size=12,
)


@given(KINDS)
def test_each_base_is_loaded_once_whatever_the_order_of_the_library(
    content: list[tuple[str, str]],
) -> None:
    assets = [asset(n, kind, base=base) for n, (kind, base) in enumerate(content)]
    subjects: list[Subject] = [from_asset(one) for one in assets]
    bases = {s.base: s for s in reversed(subjects) if s.is_checkpoint}
    pairs = in_order(subjects, bases)
    loads = [pair[1].file.path for pair in pairs]
    turns = [path for before, path in zip([None, *loads], loads, strict=False) if path != before]
    assert len(turns) == len(set(turns))
    able = [subject for subject in subjects if base_of(subject, bases) is not None]
    assert sorted(s.file.path for s, _ in pairs) == sorted(s.file.path for s in able)


def test_the_settings_name_a_base_for_each_family(library: Setting) -> None:
    library.shelf.content += [
        asset(5, "checkpoint", base="sdxl"),
        asset(6, "checkpoint", base="sdxl"),
        asset(7, "lora", base="sdxl"),
        asset(8, "checkpoint"),
    ]
    library.settings = Settings(preview_base="#8", preview_bases={"sdxl": "#6"})
    library.run(PreviewRequest(("#2", "#7")))
    bases = {job.subject.name: job.base.name for job in library.sampler.jobs if job.base}
    assert bases == {"lora-2": "checkpoint-8", "lora-7": "checkpoint-6"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("preview_bases = 'x'", "must be a table of texts"),
        ("[preview_bases]\nsdxl = 5", "must be a table of texts"),
        ("[preview_bases]\nsd-99 = 'x'", "has no 'sd-99'"),
    ],
)
def test_a_table_of_bases_that_means_nothing_is_refused(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(BadValue, match=complaint):
        load_settings(Paths(tmp_path), {})


def test_a_table_of_bases_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[preview_bases]\nsdxl = '#3'\n")
    assert load_settings(Paths(tmp_path), {}).preview_bases == {"sdxl": "#3"}


class Labels(Progress):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.seen.append(label)


def test_progress_says_which_render_it_is_and_the_time_left() -> None:
    labels, times = Labels(), iter([0.0, 60.0, 300.0])
    batch = BatchProgress(labels, 3, lambda: next(times))
    for name in ("a", "b", "c"):
        batch.begin(name)
        batch.stage("sample", 20, "steps")
    assert labels.seen == [
        "1 of 3, a: sample",
        "2 of 3, 2 min left, b: sample",
        "3 of 3, 2 min left, c: sample",
    ]


def test_a_single_render_has_the_stages_of_a_render() -> None:
    labels = Labels()
    batch = BatchProgress(labels, 1)
    batch.begin("a")
    batch.stage("sample")
    assert labels.seen == ["sample"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600 * 3 + 299, "3 h 5 min")]
)
def test_times_are_rough(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_all_of_the_next_file_or_folder_is_read_and_what_is_missing_passed_over(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "pipeline"
    (folder / "unet").mkdir(parents=True)
    for name, size in (("unet/weights", 3 << 20), ("index.json", 5)):
        (folder / name).write_bytes(bytes(size))
    with ReadAhead() as ahead:
        for path, total in ((folder, 5 + (3 << 20)), (tmp_path / "gone", 0), (folder, 5)):
            before = ahead.bytes
            ahead.want(str(path))
            ahead.wait()
            assert ahead.bytes - before >= total


def test_reading_ahead_stops_when_nobody_wants_it_any_more(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(1 << 42)
    with ReadAhead() as ahead:
        ahead.want(str(endless))
    assert ahead.bytes < 1 << 42
