"""`assetmgr preview` at the command line, with a sampler that renders nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

import pytest
from helpers import previewing

from assetmgr.sampler.models.families import FAMILIES
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from converters.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Models, Program


class Sampler(previewing.Sampler):
    """Is interrupted by Ctrl-C before the render of this number."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        super().__init__()
        self.interrupted_at = interrupted_at

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def begin(self) -> None:
        return None

    def render(self, job: RenderJob, progress: Progress) -> RenderOutcome:
        if len(self.jobs) == self.interrupted_at:
            raise KeyboardInterrupt
        return super().render(job, progress)


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> Sampler:
    sampler = Sampler()
    for module in ("preview.render", "preview.sheets"):
        monkeypatch.setattr(f"assetmgr.operations.{module}.SamplerClient", lambda: sampler)
    return sampler


@pytest.fixture
def library(program: Program, models: Models, sampler: Sampler) -> Program:
    """The program with the models in its library: two checkpoints, two LoRAs, one without base."""
    assert program("scan", models.folder).code == 0
    return program


def test_all_of_the_library_is_rendered_and_what_has_no_base_is_named(library: Program) -> None:
    done = library("preview", "--all", "--json")
    assert [item.get("code") for item in done.json] == ["not_available", None, None, None, None]
    assert done.code == 3
    assert "no SDXL checkpoint" in done.errors[0]
    assert [item["skipped"] for item in done.json[1:]] == [False] * 4


def test_what_is_done_before_an_interruption_is_told_and_kept(
    library: Program, sampler: Sampler
) -> None:
    sampler.interrupted_at = 2
    done = library("preview", "--query", "base:sd-1", "--json")
    assert done.code == 130
    assert [item.get("code") for item in done.json] == [None, None, "cancelled"]
    sampler.interrupted_at = None
    done = library("preview", "--query", "base:sd-1", "--json")
    assert (done.code, len(sampler.jobs)) == (0, 4)
    assert [item["skipped"] for item in done.json] == [True, True, False, False]
    assert library("preview", "--query", "base:sd-1").out.count("done before") == 4
    assert library("preview", "--query", "base:sd-1", "--again").out.count("1.0 s") == 4


def test_a_file_of_the_library_that_was_cut_off_says_so(
    program: Program, models: Models, sampler: Sampler, tmp_path: Path
) -> None:
    cut = tmp_path / "models" / "cut.safetensors"
    cut.parent.mkdir()
    cut.write_bytes(models.lora.read_bytes()[:-9])
    assert program("scan", cut.parent).code == 1
    assert ": ends at byte" in program("preview", cut).errors[0]
    assert not sampler.jobs


def test_the_options_for_the_library_are_refused_for_named_assets(library: Program) -> None:
    for option in (["--all"], ["--query", "kind:lora"], ["--again"]):
        done = library("preview", "#1", *option)
        assert (done.code, len(done.errors)) == (2, 1)


def test_a_query_that_cannot_be_read_is_a_wrong_call(library: Program) -> None:
    assert library("preview", "--query", "kind:").code == 2


def test_a_query_that_finds_nothing_to_render_is_said(library: Program) -> None:
    done = library("preview", "--query", "kind:upscaler")
    told = "warning: nothing to preview: the library has no such asset that can be rendered\n"
    assert (done.code, done.out, done.err) == (0, "", told)
    quiet = library("preview", "--query", "kind:upscaler", "--quiet", "--json")
    assert (quiet.code, quiet.json, quiet.err) == (0, [], "")


def test_a_comparison_is_one_document_with_both_renders_and_their_difference(
    library: Program,
) -> None:
    done = library("preview", "--compare", "base", "style", "--json")
    assert done.code == 0
    assert set(done.json) == {"image", "seconds", "first", "second", "difference", "errors"}
    assert done.json["difference"]["psnr"] == 30.0
    assert done.json["first"]["path"].endswith("base.safetensors")
    assert "PSNR 30.0 dB, SSIM 0.9000" in library("preview", "--compare", "base", "style").out


def test_a_grid_is_one_document_with_all_its_cells(library: Program, sampler: Sampler) -> None:
    done = library(
        "preview", "--grid", "style", "--weights", "0,1", "--prompt", "a", "--prompt", "b", "--json"
    )
    assert done.code == 0
    assert set(done.json) == {"image", "seconds", "cells", "errors"}
    assert [cell["parameters"]["weight"] for cell in done.json["cells"]] == [0, 1, 0, 1]
    assert [job.prompt for job in sampler.jobs] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--compare", "--grid", "#1"],
        ["--weights", "1", "#1"],
        ["--grid", "style", "--weights", "1,x"],
        ["--prompt", "a", "--prompt", "b", "#1"],
        ["--compare", "#1"],
        ["--grid"],
    ],
)
def test_sheets_that_make_no_sense_are_wrong_calls(
    library: Program, sampler: Sampler, wrong: list[str]
) -> None:
    done = library("preview", *wrong)
    assert (done.code, len(done.errors), sampler.jobs) == (2, 1, [])


@pytest.mark.parametrize("sort", [["#1"], ["--compare", "base", "style"], ["--grid", "style"]])
def test_a_picture_is_not_given_the_name_of_another_format(
    library: Program, sampler: Sampler, sort: list[str]
) -> None:
    done = library("preview", *sort, "-o", "picture.jpg")
    assert (done.code, sampler.jobs) == (2, [])
    assert done.errors == ["error: picture.jpg: pictures are written as PNG: name it .png"]


def test_what_the_family_does_not_heed_is_told(
    library: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--clip-skip", "2", "--sampler", "dpm++ 2m karras", "--json")
    done = library("preview", "base", *asked)
    parameters = done.json[0]["parameters"]
    assert (parameters["clip_skip"], parameters["sampler"]) == (2, "DPM++ 2M Karras")
    assert done.err == ""
    flow = {base: replace(family, flow=True) for base, family in FAMILIES.items()}
    monkeypatch.setattr("assetmgr.operations.preview.job.FAMILIES", flow)
    for more in (["base"], ["base", "style", "--compare"]):
        told = library("preview", *more, *asked)
        assert told.code == 0
        assert "--clip-skip 2 changes nothing: SD3 and Flux" in told.err
        assert "sampled by Euler: DPM++ 2M Karras has no form for this model" in told.err
    assert library("preview", "base", "--sampler", "euler").err == ""
