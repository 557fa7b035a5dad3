"""Merging checkpoints: what is merged with which weight, what stays stored bytes, the refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import pipelines
from helpers.checkpoint_merges import (
    DECODER,
    FIRST,
    POSITIONS,
    QUERY,
    TEXT,
    checkpoint,
    floats,
    plan,
)
from helpers.examples import examples
from helpers.sd1 import (
    CLIP,
    SMALL,
    UNET,
    VAE,
    checkpoint_shapes,
    random_fill,
    state_dict,
    stored,
    unet_shapes,
    vae_shapes,
)
from hypothesis import given
from hypothesis import strategies as st

from converters.compute import value
from converters.dtypes import DType
from converters.errors import AssetmgrError, BadValue, MergeProblem, UnsupportedFile, WrongFamily
from converters.layouts import unet_to_diffusers
from converters.merge.checkpoints import METHODS
from converters.merge.checkpoints.choice import Weights
from converters.statedict import LazyTensor, StateDict


def same_bytes(left: StateDict, right: StateDict) -> bool:
    return left.keys() == right.keys() and all(
        bytes(left[name].read()) == bytes(right[name].read()) for name in left
    )


def is_stored(state: StateDict, name: str) -> bool:
    return state[name].extents is not None


@pytest.mark.parametrize("method", ["weighted-sum", "slerp"])
def test_a_weight_of_zero_gives_a_and_a_weight_of_one_gives_b_as_stored_bytes(method: str) -> None:
    a, b = checkpoint(1), checkpoint(2)
    for alpha, expected in ((0.0, a), (1.0, b)):
        merge = plan(a, b, method=method, alpha=alpha)
        assert merge.merged == ()
        assert all(is_stored(merge.state, name) for name in merge.state)
        assert same_bytes(merge.state.drop({POSITIONS}), expected.drop({POSITIONS}))


@pytest.mark.parametrize("method", ["add-difference", "train-difference", "perpendicular"])
def test_nothing_learned_means_nothing_changed(method: str) -> None:
    a, b = checkpoint(1), checkpoint(2)
    copy = StateDict(dict(b.tensors))
    merge = plan(a, b, copy, method=method, alpha=0.7)
    assert same_bytes(merge.state, a)
    assert merge.merged
    assert merge.log.changed == set()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_equal_models_give_their_own_bytes_whatever_the_method(method: str) -> None:
    a = checkpoint(1)
    given_ = {
        "alpha": None if method == "average" else 0.37,
        "density": 0.5 if method == "ties" else None,
        "drop": 0.5 if method == "dare" else None,
    }
    copies = [StateDict(dict(a.tensors)) for _ in range(METHODS[method].least)]
    merge = plan(*copies, method=method, **given_)
    assert merge.merged
    assert same_bytes(merge.state, a)
    assert merge.log.changed == set()


def test_the_sum_is_in_float32_and_rounded_once() -> None:
    a, b = checkpoint(1), checkpoint(2)
    merge = plan(a, b, alpha=0.3)
    for name in (QUERY, TEXT, DECODER):
        exact = 0.7 * floats(a, name).astype(np.float64) + 0.3 * floats(b, name)
        assert merge.state[name].dtype is DType.F16
        half_a_step = np.spacing(np.abs(exact).astype(np.float16)).astype(np.float64) / 2
        assert (np.abs(floats(merge.state, name) - exact) <= half_a_step * 1.001).all()


@pytest.mark.parametrize(
    ("stored_as", "wanted", "found"),
    [
        (DType.F16, None, DType.F16),
        (DType.F16, DType.F32, DType.F32),
        (DType.F32, DType.F16, DType.F16),
        (DType.F16, DType.BF16, DType.BF16),
        (DType.F16, DType.F64, DType.F64),
    ],
)
def test_the_result_has_the_types_of_a_or_the_one_asked_for(
    stored_as: DType, wanted: DType | None, found: DType
) -> None:
    a, b = checkpoint(1, stored_as), checkpoint(2, DType.F32)
    merge = plan(a, b, alpha=0.5, dtype=wanted)
    assert {t.dtype for name, t in merge.state.items() if name != POSITIONS} == {found}
    exact = (floats(a, QUERY) + floats(b, QUERY)) / 2
    step = {DType.F64: 2e-7, DType.F32: 2e-7, DType.F16: 1e-3, DType.BF16: 8e-3}[found]
    assert np.allclose(floats(merge.state, QUERY), exact, rtol=step, atol=1e-4)


def test_all_of_b_in_another_type_is_b_in_the_type_of_a() -> None:
    a, b = checkpoint(1), checkpoint(2, DType.F32)
    merged = plan(a, b, alpha=1.0).state
    assert merged[QUERY].dtype is DType.F16
    assert np.array_equal(floats(merged, QUERY), floats(b, QUERY).astype(np.float16))


def test_indices_schedules_markers_and_averages_stay_those_of_a() -> None:
    extra = {"betas": (8,), "v_pred": (), "model_ema.diffusion_modelx": (4,)}
    a, b = (
        checkpoint(seed).overlay(
            state_dict({f"{name}": shape for name, shape in extra.items()}, fill=_constant(seed))
        )
        for seed in (1, 2)
    )
    merge = plan(a, b, alpha=0.5)
    for name in (*extra, POSITIONS):
        assert merge.state[name] is a[name]
    assert merge.warnings == ("the 1 EMA tensors of A stay as they are",)


def _constant(number: int) -> Any:
    return lambda _, shape: np.full(shape, number, np.float16).tobytes()


def test_each_component_may_have_a_weight_of_its_own() -> None:
    a, b = checkpoint(1), checkpoint(2)
    weights = Weights(0.25, {"vae": 0.0, "text_encoder": 1.0})
    merged = plan(a, b, weights=weights).state
    assert merged[DECODER] is a[DECODER]
    assert merged[TEXT].read() == b[TEXT].read()
    expected = 0.75 * floats(a, QUERY) + 0.25 * floats(b, QUERY)
    assert np.allclose(floats(merged, QUERY), expected, atol=1e-3)


def test_a_component_comes_whole_from_the_model_that_is_named() -> None:
    a, b, c = checkpoint(1), checkpoint(2), checkpoint(3)
    sources = {"vae": 1, "text_encoder": 2}
    merge = plan(a, b, c, alpha=0.5, sources=sources)
    for name in merge.state:
        if name.startswith(VAE):
            assert merge.state[name] is b[name]
        elif name.startswith(CLIP):
            assert merge.state[name] is c[name]
        else:
            assert name in merge.merged


def test_with_all_components_from_somewhere_nothing_is_merged() -> None:
    a, b = checkpoint(1), checkpoint(2)
    sources = {"unet": 1, "vae": 0, "text_encoder": 1}
    merge = plan(a, b, sources=sources)
    assert merge.merged == ()
    assert merge.state[QUERY] is b[QUERY]
    assert merge.state[DECODER] is a[DECODER]


def test_what_a_model_lacks_is_kept_from_a_and_told() -> None:
    a = checkpoint(1)
    b = checkpoint(2).drop({QUERY}).overlay(state_dict({f"{UNET}strange.weight": (2, 2)}))
    merge = plan(a, b, alpha=0.5)
    assert merge.state[QUERY] is a[QUERY]
    assert f"{UNET}strange.weight" not in merge.state
    first, second = merge.reports
    assert (first.missing, first.unused) == ((), ())
    assert (second.missing, second.unused) == ((QUERY,), (f"{UNET}strange.weight",))


SLOTS = {
    f"{UNET}time_embed.0.weight": 1,
    FIRST: 1,
    QUERY: 2,
    f"{UNET}middle_block.0.in_layers.2.weight": 13,
    f"{UNET}output_blocks.1.0.in_layers.2.weight": 15,
    f"{UNET}output_blocks.3.0.in_layers.2.weight": 17,
    f"{UNET}out.2.weight": 17,  # with the last block of this UNet, which has four
    TEXT: 0,
    DECODER: 0,
}


def test_block_weights_reach_their_blocks_and_base_all_else() -> None:
    a, b = checkpoint(1, DType.F32), checkpoint(2, DType.F32)
    blocks = tuple(number / 32 for number in range(26))
    merged = plan(a, b, weights=Weights(blocks=blocks)).state
    for name, slot in SLOTS.items():
        weight = np.float32(slot / 32)
        expected = (1 - weight) * floats(a, name) + weight * floats(b, name)
        assert np.allclose(floats(merged, name), expected, rtol=1e-6, atol=1e-8), name


def test_without_base_all_else_has_the_plain_weight() -> None:
    a, b = checkpoint(1), checkpoint(2)
    merged = plan(a, b, weights=Weights(1.0, {"vae": 0.0}, (0.0,) * 25)).state
    assert merged[QUERY] is a[QUERY]
    assert merged[DECODER] is a[DECODER]
    assert merged[TEXT].read() == b[TEXT].read()


def test_block_weights_reach_a_bare_unet_under_diffusers_names() -> None:
    bare = state_dict(unet_shapes(SMALL), DType.F32, fill=random_fill(DType.F32))
    a, b = unet_to_diffusers(bare), unet_to_diffusers(bare).map(lambda _, t: _doubled(t))
    merged = plan(a, b, weights=Weights(blocks=tuple(n / 32 for n in range(1, 26)))).state
    for name, slot in {
        "conv_in.weight": 1,
        "time_embedding.linear_1.weight": 1,
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": 2,
        "down_blocks.0.downsamplers.0.conv.weight": 3,
        "mid_block.resnets.0.conv1.weight": 13,
        "up_blocks.0.resnets.1.conv1.weight": 15,
        "up_blocks.0.upsamplers.0.conv.weight": 15,
        "conv_out.weight": 17,
    }.items():
        assert np.allclose(floats(merged, name), (1 + slot / 32) * floats(a, name), rtol=1e-6), name


def _doubled(tensor: LazyTensor) -> LazyTensor:
    return stored(tensor.dtype, tensor.shape, (2 * value(tensor)).numpy().tobytes())


@given(
    st.sampled_from(sorted(METHODS)),
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6) | st.none(),
    st.floats(0, 1, exclude_min=True),
    st.floats(0, 1, exclude_max=True),
)
@examples(40)
def test_whatever_the_numbers_the_result_is_finite_or_one_error_says_why(
    method: str, alpha: float, beta: float | None, density: float, drop: float
) -> None:
    takes = METHODS[method].options
    numbers = {"alpha": alpha, "beta": beta, "density": density, "drop": drop}
    chosen = {name: number for name, number in numbers.items() if name in takes}
    count = METHODS[method].models(3, beta="beta" in takes and beta is not None)
    states = [_of_query(checkpoint(seed)) for seed in range(1, count + 1)]
    sources = {"vae": 0} if method not in {"cosine-a", "cosine-b"} else {}
    merge = plan(*states, method=method, sources=sources, **chosen)
    try:
        merged = floats(merge.state, QUERY)
    except MergeProblem:
        return
    assert np.isfinite(merged).all()


def _of_query(state: StateDict) -> StateDict:
    """The checkpoint with all but one tensor merged away: its others are those of the first."""
    return checkpoint(1).overlay({QUERY: state[QUERY]})


@pytest.mark.parametrize("length", [1, 12, 17, 24, 27])
def test_a_list_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(BadValue, match=rf"26 \(25 without BASE\) block weights, not {length}"):
        plan(checkpoint(1), checkpoint(2), weights=Weights(0.5, {}, (0.5,) * length))


def test_sdxl_takes_its_shorter_list_too() -> None:
    a, b = pipelines.checkpoint("sdxl"), pipelines.checkpoint("sdxl")
    for length in (19, 20, 25, 26):
        assert plan(a, b, weights=Weights(0.5, {}, (0.5,) * length)).merged
    with pytest.raises(BadValue, match=r"20 .* or 26"):
        plan(a, b, weights=Weights(0.5, {}, (0.5,) * 17))


INPAINTING = replace(SMALL, in_channels=9)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_leaves_the_channels_that_only_an_inpainting_model_has(method: str) -> None:
    wide, plain = checkpoint(1, w=INPAINTING), [checkpoint(2), checkpoint(3)]
    plain = plain[: METHODS[method].least - 1]
    options = {
        "alpha": None if method == "average" else 0.5,
        "density": 0.5 if method == "ties" else None,
        "drop": 0.5 if method == "dare" else None,
    }
    merge = plan(wide, *plain, method=method, **options)
    narrow = wide.overlay({FIRST: cut(wide[FIRST], 4)})
    alone = plan(narrow, *plain, method=method, **options)
    found = floats(merge.state, FIRST)
    assert np.array_equal(found[:, 4:], floats(wide, FIRST)[:, 4:])
    assert np.array_equal(found[:, :4], floats(alone.state, FIRST))
    (warning,) = merge.warnings
    assert warning == (
        "A is inpainting and takes 9 input channels: the first 4 are merged, "
        "the other 5 stay as they are"
    )


def cut(tensor: LazyTensor, channels: int) -> LazyTensor:
    """The first input channels of a convolution."""
    kept = np.ascontiguousarray(value(tensor)[:, :channels].numpy())
    return stored(tensor.dtype, kept.shape, kept.tobytes())


def test_all_of_a_plain_model_is_put_into_the_first_channels_of_an_inpainting_model() -> None:
    wide, plain = checkpoint(1, w=INPAINTING), checkpoint(2)
    found = floats(plan(wide, plain, alpha=1.0).state, FIRST)
    assert np.array_equal(found[:, :4], floats(plain, FIRST))
    assert np.array_equal(found[:, 4:], floats(wide, FIRST)[:, 4:])


def test_the_model_with_more_input_channels_must_come_first() -> None:
    plain, inpainting = checkpoint(1), checkpoint(2, w=INPAINTING)
    for method, states in (("weighted-sum", ()), ("add-difference", (plain,))):
        with pytest.raises(MergeProblem, match=r"input_blocks\.0\.0\.weight has shape") as caught:
            plan(plain, inpainting, *states, method=method, alpha=0.5)
        assert caught.value.path == "b.safetensors"
        assert "more input channels as A" in str(caught.value.hint)


def test_models_of_other_families_are_refused_naming_the_file() -> None:
    with pytest.raises(WrongFamily, match=r"is SDXL, but a\.safetensors is SD1") as caught:
        plan(checkpoint(1), pipelines.checkpoint("sdxl"), alpha=0.5)
    assert caught.value.path == "b.safetensors"


def test_what_is_no_checkpoint_is_refused_naming_the_file() -> None:
    vae = state_dict(vae_shapes(SMALL))
    with pytest.raises(WrongFamily, match="of kind vae, not a checkpoint") as caught:
        plan(checkpoint(1), vae, alpha=0.5)
    assert caught.value.path == "b.safetensors"


def test_a_bare_unet_and_a_whole_checkpoint_are_told_to_have_no_names_in_common() -> None:
    bare = state_dict(unet_shapes(SMALL))
    with pytest.raises(WrongFamily, match="no tensor under a name of a"):
        plan(checkpoint(1), bare, alpha=0.5)


def test_two_bare_unets_are_merged() -> None:
    bare = state_dict(unet_shapes(SMALL))
    merge = plan(bare, StateDict(dict(bare.tensors)), weights=Weights(0.5))
    assert set(merge.merged) == set(bare)


def test_shapes_that_differ_are_refused_naming_key_and_file_before_anything_is_read() -> None:
    unread = state_dict(checkpoint_shapes(SMALL))
    odd = unread.overlay(state_dict({TEXT: (64, 12)}))
    with pytest.raises(MergeProblem, match=r"mlp\.fc1\.weight has shape \[64, 12\]") as caught:
        plan(unread, odd, alpha=0.5)
    assert caught.value.path == "b.safetensors"


def test_models_that_predict_different_things_are_warned_of() -> None:
    marked = pipelines.checkpoint("sdxl").overlay(state_dict({"v_pred": ()}))
    merge = plan(pipelines.checkpoint("sdxl"), marked, alpha=0.5)
    assert merge.warnings == ("the models predict different things: A epsilon, B v",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "the unet has no weight"),
        ({"alpha": float("nan")}, "at most 1,000,000 either way, not nan"),
        ({"alpha": -1e300}, "at most 1,000,000"),
        ({"alpha": 0.5, "beta": 1e300}, "at most 1,000,000"),
        ({"weights": Weights(0.5, {}, (float("inf"),) * 26)}, "at most 1,000,000"),
        ({"weights": Weights(0.5, {"clip": 1.0})}, "no component 'clip'"),
        ({"weights": Weights(0.5, {"vae": 1.0}), "sources": {"vae": 1}}, "comes from B as it is"),
        ({"weights": Weights(0.5, {"vae": 1.0}), "method": "cosine-a"}, "leaves the vae of A"),
        ({"weights": Weights(0.5, {"unet": 0.2}, (0.5,) * 26)}, "takes no other weight"),
        ({"alpha": 0.5, "density": 0.5}, "takes no --density"),
        ({"alpha": 0.5, "beta": 0.5}, "merges 3 models, not 2"),
        ({"alpha": 0.5, "method": "add-difference"}, "merges 3 models, not 2"),
        ({"alpha": 0.5, "method": "average"}, "takes no --alpha"),
        ({"alpha": 0.5, "method": "ties"}, "needs --density"),
        ({"alpha": 0.5, "method": "ties", "density": 0.0}, "above 0"),
        ({"alpha": 0.5, "method": "dare", "drop": 1.0}, "below 1"),
        ({"alpha": 0.5, "method": "dare", "drop": 0.5, "seed": -1}, "at least 0"),
        ({"alpha": 0.5, "sources": {"clip": 0}}, "no component 'clip'"),
        ({"alpha": 0.5, "sources": {"vae": 2}}, "from C, which is not given"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        plan(checkpoint(1), checkpoint(2), **options)


def test_a_model_without_a_part_in_the_merge_is_refused() -> None:
    states = checkpoint(1), checkpoint(2), checkpoint(3)
    with pytest.raises(BadValue, match="C has no part in it") as caught:
        plan(*states, alpha=0.5)
    assert caught.value.path == "c.safetensors"
    assert plan(*states, alpha=0.5, beta=0.2).merged
    assert plan(*states, alpha=0.5, sources={"vae": 2}).merged


def test_a_component_that_is_not_there_cannot_be_taken() -> None:
    without = checkpoint(2).select(lambda name: not name.startswith(VAE))
    with pytest.raises(UnsupportedFile, match="has no vae") as caught:
        plan(checkpoint(1), without, alpha=0.5, sources={"vae": 1})
    assert caught.value.path == "b.safetensors"


SIZES = st.lists(st.sampled_from([0, 1, 4, 32]), max_size=4).map(tuple)
NAMES = st.sampled_from([QUERY, FIRST, TEXT, DECODER, "betas", "other", f"{UNET}out.2.bias"])


@given(
    st.dictionaries(NAMES, SIZES, max_size=4),
    st.dictionaries(NAMES, SIZES, max_size=4),
    st.sampled_from([DType.F16, DType.I64, DType.F8_E4M3]),
    st.sampled_from(["weighted-sum", "slerp", "cosine-a"]),
)
@examples(30)
def test_whatever_shapes_come_the_plan_stands_or_one_error_says_why(
    ours: dict[str, tuple[int, ...]], theirs: dict[str, tuple[int, ...]], dtype: DType, method: str
) -> None:
    a = state_dict(checkpoint_shapes(SMALL)).overlay(state_dict(ours))
    b = state_dict(checkpoint_shapes(SMALL)).overlay(state_dict(theirs, dtype))
    try:
        merge = plan(a, b, method=method, alpha=0.5)
    except AssetmgrError:
        return
    assert merge.state.keys() == a.keys()
    assert all(merge.state[name].shape == a[name].shape for name in a)
