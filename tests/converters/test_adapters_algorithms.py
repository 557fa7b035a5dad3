"""The arithmetic of every algorithm, against the libraries that train with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
import torch
from helpers.adapters import adapter, applied, close, modules, only
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from converters.adapters import FAMILIES, family_of, load_adapter
from converters.adapters.dora import decompose
from converters.adapters.peft_config import CONFIG_FILE
from converters.errors import CorruptFile, MergeProblem, UnsupportedFile, WrongFamily
from converters.statedict import StateDict

Layer = torch.nn.Linear | torch.nn.Conv2d
Tensors = dict[str, torch.Tensor]

LAYERS: dict[str, Callable[[], Layer]] = {
    "linear": lambda: torch.nn.Linear(12, 16),
    "1x1": lambda: torch.nn.Conv2d(12, 16, 1),
    "3x3": lambda: torch.nn.Conv2d(12, 16, 3, padding=1),
}
SQUARE: dict[str, Callable[[], Layer]] = {"square": lambda: torch.nn.Conv2d(12, 12, 3, padding=1)}
"""Its shape does not tell inputs from outputs."""
INPUTS = {"linear": (5, 12), "1x1": (2, 12, 5, 5), "3x3": (2, 12, 5, 5)}
TYPES = [torch.float32, torch.float16, torch.bfloat16]
SEEDS, STRENGTHS = st.integers(0, 2**32), st.floats(-2, 2).filter(bool)

LYCORIS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("locon.LoConModule", {}),
    "lora with the alpha of its rank": ("locon.LoConModule", {"alpha": 0}),
    "locon with a middle": ("locon.LoConModule", {"use_tucker": True}),
    "rank-stabilised lora": ("locon.LoConModule", {"rs_lora": True}),
    "loha": ("loha.LohaModule", {}),
    "loha with cores": ("loha.LohaModule", {"use_tucker": True}),
    "lokr": ("lokr.LokrModule", {"factor": 4, "lora_dim": 1}),
    "lokr of factors": ("lokr.LokrModule", {"factor": 4, "lora_dim": 1, "decompose_both": True}),
    "lokr of whole matrices": ("lokr.LokrModule", {"factor": 4, "full_matrix": True}),
    "lokr with a core": ("lokr.LokrModule", {"factor": 2, "lora_dim": 1, "use_tucker": True}),
    "glora": ("glora.GLoRAModule", {}),
    "ia3 of outputs": ("ia3.IA3Module", {}),
    "ia3 of inputs": ("ia3.IA3Module", {"train_on_input": True}),
    "full": ("full.FullModule", {}),
    "oft": ("diag_oft.DiagOFTModule", {}),
    "oft with a bound": ("diag_oft.DiagOFTModule", {"constraint": 0.01}),
    "oft with rescaling": ("diag_oft.DiagOFTModule", {"rescaled": True}),
    "boft": ("boft.ButterflyOFTModule", {}),
    "boft with a bound": ("boft.ButterflyOFTModule", {"constraint": 0.01}),
    "boft with rescaling": ("boft.ButterflyOFTModule", {"rescaled": True}),
}
DECOMPOSED: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("locon.LoConModule", {"weight_decompose": True}),
    "lora along the inputs": (
        "locon.LoConModule",
        {"weight_decompose": True, "wd_on_out": False},
    ),
    "locon with a middle": ("locon.LoConModule", {"weight_decompose": True, "use_tucker": True}),
    "loha": ("loha.LohaModule", {"weight_decompose": True}),
    "lokr": ("lokr.LokrModule", {"weight_decompose": True, "factor": 4, "lora_dim": 1}),
}


def _lycoris(name: str, layer: Layer, strength: float, **options: Any) -> Any:
    package, _, kind = name.partition(".")
    module = getattr(__import__(f"lycoris.modules.{package}", fromlist=[kind]), kind)
    return module("n", layer, strength, **{"lora_dim": 4, "alpha": 2.0, **options})


def _randomize(parameters: Any, dtype: torch.dtype) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_((torch.randn_like(parameter) * 0.4).to(dtype).float())


def _copies(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.bias is not None
    return layer.weight.detach().clone(), layer.bias.detach().clone()


def _through(layer: Layer, weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> Any:
    if isinstance(layer, torch.nn.Linear):
        return functional.linear(x, weight, bias)
    return functional.conv2d(x, weight, bias, padding=layer.padding)


def _check_against_lycoris(
    kind: str, case: tuple[str, dict[str, Any]], strength: float, seed: int, dtype: torch.dtype
) -> None:
    """A layer with our merged weight gives what LyCORIS computes at run time."""
    torch.manual_seed(seed)
    layer, x = LAYERS[kind](), torch.randn(INPUTS[kind])
    weight, bias = _copies(layer)
    module = _lycoris(case[0], layer, strength, **case[1])
    _randomize(module.parameters(), dtype)
    module.apply_to()
    module.eval()
    with torch.no_grad():
        expected = layer(x)
    tensors = {
        key: t.to(dtype) if t.is_floating_point() and key != "alpha" else t
        for key, t in module.state_dict().items()
    }
    if (difference := tensors.pop("diff_b", None)) is not None:
        bias = applied({"diff_b": difference}, bias, strength)
    close(_through(layer, applied(tensors, weight, strength), bias, x), expected)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", LYCORIS)
@given(SEEDS, STRENGTHS)
@examples(4)
def test_lycoris_computes_the_same_at_every_strength(
    name: str, kind: str, dtype: torch.dtype, seed: int, strength: float
) -> None:
    _check_against_lycoris(kind, LYCORIS[name], strength, seed, dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", DECOMPOSED)
@given(SEEDS)
@examples(4)
def test_lycoris_computes_the_same_decomposed_weights(
    name: str, kind: str, dtype: torch.dtype, seed: int
) -> None:
    _check_against_lycoris(kind, DECOMPOSED[name], 1.0, seed, dtype)


@given(st.floats(0, 1))
@examples(10)
def test_the_strength_of_a_decomposed_weight_blends_it_with_the_old_one(strength: float) -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 12)
    tensors = {"lora_up.weight": torch.randn(16, 4), "lora_down.weight": torch.randn(4, 12)}
    tensors["dora_scale"] = torch.rand(16, 1)
    whole = applied(tensors, weight)
    close(applied(tensors, weight, strength), weight + strength * (whole - weight))


def test_rows_of_zeros_have_no_direction_and_stay_zeros() -> None:
    weight = torch.randn(16, 12)
    weight[3] = 0
    tensors = {"lora_up.weight": torch.randn(16, 4), "lora_down.weight": torch.randn(4, 12)}
    tensors["lora_up.weight"][3] = 0
    got = applied({**tensors, "dora_scale": torch.rand(16, 1)}, weight)
    assert torch.equal(got[3], torch.zeros(12))
    assert got.isfinite().all()


def test_norms_are_changed_by_stored_differences() -> None:
    weight, bias, difference = torch.randn(3, 16)
    for suffix in ("w_norm", "diff"):
        close(applied({suffix: difference}, weight, 0.5), weight + 0.5 * difference)
    close(applied({"b_norm": difference}, bias, -1), bias - difference)


def test_a_set_weight_replaces_what_was_there() -> None:
    weight, value = torch.randn(2, 16, 12)
    assert torch.equal(applied({"set_weight": value}, weight), value)
    close(applied({"set_weight": value}, weight, 0.25), 0.75 * weight + 0.25 * value)


def test_convolutions_follow_the_formula_of_kohya() -> None:
    up, down = torch.randn(6, 4, 1, 1), torch.randn(4, 5, 3, 3)
    # sd-scripts merges k x k convolutions through a convolution of the two kernels.
    expected = functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)
    tensors = {"lora_up.weight": up, "lora_down.weight": down}
    close(applied(tensors, torch.zeros(6, 5, 3, 3)), expected)


def test_pointwise_pairs_count_by_elements_whether_linear_or_convolution() -> None:
    up, down = torch.randn(6, 4), torch.randn(4, 5)
    flat = {"lora_up.weight": up, "lora_down.weight": down}
    conv = {name: tensor[..., None, None] for name, tensor in flat.items()}
    for tensors in (flat, conv):
        close(applied(tensors, torch.zeros(6, 5)), up @ down)
        close(applied(tensors, torch.zeros(6, 5, 1, 1)), (up @ down)[..., None, None])


def test_a_middle_may_join_two_ranks() -> None:
    up, down, mid = torch.randn(6, 4, 1, 1), torch.randn(3, 5, 1, 1), torch.randn(4, 3, 3, 3)
    expected = torch.einsum("ijkl,pi,jq->pqkl", mid, up.flatten(1), down.flatten(1))
    tensors = {"lora_up.weight": up, "lora_down.weight": down, "lora_mid.weight": mid}
    close(applied(tensors, torch.zeros(6, 5, 3, 3)), expected)


@given(st.tuples(*[st.integers(1, 5)] * 4))
@examples(30)
def test_cores_of_any_two_ranks_are_contracted(sizes: tuple[int, int, int, int]) -> None:
    first, second, out, inner = sizes
    core, a, b = (
        torch.randn(first, second, 3, 3),
        torch.randn(first, out),
        torch.randn(second, inner),
    )
    tensors = {"lokr_w1": torch.ones(2, 1), "lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b}
    tensors["alpha"] = torch.tensor(float(second))
    expected = torch.einsum("ijkl,ip,jq->pqkl", core, a, b)
    got = applied(tensors, torch.zeros(2 * out, inner, 3, 3))
    close(got, torch.cat([expected, expected]))


def test_the_rank_of_lokr_is_that_of_its_second_factors() -> None:
    torch.manual_seed(0)
    a, b, c, d = torch.randn(4, 2), torch.randn(2, 3), torch.randn(4, 3), torch.randn(3, 4)
    tensors = {"lokr_w1_a": a, "lokr_w1_b": b, "lokr_w2_a": c, "lokr_w2_b": d}
    tensors["alpha"] = torch.tensor(1.5)
    close(applied(tensors, torch.zeros(16, 12)), 0.5 * torch.kron(a @ b, c @ d))
    whole = {"lokr_w1": a @ b, "lokr_w2": c @ d, "alpha": torch.tensor(1.5)}
    close(applied(whole, torch.zeros(16, 12)), torch.kron(a @ b, c @ d))


def test_the_middle_of_glora_is_that_of_locon() -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 12, 3, 3)
    a1, a2, b1 = torch.randn(12, 4, 1, 1), torch.randn(4, 12, 1, 1), torch.randn(16, 4, 1, 1)
    b2, bm = torch.randn(4, 12, 1, 1), torch.randn(4, 4, 3, 3)
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "bm.weight": bm}
    added = torch.einsum("ijkl,pi,jq->pqkl", bm, b1.flatten(1), b2.flatten(1))
    mixed = torch.einsum("oikl,ij->ojkl", weight, a1.flatten(1) @ a2.flatten(1))
    close(applied(tensors, weight), weight + mixed + added)


@pytest.mark.parametrize("name", ["lora", "loha", "lokr", "lokr of whole matrices", "glora"])
def test_a_stored_scale_stands_for_alpha_by_rank(name: str) -> None:
    """A1111's `scale` beside a module's tensors."""
    torch.manual_seed(0)
    layer = LAYERS["linear"]()
    kind, options = LYCORIS[name]
    tensors = dict(_lycoris(kind, layer, 1.0, **options).state_dict())
    tensors = {key: torch.randn_like(tensor.float()) for key, tensor in tensors.items()}
    rank = 4.0 if name in ("lora", "loha", "glora") else 1.0
    with_alpha = {**tensors, "alpha": torch.tensor(rank)}
    weight = layer.weight.detach()
    whole = applied(with_alpha, weight) - weight
    scaled = applied({**with_alpha, "scale": torch.tensor(0.25)}, weight)
    close(scaled - weight, 0.25 * whole, 1e-4)


def test_the_older_layout_of_glora_is_told_by_its_shapes() -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 12)
    a1, a2, b1, b2 = (torch.randn(s) for s in ((4, 12), (12, 4), (4, 12), (16, 4)))
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
    close(applied(tensors, weight), weight + b2 @ b1 + (weight @ a2) @ a1)


@pytest.mark.parametrize(
    ("rank", "is_old"), [(4, True), (12, True), (4, False)], ids=["old", "square", "new"]
)
def test_in_square_weights_the_rank_tells_the_layouts_of_glora_apart(
    rank: int, is_old: bool
) -> None:
    """Where it is as large as the weight, nothing does, and the older one is meant."""
    torch.manual_seed(0)
    weight, wide, thin = torch.randn(12, 12), (rank, 12), (12, rank)
    a1, a2, b1, b2 = (torch.randn(s) for s in ((wide, thin) * 2 if is_old else (thin, wide) * 2))
    if is_old:
        expected = weight + b2 @ b1 + weight @ a2 @ a1
    else:
        expected = weight + b1 @ b2 + weight @ a1 @ a2
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
    close(applied({**tensors, "alpha": torch.tensor(float(rank))}, weight), expected)


def test_old_oft_stores_the_rotations_themselves() -> None:
    torch.manual_seed(0)
    weight, turns = torch.randn(16, 12), torch.randn(4, 4, 4)
    expected = torch.einsum("knm,kni->kmi", turns, weight.view(4, 4, 12)).reshape(16, 12)
    close(applied({"oft_diag": turns}, weight), expected)


def test_the_oft_of_kohya_is_that_of_lycoris() -> None:
    torch.manual_seed(0)
    weight, blocks = torch.randn(16, 12), torch.randn(4, 4, 4)
    skew = blocks - blocks.transpose(1, 2)
    skew *= min(1.0, 0.05 * 16 / float(skew.norm()))
    unit = torch.eye(4)
    turns = (unit + skew) @ (unit - skew).inverse()
    expected = torch.einsum("knm,kni->kmi", turns, weight.view(4, 4, 12)).reshape(16, 12)
    tensors = {"oft_blocks": blocks, "alpha": torch.tensor(0.05)}
    close(applied(tensors, weight, name="oft_unet_a"), expected)


def _peft(config: Any, layer: Layer) -> Any:
    from peft import get_peft_model

    model = get_peft_model(torch.nn.ModuleDict({"a": layer}), config)
    _randomize((p for p in model.parameters() if p.requires_grad), torch.float32)
    return model


def _peft_tensors(model: Any) -> Tensors:
    from peft import get_peft_model_state_dict

    return {
        key.removeprefix("base_model.model.a."): tensor
        for key, tensor in get_peft_model_state_dict(model).items()
    }


IA3_LAYERS = ("linear", "1x1", "3x3", "square")

PEFT: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "lora": ("LoraConfig", {"r": 4, "lora_alpha": 2}, ("linear", "1x1", "3x3")),
    "rank-stabilised lora": (
        "LoraConfig",
        {"r": 4, "lora_alpha": 2, "use_rslora": True},
        ("linear", "3x3"),
    ),
    "lora with patterns": (
        "LoraConfig",
        {"r": 8, "lora_alpha": 2, "rank_pattern": {"a": 4}, "alpha_pattern": {"a": 3}},
        ("linear",),
    ),
    "dora": ("LoraConfig", {"r": 4, "lora_alpha": 2, "use_dora": True}, ("linear", "1x1", "3x3")),
    "loha": ("LoHaConfig", {"r": 4, "alpha": 2}, ("linear", "1x1", "3x3")),
    "loha with cores": ("LoHaConfig", {"r": 4, "alpha": 2, "use_effective_conv2d": True}, ("3x3",)),
    "lokr": ("LoKrConfig", {"r": 1, "alpha": 2}, ("linear", "1x1", "3x3")),
    "lokr of whole matrices": ("LoKrConfig", {"r": 32, "alpha": 8}, ("linear",)),
    "ia3 of outputs": ("IA3Config", {"feedforward_modules": []}, IA3_LAYERS),
    "ia3 of inputs": ("IA3Config", {"feedforward_modules": ["a"]}, IA3_LAYERS),
    "oft": ("OFTConfig", {"oft_block_size": 4}, ("linear", "1x1", "3x3")),
    "oft without series": (
        "OFTConfig",
        {"oft_block_size": 4, "use_cayley_neumann": False},
        ("linear", "3x3"),
    ),
    "oft of one block": ("OFTConfig", {"oft_block_size": 4, "block_share": True}, ("linear",)),
    "boft": ("BOFTConfig", {"boft_block_size": 4}, ("linear", "3x3")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, (_, _, kinds) in PEFT.items() for kind in kinds]
)
def test_peft_merges_to_the_same_weights(name: str, kind: str) -> None:
    import peft

    torch.manual_seed(0)
    config_name, options, _ = PEFT[name]
    config = getattr(peft, config_name)(target_modules=["a"], **options)
    layer = (LAYERS | SQUARE)[kind]()
    weight, bias = _copies(layer)
    model = _peft(config, layer)
    tensors = _peft_tensors(model)
    metadata = {CONFIG_FILE: json.dumps(config.to_dict(), default=list)}
    merged = model.merge_and_unload()["a"]
    got = applied(tensors, weight, name="base_model.model.a", metadata=metadata)
    close(got, merged.weight)
    module = only(tensors, "base_model.model.a", metadata)
    if (change_bias := family_of(module).bias) is not None:
        change_bias(module, bias, 1.0)
    close(bias, merged.bias)


def test_a_pattern_of_peft_means_whole_names_at_the_end_of_a_path() -> None:
    told = {"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_k": 2}}
    for path, scale in (("attn.to_k", 0.5), ("attn.into_k", 1.0), ("to_k", 0.5)):
        module = only(
            {"lora_A.weight": torch.ones(4, 1), "lora_B.weight": torch.ones(1, 4)},
            f"base_model.model.{path}",
            {CONFIG_FILE: json.dumps(told)},
        )
        assert module.stated.scale == scale


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("stabilised", [False, True])
def test_peft_scales_the_bias_that_it_trains_beside_a_lora(kind: str, stabilised: bool) -> None:
    from peft import LoraConfig

    torch.manual_seed(0)
    config = LoraConfig(
        target_modules=["a"], r=4, lora_alpha=2, lora_bias=True, use_rslora=stabilised
    )
    layer = LAYERS[kind]()
    weight, bias = _copies(layer)
    model = _peft(config, layer)
    tensors, name = _peft_tensors(model), "base_model.model.a"
    metadata = {CONFIG_FILE: json.dumps(config.to_dict(), default=list)}
    merged = model.merge_and_unload()["a"]
    for module in modules(tensors, name, metadata):
        family_of(module).apply(module, bias if module.part == "bias" else weight, 1.0)
    close(weight, merged.weight)
    close(bias, merged.bias)
    # Without a configuration the scale is that of the pair's own alpha.
    _, before = _copies(merged)
    with_alpha = {**tensors, "alpha": torch.tensor(3.0)}
    (of_bias,) = (m for m in modules(with_alpha, name) if m.part == "bias")
    after = before.clone()
    family_of(of_bias).apply(of_bias, after, 2.0)
    close(after, before + 2.0 * 0.75 * tensors["lora_B.bias"])


def test_the_later_stages_of_boft_in_peft_gather_half_blocks() -> None:
    from peft.tuners.boft.layer import BOFTLayer

    torch.manual_seed(0)
    weight, blocks, scale = torch.randn(6, 16), torch.randn(3, 4, 4, 4), torch.rand(6, 1)
    whole = torch.eye(16)
    for stage, inner in enumerate(blocks):
        # PEFT's own merge knows one stage without a GPU: its permutations and rotations are asked.
        order = BOFTLayer.block_butterfly_perm(None, 16, 4 // 2**stage, 2, 2)
        permute = BOFTLayer.perm2mat(None, order)
        rotated: Any = BOFTLayer.cayley_batch(None, inner)
        turns = torch.block_diag(*rotated)
        whole = permute @ turns @ permute.T @ whole
    close(applied({"boft_R": blocks, "boft_s": scale}, weight), (weight @ whole.T) * scale)


def test_diffusers_keeps_ranks_and_alphas_in_the_metadata() -> None:
    tensors = {"lora_B.weight": torch.ones(16, 4), "lora_A.weight": torch.ones(4, 12)}
    told = {"unet.r": 4, "unet.lora_alpha": 2, "text_encoder.r": 4, "text_encoder.lora_alpha": 8}
    metadata = {"lora_adapter_metadata": json.dumps(told)}
    zero = torch.zeros(16, 12)
    for name, value in (("unet.a.b", 2.0), ("text_encoder.a.b", 8.0), ("other.a", 4.0)):
        close(applied(tensors, zero, name=name, metadata=metadata), torch.full((16, 12), value))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"r": "four", "lora_alpha": 1}', '{"rank_pattern": [1]}', "[" * 9999]
)
def test_a_configuration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CorruptFile):
        load_adapter(adapter({"a.lora_A.weight": torch.ones(2, 2)}, {CONFIG_FILE: text}))


def _begun(start: str) -> StateDict:
    tensors = {"a.lora_A.weight": torch.ones(2, 2), "a.lora_B.weight": torch.ones(2, 2)}
    told = {"r": 2, "init_lora_weights": start}
    return adapter(tensors, {CONFIG_FILE: json.dumps(told)})


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "loftq"])
def test_what_belongs_to_weights_that_its_training_moved_is_refused(start: str) -> None:
    with pytest.raises(UnsupportedFile, match="training moved the weights"):
        load_adapter(_begun(start))
    assert load_adapter(_begun("gaussian")).modules


def test_patterns_of_module_names_are_refused_rather_than_misread() -> None:
    metadata = {CONFIG_FILE: json.dumps({"r": 2, "rank_pattern": {"^a.*b$": 4}})}
    with pytest.raises(UnsupportedFile, match="has a pattern"):
        load_adapter(adapter({"a.lora_A.weight": torch.ones(2, 2)}, metadata))


PARTS: dict[str, Mapping[str, tuple[int, ...]]] = {
    "lora": {"lora_up.weight": (16, 4), "lora_down.weight": (4, 12)},
    "loha": {
        "hada_w1_a": (16, 4),
        "hada_w1_b": (4, 12),
        "hada_w2_a": (16, 4),
        "hada_w2_b": (4, 12),
    },
    "lokr": {"lokr_w1": (4, 3), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4)},
    "glora": {
        "a1.weight": (12, 4),
        "a2.weight": (4, 12),
        "b1.weight": (16, 4),
        "b2.weight": (4, 12),
    },
    "ia3": {"weight": (16,), "on_input": (1,)},
    "oft": {"oft_blocks": (4, 4, 4), "rescale": (16, 1)},
    "boft": {"oft_blocks": (2, 4, 4, 4)},
    "peft oft": {"oft_R.weight": (3, 6)},
    "peft boft": {"boft_R": (1, 3, 4, 4), "boft_s": (16, 1)},
    "full": {"diff": (16, 12)},
    "dora": {"lora_up.weight": (16, 4), "lora_down.weight": (4, 12), "dora_scale": (16, 1)},
}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "role"), [(n, r) for n, parts in PARTS.items() for r in parts])
def test_a_value_that_is_no_number_is_refused_by_its_key(name: str, role: str, bad: float) -> None:
    tensors = {key: torch.ones(shape) for key, shape in PARTS[name].items()}
    tensors[role][(0,) * tensors[role].dim()] = bad
    with pytest.raises(MergeProblem, match=rf"{role} holds NaN or infinite"):
        applied(tensors, torch.ones(16, 12))


WHOLE_LOKR = {"lokr_w1": (4, 4), "lokr_w2": (4, 3)}
"""Its alpha means nothing."""


@pytest.mark.parametrize("name", ["lora", "loha", "lokr", "whole lokr", "glora", "oft"])
def test_an_alpha_that_is_no_number_is_refused_by_its_key(name: str) -> None:
    parts = PARTS.get(name, WHOLE_LOKR)
    tensors = {key: torch.ones(shape) for key, shape in parts.items()}
    tensors["alpha"] = torch.tensor(float("nan"))
    with pytest.raises(MergeProblem, match=r"\.alpha holds NaN"):
        applied(tensors, torch.ones(16, 12))


@given(st.sampled_from(sorted(PARTS)), st.data())
@examples(300)
def test_tensors_of_any_shape_fit_or_are_refused(name: str, data: st.DataObject) -> None:
    sizes = st.lists(st.sampled_from([0, 1, 2, 3, 4, 12, 16]), max_size=4).map(tuple)
    shapes = dict(PARTS[name])
    for role in data.draw(st.sets(st.sampled_from(sorted(shapes)), min_size=1)):
        shapes[role] = data.draw(sizes)
    weight = torch.randn(data.draw(st.sampled_from([(16, 12), (16, 12, 1, 1), (16, 12, 3, 3)])))
    loaded = load_adapter(adapter({f"lora_unet_a.{k}": torch.ones(s) for k, s in shapes.items()}))
    for module in loaded.modules:
        family = family_of(module)
        with suppress(WrongFamily):
            if family.covers(family.shape(module), tuple(weight.shape)):
                family.apply(module, weight.clone(), 1.0)


def test_families_are_told_apart_by_their_roles_alone() -> None:
    for roles in (row.required for row in FAMILIES):
        assert sum(row.takes(roles) for row in FAMILIES) == 1


def test_biases_are_modules_of_their_own() -> None:
    tensors = {"diff": torch.ones(16, 12), "diff_b": torch.ones(16)}
    assert [m.part for m in modules(tensors)] == ["bias", "weight"]


def test_magnitudes_of_rows_and_columns_are_told_apart_in_square_weights() -> None:
    torch.manual_seed(0)
    weight = torch.randn(12, 12)
    pair = {"lora_up.weight": torch.zeros(12, 1), "lora_down.weight": torch.zeros(1, 12)}
    scale = torch.rand(12)
    rows = applied({**pair, "dora_scale": scale[:, None]}, weight)
    close(rows.norm(dim=1), scale)
    columns = applied({**pair, "dora_scale": scale[None]}, weight)
    close(columns.norm(dim=0), scale)
    vector = only({**pair, "dora_scale": scale})
    again = weight.clone()
    decompose(family_of(vector), vector, again, 1.0)
    close(again, rows)
