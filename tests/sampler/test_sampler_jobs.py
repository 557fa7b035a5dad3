"""Jobs, outcomes and their parameters text."""

from dataclasses import replace

import pytest
from PIL import Image

from assetmgr.sampler.images.infotext import parameters_text
from assetmgr.sampler.images.pictures import reduced
from assetmgr.sampler.process.jobs import Check, ModelFile, Parameters, RenderJob, RenderOutcome
from assetmgr.sampler.rendering.solvers import SOLVERS, solver_named
from converters.errors import BadValue

SHA = "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"
BASE = ModelFile("/models/v1-5.safetensors", "v1-5", "checkpoint", SHA, None)
LORA = ModelFile("/models/neon.safetensors", "neon", "lora", SHA, "ab" * 32)
JOB = RenderJob(
    subject=LORA,
    base=BASE,
    prompt="a red circle",
    negative="",
    steps=20,
    cfg=7.0,
    sampler="DPM++ 2M Karras",
    width=512,
    height=768,
    seed=1,
    weight=0.8,
    trigger=None,
    device="auto",
    dtype="auto",
    image="a.png",
    thumbnail="a.webp",
    overwrite=False,
)


@pytest.mark.parametrize("job", [JOB, replace(JOB, subject=BASE, base=None, prompt='a\n"ü"')])
def test_a_job_survives_its_json(job: RenderJob) -> None:
    assert "\n" not in job.to_json()
    assert RenderJob.from_json(job.to_json()) == job


def test_an_outcome_survives_its_json_and_fails_with_one_failed_check() -> None:
    parameters = Parameters("p", "", 1, 20, 7.0, "Euler", "64x64", None, None, "cpu", "fp32")
    good, bad = Check("finite", True, None, None, ""), Check("effect", False, 0.0, 0.1, "none")
    outcome = RenderOutcome("a.png", "a.webp", (good,), 1.5, 0.5, 10, parameters)
    assert RenderOutcome.from_json(outcome.to_json()) == outcome
    assert outcome.verdict == "ok"
    assert replace(outcome, checks=(good, bad)).verdict == "failed"


def test_the_parameters_text_of_a_lora_follows_the_web_uis_grammar() -> None:
    assert parameters_text(replace(JOB, negative="blurry, bad")).splitlines()[:2] == [
        "a red circle <lora:neon:0.8>",
        "Negative prompt: blurry, bad",
    ]
    assert (
        parameters_text(JOB)
        .splitlines()[1]
        .startswith(
            "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, "
            "Size: 512x768, Model hash: 6ce0161689, Model: v1-5, "
            'Lora hashes: "neon: abababababab", '
            "RNG: CPU, Version: assetmgr "
        )
    )


def test_a_name_that_is_not_utf_8_stands_in_the_parameters_text_as_it_is_shown() -> None:
    odd = replace(LORA, path="/models/caf\udce9.safetensors")
    assert "<lora:caf\\xe9:0.8>" in parameters_text(replace(JOB, subject=odd))


@pytest.mark.parametrize(
    ("sampler", "named"),
    [
        ("DPM++ 2M", "DPM++ 2M, Schedule type: SGM Uniform, CFG"),
        ("Euler a", "Euler a, Schedule type: Uniform, CFG"),
        ("Euler Karras", "Euler, Schedule type: Karras, CFG"),
        ("DDIM", "DDIM, CFG"),
    ],
)
def test_sampler_and_schedule_have_the_web_uis_names(sampler: str, named: str) -> None:
    assert f"Sampler: {named}" in parameters_text(replace(JOB, sampler=sampler))


def test_a_layer_of_clip_that_is_not_the_last_is_named() -> None:
    assert "Model: v1-5, Clip skip: 2, " in parameters_text(replace(JOB, clip_skip=2))
    assert "Clip skip" not in parameters_text(JOB)


@pytest.mark.parametrize(
    ("size", "small"), [((512, 768), (171, 256)), ((1024, 64), (256, 16)), ((64, 256), (64, 256))]
)
def test_a_thumbnail_has_at_most_256_pixels_a_side(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    assert reduced(Image.new("RGB", size)).size == small


def test_what_flux_is_told_in_place_of_guidance_has_a_key_of_its_own() -> None:
    told = parameters_text(replace(JOB, family="flux", sampler="Euler", cfg=3.5))
    expected = "Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed"
    assert expected in told


@pytest.mark.parametrize(
    ("kind", "pair"),
    [
        ("vae", "VAE hash: 6ce0161689, VAE: neon.safetensors"),
        ("embedding", 'TI hashes: "neon: 6ce0161689b3"'),
        ("hypernetwork", "Hypernet: neon(6ce0161689)"),
        ("checkpoint", "Model: neon, RNG"),
    ],
)
def test_every_kind_of_subject_is_named_with_its_hash(kind: str, pair: str) -> None:
    base = None if kind == "checkpoint" else BASE
    assert pair in parameters_text(replace(JOB, subject=replace(LORA, kind=kind), base=base))


def test_samplers_are_found_in_any_case_and_unknown_ones_list_the_known() -> None:
    for solver in SOLVERS:
        assert solver_named(solver.name.lower()) is solver
    with pytest.raises(BadValue) as caught:
        solver_named("Heun++")
    assert "DPM++ 2M" in (caught.value.hint or "")
