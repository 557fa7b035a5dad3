"""Comparisons and contact sheets: what is rendered, what is measured, and what is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.examples import examples
from helpers.previewing import BASE, LORA, Setting, Shelf, asset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from assetmgr.operations.preview.request import PreviewRequest
from assetmgr.operations.preview.sheets import SheetPlan, plan_comparison, plan_grid
from assetmgr.paths import Paths
from assetmgr.sampler.images.sheets import LARGEST_SHEET, draw_sheet
from assetmgr.sampler.images.sheets import _wrapped as wrapped
from assetmgr.sampler.process.jobs import RenderJob
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.process.sheet_jobs import SheetJob, SheetOutcome, job_of_line
from assetmgr.sampler.process.sheet_session import render_sheet
from assetmgr.sampler.rendering.render import Picture
from assetmgr.sampler.verdicts.differences import difference, ssim
from converters.errors import BadValue, DiskFull, NotAvailable, TargetExists
from converters.progress import SILENT

if TYPE_CHECKING:
    from conftest import Models

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def workspace(tmp_path: Path) -> SimpleNamespace:
    setting = Setting(Shelf([BASE, LORA]), tmp_path)
    setting.shelf.content += [asset(3, "checkpoint"), asset(4, "lora", base="sdxl")]
    return SimpleNamespace(
        library=setting.shelf, settings=setting.settings, paths=Paths(setting.home)
    )


def grid(workspace: SimpleNamespace, *assets: str, **more: object) -> SheetPlan:
    weights, prompts = more.pop("weights", ()), more.pop("prompts", ())
    return plan_grid(workspace, PreviewRequest(assets, **more), weights, prompts)


def in_the_way(workspace: SimpleNamespace) -> Path:
    workspace.paths.previews.mkdir(parents=True)
    there: Path = workspace.paths.previews / "there.png"
    there.touch()
    return there


def test_two_assets_are_compared_with_the_settings_of_the_first(
    workspace: SimpleNamespace,
) -> None:
    plan = plan_comparison(workspace, PreviewRequest(("#2", "#3"), seed=9))
    first, second = plan.job.cells
    assert (first.subject.name, second.subject.name) == ("lora-2", "checkpoint-3")
    assert first.base is not None
    assert second.base is None
    assert first.prompt == second.prompt
    assert (first.seed, first.cfg, first.width) == (second.seed, second.cfg, second.width)
    assert plan.job.columns == ("lora-2.safetensors", "checkpoint-3.safetensors")
    assert Path(plan.job.image).parent == workspace.paths.previews / "sheets"
    assert {cell.image for cell in plan.job.cells} == {None}


def test_what_a_name_says_of_the_second_one_is_not_heeded(workspace: SimpleNamespace) -> None:
    workspace.library.content.append(asset(5, "checkpoint", name="base-lcm"))
    for pair, settings in {
        ("#1", "#5"): ("DPM++ 2M Karras", 20, 7.0),
        ("#5", "#1"): ("LCM", 6, 1.5),
    }.items():
        cells = plan_comparison(workspace, PreviewRequest(pair)).job.cells
        assert [(cell.sampler, cell.steps, cell.cfg) for cell in cells] == [settings] * 2


def test_files_of_one_name_are_told_apart_by_their_folders(workspace: SimpleNamespace) -> None:
    workspace.library.content += [
        asset(5, "lora", path="/a/x/style.pt"), asset(6, "lora", path="/b/x/style.pt")
    ]  # fmt: skip
    plan = plan_comparison(workspace, PreviewRequest(("#5", "#6")))
    assert [Path(label).parts for label in plan.job.columns] == [
        ("a", "x", "style.pt"), ("b", "x", "style.pt")
    ]  # fmt: skip


def test_a_grid_has_a_cell_for_each_weight_and_prompt_row_by_row(
    workspace: SimpleNamespace,
) -> None:
    plan = grid(workspace, "#2", weights=(0.0, 1.0), prompts=("a", "b"))
    cells = [(cell.prompt, cell.weight) for cell in plan.job.cells]
    assert cells == [("a", 0.0), ("a", 1.0), ("b", 0.0), ("b", 1.0)]
    assert (plan.job.columns, plan.job.rows) == (("weight 0", "weight 1"), ("a", "b"))
    assert not any(cell.with_effect for cell in plan.job.cells)
    assert len(grid(workspace, "#2").job.cells) == 3
    assert grid(workspace, "#1", prompts=("a", "b")).job.columns == ("checkpoint-1",)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda w: plan_comparison(w, PreviewRequest(("#1",))), BadValue),
        (lambda w: plan_comparison(w, PreviewRequest()), BadValue),
        (lambda w: plan_comparison(w, PreviewRequest(("#1", "#4"))), NotAvailable),
        (grid, BadValue),
        (lambda w: grid(w, "#1", "#2"), BadValue),
        (lambda w: grid(w, "#1", weights=(1.0,)), BadValue),
        (lambda w: grid(w, "#2", weights=(math.nan,)), BadValue),
        (lambda w: grid(w, "#2", weights=(1.0,) * 21, prompts=("a",) * 20), BadValue),
        (lambda w: grid(w, "#2", steps=0), BadValue),
        (lambda w: grid(w, "#2", output=in_the_way(w)), TargetExists),
    ],
)
def test_sheets_that_cannot_be_are_refused_before_anything_is_rendered(
    workspace: SimpleNamespace, call: Callable[[SimpleNamespace], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        call(workspace)


def test_an_output_in_the_way_is_replaced_when_told(workspace: SimpleNamespace) -> None:
    plan = grid(workspace, "#2", output=in_the_way(workspace), overwrite=True)
    assert plan.job.overwrite


def sheet_job(cells: tuple[RenderJob, ...], image: Path, **more: object) -> SheetJob:
    columns = tuple(cell.subject.name for cell in cells)
    bare = tuple(replace(cell, image=None, thumbnail=None) for cell in cells)
    return replace(SheetJob(bare, columns, ("",), str(image), overwrite=False), **more)


def test_a_job_and_its_outcome_survive_their_json(session: Session, job: RenderJob) -> None:
    sheet = sheet_job((job, replace(job, seed=2)), Path(job.thumbnail or ""), compared=True)
    assert job_of_line(sheet.to_json()) == sheet
    assert job_of_line(job.to_json()) == job
    outcome = render_sheet(session, sheet, SILENT)
    assert SheetOutcome.from_json(outcome.to_json()) == outcome


def test_a_checkpoint_and_its_merge_with_a_lora_of_weight_0_are_identical(
    session: Session,
    job: RenderJob,
    on_base: Callable[[Path, str], RenderJob],
    models: Models,
    tmp_path: Path,
) -> None:
    lora = replace(on_base(models.lora("still"), "lora"), weight=0.0)
    image = tmp_path / "sheet.png"
    outcome = render_sheet(session, sheet_job((job, lora), image, compared=True), SILENT)
    assert outcome.difference is not None
    assert (outcome.difference.identical, outcome.difference.psnr) == (True, None)
    assert outcome.difference.ssim == pytest.approx(1)
    assert outcome.difference.latent_max == 0
    with Image.open(image) as picture:
        assert picture.width > 3 * 256, "both renders and their difference"
        assert picture.info["parameters"].startswith(job.prompt)


def test_a_cell_without_a_picture_stays_empty_and_says_why(
    session: Session, job: RenderJob, models: Models, tmp_path: Path
) -> None:
    broken = models.checkpoint("gap", lambda arrays: arrays.pop("model.diffusion_model.out.2.bias"))
    gap = replace(job, subject=replace(job.subject, path=str(broken)))
    outcome = render_sheet(
        session, sheet_job((gap, job), tmp_path / "s.png", compared=True), SILENT
    )
    assert outcome.difference is None
    assert [cell.checks[0].ok for cell in outcome.cells] == [False, True]
    assert (tmp_path / "s.png").exists()


def test_a_sheet_that_does_not_fit_the_disk_is_not_there(
    session: Session, job: RenderJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(DiskFull):
        render_sheet(session, sheet_job((job,), tmp_path / "s.png"), SILENT)
    assert not (tmp_path / "s.png").exists()


def picture(*shape: int, seed: int = 0) -> Picture:
    numbers = torch.Generator().manual_seed(seed)
    return Picture(
        torch.randn(1, 4, 8, 8, generator=numbers), torch.rand(*shape, generator=numbers)
    )


def test_the_figures_are_those_of_their_definitions() -> None:
    first, second = picture(3, 16, 16), picture(3, 16, 16, seed=1)
    measured = difference(first, second)
    apart = (first.pixels - second.pixels).numpy().astype(np.float64)
    assert measured.psnr == pytest.approx(10 * math.log10(1 / np.mean(apart**2)))
    assert measured.pixel_max == pytest.approx(np.abs(apart).max())
    assert measured.pixel_mean == pytest.approx(np.abs(apart).mean())
    latents = (first.latents - second.latents).numpy()
    assert measured.latent_max == pytest.approx(np.abs(latents).max())
    assert measured.latent_mean == pytest.approx(np.abs(latents).mean())
    other = Picture(torch.zeros(1, 16, 8, 8), second.pixels)
    assert difference(first, other).latent_max is None


def plain_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """The formula of the paper, window by window."""
    places = np.arange(11) - 5
    window = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = (v[row : row + 11, column : column + 11] for v in (x, y))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            c1, c2 = 0.01**2, 0.03**2
            found.append(
                (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )
    return float(np.mean(found))


def test_ssim_agrees_with_its_definition() -> None:
    first, second = picture(3, 14, 18), picture(3, 14, 18, seed=1)
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    x, y = ((p.pixels.numpy().astype(np.float64) * weights).sum(0) for p in (first, second))
    assert ssim(first.pixels, second.pixels) == pytest.approx(plain_ssim(x, y), abs=1e-9)
    assert ssim(first.pixels, first.pixels) == pytest.approx(1)


@examples(40)
@given(st.text(max_size=120), st.integers(20, 400))
def test_labels_fit_their_width_and_lose_only_what_they_say_they_lose(
    text: str, width: int
) -> None:
    font = ImageFont.load_default(16)
    lines = wrapped(text, font, width)
    whole = "".join(text.split())
    shown = "".join("".join(lines).split())
    assert len(lines) <= 4
    assert shown == whole or (shown.endswith("...") and whole.startswith(shown[:-3]))
    fitting = lines[:-1] if shown != whole else lines
    assert all(font.getlength(line) <= width or len(line) == 1 for line in fitting)


def test_a_sheet_shows_its_pictures_in_their_places_and_never_grows_without_bound() -> None:
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    sheet = draw_sheet([red, None, blue, red], ["a", "b"], ["", ""])
    colours = {
        sheet.getpixel((x, y))
        for x, y in ((130, 160), (400, 160), (130, 420), (400, 420))
    }  # fmt: skip
    assert colours == {(255, 0, 0), (0, 0, 255), (208, 208, 208)}
    many = draw_sheet([Image.new("RGB", (1024, 1024))] * 20, ["x"] * 20, ["a row"])
    assert max(many.size) <= LARGEST_SHEET
