"""What is not merged: one error each, naming the key and the file, before anything is written."""

from __future__ import annotations

import struct

import pytest
import torch
from helpers.examples import examples
from helpers.merging import (
    MODULES,
    QUERY,
    QUERY_TARGET,
    checkpoint,
    choose,
    lora,
)
from helpers.sd1 import (
    SMALL,
    UNET,
    Shapes,
    prefixed,
    state_dict,
    stored,
    unet_shapes,
)
from hypothesis import given
from hypothesis import strategies as st

from converters.compute import value
from converters.dtypes import DType
from converters.errors import (
    AssetmgrError,
    BadValue,
    MergeProblem,
    UnsupportedFile,
    UnusedKeys,
    WrongFamily,
)
from converters.merge import AdapterChoice, plan_merge
from converters.statedict import StateDict


def refused(
    error: type[AssetmgrError], base: StateDict, choice: AdapterChoice, *, partial: bool = False
) -> str:
    with pytest.raises(error) as caught:
        plan_merge(base, [choice], partial=partial)
    return str(caught.value)


def test_an_adapter_of_another_family_is_refused_in_one_sentence() -> None:
    module = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    said = refused(WrongFamily, checkpoint(), choose(lora({module: (640, 2048)})))
    assert said == (
        "style.safetensors: made for SDXL (context width 2048),"
        " the checkpoint is SD1 (context width 768)"
    )


def test_an_adapter_of_another_family_is_refused_even_when_partial() -> None:
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    refused(WrongFamily, checkpoint(), choose(lora({module: (32, 1024)})), partial=True)


def test_only_models_are_merged_into() -> None:
    assert "kind lora, not a checkpoint" in refused(WrongFamily, lora(), choose(lora()))


def test_a_checkpoint_is_not_merged_into_itself() -> None:
    assert "kind checkpoint, not an adapter" in refused(
        WrongFamily, checkpoint(), choose(checkpoint())
    )


def test_a_file_that_is_no_adapter_is_refused() -> None:
    embedding = state_dict({"<cat>": (768,)})
    assert "embedding" in refused(WrongFamily, checkpoint(), choose(embedding))


def test_keys_without_a_place_are_an_error_that_counts_and_names_them() -> None:
    stray = {f"lora_unet_nowhere_{n}.alpha": () for n in range(7)}
    said = refused(UnusedKeys, checkpoint(), choose(lora(extra=stray)))
    assert said.startswith("style.safetensors: 7 keys find no place in the checkpoint: ")
    assert said.count("nowhere") == 3
    plan = plan_merge(checkpoint(), [choose(lora(extra=stray))], partial=True)
    assert set(plan.reports[0].unused) == set(stray)
    assert plan.reports[0].applied == len(MODULES)


def test_text_encoder_modules_without_a_text_encoder_are_unused() -> None:
    base = state_dict(prefixed(UNET, unet_shapes(SMALL)))
    assert "lora_te_" in refused(UnusedKeys, base, choose(lora()))


def test_an_adapter_that_fits_nowhere_is_refused_even_when_partial() -> None:
    modules = {"lora_unet_down_blocks_7_attentions_0_proj_in": (32, 32)}
    said = refused(WrongFamily, checkpoint(), choose(lora(modules)), partial=True)
    assert "none of its 3 keys fits" in said


def test_modules_without_names_cannot_be_merged() -> None:
    pairs = {f"unet:{n}:{part}": (4, 32) for n in range(8) for part in ("up", "down")}
    assert "no names" in refused(UnsupportedFile, checkpoint(), choose(state_dict(pairs)))


@pytest.mark.parametrize("half", ["lora_up.weight", "lora_down.weight"])
def test_factors_that_are_codes_are_an_error_that_names_their_type(half: str) -> None:
    codes = stored(
        DType.I8, lora()[f"{QUERY}.{half}"].shape, bytes(lora()[f"{QUERY}.{half}"].numel)
    )
    said = refused(UnusedKeys, checkpoint(), choose(lora().overlay({f"{QUERY}.{half}": codes})))
    assert f"{QUERY}.{half}" in said
    assert "is I8, whose scale is not here" in said


@pytest.mark.parametrize("half", ["lora_up.weight", "lora_down.weight"])
def test_half_of_a_pair_is_an_error_that_names_what_is_missing(half: str) -> None:
    adapter = lora().drop({f"{QUERY}.{half}"})
    said = refused(UnusedKeys, checkpoint(), choose(adapter))
    assert QUERY in said
    assert f"lacks {'up' if 'up' in half else 'down'}" in said
    plan = plan_merge(checkpoint(), [choose(adapter)], partial=True)
    assert plan.reports[0].applied == len(MODULES) - 1


def test_two_adapters_in_one_file_are_an_error_that_names_both_keys() -> None:
    path = "base_model.model.down_blocks.0.attentions.0.proj_in"
    shapes = {
        f"{path}.lora_{part}.{name}.weight": shape
        for name in ("default", "other")
        for part, shape in (("A", (4, 32)), ("B", (32, 4)))
    }
    said = refused(MergeProblem, checkpoint(), choose(state_dict(shapes)), partial=True)
    assert said.startswith("style.safetensors: ")
    assert "lora_A.default.weight" in said
    assert "lora_A.other.weight" in said


def test_one_layer_under_two_spellings_is_an_error_that_names_both() -> None:
    ldm = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    adapter = lora({QUERY: (32, 32), ldm: (32, 32)})
    said = refused(MergeProblem, checkpoint(), choose(adapter), partial=True)
    assert said == f"style.safetensors: modules {QUERY} and {ldm} both change {QUERY_TARGET}"


def test_a_broken_alpha_is_refused_with_its_key_and_file() -> None:
    key = f"{QUERY}.alpha"
    nan = stored(DType.F32, (), torch.tensor(float("nan")).numpy().tobytes(), key)
    plan = plan_merge(checkpoint(), [choose(lora().overlay({key: nan}))])
    with pytest.raises(MergeProblem, match=f"style.safetensors: {key} holds NaN"):
        plan.state_dict[QUERY_TARGET].read()


def test_a_bias_that_the_checkpoint_lacks_is_unused() -> None:
    extra: Shapes = {f"{QUERY}.diff_b": (32,)}
    said = refused(UnusedKeys, checkpoint(), choose(lora(extra=extra)))
    assert "the layer has no bias in the checkpoint" in said


def test_a_module_of_the_wrong_shape_is_refused_before_anything_is_computed() -> None:
    said = refused(WrongFamily, checkpoint(), choose(lora({QUERY: (320, 320)})))
    assert QUERY in said
    assert "[320, 320]" in said
    assert "[32, 32]" in said


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_weights_are_finite_numbers(weight: float) -> None:
    refused(BadValue, checkpoint(), choose(lora(), weight))
    refused(BadValue, checkpoint(), choose(lora(), 1.0, weight))


def test_a_result_outside_the_element_type_is_refused_naming_the_tensor() -> None:
    plan = plan_merge(checkpoint(dtype=DType.F16), [choose(lora(), 1e9)])
    with pytest.raises(MergeProblem, match=r"attn1\.to_q\.weight leaves the range") as caught:
        plan.state_dict[QUERY_TARGET].read()
    assert caught.value.path == "style.safetensors"


@pytest.mark.parametrize("dtype", [DType.F16, DType.F8_E4M3], ids=lambda dtype: dtype.label)
@pytest.mark.parametrize("family", ["lora", "full"])
def test_values_that_are_too_large_are_clamped_and_counted_where_that_is_wanted(
    family: str, dtype: DType
) -> None:
    diff = stored(DType.F32, (32, 32), torch.full((32, 32), -1e-4).numpy().tobytes())
    adapter = lora() if family == "lora" else StateDict({f"{QUERY}.diff": diff})
    with pytest.raises(MergeProblem, match=rf"{dtype.label}, with a value of \d"):
        plan_merge(checkpoint(), [choose(adapter, 1e9)], dtype=dtype).state_dict[
            QUERY_TARGET
        ].read()
    plan = plan_merge(checkpoint(), [choose(adapter, 1e9)], dtype=dtype, clamped=True)
    merged = value(plan.state_dict[QUERY_TARGET]).float()
    lost = int((merged.abs() == dtype.largest).sum())
    assert merged.isfinite().all()
    assert 0 < lost == plan.overflow[QUERY_TARGET] == plan.measured(0).overflow
    assert plan.measured_by_component(0)["unet"].overflow == lost


def test_what_is_too_large_in_tensors_that_no_adapter_changes_is_counted_too() -> None:
    name = "first_stage_model.quant_conv.bias"
    base = checkpoint().overlay({name: stored(DType.F32, (1,), struct.pack("<f", 7e4))})
    plan = plan_merge(base, [choose(lora())], dtype=DType.F16, clamped=True)
    assert value(plan.state_dict[name]).tolist() == [DType.F16.largest]
    assert (plan.overflow, plan.measured(0).overflow) == ({name: 1}, 0)


def test_values_that_were_broken_before_the_merge_are_not_blamed_on_the_adapter() -> None:
    nan = stored(DType.F32, (32, 32), torch.full((32, 32), float("nan")).numpy().tobytes())
    plan = plan_merge(checkpoint().overlay({QUERY_TARGET: nan}), [choose(lora())])
    with pytest.raises(MergeProblem, match="before the merge"):
        plan.state_dict[QUERY_TARGET].read()


def test_a_broken_adapter_tensor_is_named_with_its_file() -> None:
    key = f"{QUERY}.lora_up.weight"
    nan = stored(DType.F32, (32, 4), torch.full((32, 4), float("nan")).numpy().tobytes(), key)
    plan = plan_merge(checkpoint(), [choose(lora().overlay({key: nan}))])
    with pytest.raises(MergeProblem, match=f"style.safetensors: {key} holds NaN"):
        plan.state_dict[QUERY_TARGET].read()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_one_bad_number_is_found_also_where_it_is_multiplied_by_zeros(number: float) -> None:
    bad, zeros = torch.zeros(32, 4), torch.zeros(4, 32)
    bad[5, 1] = number
    key = f"{QUERY}.lora_up.weight"
    up = stored(DType.F32, (32, 4), bad.numpy().tobytes(), key)
    down = stored(DType.F32, (4, 32), zeros.numpy().tobytes())
    adapter = lora().overlay({key: up, f"{QUERY}.lora_down.weight": down})
    plan = plan_merge(checkpoint(), [choose(adapter)])
    with pytest.raises(MergeProblem, match=f"{key} holds NaN"):
        plan.state_dict[QUERY_TARGET].read()


SUFFIXES = (
    *("lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha", "dora_scale"),
    *("lokr_w1", "lokr_w2", "ia3_l", "diff", "diff_b", "w_norm", "oft_blocks", "oft_R.weight"),
)


SIZES = st.lists(st.sampled_from([0, 1, 4, 32, 768]), max_size=4).map(tuple)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(sorted(MODULES)), st.sampled_from(SUFFIXES)).map(".".join),
        SIZES,
        max_size=8,
    ),
    st.booleans(),
)
@examples(60)
def test_whatever_shapes_come_the_plan_stands_or_one_error_says_why(
    shapes: Shapes, partial: bool
) -> None:
    base = checkpoint()
    try:
        plan = plan_merge(base, [choose(state_dict(shapes))], partial=partial)
    except AssetmgrError:
        return
    assert all(plan.state_dict[name].shape == base[name].shape for name in plan.changed)


def test_weights_that_are_no_floating_point_numbers_are_not_merged_into() -> None:
    whole = stored(DType.I8, (32, 32), bytes(32 * 32), "base: to_q")
    said = refused(
        UnsupportedFile,
        checkpoint().overlay({QUERY_TARGET: whole}),
        choose(lora({QUERY: (32, 32)})),
    )
    assert said.startswith(f"base: to_q: {QUERY_TARGET} is stored in I8")
