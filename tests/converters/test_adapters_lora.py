"""Adapters as modules: every key used once or named; each family's arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from helpers.sd1 import (
    SMALL,
    Shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    state_dict,
    stored,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.adapters import FAMILIES, Module, load_adapter
from converters.adapters.lora import LOCON, LORA
from converters.dtypes import DType
from converters.errors import MergeProblem, WrongFamily
from converters.statedict import LazyTensor

NAME = "lora_unet_down_blocks_0_resnets_0_conv1"


def lazy(tensor: torch.Tensor, name: str = "t") -> LazyTensor:
    data = tensor.float().contiguous().numpy().tobytes()
    return stored(DType.F32, tuple(tensor.shape), data, name)


def module(tensors: Mapping[str, torch.Tensor], family: str = "lora") -> Module:
    held = {role: lazy(tensor, f"x.{role}") for role, tensor in tensors.items()}
    return Module(NAME, "unet", family, held, tuple(tensors))


def delta(made: Module) -> torch.Tensor:
    row = next(row for row in FAMILIES if row.name == made.family)
    factors = row.factors(made)
    return (factors.scale * (factors.up @ factors.down)).reshape(row.shape(made))


def test_modules_are_grouped_with_component_and_family() -> None:
    shapes = lora_shapes(kohya_modules(SMALL, convolutions=True) | kohya_text_modules(SMALL))
    adapter = load_adapter(state_dict(shapes))
    assert (len(adapter.modules), adapter.unused) == (8, ())
    assert {m.component for m in adapter.modules} == {"unet", "text_encoder"}
    assert adapter.algorithm == ("lora",)
    assert sorted(k for m in adapter.modules for k in m.keys) == sorted(shapes)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *(f"lora_unet_a.{s}" for s in ("lora_up.weight", "lora_down.weight", "alpha")),
                *(f"lora_te_b.{s}" for s in ("lora_up.weight", "lora_mid.weight", "dora_scale")),
                *("lora_unet_a.lora_mid.weight", "lora_te_b.lora_down.weight", "lora_te1_c.alpha"),
                *("lora_unet_", "x", "lora_te_b.lora_up.bias", "bundle_emb.x"),
            ]
        ),
        st.sampled_from([(), (1,), (2,), (4, 4)]),
    )
)
@settings(deadline=None)
def test_every_key_is_in_one_module_or_unused(shapes: Shapes) -> None:
    adapter = load_adapter(state_dict(shapes))
    keys = [key for m in adapter.modules for key in m.keys] + list(adapter.unused)
    assert sorted(keys) == sorted(shapes)


@pytest.mark.parametrize(
    "extra", ["dora_scale", "lora_up.bias", "scale", "hada_w1_a", "reshape_weight"]
)
def test_a_pair_with_a_companion_of_another_family_is_not_applied_in_part(extra: str) -> None:
    shapes = lora_shapes({NAME: (8, 8)}) | {f"{NAME}.{extra}": (8, 1)}
    adapter = load_adapter(state_dict(shapes))
    assert adapter.modules == ()
    assert set(adapter.unused) == set(shapes)


def test_half_a_pair_is_unused() -> None:
    shapes = lora_shapes({NAME: (8, 8)})
    del shapes[f"{NAME}.lora_up.weight"]
    assert set(load_adapter(state_dict(shapes)).unused) == set(shapes)


def test_an_alpha_of_several_numbers_is_no_alpha() -> None:
    shapes = lora_shapes({NAME: (8, 8)}) | {f"{NAME}.alpha": (2,)}
    assert set(load_adapter(state_dict(shapes)).unused) == set(shapes)


def test_families_are_told_apart_by_their_roles_alone() -> None:
    for roles in (row.required for row in FAMILIES):
        assert sum(row.takes(roles) for row in FAMILIES) == 1


def test_linear_pairs_multiply_scaled_by_alpha_over_rank() -> None:
    up, down = torch.randn(6, 4), torch.randn(4, 5)
    made = module({"up": up, "down": down, "alpha": torch.tensor(2.0)})
    torch.testing.assert_close(delta(made), 0.5 * up @ down)


def test_a_missing_alpha_means_the_rank() -> None:
    up, down = torch.randn(6, 4), torch.randn(4, 5)
    torch.testing.assert_close(delta(module({"up": up, "down": down})), up @ down)


def test_convolutions_follow_the_formula_of_kohya() -> None:
    up, down = torch.randn(6, 4, 1, 1), torch.randn(4, 5, 3, 3)
    # sd-scripts merges k x k convolutions through a convolution of the two kernels.
    expected = torch.nn.functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)
    got = delta(module({"up": up, "down": down}))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_pointwise_pairs_count_by_elements_whether_linear_or_convolution() -> None:
    up, down = torch.randn(6, 4), torch.randn(4, 5)
    flat = delta(module({"up": up, "down": down}))
    conv = delta(module({"up": up[..., None, None], "down": down[..., None, None]}))
    torch.testing.assert_close(flat, conv)


def test_linear_and_convolution_agree_with_lycoris() -> None:
    from lycoris.functional.locon import diff_weight

    up, down = torch.randn(6, 4, 1, 1), torch.randn(4, 5, 3, 3)
    got = delta(module({"up": up, "down": down}))
    torch.testing.assert_close(got, diff_weight(down, up, None), atol=1e-5, rtol=1e-5)


def test_the_tucker_form_agrees_with_lycoris() -> None:
    from lycoris.functional.locon import diff_weight

    up, down = torch.randn(6, 4, 1, 1), torch.randn(3, 5, 1, 1)
    mid = torch.randn(4, 3, 3, 3)
    expected = torch.einsum("ijkl,pi,jq->pqkl", mid, up.flatten(1), down.flatten(1))
    made = module({"up": up, "down": down, "mid": mid}, "locon")
    torch.testing.assert_close(delta(made), expected, atol=1e-5, rtol=1e-5)
    same_rank = torch.randn(4, 5, 1, 1), torch.randn(4, 4, 3, 3)
    made = module({"up": up, "down": same_rank[0], "mid": same_rank[1]}, "locon")
    expected = diff_weight(same_rank[0], up, same_rank[1])
    torch.testing.assert_close(delta(made), expected, atol=1e-5, rtol=1e-5)


def test_linear_pairs_agree_with_peft() -> None:
    from peft import LoraConfig, get_peft_model

    base = torch.nn.Sequential(torch.nn.Linear(5, 6))
    config = LoraConfig(r=4, lora_alpha=2, target_modules=["0"], init_lora_weights=False)
    layer = get_peft_model(base, config).base_model.model[0]
    up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    made = module({"up": up.detach(), "down": down.detach(), "alpha": torch.tensor(2.0)})
    torch.testing.assert_close(delta(made), layer.get_delta_weight("default").detach())


@pytest.mark.parametrize(
    "shapes",
    [
        {"up": (6, 3), "down": (4, 5)},
        {"up": (6,), "down": (4, 5)},
        {"up": (6, 4, 3, 3), "down": (4, 5, 3, 3)},
        {"up": (6, 4, 1, 1), "mid": (4, 4, 3), "down": (4, 5, 1, 1)},
        {"up": (6, 4, 1, 1), "mid": (3, 4, 3, 3), "down": (4, 5, 1, 1)},
        {"up": (6, 4, 1, 1), "mid": (4, 4, 3, 3), "down": (4, 5, 3, 3)},
    ],
)
def test_tensors_that_do_not_fit_each_other_are_named(shapes: Shapes) -> None:
    family = LOCON if "mid" in shapes else LORA
    made = module({role: torch.zeros(shape) for role, shape in shapes.items()}, family.name)
    with pytest.raises(WrongFamily, match=NAME):
        family.shape(made)


@pytest.mark.parametrize("role", ["up", "down", "alpha"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_with_the_tensor_named(
    role: str, bad: float
) -> None:
    tensors = {"up": torch.ones(6, 4), "down": torch.ones(4, 5), "alpha": torch.ones(())}
    tensors[role] = tensors[role] * bad
    with pytest.raises(MergeProblem, match=rf"x\.{role} holds NaN"):
        LORA.factors(module(tensors))
