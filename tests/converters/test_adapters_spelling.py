"""Adapters under the names of other programs: the same change, whatever it is called."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from helpers.adapters import adapter, lazy
from helpers.pipelines import FAMILIES, narrow_checkpoint
from safetensors.torch import load_file

from converters.adapters import load_adapter
from converters.adapters.opening import open_adapter
from converters.adapters.peft_spelling import in_peft
from converters.adapters.spelling import SPELLINGS, respelled
from converters.bases import Base
from converters.compute import value
from converters.errors import TargetExists, UnsupportedFile
from converters.identify import identify
from converters.layouts.pipeline import to_components
from converters.merge import AdapterChoice, plan_merge
from converters.merge.lora_modules import lora_modules
from converters.statedict import StateDict
from converters.writers.diffusers_folder import write_pipeline
from converters.writers.peft_folder import WEIGHTS_FILE, write_peft_folder
from converters.writers.safetensors import write_safetensors


@functools.cache
def lora(family: str, *, convolutions: bool = True) -> StateDict:
    """A LoRA for every layer that kohya trains, with alphas that are no ranks."""
    generator = torch.Generator().manual_seed(7)
    tensors: dict[str, torch.Tensor] = {}
    weights = lora_modules(
        narrow_checkpoint(family), Base(family), convolutions=convolutions
    ).weights
    for number, (name, weight) in enumerate(weights.items()):
        out, inner, *kernel = weight.shape
        rank, ones = 2 + number % 2, (1,) * len(kernel)
        tensors[f"{name}.lora_up.weight"] = torch.randn(out, rank, *ones, generator=generator)
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, inner, *kernel, generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(float(1 + number % 3))
    return adapter(tensors, {"ss_output_name": "fox"})


def contents(state: StateDict) -> dict[str, tuple[tuple[int, ...], bytes]]:
    return {name: (tensor.shape, bytes(tensor.read())) for name, tensor in state.items()}


def merged(family: str, change: StateDict, weight: float = 0.5) -> dict[str, bytes]:
    plan = plan_merge(narrow_checkpoint(family), [AdapterChoice("a", change, weight)])
    assert plan.reports[0].unused == {}
    return {name: bytes(plan.state_dict[name].read()) for name in plan.changed}


@functools.cache
def merged_as_it_is(family: str) -> dict[str, bytes]:
    return merged(family, lora(family))


@pytest.mark.parametrize("layout", [name for name in SPELLINGS if name != "lycoris"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_changes_the_same_under_every_name(family: str, layout: str) -> None:
    source = lora(family)
    target = respelled(source, Base(family), layout)
    assert merged(family, target) == merged_as_it_is(family)
    assert len(load_adapter(target).modules) == len(load_adapter(source).modules)
    assert target.metadata["ss_output_name"] == "fox"
    told = identify(target)
    assert (told.base, told.layout) == (Base(family), layout if layout != "diffusers" else "peft")


@pytest.mark.parametrize("layout", ["comfy", "kohya"])
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_no_byte_is_another(family: str, layout: str) -> None:
    there = respelled(lora(family), Base(family), layout)
    assert contents(respelled(there, Base(family), "kohya")) == contents(lora(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_scales_come_back_from_the_metadata(family: str) -> None:
    there = respelled(lora(family), Base(family), "diffusers")
    assert not any(name.endswith(".alpha") for name in there)
    back = respelled(there, Base(family), "kohya")
    assert "lora_adapter_metadata" not in back.metadata
    alphas = {name: value(tensor).item() for name, tensor in back.items() if "alpha" in name}
    for name, tensor in lora(family).items():
        if name.endswith(".alpha"):
            assert alphas[name] == pytest.approx(value(tensor).item(), rel=1e-6)


Pipelines = Callable[[str], Path]
"""The pipeline of a family's narrow model, written once."""


@pytest.fixture(scope="module")
def pipeline_of(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    from assetmgr.sampler.prompts.tokenizer import tokenizer_files

    @functools.cache
    def made(family: str) -> Path:
        model, folder = narrow_checkpoint(family), tmp_path_factory.mktemp(family) / "pipeline"
        names = ("tokenizer", "tokenizer_2")
        files = {name: tokenizer_files(padding_is_end=True) for name in names}
        components = to_components(model, Base(family))
        write_pipeline(components, identify(model), folder, tokenizer=files)
        return folder

    return made


@pytest.mark.parametrize("family", ["sd-1", "sdxl"])
def test_diffusers_fuses_the_same(
    family: str, pipeline_of: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    base = Base(family)
    pipeline = DiffusionPipeline.from_pretrained(pipeline_of(family), local_files_only=True)
    change = _some_modules(lora(family))
    write_safetensors(respelled(change, base, "diffusers"), tmp_path / "fox.safetensors")
    pipeline.load_lora_weights(tmp_path, weight_name="fox.safetensors")
    pipeline.fuse_lora(components=_components(pipeline), lora_scale=0.5)
    pipeline.unload_lora_weights()
    plan = plan_merge(narrow_checkpoint(family), [AdapterChoice("a", change, 0.5)])
    ours = to_components(plan.state_dict, base).parts
    for component in _components(pipeline):
        for name, theirs in getattr(pipeline, component).state_dict().items():
            if name in ours[component]:
                expected = value(ours[component][name]).float()
                torch.testing.assert_close(theirs.float(), expected, msg=name)


def _some_modules(state: StateDict) -> StateDict:
    """Few of each sort: PEFT takes its time for each module."""
    names = list(dict.fromkeys(name.partition(".")[0] for name in state))
    kept = {name for name in names if "_transformer_blocks_" not in name} | set(names[::20])
    return state.select(lambda name: name.partition(".")[0] in kept)


def _components(pipeline: object) -> list[str]:
    names = ("unet", "text_encoder", "text_encoder_2")
    return [name for name in names if getattr(pipeline, name, None) is not None]


NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
PARTS: Mapping[str, dict[str, tuple[int, ...]]] = {
    "loha": {"hada_w1_a": (8, 2), "hada_w1_b": (2, 8), "hada_w2_a": (8, 2), "hada_w2_b": (2, 8)},
    "lokr": {"lokr_w1": (2, 2), "lokr_w2": (4, 4)},
    "glora": {
        "a1.weight": (8, 2),
        "a2.weight": (2, 8),
        "b1.weight": (8, 2),
        "b2.weight": (2, 8),
    },
    "full": {"diff": (8, 8), "diff_b": (8,)},
    "oft": {"oft_blocks": (2, 4, 4), "alpha": ()},
    "boft": {"oft_blocks": (1, 2, 4, 4), "alpha": ()},
    "ia3": {"weight": (8,), "on_input": ()},
    "locon": {
        "lora_up.weight": (8, 2, 1, 1),
        "lora_down.weight": (2, 8, 1, 1),
        "lora_mid.weight": (2, 2, 3, 3),
    },
}


def of(parts: Mapping[str, tuple[int, ...]], name: str = NAME) -> StateDict:
    return adapter({f"{name}.{part}": torch.ones(shape) for part, shape in parts.items()})


@pytest.mark.parametrize("algorithm", [name for name in PARTS if name != "ia3"])
def test_every_algorithm_keeps_its_parts_where_programs_of_its_kind_read_it(algorithm: str) -> None:
    source = of(PARTS[algorithm])
    there = respelled(source, Base.SD1, "comfy")
    assert all(
        name.startswith("diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.")
        for name in there
    )
    assert contents(respelled(there, Base.SD1, "kohya")) == contents(source)
    lycoris = respelled(source, Base.SD1, "lycoris")
    assert {module.family for module in load_adapter(lycoris).modules} == {algorithm}


@pytest.mark.parametrize("algorithm", PARTS)
def test_what_diffusers_has_no_form_for_is_refused_by_name(algorithm: str) -> None:
    with pytest.raises(UnsupportedFile, match=f"{NAME} is {algorithm}") as refused:
        respelled(of(PARTS[algorithm]), Base.SD1, "diffusers")
    assert "resize" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("layer", "part", "shape"),
    [
        ("transformer_blocks.0.attn1.to_q", "oft_R.weight", (8, 1)),
        ("transformer_blocks.0.attn1.to_out.0", "ia3_l", (8, 1)),
        ("proj_in", "ia3_l", (1, 8, 1, 1)),
    ],
)
def test_what_only_peft_computes_so_is_refused_by_name(
    layer: str, part: str, shape: tuple[int, ...]
) -> None:
    name = f"base_model.model.mid_block.attentions.0.{layer}"
    with pytest.raises(UnsupportedFile, match="only PEFT") as refused:
        respelled(of({part: shape}, name), Base.SD1, "kohya")
    assert name in str(refused.value)


def test_magnitudes_keep_their_form() -> None:
    parts = {"lora_up.weight": (8, 2), "lora_down.weight": (2, 8), "dora_scale": (8, 1)}
    there = respelled(of(parts), Base.SD1, "diffusers")
    (vector,) = (name for name in there if name.endswith("lora_magnitude_vector"))
    assert there[vector].shape == (8,)
    config = json.loads(there.metadata["lora_adapter_metadata"])
    assert config["unet.use_dora"] is True
    back = respelled(there, Base.SD1, "kohya")
    assert back[f"{NAME}.dora_scale"].shape == (8, 1)


def test_magnitudes_of_inputs_have_no_form_in_diffusers() -> None:
    parts = {"lora_up.weight": (8, 2), "lora_down.weight": (2, 6), "dora_scale": (1, 6)}
    with pytest.raises(UnsupportedFile, match="of its inputs"):
        respelled(of(parts), Base.SD1, "diffusers")


def test_a_module_without_alpha_has_the_scale_one() -> None:
    parts = {"lora_up.weight": (8, 2), "lora_down.weight": (2, 8)}
    config = json.loads(
        respelled(of(parts), Base.SD1, "diffusers").metadata["lora_adapter_metadata"]
    )
    assert (config["unet.r"], config["unet.lora_alpha"]) == (2, 2)


def test_bundled_embeddings_stay_where_programs_read_them() -> None:
    source = of(PARTS["lokr"]).overlay({"bundle_emb.fox.emb_params": lazy(torch.ones(1, 768))})
    assert "bundle_emb.fox.emb_params" in respelled(source, Base.SD1, "comfy")
    with pytest.raises(UnsupportedFile, match=r"bundle_emb\.fox"):
        respelled(source, Base.SD1, "diffusers")


def test_a_key_of_no_module_is_named() -> None:
    source = of(PARTS["lokr"]).overlay({"something.else": lazy(torch.ones(1))})
    with pytest.raises(UnsupportedFile, match=r"something\.else"):
        respelled(source, Base.SD1, "comfy")


def test_a_module_that_the_family_does_not_have_is_named() -> None:
    with pytest.raises(UnsupportedFile, match="lora_unet_nowhere has no name"):
        respelled(of(PARTS["lokr"], "lora_unet_nowhere"), Base.SD1, "comfy")


def test_another_family_is_refused() -> None:
    with pytest.raises(UnsupportedFile, match="are renamed"):
        respelled(of(PARTS["lokr"]), Base.WAN, "comfy")


def test_a_written_file_holds_what_it_says(tmp_path: Path) -> None:
    target = tmp_path / "fox.safetensors"
    write_safetensors(respelled(lora("sd-1"), Base.SD1, "diffusers"), target)
    names = load_file(target)
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in names)


def denoiser_lora(family: str) -> StateDict:
    return _some_modules(lora(family)).select(lambda name: name.startswith("lora_unet_"))


@pytest.mark.parametrize("family", ["sd-1", "sdxl"])
def test_peft_merges_its_folder_to_the_same_weights(
    family: str, pipeline_of: Pipelines, tmp_path: Path
) -> None:
    from diffusers import UNet2DConditionModel
    from peft import PeftModel

    base = Base(family)
    unet = UNet2DConditionModel.from_pretrained(pipeline_of(family) / "unet")
    change = denoiser_lora(family)
    write_peft_folder(in_peft(change, base), tmp_path / "fox")
    theirs = PeftModel.from_pretrained(unet, tmp_path / "fox").merge_and_unload().state_dict()
    plan = plan_merge(narrow_checkpoint(family), [AdapterChoice("a", change, 1.0)])
    ours = to_components(plan.state_dict, base).parts["unet"]
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(tensor, value(ours[name]).float(), msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_of_peft_comes_back_as_it_was(family: str, tmp_path: Path) -> None:
    source, base = denoiser_lora(family), Base(family)
    write_peft_folder(in_peft(source, base), tmp_path / "fox")
    read = open_adapter(tmp_path / "fox" / WEIGHTS_FILE)
    assert merged(family, read) == merged(family, source)
    back = respelled(read, base, "kohya")
    assert back.keys() == source.keys()
    for name, tensor in source.items():
        if name.endswith(".alpha"):
            assert value(back[name]).item() == pytest.approx(value(tensor).item(), rel=1e-6)
        elif "_transformer_blocks_" in name or tensor.shape[2:] != (1, 1):
            assert bytes(back[name].read()) == bytes(tensor.read())


def test_peft_is_told_the_ranks_and_alphas_that_differ(tmp_path: Path) -> None:
    names = [NAME.replace("to_q", part) for part in ("to_q", "to_k", "to_v")]
    ranks, alphas = (2, 2, 4), (1.0, 1.0, 0.5)
    tensors: dict[str, torch.Tensor] = {}
    for name, rank, alpha in zip(names, ranks, alphas, strict=True):
        tensors[f"{name}.lora_up.weight"] = torch.ones(8, rank)
        tensors[f"{name}.lora_down.weight"] = torch.ones(rank, 8)
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    write_peft_folder(in_peft(adapter(tensors), Base.SD1), tmp_path / "fox")
    config = json.loads((tmp_path / "fox" / "adapter_config.json").read_text())
    other = "mid_block.attentions.0.transformer_blocks.0.attn1.to_v"
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 1)
    assert (config["rank_pattern"], config["alpha_pattern"]) == ({other: 4}, {other: 0.5})
    assert len(config["target_modules"]) == 3


def test_a_folder_that_holds_other_files_is_never_replaced(tmp_path: Path) -> None:
    state = in_peft(denoiser_lora("sd-1"), Base.SD1)
    write_peft_folder(state, tmp_path / "fox")
    write_peft_folder(state, tmp_path / "fox", overwrite=True)
    (tmp_path / "fox" / "mine.safetensors").touch()
    with pytest.raises(TargetExists, match=r"mine\.safetensors"):
        write_peft_folder(state, tmp_path / "fox", overwrite=True)
    assert len(list((tmp_path / "fox").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["fox"]
