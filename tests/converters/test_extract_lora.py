"""LoRAs out of the difference of two checkpoints: names, ranks, errors, and what is left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import pipelines
from helpers.examples import examples
from helpers.sd1 import (
    CLIP,
    SMALL,
    TRUE,
    UNET,
    VAE,
    Widths,
    clip_shapes,
    prefixed,
    random_fill,
    state_dict,
    stored,
    unet_shapes,
)
from hypothesis import given
from hypothesis import strategies as st

from converters.compute import value
from converters.dtypes import DType
from converters.errors import BadValue, MergeProblem, Overflow, UnsupportedFile, WrongFamily
from converters.identify import Base
from converters.merge.checkpoints.fitting import Model
from converters.merge.extract_full import plan_full, without_equal
from converters.merge.extract_lora import Extraction, extract_lora, plan_extraction
from converters.merge.lora_modules import lora_modules
from converters.merge.lora_tensors import total_error
from converters.merge.low_rank import Size, energy_of, truncated
from converters.statedict import LazyTensor, StateDict

TO_Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
QUERY = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
CONV = f"{UNET}input_blocks.1.0.in_layers.2.weight"
TEXT = f"{CLIP}encoder.layers.0.mlp.fc1.weight"
NORM = f"{UNET}out.0.weight"


def base_of(family: str = "sd-1") -> StateDict:
    return pipelines.checkpoint(family, DType.F32)


def changed(
    state: StateDict, *names: str, rank: int | None = None, scale: float = 0.1
) -> StateDict:
    """The state with something added to these tensors, of a rank or of any."""
    return state.overlay({name: _changed(name, state[name], rank, scale) for name in names})


def _changed(name: str, tensor: LazyTensor, rank: int | None, scale: float) -> LazyTensor:
    random = np.random.default_rng(list(name.encode()))
    out, inner = tensor.shape[0], math.prod(tensor.shape[1:])
    delta = random.standard_normal((out, inner))
    if rank is not None:
        delta = random.standard_normal((out, rank)) @ random.standard_normal((rank, inner))
    data = value(tensor).numpy() + (scale * delta).reshape(tensor.shape).astype(np.float32)
    return stored(DType.F32, tensor.shape, data.tobytes(), name)


def extracted(
    tuned: StateDict, base: StateDict, size: Size, *, conv: bool = False, dtype: DType = DType.F32
) -> Extraction:
    models = Model.of("tuned.safetensors", tuned), Model.of("base.safetensors", base)
    return extract_lora(plan_extraction(*models, convolutions=conv), size, dtype)


def delta_of(lora: StateDict, module: str) -> np.ndarray:
    """The change that a LoRA stands for, by the plain formula."""
    up, down, alpha = (
        value(lora[f"{module}.{part}"]).float().numpy()
        for part in ("lora_up.weight", "lora_down.weight", "alpha")
    )
    product = up.reshape(up.shape[0], -1) @ down.reshape(down.shape[0], -1)
    result: np.ndarray = alpha / down.shape[0] * product
    return result


def difference(tuned: StateDict, base: StateDict, name: str) -> np.ndarray:
    delta: np.ndarray = value(tuned[name]).numpy() - value(base[name]).numpy()
    return delta.reshape(delta.shape[0], -1)


def test_a_difference_of_low_rank_comes_back_exactly() -> None:
    base = base_of()
    tuned = changed(base, QUERY, TEXT, rank=3)
    found = extracted(tuned, base, Size(rank=3))
    names = {TO_Q: QUERY, "lora_te_text_model_encoder_layers_0_mlp_fc1": TEXT}
    assert {module.name for module in found.modules} == set(names)
    for module, name in names.items():
        assert np.allclose(delta_of(found.state, module), difference(tuned, base, name), atol=1e-5)
    assert total_error(found.modules) < 1e-5
    assert found.left_out == ()


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16])
@pytest.mark.parametrize("rank", [1, 4, 100])
def test_the_stated_error_is_the_true_one(rank: int, dtype: DType) -> None:
    base = base_of()
    tuned = changed(base, QUERY, CONV)
    found = extracted(tuned, base, Size(rank=rank), conv=True, dtype=dtype)
    for module in found.modules:
        name = QUERY if module.name == TO_Q else CONV
        whole = difference(tuned, base, name)
        missing = np.linalg.norm(whole - delta_of(found.state, module.name))
        assert module.error == pytest.approx(missing / np.linalg.norm(whole), rel=1e-3, abs=1e-6)
        assert module.rank == min(rank, *whole.shape)
        best = np.linalg.svd(whole, compute_uv=False)[module.rank :]
        assert module.missing <= np.linalg.norm(best) * 1.01 + 0.01 * module.whole


@given(st.sampled_from([0.3, 0.5, 0.9, 0.99, 1.0]))
@examples(5)
def test_an_energy_is_reached_with_the_least_rank(energy: float) -> None:
    base = base_of()
    tuned = changed(base, QUERY)
    (module,) = extracted(tuned, base, Size(energy=energy)).modules
    values = np.linalg.svd(difference(tuned, base, QUERY), compute_uv=False).astype(np.float64)
    shares = np.cumsum(values**2) / (values**2).sum()
    least = int(np.flatnonzero(shares >= energy * (1 - 1e-6))[0]) + 1
    assert abs(module.rank - least) <= (energy == 1.0)
    assert module.error**2 <= 1 - energy + 1e-6


@pytest.mark.parametrize("shape", [(400, 300), (300, 900), (96, 80)])
@pytest.mark.parametrize("rank", [1, 8, 20])
def test_a_sketch_is_nearly_as_good_as_the_exact_decomposition(
    shape: tuple[int, int], rank: int
) -> None:
    random = np.random.default_rng(0)
    decay = np.diag(0.9 ** np.arange(min(shape)))
    left = np.linalg.qr(random.standard_normal((shape[0], min(shape))))[0]
    right = np.linalg.qr(random.standard_normal((shape[1], min(shape))))[0]
    matrix = (left @ decay @ right.T).astype(np.float32)
    up, down = truncated(matrix, Size(rank=rank)).factors()
    best = np.linalg.norm(0.9 ** np.arange(rank, min(shape)))
    assert np.linalg.norm(matrix - up @ down) <= best * 1.001
    again, _ = truncated(matrix, Size(rank=rank)).factors()
    assert np.array_equal(up, again)


def test_an_energy_of_a_large_matrix_needs_no_full_decomposition() -> None:
    random = np.random.default_rng(0)
    matrix = (random.standard_normal((500, 20)) @ random.standard_normal((20, 400))).astype("f4")
    spectrum = truncated(matrix, Size(energy=0.9999))
    assert len(spectrum.values) <= 20
    assert energy_of(spectrum.values) >= 0.9999 * energy_of(matrix) * (1 - 1e-6)


def test_equal_weights_need_no_module_and_equal_models_none_at_all() -> None:
    base = base_of()
    found = extracted(changed(base, QUERY), base, Size(rank=2))
    assert [module.name for module in found.modules] == [TO_Q]
    assert TO_Q not in found.unchanged
    assert len(found.unchanged) > 10
    assert not extracted(StateDict(dict(base.tensors)), base, Size(rank=2)).state


def test_what_a_lora_does_not_hold_is_named() -> None:
    base = base_of()
    vae = f"{VAE}decoder.conv_in.weight"
    tuned = changed(base, QUERY, CONV, NORM, vae)
    assert set(extracted(tuned, base, Size(rank=2)).left_out) == {
        "unet.down_blocks.0.resnets.0.conv1.weight",
        "unet.conv_norm_out.weight",
        "vae.decoder.conv_in.weight",
    }
    assert set(extracted(tuned, base, Size(rank=2), conv=True).left_out) == {
        "unet.conv_norm_out.weight",
        "vae.decoder.conv_in.weight",
    }


@pytest.mark.parametrize(
    ("family", "tensor", "module"),
    [
        ("sd-1", QUERY, TO_Q),
        ("sd-2", QUERY, TO_Q),
        (
            "sdxl",
            f"{UNET}middle_block.1.transformer_blocks.1.attn2.to_k.weight",
            "lora_unet_middle_block_1_transformer_blocks_1_attn2_to_k",
        ),
        (
            "sdxl",
            "conditioner.embedders.0.transformer.text_model.encoder.layers.1.mlp.fc2.weight",
            "lora_te1_text_model_encoder_layers_1_mlp_fc2",
        ),
        (
            "sdxl",
            "conditioner.embedders.1.model.transformer.resblocks.1.mlp.c_fc.weight",
            "lora_te2_text_model_encoder_layers_1_mlp_fc1",
        ),
        (
            "sd-2",
            "cond_stage_model.model.transformer.resblocks.0.attn.out_proj.weight",
            "lora_te_text_model_encoder_layers_0_self_attn_out_proj",
        ),
        (
            "sdxl-refiner",
            "conditioner.embedders.0.model.transformer.resblocks.0.mlp.c_proj.weight",
            "lora_te2_text_model_encoder_layers_0_mlp_fc2",
        ),
    ],
)
def test_modules_are_named_as_kohya_names_them(family: str, tensor: str, module: str) -> None:
    base = base_of(family)
    tuned = changed(base, tensor, rank=2)
    found = extracted(tuned, base, Size(rank=2))
    assert [m.name for m in found.modules] == [module]
    assert np.allclose(delta_of(found.state, module), difference(tuned, base, tensor), atol=1e-4)


def test_fused_attention_of_openclip_is_three_modules() -> None:
    base = base_of("sdxl")
    fused = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    tuned = changed(base, fused, rank=2)
    found = extracted(tuned, base, Size(rank=2))
    modules = [f"lora_te2_text_model_encoder_layers_0_self_attn_{x}_proj" for x in "qkv"]
    assert [module.name for module in found.modules] == modules
    whole = np.concatenate([delta_of(found.state, module) for module in modules])
    assert np.allclose(whole, difference(tuned, base, fused), atol=1e-4)


TRUE_SD2 = replace(TRUE, context=1024, linear=True)
TRUE_SDXL = replace(
    TRUE, channels=(320, 640, 1280), attention=(False, True, True), depths=(0, 2, 10),
    context=2048, adm=2816, linear=True,
)  # fmt: skip
COUNTS = [
    (Base.SD1, TRUE, (192, 282), {"lora_te_": 72}),
    (Base.SD2, TRUE_SD2, (192, 282), {"lora_te_": 138}),
    (Base.SDXL, TRUE_SDXL, (722, 794), {"lora_te1_": 72, "lora_te2_": 192}),
]


@pytest.mark.parametrize(("base", "widths", "unet", "text"), COUNTS, ids=lambda x: str(x)[:5])
def test_a_model_has_as_many_modules_as_kohya_counts(
    base: Base, widths: Widths, unet: tuple[int, int], text: dict[str, int]
) -> None:
    encoders = {
        Base.SD1: prefixed(CLIP, clip_shapes(TRUE)),
        Base.SD2: prefixed(pipelines.SD2_PREFIX, pipelines.openclip_shapes(1024, 24, 4096)),
        Base.SDXL: {
            **prefixed(pipelines.CLIP_L_PREFIX, clip_shapes(TRUE)),
            **prefixed(pipelines.CLIP_G_PREFIX, pipelines.openclip_shapes(1280, 32, 5120)),
        },
    }
    state = state_dict({**encoders[base], **prefixed(UNET, unet_shapes(widths))})
    for convolutions in (False, True):
        modules = lora_modules(state, base, convolutions=convolutions).weights
        for prefix, count in {"lora_unet_": unet[convolutions], **text}.items():
            assert sum(name.startswith(prefix) for name in modules) == count, prefix


def test_a_bare_unet_is_enough() -> None:
    bare = state_dict(unet_shapes(SMALL), DType.F32, fill=random_fill(DType.F32))
    tuned = changed(bare, QUERY.removeprefix(UNET), rank=1)
    assert [m.name for m in extracted(tuned, bare, Size(rank=1)).modules] == [TO_Q]


def test_models_that_cannot_be_compared_are_refused_naming_file_and_module() -> None:
    base = base_of()
    with pytest.raises(WrongFamily, match="is SDXL") as caught:
        extracted(base_of("sdxl"), base, Size(rank=1))
    assert caught.value.path == "tuned.safetensors"
    odd = base.overlay(state_dict({QUERY: (32, 16)}, DType.F32))
    with pytest.raises(MergeProblem, match=rf"{TO_Q} has shape \[32, 16\]") as caught_:
        extracted(odd, base, Size(rank=1))
    assert caught_.value.path == "tuned.safetensors"
    whole = Model.of("base.safetensors", base)
    held = ("attn", "proj", ".ff.", CLIP)
    bare = replace(whole, state=base.select(lambda n: not any(part in n for part in held)))
    with pytest.raises(UnsupportedFile, match="no weight in common"):
        plan_extraction(bare, whole, convolutions=False)


def test_values_that_are_not_finite_are_refused_naming_file_and_module() -> None:
    base = base_of()
    shape = base[QUERY].shape
    nan = stored(DType.F32, shape, np.full(shape, np.nan, np.float32).tobytes())
    with pytest.raises(MergeProblem, match=f"{TO_Q} holds NaN") as caught:
        extracted(base, base.overlay({QUERY: nan}), Size(rank=1))
    assert caught.value.path == "base.safetensors"


def test_factors_that_do_not_fit_their_type_are_refused() -> None:
    base = base_of()
    with pytest.raises(Overflow):
        extracted(changed(base, QUERY, scale=1e10), base, Size(rank=1), dtype=DType.F16)


@pytest.mark.parametrize(
    "size", [Size(), Size(1, 0.5), Size(rank=0), Size(energy=0.0), Size(energy=1.5)]
)
def test_a_size_is_a_rank_or_an_energy(size: Size) -> None:
    with pytest.raises(BadValue):
        size.check()


def test_a_full_difference_refuses_what_is_not_finite_naming_file_and_key() -> None:
    base = base_of()
    name, shape = QUERY, base[QUERY].shape
    broken = stored(DType.F32, shape, np.full(shape, np.inf, np.float32).tobytes(), name)
    huge = stored(DType.F32, shape, np.full(shape, 1e6, np.float32).tobytes(), name)
    for tensor, said in ((broken, "holds NaN or infinite values"), (huge, "more than F16 holds")):
        tuned = Model.of("tuned.safetensors", base.overlay({name: tensor}))
        plan = plan_full(tuned, Model.of("base.safetensors", base), DType.F16)
        state = without_equal(plan)
        (key,) = state
        with pytest.raises(MergeProblem, match=said) as refused:
            state[key].read()
        assert refused.value.path == "tuned.safetensors"
        assert key in refused.value.cause


def test_a_full_difference_names_what_only_one_model_has() -> None:
    base = base_of()
    plan = plan_full(
        Model.of("tuned.safetensors", base.drop({NORM})),
        Model.of("base.safetensors", base),
        DType.F16,
    )
    assert plan.left_out == ("lora_unet_conv_norm_out.b_norm", "lora_unet_conv_norm_out.w_norm")
