"""Adapters of Flux and SD3 under other names: the same change, split or joined where it must be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from helpers.adapters import adapter
from helpers.examples import examples
from helpers.sd1 import state_dict
from hypothesis import given
from hypothesis import strategies as st

from converters.adapters import load_adapter
from converters.adapters.peft_spelling import in_peft
from converters.adapters.spelling import respelled
from converters.adapters.targets import module_targets
from converters.bases import Base
from converters.compute import value
from converters.dtypes import DType
from converters.errors import MergeProblem, UnsupportedFile
from converters.merge.changes import ChangeLog, merged_tensor
from converters.merge.fitting import fit_modules
from converters.statedict import StateDict

Shapes = Mapping[str, tuple[int, ...]]

WIDTH = 8
FLUX: Shapes = {
    "double_blocks.0.img_attn.qkv": (24, 8),
    "double_blocks.0.txt_attn.qkv": (24, 8),
    "double_blocks.0.img_attn.proj": (8, 8),
    "double_blocks.1.img_mlp.0": (32, 8),
    "double_blocks.1.txt_mod.lin": (48, 8),
    "single_blocks.2.linear1": (56, 8),
    "single_blocks.2.linear2": (8, 40),
    "single_blocks.2.modulation.lin": (24, 8),
    "txt_in": (8, 16),
    "final_layer.linear": (4, 8),
}
SD3: Shapes = {
    "joint_blocks.0.x_block.attn.qkv": (24, 8),
    "joint_blocks.0.x_block.attn2.qkv": (24, 8),
    "joint_blocks.0.context_block.attn.qkv": (24, 8),
    "joint_blocks.3.context_block.attn.proj": (8, 8),
    "joint_blocks.3.x_block.mlp.fc1": (32, 8),
    "joint_blocks.3.x_block.adaLN_modulation.1": (48, 8),
}
FAMILIES = {Base.FLUX: FLUX, Base.SD3: SD3}
ENCODERS = {
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": (12, 6),
    "lora_te3_encoder_block_0_layer_0_SelfAttention_q": (6, 6),
    "lora_te3_encoder_block_1_layer_1_DenseReluDense_wi_0": (12, 6),
}


def model(base: Base) -> StateDict:
    return state_dict({f"{n}.weight": s for n, s in FAMILIES[base].items()}, DType.F32)


def lora(shapes: Shapes, seed: int = 0, dtype: torch.dtype = torch.float32) -> StateDict:
    """kohya's, with ranks and alphas that differ from module to module."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for number, (name, (out, inner)) in enumerate(shapes.items()):
        rank = 1 + number % 3
        for part, shape in (("up", (out, rank)), ("down", (rank, inner))):
            factor = torch.randn(shape, generator=generator)
            tensors[f"{name}.lora_{part}.weight"] = factor.to(dtype)
        tensors[f"{name}.alpha"] = torch.tensor(float(1 + number % 2))
    return adapter(tensors)


def kohya(base: Base, seed: int = 0) -> StateDict:
    names = {"lora_unet_" + n.replace(".", "_"): s for n, s in FAMILIES[base].items()}
    return lora(names, seed)


def changes(base: Base, change: StateDict) -> dict[str, torch.Tensor]:
    """What an adapter does to weights of zeros, by their names."""
    weights = model(base)
    fit = fit_modules(load_adapter(change), module_targets(weights))
    assert (fit.misfit, dict(fit.unused)) == (None, {})
    names = dict.fromkeys(placed.tensor for placed in fit.placed)
    zeros = {n: adapter({n: torch.zeros(weights[n].shape)})[n] for n in names}
    return {
        name: value(
            merged_tensor(
                zeros[name],
                name,
                [p.change(0, "a", 1.0) for p in fit.placed if p.tensor == name],
                ChangeLog(),
            )
        )
        for name in names
    }


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["kohya", "comfy", "diffusers"])
@pytest.mark.parametrize("base", FAMILIES)
def test_a_lora_changes_the_same_under_every_name_and_back(base: Base, layout: str) -> None:
    source = kohya(base)
    there = respelled(source, base, layout)
    assert set(there) != set(source) or layout == "kohya"
    same(changes(base, there), changes(base, source))
    for second in ("kohya", "comfy", "diffusers"):
        same(changes(base, respelled(there, base, second)), changes(base, source))


@pytest.mark.parametrize("base", FAMILIES)
def test_peft_changes_the_same_and_back(base: Base) -> None:
    source = kohya(base)
    there = in_peft(source, base)
    assert all(name.startswith("base_model.model.") for name in there)
    same(changes(base, there), changes(base, source))
    same(changes(base, respelled(there, base, "kohya")), changes(base, source))


@pytest.mark.parametrize("base", FAMILIES)
def test_splitting_keeps_every_byte(base: Base) -> None:
    source = kohya(base)
    there = respelled(source, base, "diffusers")
    assert all(tensor.extents is not None for tensor in there.values())
    assert all(name.startswith("transformer.") for name in there)


PARTS = ("to_q", "to_k", "to_v")


@given(st.sets(st.sampled_from([*PARTS, "proj_mlp"]), min_size=1), st.booleans())
@examples(25)
def test_some_layers_of_a_matrix_become_one_module(chosen: set[str], alike: bool) -> None:
    """Those that are missing stay as they are; one scale for all leaves the numbers alone."""
    head = "transformer.single_transformer_blocks.2."
    rows = {**dict.fromkeys(PARTS, (8, 8)), "proj_mlp": (32, 8)}
    names = {p: head + (f"attn.{p}" if p in PARTS else p) for p in sorted(chosen)}
    tensors = lora({name: rows[p] for p, name in names.items()}, 3, torch.float16)
    source = StateDict(
        {
            name.replace("lora_up", "lora_B").replace("lora_down", "lora_A"): tensor
            for name, tensor in tensors.items()
            if not (alike and name.endswith(".alpha"))
        }
    )
    joined = respelled(source, Base.FLUX, "kohya")
    assert {name.rpartition(".lora")[0] for name in joined if ".lora" in name} == {
        "lora_unet_single_blocks_2_linear1"
    }
    up = joined["lora_unet_single_blocks_2_linear1.lora_up.weight"]
    kept = alike or len(chosen) < 3
    assert up.dtype is (DType.F16 if kept else DType.F32), "the third has another scale"
    same(changes(Base.FLUX, joined), changes(Base.FLUX, source))


def test_text_encoders_keep_their_layers() -> None:
    source = lora(ENCODERS)
    for base, t5 in ((Base.FLUX, "text_encoder_2."), (Base.SD3, "text_encoder_3.")):
        there = respelled(source, base, "diffusers")
        assert any(name.startswith("text_encoder.text_model.encoder.layers.0") for name in there)
        assert any(name.startswith(t5 + "encoder.block.1.layer.1.DenseRelu") for name in there)
        back = respelled(there, base, "kohya")
        assert set(back) == set(source)
        comfy = respelled(source, base, "comfy")
        head = "text_encoders.t5xxl.transformer."
        assert f"{head}encoder.block.0.layer.0.SelfAttention.q.alpha" in comfy


def _module(name: str, **tensors: torch.Tensor) -> StateDict:
    return adapter({f"{name}.{role}": tensor for role, tensor in tensors.items()})


UP, DOWN = torch.randn(24, 2), torch.randn(2, 8)
QKV = "lora_unet_double_blocks_0_img_attn_qkv"
Q = "transformer.transformer_blocks.0.attn.to_q"


@pytest.mark.parametrize("axis", [0, 1])
def test_magnitudes_of_rows_are_split_and_of_columns_are_refused(axis: int) -> None:
    scale = torch.rand((24, 1) if axis == 0 else (1, 8))
    pair = {"lora_up.weight": UP, "lora_down.weight": DOWN, "dora_scale": scale}
    source = _module(QKV, **pair)
    if axis:
        with pytest.raises(UnsupportedFile, match="magnitudes of module"):
            respelled(source, Base.FLUX, "diffusers")
        return
    there = respelled(source, Base.FLUX, "diffusers")
    held = [value(there[f"{Q[:-4]}to_{x}.lora_magnitude_vector"]) for x in "qkv"]
    assert torch.equal(torch.cat(held), scale.flatten())


@pytest.mark.parametrize(
    ("source", "layout", "words"),
    [
        (_module("lora_unet_final_layer_adaLN_modulation_1", diff=UP), "diffusers", "has no form"),
        (_module("lora_unet_nowhere", diff=UP), "comfy", "no name in comfy"),
        (_module(QKV, diff=UP), "diffusers", "which diffusers has no form for"),
        (_module(Q, diff=torch.randn(8, 8)), "kohya", "a part of one matrix"),
        (kohya(Base.FLUX), "lycoris", "lycoris has no names for Flux"),
        (
            _module(Q, **{"lora_B.weight": torch.randn(9, 2), "lora_A.weight": DOWN}),
            "kohya",
            "do not fit below each other",
        ),
    ],
)
def test_what_has_no_name_or_form_there_is_refused(
    source: StateDict, layout: str, words: str
) -> None:
    with pytest.raises(UnsupportedFile, match=words):
        respelled(source, Base.FLUX, layout)


LAST = "joint_blocks_5_context_block_adaLN_modulation_1"


@pytest.mark.parametrize("layout", ["diffusers", "comfy"])
@pytest.mark.parametrize("rows", [16, 48])
def test_only_the_last_modulation_has_its_halves_the_other_way_round(
    rows: int, layout: str
) -> None:
    source = lora({f"lora_unet_{LAST}": (rows, 8)})
    there = respelled(source, Base.SD3, layout)
    (up,) = (value(t) for name, t in there.items() if "lora_B" in name or "lora_up" in name)
    before = value(source[f"lora_unet_{LAST}.lora_up.weight"])
    is_swapped = rows == 16 and layout == "diffusers"
    assert torch.equal(up, before.roll(8, 0) if is_swapped else before)
    back = respelled(there, Base.SD3, "kohya")
    assert torch.equal(value(back[f"lora_unet_{LAST}.lora_up.weight"]), before)


def test_what_is_more_than_rows_is_not_put_in_another_order() -> None:
    factors = {"lokr_w1": torch.ones(4, 2), "lokr_w2": torch.ones(4, 4)}
    source = _module(f"lora_unet_{LAST}", **factors)
    with pytest.raises(UnsupportedFile, match="which diffusers has no form for"):
        respelled(source, Base.SD3, "diffusers")
    with pytest.raises(UnsupportedFile, match="lokr, of rows in another order"):
        in_peft(source, Base.SD3)


def test_one_layer_in_two_spellings_is_refused_and_not_dropped() -> None:
    twice = kohya(Base.FLUX).overlay(respelled(kohya(Base.FLUX), Base.FLUX, "comfy"))
    with pytest.raises(MergeProblem, match="would both be"):
        respelled(twice, Base.FLUX, "kohya")


@pytest.mark.parametrize("base", FAMILIES)
def test_other_algorithms_are_renamed_between_single_files(base: Base) -> None:
    names = {"lora_unet_" + n.replace(".", "_"): s for n, s in FAMILIES[base].items()}
    tensors = {f"{name}.diff": torch.randn(shape) for name, shape in names.items()}
    source = adapter(tensors)
    comfy = respelled(source, base, "comfy")
    assert set(comfy) == {f"diffusion_model.{name}.diff" for name in FAMILIES[base]}
    assert set(respelled(comfy, base, "kohya")) == set(source)
