"""Every layer of every family is found under every spelling, and nothing else is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from helpers.adapters import adapter, applied, close, lazy
from helpers.identities import FIXTURES
from helpers.pipelines import FAMILIES, checkpoint, true_sdxl
from helpers.sd1 import OLD_CLIP, SMALL, UNET, checkpoint_shapes, random_fill, state_dict

from converters.adapters import load_adapter
from converters.adapters.places import place_of
from converters.adapters.targets import Target, module_targets
from converters.compute import value
from converters.dtypes import DType
from converters.errors import WrongFamily
from converters.identify import Base
from converters.layouts.pipeline import to_components
from converters.layouts.sd_unet import ldm_skeleton
from converters.merge import AdapterChoice, plan_merge
from converters.merge.changes import ChangeLog, merged_tensor
from converters.merge.fitting import Fit, fit_modules
from converters.statedict import LazyTensor, StateDict

Spelling = Callable[[str, str], str]
"""From a pipeline's component and a layer's path in it to the name of the module."""

_KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}


def _kohya(component: str, path: str) -> str:
    return _KOHYA[component] + path.replace(".", "_")


def _kohya_of_one_encoder(component: str, path: str) -> str:
    prefix = "lora_unet_" if component == "unet" else "lora_te_"
    return prefix + path.replace(".", "_")


def _diffusers(component: str, path: str) -> str:
    return f"{component}.{path}"


def _peft(component: str, path: str) -> str:
    return f"base_model.model.{path}" if component != "text_encoder_2" else f"{component}.{path}"


def _lycoris(component: str, path: str) -> str:
    prefix = "lycoris_" if component != "text_encoder_2" else "lora_te2_"
    return prefix + path.replace(".", "_")


SPELLINGS: dict[str, tuple[Spelling, tuple[str, str]]] = {
    "kohya": (_kohya, ("lora_up.weight", "lora_down.weight")),
    "diffusers": (_diffusers, ("lora_B.weight", "lora_A.weight")),
    "older diffusers": (
        _diffusers,
        ("lora_linear_layer.up.weight", "lora_linear_layer.down.weight"),
    ),
    "peft": (_peft, ("lora_B.default.weight", "lora_A.default.weight")),
    "lycoris": (_lycoris, ("lora_up.weight", "lora_down.weight")),
}


@functools.cache
def _model(family: str) -> StateDict:
    return checkpoint(family, DType.F32, text_layers=1)


def _weights(model: StateDict, family: str) -> dict[tuple[str, str], LazyTensor]:
    """(component, path) -> weight of every layer, as diffusers and transformers name them."""
    parts = to_components(model, Base(family)).parts
    return {
        (component, name.removesuffix(".weight")): tensor
        for component, part in parts.items()
        for name, tensor in part.items()
        if component != "vae" and name.endswith(".weight")
        if len(tensor.shape) >= 2 and "embeddings" not in name
    }


def _lora(
    weights: Mapping[tuple[str, str], LazyTensor], spell: Spelling, ends: tuple[str, str]
) -> StateDict:
    tensors = {}
    for (component, path), weight in weights.items():
        up, down = _factors(component, path, weight)
        name = spell(component, path)
        tensors[f"{name}.{ends[0]}"] = lazy(up)
        tensors[f"{name}.{ends[1]}"] = lazy(down)
    return StateDict(tensors)


def _factors(component: str, path: str, weight: LazyTensor) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(f"{component}.{path}".encode()))
    out, inner, *kernel = weight.shape
    ones = (1,) * len(kernel)
    up = torch.randn(out, 2, *ones, generator=generator)
    return up, torch.randn(2, inner, *kernel, generator=generator)


def _check(before: StateDict, after: StateDict, family: str) -> None:
    changed = _weights(after, family)
    for (component, path), weight in _weights(before, family).items():
        up, down = _factors(component, path, weight)
        delta = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        torch.testing.assert_close(
            value(changed[component, path]), value(weight) + 0.5 * delta, msg=path
        )


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_a_single_file_is_changed_as_in_the_pipeline(
    family: str, spelling: str
) -> None:
    model = _model(family)
    weights = _weights(model, family)
    adapter = _lora(weights, *SPELLINGS[spelling])
    plan = plan_merge(model, [AdapterChoice("a", adapter, 0.5)])
    assert plan.reports[0].applied == len(weights)
    assert plan.reports[0].unused == {}
    _check(model, plan.state_dict, family)


@pytest.mark.parametrize("family", ["sd-1", "sd-2"])
def test_the_only_text_encoder_has_no_number(family: str) -> None:
    model = _model(family)
    adapter = _lora(_weights(model, family), _kohya_of_one_encoder, SPELLINGS["kohya"][1])
    plan = plan_merge(model, [AdapterChoice("a", adapter, 0.5)])
    _check(model, plan.state_dict, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_unet_layers_are_found_under_the_names_of_the_single_file(family: str) -> None:
    model = _model(family)
    unet = model.select(lambda n: n.startswith(UNET)).rename(lambda n: n.removeprefix(UNET))
    back = ldm_skeleton(unet).name_map().inverse
    weights = {key: t for key, t in _weights(model, family).items() if key[0] == "unet"}
    adapter = _lora(weights, lambda _, path: _kohya("unet", back(path)), SPELLINGS["kohya"][1])
    plan = plan_merge(model, [AdapterChoice("a", adapter, 0.5)])
    assert plan.reports[0].components == {"unet": len(weights)}


@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_unet_under_the_names_of_diffusers_is_changed_alike(family: str, spelling: str) -> None:
    parts = to_components(_model(family), Base(family)).parts
    weights = {key: t for key, t in _weights(_model(family), family).items() if key[0] == "unet"}
    spell, ends = SPELLINGS[spelling]
    plan = plan_merge(parts["unet"], [AdapterChoice("a", _lora(weights, spell, ends))])
    assert plan.reports[0].applied == len(weights)
    assert set(plan.changed) == {f"{path}.weight" for _, path in weights}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_pipeline_is_changed_alike(family: str) -> None:
    parts = to_components(_model(family), Base(family)).parts
    pipeline = StateDict({f"{part}.{n}": t for part, sd in parts.items() for n, t in sd.items()})
    weights = _weights(_model(family), family)
    plan = plan_merge(pipeline, [AdapterChoice("a", _lora(weights, *SPELLINGS["diffusers"]))])
    assert set(plan.changed) == {f"{part}.{path}.weight" for part, path in weights}


OLD_NAMES = {
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora": (
        "middle_block.1.transformer_blocks.0.attn1.to_out.0.weight"
    ),
    "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora": (
        "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    ),
    "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora": (
        "text_model.encoder.layers.0.self_attn.out_proj.weight"
    ),
}


@pytest.mark.parametrize("name", OLD_NAMES)
def test_the_names_of_attention_processors_are_read(name: str) -> None:
    model = _model("sd-1")
    (target,) = (tensor for tensor in model if tensor.endswith(OLD_NAMES[name]))
    out, inner = model[target].shape
    up, down = lazy(torch.ones(out, 1)), lazy(torch.ones(1, inner))
    adapter = StateDict({f"{name}.up.weight": up, f"{name}.down.weight": down})
    assert plan_merge(model, [AdapterChoice("a", adapter)]).changed == (target,)


def _targets(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[tuple[str, str], Target]:
    return module_targets(state_dict(shapes))


def test_sd15_has_all_the_modules_that_kohya_trains() -> None:
    targets = _targets(checkpoint_shapes())
    unet = {t.tensor for (part, _), t in targets.items() if part == "unet" and len(t.shape) > 1}
    attention = [
        path
        for (part, path), target in targets.items()
        if part == "unet" and "_attentions_" in path and len(target.shape) > 1
    ]
    assert (len(unet), len(attention)) == (282, 192)
    layers = [
        path
        for (part, path), target in targets.items()
        if part == "te1" and path.startswith("encoder_layers_") and len(target.shape) > 1
    ]
    assert len(layers) == 72


def test_sdxl_has_all_the_modules_that_kohya_trains() -> None:
    targets = _targets(true_sdxl())
    unet = {t.tensor for (part, _), t in targets.items() if part == "unet" and len(t.shape) > 1}
    assert len(unet) == 794
    for encoder, count in (("te1", 72), ("te2", 192)):
        layers = [
            path
            for (part, path), target in targets.items()
            if part == encoder and path.startswith("encoder_layers_") and len(target.shape) > 1
        ]
        assert len(layers) == count


def test_layers_of_old_text_encoder_spellings_are_found() -> None:
    old = _targets(checkpoint_shapes(SMALL, clip_prefix=OLD_CLIP))
    target = old[place_of("lora_te_text_model_encoder_layers_1_mlp_fc1")]
    assert target.tensor == "cond_stage_model.transformer.encoder.layers.1.mlp.fc1.weight"
    assert target.component == "text_encoder"


@pytest.mark.parametrize("name", ["lora_te_", "lora_te1_", "lora_te2_"])
def test_the_refiner_has_one_encoder_under_three_names(name: str) -> None:
    targets = module_targets(_model("sdxl-refiner"))
    target = targets[place_of(f"{name}text_model_encoder_layers_0_mlp_fc1")]
    assert target.component == "text_encoder_2"


FLUX = {
    "double_blocks.0.img_attn.qkv.weight": (96, 32),
    "double_blocks.0.img_attn.qkv.bias": (96,),
    "double_blocks.0.txt_attn.qkv.weight": (96, 32),
    "double_blocks.0.img_mlp.0.weight": (128, 32),
    "single_blocks.3.linear1.weight": (224, 32),
    "single_blocks.3.linear2.weight": (32, 160),
    "txt_in.weight": (32, 64),
}
SD3 = {
    "joint_blocks.0.x_block.attn.qkv.weight": (96, 32),
    "joint_blocks.0.context_block.attn.qkv.weight": (96, 32),
    "joint_blocks.0.x_block.mlp.fc1.weight": (128, 32),
}
FUSED = {
    "transformer.transformer_blocks.0.attn.to_q": (0, 32),
    "transformer.transformer_blocks.0.attn.add_v_proj": (64, 96),
    "transformer.transformer_blocks.0.ff.net.0.proj": None,
}
FUSED_IN_FLUX = {
    "transformer.single_transformer_blocks.3.attn.to_k": (32, 64),
    "transformer.single_transformer_blocks.3.proj_mlp": (96, 224),
    "lora_transformer_single_transformer_blocks_3_proj_out": None,
    "transformer.context_embedder": None,
    "lora_unet_double_blocks_0_img_attn_qkv": None,
    "diffusion_model.single_blocks.3.linear1": None,
    "double_blocks.0.qkv2": None,
}


@pytest.mark.parametrize("shape", [(), (96,), (64, 32), (96, 0), (2, 2, 2)])
@pytest.mark.parametrize("name", [*FLUX, *SD3])
def test_fused_matrices_of_other_sizes_have_no_parts(name: str, shape: tuple[int, ...]) -> None:
    targets = _targets({**FLUX, **SD3, name: shape})
    assert all(t.rows is None for t in targets.values() if t.tensor == name)


def test_a_bias_of_another_length_is_no_bias_of_the_layer() -> None:
    name = "double_blocks.0.img_attn.qkv.bias"
    place = place_of("lora_unet_double_blocks_0_img_attn_qkv")
    assert _targets(FLUX)[place].bias == name
    assert _targets({**FLUX, name: (95,)})[place].bias is None


@pytest.mark.parametrize("shape", [(), (32, 16), (3,)])
def test_parts_that_do_not_fit_below_each_other_are_no_layer(shape: tuple[int, ...]) -> None:
    place = place_of(WHOLE)
    assert place in _targets(SPLIT)
    broken = _targets({**SPLIT, "single_transformer_blocks.0.attn.to_k.weight": shape})
    assert place not in broken


@pytest.mark.parametrize("prefix", ["", UNET])
@pytest.mark.parametrize(
    ("shapes", "name", "rows"),
    [
        *((shapes, name, rows) for shapes in (FLUX, SD3) for name, rows in FUSED.items()),
        *((FLUX, name, rows) for name, rows in FUSED_IN_FLUX.items()),
    ],
)
def test_layers_of_diffusers_are_rows_of_what_flux_and_sd3_keep_in_one_matrix(
    shapes: Mapping[str, tuple[int, ...]], name: str, rows: tuple[int, int] | None, prefix: str
) -> None:
    targets = _targets({prefix + tensor: shape for tensor, shape in shapes.items()})
    target = targets[place_of(name)]
    assert target.rows == rows
    full = shapes[target.tensor.removeprefix(prefix)]
    assert target.shape == ((rows[1] - rows[0], full[1]) if rows else full)


FLUX_MODEL = state_dict(
    {
        **FIXTURES["flux dev"][0],
        f"{UNET}double_blocks.0.img_attn.qkv.weight": (9216, 3072),
        f"{UNET}single_blocks.0.linear1.weight": (21504, 3072),
    }
)
SD3_MODEL = state_dict(
    {
        **FIXTURES["sd3 medium"][0],
        f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536),
        f"{UNET}joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536),
    }
)
FLUX_LAYERS = {
    "transformer.transformer_blocks.0.attn.to_q": (3072, 3072),
    "transformer.transformer_blocks.0.attn.to_v": (3072, 3072),
    "transformer.single_transformer_blocks.0.proj_mlp": (12288, 3072),
}
SD3_LAYERS = {
    "transformer.transformer_blocks.0.attn.to_q": (1536, 1536),
    "transformer.transformer_blocks.0.attn.add_k_proj": (1536, 1536),
}


def _peft_shapes(layers: Mapping[str, tuple[int, int]]) -> StateDict:
    shapes = {f"{name}.lora_B.weight": (out, 4) for name, (out, _) in layers.items()}
    return state_dict(
        shapes | {f"{n}.lora_A.weight": (4, inner) for n, (_, inner) in layers.items()}
    )


@pytest.mark.parametrize(
    ("model", "layers"),
    [(FLUX_MODEL, FLUX_LAYERS), (SD3_MODEL, SD3_LAYERS)],
    ids=["flux", "sd3"],
)
def test_transformers_are_merged_into(
    model: StateDict, layers: Mapping[str, tuple[int, int]]
) -> None:
    plan = plan_merge(model, [AdapterChoice("a", _peft_shapes(layers))])
    assert plan.reports[0].applied == len(layers)
    assert len(plan.changed) == 2


SPLIT = {
    **{f"transformer_blocks.0.attn.to_{head}.weight": (32, 32) for head in "qkv"},
    "transformer_blocks.0.ff.net.0.proj.weight": (128, 32),
    **{f"single_transformer_blocks.0.attn.to_{head}.weight": (32, 32) for head in "qkv"},
    "single_transformer_blocks.0.proj_mlp.weight": (128, 32),
}
WHOLE = "lora_unet_single_blocks_0_linear1"
FUSING: dict[str, dict[str, tuple[int, ...]]] = {
    "lora": {"lora_up.weight": (224, 2), "lora_down.weight": (2, 32)},
    "lokr": {"lokr_w1": (7, 4), "lokr_w2": (32, 8)},
    "full": {"diff": (224, 32)},
}


@pytest.mark.parametrize("algorithm", FUSING)
def test_what_a_checkpoint_of_diffusers_keeps_apart_is_changed_in_parts(algorithm: str) -> None:
    torch.manual_seed(0)
    model = state_dict(SPLIT, DType.F32, fill=random_fill(DType.F32))
    tensors = {key: torch.randn(shape) for key, shape in FUSING[algorithm].items()}
    fit = _fit(WHOLE, tensors, model)
    names = list(SPLIT)[4:]
    assert (fit.misfit, [placed.tensor for placed in fit.placed]) == (None, names)
    assert {placed.target.slot for placed in fit.placed} == {"S00"}
    merged = [
        value(merged_tensor(model[p.tensor], p.tensor, [p.change(0, "a", 0.5)], ChangeLog()))
        for p in fit.placed
    ]
    close(torch.cat(merged), applied(tensors, torch.cat([value(model[n]) for n in names]), 0.5))


@pytest.mark.parametrize(
    "tensors",
    [
        {"oft_blocks": (56, 4, 4)},
        {"lora_up.weight": (224, 2), "lora_down.weight": (2, 32), "dora_scale": (1, 32)},
    ],
    ids=["oft", "dora of inputs"],
)
def test_what_needs_the_whole_weight_does_not_fit_its_parts(
    tensors: dict[str, tuple[int, ...]],
) -> None:
    parts = {key: torch.ones(shape) for key, shape in tensors.items()}
    fit = _fit(WHOLE, parts, state_dict(SPLIT))
    assert "keeps in several parts" in str(fit.misfit)


def _fit(name: str, tensors: Mapping[str, torch.Tensor], model: StateDict) -> Fit:
    file = adapter({f"{name}.{key}": tensor for key, tensor in tensors.items()})
    return fit_modules(load_adapter(file), module_targets(model))


def test_an_adapter_of_another_transformer_is_refused() -> None:
    with pytest.raises(WrongFamily, match="made for SD3, the checkpoint is Flux"):
        plan_merge(FLUX_MODEL, [AdapterChoice("a", _peft_shapes(SD3_LAYERS))], partial=True)


@pytest.mark.parametrize("inputs", [128, 32])
def test_a_control_adapter_is_refused_by_a_model_that_takes_fewer_channels(inputs: int) -> None:
    """Those of Black Forest Labs widen the first layer; with a bias for each of their layers."""
    module = "diffusion_model.img_in"
    shapes = {"lora_A.weight": (8, inputs), "lora_B.weight": (3072, 8), "lora_B.bias": (3072,)}
    file = state_dict({f"{module}.{part}": shape for part, shape in shapes.items()})
    model = FLUX_MODEL.overlay(state_dict({f"{UNET}img_in.weight": (3072, 64)}))
    with pytest.raises(WrongFamily, match=rf"{module} .*\[3072, {inputs}\].*\[3072, 64\]") as error:
        plan_merge(model, [AdapterChoice("a", file)], partial=True)
    assert ("control" in (error.value.hint or "")) is (inputs > 64)


def test_both_streams_of_an_xlabs_file_are_told_apart() -> None:
    shapes = {
        f"double_blocks.0.processor.qkv_lora{n}.{part}.weight": shape
        for n in (1, 2)
        for part, shape in (("down", (4, 32)), ("up", (96, 4)))
    }
    places = {
        place_of(module.name)[1]: module.keys for module in load_adapter(state_dict(shapes)).modules
    }
    assert places.keys() == {"double_blocks_0_img_attn_qkv", "double_blocks_0_txt_attn_qkv"}
    # The first pair is for the stream of the picture, as in diffusers' conversion of these files.
    assert all("qkv_lora1" in key for key in places["double_blocks_0_img_attn_qkv"])


ALGORITHMS: dict[str, dict[str, tuple[int, ...]]] = {
    "lora": {"lora_up.weight": (1280, 2), "lora_down.weight": (2, 1280)},
    "dora": {"lora_up.weight": (1280, 2), "lora_down.weight": (2, 1280), "dora_scale": (1280, 1)},
    "dora of inputs": {
        "lora_up.weight": (1280, 2),
        "lora_down.weight": (2, 1280),
        "dora_scale": (1, 1280),
    },
    "lokr": {"lokr_w1": (4, 4), "lokr_w2": (320, 320)},
    "full": {"diff": (1280, 1280)},
    "ia3 of outputs": {"weight": (1280,), "on_input": ()},
    "ia3 of peft": {"ia3_l": (1280, 1)},
    "oft": {"oft_blocks": (320, 4, 4)},
    "boft": {"oft_blocks": (2, 320, 4, 4)},
    "peft oft": {"oft_R.weight": (320, 6)},
}


@pytest.mark.parametrize("layer", ["encoder.layers.0.self_attn.k_proj", "text_projection"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_parts_of_fused_and_transposed_matrices_are_changed_by_every_algorithm(
    algorithm: str, layer: str
) -> None:
    torch.manual_seed(0)
    tensors = {key: torch.randn(shape) * 0.1 for key, shape in ALGORITHMS[algorithm].items()}
    if "on_input" in tensors:
        tensors["on_input"] = torch.tensor(0.0)
    path = layer if layer == "text_projection" else f"text_model.{layer}"
    module = f"lora_te2_{path.replace('.', '_')}"
    model = _model("sdxl")
    file = adapter({f"{module}.{key}": tensor for key, tensor in tensors.items()})
    plan = plan_merge(model, [AdapterChoice("a", file, 0.75)])
    before, after = (
        to_components(sd, Base.SDXL).parts["text_encoder_2"] for sd in (model, plan.state_dict)
    )
    expected = applied(tensors, value(before[f"{path}.weight"]), 0.75, name=module)
    close(value(after[f"{path}.weight"]), expected)
    touched = {f"{path}.weight", f"{path}.bias"}
    for name in before:
        assert name in touched or torch.equal(value(after[name]), value(before[name])), name


def test_peft_scales_the_rows_of_a_fused_bias_too() -> None:
    model, factors = _model("sdxl"), torch.rand(1280, 1)
    path = "text_model.encoder.layers.0.self_attn.q_proj"
    plan = plan_merge(
        model, [AdapterChoice("a", adapter({f"text_encoder_2.{path}.ia3_l": factors}))]
    )
    before, after = (
        to_components(sd, Base.SDXL).parts["text_encoder_2"] for sd in (model, plan.state_dict)
    )
    bias = f"{path}.bias"
    close(value(after[bias]), value(before[bias]) * factors.flatten())
    assert plan.reports[0].applied == 1
    assert len(plan.changed) == 2


@pytest.mark.parametrize(
    "tensors",
    [
        {"hada_w1_a": (32, 2), "hada_w1_b": (2, 36), "hada_w2_a": (32, 2), "hada_w2_b": (2, 36)},
        {"lokr_w1": (4, 2), "lokr_w2": (8, 2, 3, 3)},
        {"diff": (32, 4, 3, 3)},
        {"lora_up.weight": (32, 2, 1, 1), "lora_down.weight": (2, 4, 3, 3), "dora_scale": (32, 1)},
    ],
    ids=["loha", "lokr", "full", "dora"],
)
def test_inpainting_models_take_what_plain_ones_take(tensors: dict[str, tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    parts = {key: torch.randn(shape) for key, shape in tensors.items()}
    shapes = checkpoint_shapes(replace(SMALL, in_channels=9))
    model = state_dict(shapes, DType.F32, fill=random_fill(DType.F32))
    file = adapter({f"lora_unet_conv_in.{key}": tensor for key, tensor in parts.items()})
    name = f"{UNET}input_blocks.0.0.weight"
    plan = plan_merge(model, [AdapterChoice("a", file)])
    before, after = value(model[name]), value(plan.state_dict[name])
    close(after[:, :4], applied(parts, before[:, :4].contiguous()))
    assert torch.equal(after[:, 4:], before[:, 4:])


def test_changes_of_overlapping_parts_are_made_in_order() -> None:
    torch.manual_seed(0)
    shapes = {UNET + name: shape for name, shape in FLUX.items()}
    model = state_dict(shapes, DType.F32, fill=random_fill(DType.F32))
    name = f"{UNET}double_blocks.0.img_attn.qkv.weight"
    turn = {"oft_blocks": torch.randn(24, 4, 4)}
    pair = {"lora_up.weight": torch.randn(32, 2), "lora_down.weight": torch.randn(2, 32)}
    whole, part = "lora_unet_double_blocks_0_img_attn_qkv", "transformer_blocks_0_attn_to_k"
    turning = fit_modules(
        load_adapter(adapter({f"{whole}.{k}": t for k, t in turn.items()})), module_targets(model)
    )
    adding = fit_modules(
        load_adapter(adapter({f"lora_transformer_{part}.{k}": t for k, t in pair.items()})),
        module_targets(model),
    )
    changes = [fit.placed[0].change(0, "a", 1.0) for fit in (adding, turning, adding)]
    got = value(merged_tensor(model[name], name, changes, ChangeLog()))
    delta = torch.zeros(96, 32)
    delta[32:64] = pair["lora_up.weight"] @ pair["lora_down.weight"]
    close(got, applied(turn, value(model[name]) + delta) + delta)


@pytest.mark.parametrize(
    ("family", "path", "slot"),
    [
        ("sd-1", "time_embedding_linear_1", "IN00"),
        ("sd-1", "conv_in", "IN00"),
        ("sd-1", "down_blocks_0_resnets_0_conv1", "IN01"),
        ("sd-1", "down_blocks_0_downsamplers_0_conv", "IN02"),
        ("sd-1", "mid_block_resnets_1_conv2", "M00"),
        ("sd-1", "up_blocks_1_attentions_1_proj_in", "OUT03"),
        ("sd-1", "conv_out", "OUT"),
        ("sdxl", "add_embedding_linear_1", "IN00"),
    ],
)
def test_unet_layers_know_their_slot_in_either_layout(family: str, path: str, slot: str) -> None:
    parts = to_components(_model(family), Base(family)).parts
    for model in (_model(family), parts["unet"]):
        assert module_targets(model)["unet", path].slot == slot
