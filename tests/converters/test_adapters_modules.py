"""Adapter files as modules: every key is used once, or named with the reason why not."""

from __future__ import annotations

import pytest
from helpers.adapters import NAME
from helpers.sd1 import (
    SMALL,
    Shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    state_dict,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.adapters import load_adapter
from converters.dtypes import DType
from converters.errors import MergeProblem


def test_keys_are_grouped_by_module_and_family() -> None:
    shapes = lora_shapes(kohya_modules(SMALL, convolutions=True) | kohya_text_modules(SMALL))
    adapter = load_adapter(state_dict(shapes))
    assert (len(adapter.modules), adapter.unused) == (8, {})
    assert adapter.algorithm == ("lora",)
    assert sorted(k for m in adapter.modules for k in m.keys) == sorted(shapes)


SUFFIXES = (
    *("lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha", "dora_scale", "diff_b"),
    *("lora_A.weight", "lora_B.default.weight", "lora_up.bias", "weight", "on_input", "w_norm"),
    *("lora_B.bias", "lora_B.default.bias"),
    *("hada_w1_a", "lokr_w1", "lokr_w2", "oft_blocks", "a1.weight", "x.y", ""),
)


@given(
    st.dictionaries(
        st.builds(
            "{}.{}".format,
            st.sampled_from(["lora_unet_a", "lora_te_b", "unet.c", "bundle_emb"]),
            st.sampled_from(SUFFIXES),
        )
        | st.sampled_from(["lora_unet_", "x", ".alpha"]),
        st.sampled_from([(), (1,), (2,), (4, 4), (2, 2, 2, 2)]),
    )
)
@settings(deadline=None)
def test_every_key_is_in_one_module_or_unused(shapes: Shapes) -> None:
    try:
        adapter = load_adapter(state_dict(shapes))
    except MergeProblem as error:
        assert "are both" in str(error)  # noqa: PT017  # both spellings of one tensor
        return
    keys = [key for m in adapter.modules for key in m.keys] + list(adapter.unused)
    assert sorted(keys) == sorted(shapes)


@pytest.mark.parametrize("extra", ["lora_up.bias", "scale_weight", "hada_w1_a", "reshape_weight"])
def test_a_pair_with_a_companion_that_is_unknown_is_not_applied_in_part(extra: str) -> None:
    shapes = lora_shapes({NAME: (8, 8)}) | {f"{NAME}.{extra}": (8, 1)}
    adapter = load_adapter(state_dict(shapes))
    assert adapter.modules == ()
    assert set(adapter.unused) == set(shapes)
    assert all("no algorithm" in reason for reason in adapter.unused.values())


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        (("lora_up.weight", "alpha"), "down"),
        (("hada_w1_a", "hada_w1_b", "hada_w2_b"), "hada_w2_a"),
        (("lokr_w1",), "lokr_w2"),
        (("a1.weight", "a2.weight", "b1.weight"), "b2"),
        (("boft_R",), "boft_s"),
    ],
)
def test_a_missing_half_is_named(keys: tuple[str, ...], missing: str) -> None:
    adapter = load_adapter(state_dict({f"{NAME}.{key}": (4, 4) for key in keys}))
    assert set(adapter.unused.values()) == {f"its module lacks {missing}"}


@pytest.mark.parametrize("role", ["alpha", "scale"])
def test_a_factor_of_several_numbers_is_none(role: str) -> None:
    shapes = lora_shapes({NAME: (8, 8)}) | {f"{NAME}.{role}": (2,)}
    assert set(load_adapter(state_dict(shapes)).unused) == set(shapes)


def test_the_bias_of_a_lora_needs_its_lora() -> None:
    key = f"{NAME}.lora_B.bias"
    adapter = load_adapter(state_dict({key: (8,), f"{NAME}.lora_B.weight": (8, 2)}))
    assert adapter.modules == ()
    assert adapter.unused[key] == "there is no LoRA whose bias it is"
    whole = load_adapter(state_dict({key: (8,), **lora_shapes({NAME: (8, 8)})}))
    assert {module.keys: module.part for module in whole.modules}[key,] == "bias"
    broken = load_adapter(
        state_dict({**lora_shapes({NAME: (8, 8)})}).overlay(state_dict({key: (8,)}, DType.I64))
    )
    assert "I64" in broken.unused[key]
