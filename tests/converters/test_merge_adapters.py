"""Merging adapters into a checkpoint: the sums, and what stays untouched."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.adapters import adapter as adapter_file
from helpers.adapters import applied, lazy
from helpers.examples import examples
from helpers.merging import (
    CONV_TARGET,
    MODULES,
    QUERY,
    QUERY_TARGET,
    TEXT_TARGET,
    checkpoint,
    choose,
    expected_delta,
    lora,
)
from helpers.sd1 import (
    SMALL,
    UNET,
    Shapes,
    checkpoint_shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    random_fill,
    state_dict,
    stored,
    unet_shapes,
)
from hypothesis import given
from hypothesis import strategies as st

from converters.adapters.lora import LORA
from converters.adapters.module import Module, Product, Stated
from converters.compute import buffer, value
from converters.dtypes import DType
from converters.errors import (
    UnsupportedFile,
)
from converters.merge import plan_merge
from converters.merge.changes import Change, ChangeLog, View, merged_tensor
from converters.statedict import StateDict
from converters.writers.safetensors import write_safetensors


def test_a_merge_adds_the_scaled_product_to_every_target() -> None:
    base, adapter = checkpoint(), lora()
    plan = plan_merge(base, [choose(adapter, 0.7)])
    assert len(plan.changed) == len(MODULES) == plan.reports[0].applied
    assert plan.reports[0].unused == {}
    conv = "lora_unet_down_blocks_0_resnets_0_conv1"
    text = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    for module, target in ((QUERY, QUERY_TARGET), (conv, CONV_TARGET), (text, TEXT_TARGET)):
        expected = value(base[target]).flatten(1) + 0.7 * expected_delta(adapter, module)
        torch.testing.assert_close(value(plan.state_dict[target]).flatten(1), expected)


def test_planning_reads_no_tensor_data() -> None:
    base = state_dict(checkpoint_shapes())
    plan = plan_merge(base, [choose(state_dict(lora_shapes(kohya_modules())))])
    assert plan.state_dict[QUERY_TARGET].shape == base[QUERY_TARGET].shape


def test_what_no_adapter_changes_keeps_its_stored_bytes() -> None:
    base = checkpoint()
    plan = plan_merge(base, [choose(lora())])
    kept = [name for name in base if name not in plan.changed]
    assert all(plan.state_dict[name] is base[name] for name in kept)
    assert list(plan.state_dict) == list(base)


def test_a_merged_tensor_knows_all_files_it_is_made_from() -> None:
    base, adapter = checkpoint(), lora()
    merged = plan_merge(base, [choose(adapter)]).state_dict[QUERY_TARGET]
    parts = [base[QUERY_TARGET], *(adapter[n] for n in adapter if n.startswith(f"{QUERY}."))]
    assert set(merged.sources) == {source for tensor in parts for source in tensor.sources}
    assert "style.safetensors" in merged.origin


def test_weight_zero_changes_nothing() -> None:
    base = checkpoint()
    plan = plan_merge(base, [choose(lora(), 0.0)])
    assert plan.changed == ()
    assert all(plan.state_dict[name] is tensor for name, tensor in base.items())
    assert plan.reports[0].applied == len(MODULES)


def test_the_text_encoder_has_a_weight_of_its_own() -> None:
    base, adapter = checkpoint(), lora()
    unet_only = plan_merge(base, [choose(adapter, 1.0, 0.0)])
    assert TEXT_TARGET not in unet_only.changed
    assert QUERY_TARGET in unet_only.changed
    text_only = plan_merge(base, [choose(adapter, 0.0, 1.0)])
    assert set(text_only.changed) == {
        name for name in text_only.changed if name.startswith("cond_stage_model.")
    }
    assert len(text_only.changed) == len(kohya_text_modules(SMALL))


@given(st.floats(-2, 2), st.floats(-2, 2))
@examples(20)
def test_merging_two_adapters_adds_both_changes(first: float, second: float) -> None:
    base = checkpoint()
    a, b = lora(seed=1), lora(seed=2, rank=3)
    both = plan_merge(base, [choose(a, first), choose(b, second)]).state_dict
    delta = first * expected_delta(a, QUERY) + second * expected_delta(b, QUERY)
    torch.testing.assert_close(value(both[QUERY_TARGET]), value(base[QUERY_TARGET]) + delta)


def test_the_order_of_adapters_does_not_matter() -> None:
    base, a, b = checkpoint(), choose(lora(seed=1)), choose(lora(seed=2), 0.5)
    one, other = plan_merge(base, [a, b]).state_dict, plan_merge(base, [b, a]).state_dict
    for name in plan_merge(base, [a, b]).changed:
        torch.testing.assert_close(value(one[name]), value(other[name]))


def test_merging_and_merging_with_the_opposite_weight_cancel() -> None:
    base, adapter = checkpoint(), lora()
    there = plan_merge(base, [choose(adapter, 1.0)]).state_dict
    back = plan_merge(there, [choose(adapter, -1.0)]).state_dict
    torch.testing.assert_close(value(back[QUERY_TARGET]), value(base[QUERY_TARGET]))


def test_arithmetic_is_float32_and_rounds_once() -> None:
    base = checkpoint(dtype=DType.F16)
    small = [choose(lora(seed=n, scale=0.004)) for n in range(8)]
    merged = value(plan_merge(base, small).state_dict[QUERY_TARGET])
    delta = sum(expected_delta(choice.state_dict, QUERY) for choice in small)
    exact = (value(base[QUERY_TARGET]).float() + delta).half()
    assert merged.dtype == torch.float16
    assert torch.equal(merged, exact)


@pytest.mark.parametrize("dtype", [DType.F16, DType.F32])
def test_the_result_keeps_the_checkpoints_element_type(dtype: DType) -> None:
    plan = plan_merge(checkpoint(dtype=dtype), [choose(lora())])
    assert {plan.state_dict[name].dtype for name in plan.changed} == {dtype}


def test_linear_pairs_fit_the_pointwise_convolutions_of_sd1() -> None:
    base = checkpoint()
    module = "lora_unet_down_blocks_0_attentions_0_proj_in"
    adapter = lora({module: (32, 32)})
    target = f"{UNET}input_blocks.1.1.proj_in.weight"
    merged = value(plan_merge(base, [choose(adapter)]).state_dict[target])
    expected = value(base[target]) + expected_delta(adapter, module)[..., None, None]
    torch.testing.assert_close(merged, expected)


def test_the_tucker_form_is_merged() -> None:
    module = "lora_unet_down_blocks_0_resnets_0_conv1"
    up, down, mid = torch.randn(32, 4, 1, 1), torch.randn(4, 32, 1, 1), torch.randn(4, 4, 3, 3)
    parts = {"lora_up.weight": up, "lora_down.weight": down, "lora_mid.weight": mid}
    adapter = StateDict(
        {
            f"{module}.{suffix}": stored(DType.F32, tuple(t.shape), t.numpy().tobytes())
            for suffix, t in parts.items()
        }
    )
    base = checkpoint()
    merged = value(plan_merge(base, [choose(adapter)]).state_dict[CONV_TARGET])
    delta = torch.einsum("ijkl,pi,jq->pqkl", mid, up.flatten(1), down.flatten(1))
    torch.testing.assert_close(merged, value(base[CONV_TARGET]) + delta, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("channels", [8, 9])
def test_the_first_convolution_of_inpainting_models_takes_four_channel_adapters(
    channels: int,
) -> None:
    base = checkpoint(replace(SMALL, in_channels=channels))
    adapter = lora({"lora_unet_conv_in": (32, 4, 3, 3), QUERY: (32, 32)})
    target = f"{UNET}input_blocks.0.0.weight"
    merged = value(plan_merge(base, [choose(adapter)]).state_dict[target])
    delta = expected_delta(adapter, "lora_unet_conv_in").reshape(32, 4, 3, 3)
    torch.testing.assert_close(merged[:, :4], value(base[target])[:, :4] + delta)
    assert torch.equal(merged[:, 4:], value(base[target])[:, 4:])


def test_modules_under_ldm_names_are_merged_too() -> None:
    ldm = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    plan = plan_merge(checkpoint(), [choose(lora({ldm: (32, 32)}))])
    assert plan.changed == (QUERY_TARGET,)


def test_a_unet_without_prefix_is_merged_into() -> None:
    base = state_dict(unet_shapes(SMALL), DType.F32, fill=random_fill(DType.F32))
    plan = plan_merge(base, [choose(lora(kohya_modules(SMALL)))])
    assert QUERY_TARGET.removeprefix(UNET) in plan.changed


def test_ema_copies_that_stay_behind_are_warned_about() -> None:
    base = checkpoint().overlay(state_dict({"model_ema.decay": ()}))
    assert plan_merge(base, [choose(lora())]).warnings == (
        "the 1 EMA tensors of the checkpoint stay without the adapters",
    )
    assert plan_merge(checkpoint(), [choose(lora())]).warnings == ()


def test_biases_and_norms_are_changed() -> None:
    block = "lora_unet_down_blocks_0_attentions_0"
    extra: Shapes = {f"{block}_norm.w_norm": (32,), f"{block}_norm.b_norm": (32,)}
    extra |= {f"{block}_transformer_blocks_0_attn1_to_out_0.diff_b": (32,)}
    base, adapter = checkpoint(), lora(extra=extra)
    plan = plan_merge(base, [choose(adapter, 0.5)])
    head = f"{UNET}input_blocks.1.1"
    out = f"{head}.transformer_blocks.0.attn1.to_out.0.bias"
    places = dict(zip(extra, (f"{head}.norm.weight", f"{head}.norm.bias", out), strict=True))
    for key, target in places.items():
        expected = value(base[target]) + 0.5 * value(adapter[key])
        torch.testing.assert_close(value(plan.state_dict[target]), expected)


def test_nonlinear_changes_are_made_in_the_stated_order() -> None:
    base = checkpoint()
    torch.manual_seed(0)
    turned = adapter_file({f"{QUERY}.oft_blocks": torch.randn(8, 4, 4)})
    added = lora({QUERY: (32, 32)})
    weight, delta = value(base[QUERY_TARGET]), expected_delta(added, QUERY)
    one = plan_merge(base, [choose(turned), choose(added)]).state_dict
    other = plan_merge(base, [choose(added), choose(turned)]).state_dict
    turn = functools.partial(applied, {"oft_blocks": value(turned[f"{QUERY}.oft_blocks"])})
    torch.testing.assert_close(value(one[QUERY_TARGET]), turn(weight) + delta)
    torch.testing.assert_close(value(other[QUERY_TARGET]), turn(weight + delta))


def test_the_report_counts_by_component() -> None:
    report = plan_merge(checkpoint(), [choose(lora())]).reports[0]
    text = len(kohya_text_modules(SMALL))
    assert report.components == {"unet": len(MODULES) - text, "text_encoder": text}


@pytest.mark.parametrize("rank", [1, 4, 70])
def test_the_norm_of_what_each_adapter_changed_is_told(rank: int) -> None:
    base, first, second = checkpoint(), lora(seed=1, rank=rank), lora({QUERY: (32, 32)}, seed=2)
    plan = plan_merge(base, [choose(first, 0.5), choose(second, -2)])
    for name in plan.changed:
        plan.state_dict[name].read()
    deltas = {m: 0.5 * float(expected_delta(first, m).norm()) for m in MODULES}
    measured = plan.measured(0)
    assert measured.norm == pytest.approx(sum(d**2 for d in deltas.values()) ** 0.5, rel=1e-4)
    assert measured.largest == pytest.approx(max(deltas.values()), rel=1e-4)
    assert measured.largest_tensor in plan.changed
    alone = plan.measured(1)
    expected = 2 * float(expected_delta(second, QUERY).norm())
    assert (alone.norm, alone.largest_tensor) == (pytest.approx(expected, rel=1e-4), QUERY_TARGET)


def test_the_norm_of_a_nonlinear_change_is_that_of_the_difference() -> None:
    base = checkpoint()
    plan = plan_merge(base, [choose(adapter_file({f"{QUERY}.oft_blocks": torch.randn(8, 4, 4)}))])
    after = value(plan.state_dict[QUERY_TARGET])
    expected = float((after - value(base[QUERY_TARGET])).norm())
    assert plan.measured(0).norm == pytest.approx(expected, rel=1e-4)


FP8, SCALE = DType.F8_E4M3, 0.05


SCALE_NAME = QUERY_TARGET.replace("weight", "scale_weight")


def scaled_checkpoint() -> StateDict:
    """One layer in fp8 with its scale beside it, as ComfyUI keeps them."""
    values = value(checkpoint()[QUERY_TARGET])
    narrow = (values / SCALE).to(torch.float8_e4m3fn)
    return checkpoint().overlay(
        {
            QUERY_TARGET: stored(FP8, tuple(values.shape), bytes(buffer(narrow)), "base.st: q"),
            SCALE_NAME: stored(DType.F32, (), bytes(buffer(torch.tensor(SCALE))), "base.st: s"),
            "model.diffusion_model.scaled_fp8": state_dict({"a": (0,)}, FP8)["a"],
        }
    )


def test_weights_with_scales_are_merged_as_what_they_stand_for() -> None:
    base, adapter = scaled_checkpoint(), lora()
    plan = plan_merge(base, [choose(adapter, 0.5)], dtype=DType.F32)
    assert not [name for name in plan.state_dict if "scale" in name]
    expected = value(base[QUERY_TARGET]).float() * SCALE + 0.5 * expected_delta(adapter, QUERY)
    torch.testing.assert_close(value(plan.state_dict[QUERY_TARGET]), expected)


def test_weights_with_scales_need_the_type_of_the_result() -> None:
    with pytest.raises(UnsupportedFile, match="scale_weight: its weights are fp8") as caught:
        plan_merge(scaled_checkpoint(), [choose(lora())])
    assert caught.value.path == "base.st"
    assert "--dtype" in str(caught.value.hint)


@pytest.mark.parametrize("word", ["weight_scale", "comfy_quant", "absmax", "quant_map"])
def test_weights_that_are_quantised_otherwise_are_refused(word: str) -> None:
    name = QUERY_TARGET.replace("weight", word)
    base = checkpoint().overlay({name: state_dict({name: (1,)}, DType.F32)[name]})
    with pytest.raises(UnsupportedFile, match=f"{word}: its weights are quantised"):
        plan_merge(base, [choose(lora())], dtype=DType.F16)


def test_what_was_changed_is_told_for_each_component() -> None:
    plan = plan_merge(checkpoint(), [choose(lora(seed=1), 0.5), choose(lora(seed=2))])
    for name in plan.changed:
        plan.state_dict[name].read()
    for number in (0, 1):
        parts, whole = plan.measured_by_component(number), plan.measured(number)
        assert parts.keys() == {"unet", "text_encoder"}
        assert sum(part.norm**2 for part in parts.values()) == pytest.approx(whole.norm**2)
        assert max(part.largest for part in parts.values()) == whole.largest
        assert str(parts["unet"].largest_tensor).startswith(UNET)
        assert str(parts["text_encoder"].largest_tensor).startswith("cond_stage_model.")


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16])
def test_another_device_computes_the_same(dtype: DType) -> None:
    """Any name but `cpu` is another device to the merge; this one is the CPU still."""
    base = checkpoint(dtype=dtype)
    turned = adapter_file({f"{QUERY}.oft_blocks": torch.randn(8, 4, 4)})
    choices = [choose(lora(seed=1), 0.5), choose(turned), choose(lora(seed=2))]
    here = plan_merge(base, choices)
    there = plan_merge(base, choices, device="cpu:0")
    for name in here.changed:
        torch.testing.assert_close(value(there.state_dict[name]), value(here.state_dict[name]))


def _norm(change: torch.Tensor) -> object:
    return pytest.approx(float(change.double().norm()), rel=1e-4)


def test_a_large_weight_is_merged_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of more rows than are computed at a time; each is the whole's, whatever is read."""
    monkeypatch.setattr("converters.merge.products._PIECE", 100 * 128)
    up, down = torch.randn(210, 4), torch.randn(4, 128)
    weight = torch.randn(210, 128)
    module = Module("m", "lora", {"up": lazy(up), "down": lazy(down)}, ())
    products = [
        Product(LORA, replace(module, stated=Stated(scale=0.5))),
        Product(LORA, replace(module, stated=Stated(scale=2.0)), rows=(0, 70)),
    ]
    views = [View(), View(rows=(100, 170))]
    changes = [
        Change(n, "a", 0.5, view, (), lambda *_: None, product)
        for n, (view, product) in enumerate(zip(views, products, strict=True))
    ]
    log = ChangeLog()
    merged = merged_tensor(lazy(weight), "w", changes, log)
    expected = weight + 0.25 * up @ down
    expected[100:170] += up[:70] @ down
    assert len(merged.pieces) == 3
    torch.testing.assert_close(value(merged), expected, rtol=1e-5, atol=1e-5)
    for _ in range(2):
        pieces = [value(piece) for piece in reversed(merged.pieces)]
        assert torch.equal(torch.cat(pieces[::-1]), value(merged))
    assert log.measured(0).norm == _norm(0.25 * up @ down)
    assert log.measured(1).norm == _norm(up[:70] @ down)


def test_what_threads_write_in_place_is_what_is_hashed_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One gives memory away that it uses again, the other keeps whole results."""
    monkeypatch.setattr("converters.merge.products._PIECE", 2000)
    monkeypatch.setattr("converters.merge.products._READ", 701)
    state = plan_merge(checkpoint(), [choose(lora(), 0.7), choose(lora(), 0.2)]).state_dict
    assert max(len(tensor.pieces) for tensor in state.tensors.values()) > 3
    files = [tmp_path / f"{with_hashes}.safetensors" for with_hashes in (True, False)]
    for file, with_hashes in zip(files, (True, False), strict=True):
        write_safetensors(state, file, with_hashes=with_hashes)
    assert files[0].read_bytes() == files[1].read_bytes()
