"""Previews as users ask for them: what is rendered, on what, and what is recorded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import pickles, pipelines
from helpers.previewing import BASE, LORA, Setting, Shelf, asset
from safetensors.numpy import save_file

from assetmgr.operations.failures import Failure
from assetmgr.operations.preview.job import DEFAULT_PROMPT
from assetmgr.operations.preview.render import PreviewRequest, PreviewResult, failed_check
from assetmgr.operations.preview.request import parse_size
from converters.errors import (
    BadValue,
    Cancelled,
    NotAvailable,
    TargetExists,
)
from converters.pickles.verdict import SafetyReport, Verdict
from converters.writers.safetensors import write_safetensors
from registry.records import Preview


@pytest.fixture
def library(tmp_path: Path) -> Setting:
    return Setting(Shelf([BASE, LORA]), tmp_path)


def test_all_that_can_be_rendered_is_rendered_when_nothing_is_named(library: Setting) -> None:
    library.shelf.content += [
        asset(3, "controlnet"),
        asset(4, "lora", path=None),
        asset(5, "lora", base="sdxl"),
        asset(6, "vae"),
    ]
    results = library.run(PreviewRequest())
    assert [result.asset for result in results if isinstance(result, PreviewResult)] == [1, 2, 6]
    assert set(library.shelf.previews) == {1, 2, 6}


def test_a_checkpoint_renders_alone_and_an_adapter_on_the_base(library: Setting) -> None:
    library.run(PreviewRequest())
    alone, on_base = library.sampler.jobs
    assert (alone.subject.path, alone.base) == (BASE.path, None)
    assert on_base.base == alone.subject
    assert on_base.subject.kind == "lora"


def test_checkpoints_are_compared_with_others_of_their_family(library: Setting) -> None:
    library.shelf.content += [asset(number, "checkpoint") for number in range(3, 7)]
    library.shelf.content.append(asset(7, "checkpoint", base="sdxl"))
    library.run(PreviewRequest(("#1", "#2", "#7")))
    relatives = {
        job.subject.name: [one.name for one in job.relatives] for job in library.sampler.jobs
    }
    others = ["checkpoint-3", "checkpoint-4", "checkpoint-5"]
    assert relatives == {BASE.name: others, LORA.name: [], "checkpoint-7": []}


def test_what_a_pickle_would_run_elsewhere_goes_with_it_to_its_verdict(
    library: Setting, tmp_path: Path
) -> None:
    vectors = pickles.tensor("0", (1, 768), (768, 1), numel=768)
    shell = pickles.call_name("posix.system", pickles.text("true"))
    body = pickles.pickled(pickles.dict_of({"emb_params": vectors, "x": shell}))
    (tmp_path / "x.pt").write_bytes(pickles.torch_zip(body, {"0": bytes(4 * 768)}))
    told = SafetyReport(Verdict.DANGEROUS, ("posix.system",), ("calls posix.system",))
    library.shelf.content.append(asset(3, "lora", safety=told))
    library.run(PreviewRequest(("#3", "#2", str(tmp_path / "x.pt")), prompt="x"))
    dangers = [job.subject.danger for job in library.sampler.jobs]
    assert dangers[:2] == ["calls posix.system", None]
    assert "posix.system" in (dangers[2] or "")


def test_verdict_checks_and_parameters_are_recorded(library: Setting) -> None:
    library.shelf.content[1] = asset(2, "lora", name="weak")
    library.run(PreviewRequest(("#2",), seed=7))
    preview = library.shelf.previews[2]
    assert (preview.verdict, preview.seed) == ("failed", 7)
    assert preview.path is not None
    assert Path(preview.path).parent == library.home / "previews"
    assert preview.checks[0].name == "effect"
    assert preview.parameters["base"] == BASE.path


def test_the_base_is_the_one_asked_for_then_that_of_the_settings_then_the_best(
    library: Setting,
) -> None:
    other, best = asset(8, "checkpoint"), BASE
    library.shelf.content.append(other)
    library.run(PreviewRequest(("#2",)))
    library.settings = replace(library.settings, preview_base="#8")
    library.run(PreviewRequest(("#2",)))
    library.run(PreviewRequest(("#2",), base="#1"))
    bases = [job.base.path for job in library.sampler.jobs if job.base]
    assert bases == [best.path, other.path, best.path]


def test_without_a_base_adapters_are_not_available_with_a_hint(library: Setting) -> None:
    library.shelf.content.remove(BASE)
    with pytest.raises(NotAvailable, match="no SD1 checkpoint") as caught:
        library.run(PreviewRequest())
    assert "--base" in (caught.value.hint or "")
    with pytest.raises(NotAvailable, match="no such base"):
        library.run(PreviewRequest(("#2",), base="#99"))
    library.shelf.content.append(asset(9, "vae"))
    with pytest.raises(BadValue, match="is of kind vae"):
        library.run(PreviewRequest(("#2",), base="#9"))


def test_what_renders_on_the_base_comes_before_other_checkpoints(library: Setting) -> None:
    library.shelf.content = [asset(1, "checkpoint"), asset(2, "checkpoint"), asset(3, "lora")]
    library.run(PreviewRequest())
    assert [job.subject.name for job in library.sampler.jobs] == [
        "checkpoint-1",
        "lora-3",
        "checkpoint-2",
    ]


def test_an_item_that_fails_does_not_stop_the_batch(library: Setting) -> None:
    library.shelf.content.append(asset(3, "lora", name="broken"))
    library.shelf.content.append(asset(4, "upscaler"))
    results = library.run(PreviewRequest(("#99", "#3", "#4", "#2")))
    failures = [result for result in results if isinstance(result, Failure)]
    assert [failure.code for failure in failures] == ["asset_not_found", "unsupported", "corrupt"]
    assert isinstance(results[-1], PreviewResult)
    assert set(library.shelf.previews) == {2}


@pytest.mark.parametrize(
    ("name", "error"), [("cancelled", Cancelled), ("deviceless", NotAvailable)]
)
def test_cancelling_and_a_missing_device_end_the_batch(
    library: Setting, name: str, error: type[Exception]
) -> None:
    library.shelf.content.append(asset(3, "lora", name=name))
    with pytest.raises(error):
        library.run(PreviewRequest(("#3", "#2")))
    assert len(library.sampler.jobs) == 1


def test_default_prompts_call_the_asset_by_its_words(library: Setting) -> None:
    library.shelf.content += [
        asset(3, "embedding", trigger_words=("<ring>",)),
        asset(4, "embedding", name="plain"),
        asset(5, "hypernetwork", trigger_words=("unused",)),
        asset(6, "lora", trigger_words=("miku (singer)",)),
    ]
    library.run(PreviewRequest(("#1", "#2", "#3", "#4", "#5", "#6")))
    prompts = {job.subject.kind + str(n): job for n, job in enumerate(library.sampler.jobs)}
    assert [job.prompt for job in prompts.values()] == [
        DEFAULT_PROMPT,
        f"neon, glow, {DEFAULT_PROMPT}",
        f"<ring>, {DEFAULT_PROMPT}",
        f"plain, {DEFAULT_PROMPT}",
        DEFAULT_PROMPT,
        rf"miku \(singer\), {DEFAULT_PROMPT}",
    ]
    assert [job.trigger for job in prompts.values()] == [None, None, "<ring>", "plain", None, None]
    library.run(PreviewRequest(("#2",), prompt="mine"))
    assert library.sampler.jobs[-1].prompt == "mine"


def test_an_embedding_that_no_prompt_names_is_an_error_and_no_verdict(library: Setting) -> None:
    library.shelf.content.append(asset(3, "embedding", name="gem"))
    for prompt, negative in (("an (uncut GEM:1.2)", ""), ("a ring", "[gem]")):
        (made,) = library.run(PreviewRequest(("#3",), prompt=prompt, negative=negative))
        assert isinstance(made, PreviewResult)
    library.shelf.previews.clear()
    (failure,) = library.run(PreviewRequest(("#3",), prompt="two gems"))
    assert isinstance(failure, Failure)
    assert failure.error == "the prompt does not say 'gem', which calls this embedding"
    assert library.shelf.previews == {}


def test_a_failed_check_is_told_with_its_value_and_limit(library: Setting) -> None:
    library.shelf.content[1] = asset(2, "lora", name="weak")
    (made,) = library.run(PreviewRequest(("#2",)))
    assert isinstance(made, PreviewResult)
    failure = failed_check(made.path, made.outcome)
    assert failure is not None
    assert failure.error == "check 'effect' failed: difference: 0.1, the limit is 0.2"


def test_a_checkpoints_metadata_gives_its_natural_size_and_prompt(library: Setting) -> None:
    metadata = {"modelspec.resolution": "64x96", "assetmgr.preview_prompt": "a red circle"}
    library.shelf.content[0] = asset(1, "checkpoint", metadata=metadata)
    library.run(PreviewRequest())
    assert {(job.width, job.height) for job in library.sampler.jobs} == {(64, 96)}
    assert [job.prompt for job in library.sampler.jobs] == [
        "a red circle",
        "neon, glow, a red circle",
    ]
    library.run(PreviewRequest(("#1",), size=(128, 64)))
    assert (library.sampler.jobs[-1].width, library.sampler.jobs[-1].height) == (128, 64)


def test_a_checkpoint_without_a_natural_size_is_tried_again_at_its_last_one(
    library: Setting,
) -> None:
    last = Preview(None, None, 1, "a circle", "ok", parameters={"size": "64x96"})
    library.shelf.content[0] = asset(1, "checkpoint", preview=last)
    library.run(PreviewRequest(("#1",)))
    assert (library.sampler.jobs[-1].width, library.sampler.jobs[-1].height) == (64, 96)
    library.shelf.content[0] = asset(1, "checkpoint", preview=replace(last, parameters={}))
    library.run(PreviewRequest(("#1",)))
    assert (library.sampler.jobs[-1].width, library.sampler.jobs[-1].height) == (512, 512)


def test_karras_levels_are_for_enough_steps_that_do_not_begin_with_pure_noise(
    library: Setting,
) -> None:
    library.shelf.content += [
        asset(3, "checkpoint", base="sd-2", prediction="unknown"),
        asset(4, "checkpoint", base="sdxl", prediction="v"),
        asset(5, "lora", base="sdxl"),
        asset(6, "checkpoint", name="turbo"),
    ]
    library.run(PreviewRequest(("#1", "#2", "#3", "#4", "#5", "#6")))
    library.run(PreviewRequest(("#1",), sampler="DPM++ 2M"))
    library.run(PreviewRequest(("#1",), steps=19))
    library.run(PreviewRequest(("#4",), sampler="DPM++ 2M Karras"))
    assert sorted((job.subject.name, job.sampler) for job in library.sampler.jobs) == [
        ("checkpoint-1", "DPM++ 2M"),
        ("checkpoint-1", "DPM++ 2M"),
        ("checkpoint-1", "DPM++ 2M Karras"),
        ("checkpoint-3", "DPM++ 2M Karras"),
        ("checkpoint-4", "DPM++ 2M"),
        ("checkpoint-4", "DPM++ 2M Karras"),
        ("lora-2", "DPM++ 2M Karras"),
        ("lora-5", "DPM++ 2M"),
        ("turbo", "Euler a"),
    ]


@pytest.mark.parametrize(("steps", "sampler"), [(50, "LCM"), (51, "DPM++ 2M Karras")])
def test_more_steps_than_a_distilled_model_takes_are_those_of_the_usual_sampler(
    library: Setting, steps: int, sampler: str
) -> None:
    library.shelf.content.append(asset(3, "checkpoint", name="my-lcm"))
    library.run(PreviewRequest(("#3",), steps=steps))
    (job,) = library.sampler.jobs
    assert (job.sampler, job.steps) == (sampler, steps)


@pytest.mark.parametrize("text", [None, "", "huge", "100000x64", "63x64", "16x16", "-8x64"])
def test_a_size_that_cannot_be_rendered_is_passed_over(text: str | None) -> None:
    assert parse_size(text) is None


def test_an_output_file_is_written_once_and_for_one_asset(library: Setting, tmp_path: Path) -> None:
    output = tmp_path / "mine.png"
    library.run(PreviewRequest(("#1",), output=output))
    assert library.sampler.jobs[-1].image == str(output)
    assert not library.sampler.jobs[-1].overwrite
    with pytest.raises(BadValue, match="single asset"):
        library.run(PreviewRequest(("#1", "#2"), output=output))
    output.touch()
    with pytest.raises(TargetExists):
        library.run(PreviewRequest(("#1",), output=output))
    library.run(PreviewRequest(("#1",), output=output, overwrite=True))
    assert library.sampler.jobs[-1].overwrite


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"cfg": -1.0},
        {"cfg": float("nan")},
        {"seed": -1},
        {"seed": 2**63},
        {"size": (65, 64)},
        {"size": (8, 64)},
        {"size": (64, 4096)},
        {"weight": float("inf")},
        {"sampler": "Sparkle"},
    ],
)
def test_values_that_no_render_can_have_are_refused(
    library: Setting, wrong: dict[str, object]
) -> None:
    with pytest.raises(BadValue):
        library.run(replace(PreviewRequest(), **wrong))
    assert library.sampler.jobs == []


def test_the_document_has_the_fields_of_the_contract(library: Setting) -> None:
    (result,) = library.run(PreviewRequest(("#2",)))
    assert isinstance(result, PreviewResult)
    document = result.to_json()
    assert {
        "asset", "image", "thumbnail", "thumbnail_png", "verdict", "checks", "seconds",
        "load_seconds", "peak_memory_bytes", "parameters",
    } <= set(document)  # fmt: skip
    assert document["checks"] == [
        {"name": "effect", "ok": True, "value": 0.1, "threshold": 0.2, "detail": "difference"}
    ]
    assert document["parameters"]["base"] == BASE.path
    assert Path(str(document["thumbnail_png"])).is_file()
    assert document["thumbnail_png"] not in {document["image"], document["thumbnail"]}


def test_planning_and_recording_never_import_torch() -> None:
    code = (
        "import sys; import assetmgr.operations.preview.render;"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'sqlalchemy'};"
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_outside_of_the_library_is_rendered_without_being_registered(
    library: Setting, tmp_path: Path
) -> None:
    path = tmp_path / "glow.safetensors"
    save_file({"emb_params": np.ones((2, 768), np.float16)}, path)
    (result,) = library.run(PreviewRequest((str(path),)))
    assert isinstance(result, PreviewResult)
    assert (result.asset, result.path) == (None, str(path))
    assert library.sampler.jobs[0].trigger == "glow"
    assert library.shelf.previews == {}
    (tmp_path / "text.safetensors").write_text("hello")
    (failure,) = library.run(PreviewRequest((str(tmp_path / "text.safetensors"),)))
    assert isinstance(failure, Failure)
    assert failure.path == str(tmp_path / "text.safetensors")


def test_what_lies_beside_a_file_outside_of_the_library_is_heeded(
    library: Setting, tmp_path: Path
) -> None:
    """As a scan heeds it: of SD2, those that predict noise were trained on smaller pictures."""
    path = tmp_path / "mine.safetensors"
    write_safetensors(pipelines.checkpoint("sd-2", text_layers=1), path)
    for stated, edge in (("v", 768), ("eps", 512)):
        config = f"model:\n  params:\n    parameterization: {stated}\n"
        path.with_suffix(".yaml").write_text(config)
        library.run(PreviewRequest((str(path),)))
        assert library.sampler.jobs[-1].width == edge
