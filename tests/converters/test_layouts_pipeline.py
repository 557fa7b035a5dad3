"""Single files and diffusers pipelines of four families: bijective, and equal to the libraries."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pipelines import (
    CLIP_G_PREFIX,
    FAMILIES,
    REFINER_PREFIX,
    SD2_PREFIX,
    checkpoint,
    openclip_shapes,
)
from helpers.sd1 import random_fill, state_dict

from converters.bases import Base
from converters.compute import value
from converters.containers import open_model
from converters.dtypes import DType
from converters.errors import CorruptFile, TargetExists, UnsupportedFile
from converters.identify import Kind, Prediction, identify
from converters.layouts.edm import COSXL, edm_markers
from converters.layouts.openclip import openclip_from_transformers, openclip_to_transformers
from converters.layouts.pipeline import (
    SingleFile,
    encoders_in,
    pipeline_parts,
    to_components,
    to_single_file,
)
from converters.layouts.pipeline_configs import model_index
from converters.statedict import StateDict
from converters.writers.diffusers_folder import pipeline_size, write_pipeline

HIDDEN = ("logit_scale", "text_projection", ".resblocks.2.")
"""What the pipeline of SD2 has no place for, at the size of the tests."""


def _bytes(sd: StateDict) -> dict[str, bytes]:
    return {name: bytes(tensor.read()) for name, tensor in sd.items()}


def _written(sd: StateDict, folder: Path, **said: Any) -> Path:
    identity = identify(sd)
    write_pipeline(
        to_components(sd, identity.base), identity, folder, tokenizer=said.get("tokenizer", {})
    )
    return folder


def _read(folder: Path) -> SingleFile:
    state = open_model(folder).state_dict
    return to_single_file(pipeline_parts(state), state.metadata)


Pipelines = Callable[[str], Path]
"""The pipeline of a family's checkpoint in half precision, written once, with tokenizers."""


@pytest.fixture(scope="module")
def pipeline_of(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    from assetmgr.sampler.prompts.tokenizer import tokenizer_files

    @functools.cache
    def made(family: str) -> Path:
        files = {
            "tokenizer": tokenizer_files(padding_is_end=family != "sd-2"),
            "tokenizer_2": tokenizer_files(padding_is_end=False),
        }
        folder = tmp_path_factory.mktemp(family) / "pipeline"
        return _written(checkpoint(family), folder, tokenizer=files)

    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_written_and_read_gives_the_bytes_of_the_single_file(
    family: str, pipeline_of: Pipelines
) -> None:
    _require_same_bytes(family, checkpoint(family), pipeline_of(family))


def test_so_it_does_in_single_precision(tmp_path: Path) -> None:
    """Of the family with the most matrices that are taken apart and put together."""
    original = checkpoint("sd-2", DType.F32)
    _require_same_bytes("sd-2", original, _written(original, tmp_path / "pipeline"))


def _require_same_bytes(family: str, original: StateDict, pipeline: Path) -> None:
    again, first = _bytes(_read(pipeline).state), _bytes(original)
    unused = {name for name in first if family == "sd-2" and any(h in name for h in HIDDEN)}
    unused |= {name for name in first if name.endswith("logit_scale")}
    assert again.keys() == first.keys()
    for name in first.keys() - unused:
        assert again[name] == first[name], name


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_pipeline_has_no_place_for_is_named(family: str) -> None:
    original = checkpoint(family, filled=False)
    dropped = to_components(original, Base(family)).dropped
    if family == "sd-1":
        assert dropped == ()
    elif family == "sd-2":
        assert all(any(part in name for part in HIDDEN) for name in dropped)
        assert len(dropped) == 14
    else:
        assert [name.rpartition(".")[2] for name in dropped] == ["logit_scale"]


def test_an_sd2_of_generative_models_has_the_components_of_any_other() -> None:
    usual = checkpoint("sd-2", filled=False)
    other = usual.rename(lambda name: name.replace(SD2_PREFIX, REFINER_PREFIX))
    found, known = (to_components(state, Base.SD2) for state in (other, usual))
    shapes = [
        {name: {n: t.shape for n, t in part.items()} for name, part in made.parts.items()}
        for made in (found, known)
    ]
    assert shapes[0] == shapes[1]
    assert set(found.dropped) <= set(other)
    assert encoders_in(other).keys() == encoders_in(usual).keys() == {"text_encoder"}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_made_up_for_a_single_file_is_said(family: str) -> None:
    single = to_single_file(to_components(checkpoint(family, filled=False), Base(family)).parts)
    said = " ".join(single.notes)
    assert single.base == family
    assert ("block 2 is made up" in said, "text_projection" in said) == ((family == "sd-2"),) * 2
    assert ("logit_scale is made up" in said) == (family != "sd-1")


def test_a_missing_last_block_is_a_copy_of_the_last_there_is() -> None:
    parts = to_components(checkpoint("sd-2"), Base.SD2).parts
    made = to_single_file(parts).state
    for kind in ("attn.in_proj_weight", "mlp.c_fc.bias", "ln_1.weight"):
        name = f"{SD2_PREFIX}transformer.resblocks.{{}}.{kind}"
        assert made[name.format(2)].read() == made[name.format(1)].read()
    assert value(made[f"{SD2_PREFIX}logit_scale"]).item() == pytest.approx(4.6052)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_is_identified_as_its_single_file_is(
    family: str, pipeline_of: Pipelines
) -> None:
    single = identify(checkpoint(family, filled=False))
    found = identify(open_model(pipeline_of(family)).state_dict)
    assert (found.kind, found.base, found.variant) == (single.kind, single.base, single.variant)
    assert found.layout == "diffusers"
    assert found.evidence[0].startswith("a pipeline of text_encoder")
    assert found.problems == ()


def test_openclip_and_transformers_names_are_two_spellings_of_the_same_bytes() -> None:
    shapes = openclip_shapes(64, 2)
    original = state_dict(shapes, fill=random_fill())
    there = openclip_to_transformers(original)
    assert there["text_model.encoder.layers.1.self_attn.k_proj.weight"].shape == (64, 64)
    back = openclip_from_transformers(there)
    expected = _bytes(original)
    assert {n: b for n, b in _bytes(back).items() if n != "logit_scale"} == {
        n: b for n, b in expected.items() if n != "logit_scale"
    }


def test_openclip_names_become_what_diffusers_makes_of_them() -> None:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=1280,
        projection_dim=1280,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=20,
        vocab_size=512,
    )
    original = checkpoint("sdxl", DType.F32)
    tensors = {name: value(t) for name, t in original.items() if name.startswith(CLIP_G_PREFIX)}
    expected = convert_open_clip_checkpoint(
        CLIPTextModelWithProjection(config), tensors, CLIP_G_PREFIX
    )
    expected = {n: t for n, t in expected.items() if not n.endswith("position_ids")}
    ours = to_components(original, Base.SDXL).parts["text_encoder_2"]
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(value(ours[name]), tensor), name


@pytest.mark.parametrize("family", FAMILIES)
def test_unets_become_what_diffusers_makes_of_them(family: str) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    original = checkpoint(family, DType.F32)
    parts = to_components(original, Base(family)).parts
    from converters.layouts.pipeline_configs import component_config

    config = component_config(Base(family), "unet", parts["unet"])
    expected = convert_ldm_unet_checkpoint(
        {n: value(t) for n, t in original.items() if n.startswith("model.diffusion_model.")},
        {"class_embed_type": None, "addition_embed_type": None, **config},
    )
    assert parts["unet"].keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(value(parts["unet"][name]), tensor), name


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_loads_a_written_pipeline_without_network(
    family: str, pipeline_of: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline = DiffusionPipeline.from_pretrained(pipeline_of(family), local_files_only=True)
    parts = to_components(checkpoint(family), Base(family)).parts
    for name, part in parts.items():
        loaded = getattr(pipeline, name).state_dict()
        spelled = {n.removeprefix("text_model."): t for n, t in loaded.items()}
        for key, tensor in part.items():
            theirs = spelled[key.removeprefix("text_model.")]
            assert torch.equal(theirs, value(tensor).to(theirs.dtype)), key
        assert len(loaded) == len(part)
    tokenizer = pipeline.tokenizer or pipeline.tokenizer_2
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize("marker", [True, False])
def test_prediction_travels_between_marker_tensors_and_the_scheduler(
    marker: bool, tmp_path: Path
) -> None:
    original = checkpoint("sdxl", text_layers=1)
    if marker:
        empty = state_dict({"v_pred": (0,), "ztsnr": (0,)}, fill=lambda *_: b"")
        original = original.overlay(empty)
    folder = _written(original, tmp_path / "pipeline")
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    said = (config["prediction_type"], config.get("rescale_betas_zero_snr", False))
    assert said == (("v_prediction", True) if marker else ("epsilon", False))
    assert identify(open_model(folder).state_dict).prediction is (
        Prediction.V if marker else Prediction.EPSILON
    )
    single = _read(folder).state
    assert ("v_pred" in single, "ztsnr" in single) == (marker, marker)


def _numbers(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


EDM_FAMILIES: dict[str, tuple[dict[str, tuple[tuple[int, ...], bytes]], dict[str, Any]]] = {
    "cosxl": (
        {
            "edm_vpred.sigma_min": ((), _numbers(0.01)),
            "edm_vpred.sigma_max": ((), _numbers(100.0)),
        },
        {
            "_class_name": "EDMEulerScheduler",
            "sigma_min": 0.01,
            "sigma_max": 100.0,
            "sigma_data": 1.0,
            "sigma_schedule": "exponential",
            "prediction_type": "v_prediction",
        },
    ),
    "playground": (
        {
            "edm_mean": ((4,), _numbers(-1.5, 1.886, -1.383, 2.5155)),
            "edm_std": ((4,), _numbers(8.4927, 5.9022, 6.5498, 5.2299)),
        },
        {
            "_class_name": "EDMDPMSolverMultistepScheduler",
            "sigma_min": 0.002,
            "sigma_max": 80.0,
            "sigma_data": 0.5,
            "sigma_schedule": "karras",
            "prediction_type": "epsilon",
        },
    ),
}
"""Marker tensors with figures other than the released ones, and what the scheduler is to say."""


def _marked(markers: dict[str, tuple[tuple[int, ...], bytes]]) -> StateDict:
    shapes = {name: shape for name, (shape, _) in markers.items()}
    found = state_dict(shapes, DType.F32, fill=lambda name, _: markers[name][1])
    return checkpoint("sdxl", text_layers=1).overlay(found)


@pytest.mark.parametrize("family", EDM_FAMILIES)
def test_a_model_of_edm_goes_to_a_pipeline_and_back(family: str, tmp_path: Path) -> None:
    markers, said = EDM_FAMILIES[family]
    original = _marked(markers)
    folder = _written(original, tmp_path / "pipeline")
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert said.items() <= config.items()
    assert not {"beta_start", "beta_schedule"} & config.keys()
    there, first = identify(open_model(folder).state_dict), identify(original)
    assert first.prediction is Prediction.EDM
    assert (there.base, there.variant, there.prediction) == (
        (first.base, first.variant, first.prediction)
    )
    again = _read(folder).state
    made_up = {f"{CLIP_G_PREFIX}logit_scale"}
    assert _bytes(again.drop(made_up)) == _bytes(original.drop(made_up))
    assert {name: again[name].shape for name in markers} == {
        name: original[name].shape for name in markers
    }


@pytest.mark.parametrize("family", EDM_FAMILIES)
def test_diffusers_loads_a_pipeline_of_edm_as_it_was_meant(family: str, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    from assetmgr.sampler.prompts.tokenizer import tokenizer_files

    markers, said = EDM_FAMILIES[family]
    files = {name: tokenizer_files(padding_is_end=True) for name in ("tokenizer", "tokenizer_2")}
    folder = _written(_marked(markers), tmp_path / "pipeline", tokenizer=files)
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert type(pipeline).__name__ == "StableDiffusionXLPipeline"
    assert type(pipeline.scheduler).__name__ == said["_class_name"]
    assert said.items() - {("_class_name", said["_class_name"])} <= (
        dict(pipeline.scheduler.config).items()
    )
    vae = pipeline.vae.config
    if family == "playground":
        assert vae.latents_mean == [-1.5, 1.886, -1.383, 2.5155]
        assert vae.latents_std == [8.4927, 5.9022, 6.5498, 5.2299]
        assert vae.scaling_factor == 0.5
    else:
        assert (vae.latents_mean, vae.scaling_factor) == (None, 0.13025)


def test_the_pipeline_of_cosxl_edit_scales_the_latents_of_its_picture() -> None:
    index = model_index(Base.SDXL, "pix2pix", {}, COSXL)
    assert index["is_cosxl_edit"] is True
    assert "is_cosxl_edit" not in model_index(Base.SDXL, "pix2pix", {})


@pytest.mark.parametrize(
    "markers",
    [
        {"edm_mean": ((4,), _numbers(1, 1, 1, 1))},
        {"edm_mean": ((3,), _numbers(1, 1, 1)), "edm_std": ((3,), _numbers(1, 1, 1))},
        {"edm_vpred.sigma_max": ((), _numbers(float("nan")))},
        {"edm_vpred.sigma_max": ((), _numbers(0.0))},
    ],
    ids=["no deviation", "three channels", "nan", "no noise"],
)
def test_figures_of_edm_that_are_none_are_refused(
    markers: dict[str, tuple[tuple[int, ...], bytes]],
) -> None:
    with pytest.raises(CorruptFile, match=r"edm_"):
        to_components(_marked(markers), Base.SDXL)


@pytest.mark.parametrize("told", ["", "abc", "1e99", "[1]"])
def test_a_level_of_noise_that_is_none_makes_no_marker(told: str) -> None:
    metadata = {"modelspec.prediction_type": "edm", "diffusers.edm_sigma_max": told}
    assert edm_markers(metadata) == {}


def test_metadata_goes_with_the_denoiser_there_and_back(tmp_path: Path) -> None:
    original = checkpoint("sd-1").with_metadata({"author": "somebody", "note": "a\nb"})
    folder = _written(original, tmp_path / "pipeline")
    assert _read(folder).state.metadata == {
        **original.metadata,
        "format": "pt",
        "modelspec.prediction_type": "epsilon",
    }


def test_the_planned_size_of_a_pipeline_is_that_of_its_weights(tmp_path: Path) -> None:
    original = checkpoint("sd-1")
    components = to_components(original, Base.SD1)
    folder = _written(original, tmp_path / "pipeline")
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert weights == pipeline_size(components)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda n: not n.startswith("first_stage_model."), "has no vae"),
        (lambda n: not n.startswith("cond_stage_model."), "has no text_encoder"),
        (lambda n: not n.startswith("model.diffusion_model."), "has no unet"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_no_pipeline(change: Any, cause: str) -> None:
    with pytest.raises(UnsupportedFile, match=cause):
        to_components(checkpoint("sd-1", filled=False).select(change), Base.SD1)


def test_a_family_without_pipeline_layout_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFile, match="Flux has no pipeline layout here"):
        to_components(checkpoint("sd-1", filled=False), Base.FLUX)


def test_a_fused_attention_that_is_none_is_refused_by_name() -> None:
    broken = state_dict({"transformer.resblocks.0.attn.in_proj_weight": (64, 64)})
    with pytest.raises(CorruptFile, match=r"in_proj_weight of shape \[64, 64\]"):
        openclip_to_transformers(broken)


def test_an_attention_without_one_of_its_matrices_is_refused_by_name() -> None:
    part = to_components(checkpoint("sd-2", filled=False), Base.SD2).parts["text_encoder"]
    gap = part.drop({"text_model.encoder.layers.1.self_attn.v_proj.bias"})
    with pytest.raises(CorruptFile, match="text layer 1 is incomplete"):
        openclip_from_transformers(gap)


def test_a_pipeline_is_not_written_over_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(TargetExists):
        _written(checkpoint("sd-1"), target)
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "kept"]


def test_adapters_for_several_components_are_no_pipeline() -> None:
    lora = {f"unet.conv_in.lora_{half}.weight": (4, 4, 3, 3) for half in "AB"}
    lora |= {f"text_encoder.text_model.lora_{half}.weight": (4, 4) for half in "AB"}
    assert identify(state_dict(lora)).kind is not Kind.CHECKPOINT
