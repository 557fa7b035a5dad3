"""The numbers of merged checkpoints: types, scales, broken values, ranges, pieces and blocks."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.checkpoint_merges import (
    QUERY,
    TEXT,
    checkpoint,
    floats,
    plan,
)
from helpers.sd1 import (
    state_dict,
    stored,
)

from converters.dtypes import CODES, DType
from converters.errors import AssetmgrError, MergeProblem, UnsupportedFile
from converters.statedict import LazyTensor, StateDict

FLOATS = [dtype for dtype in DType if dtype.is_float]


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.label)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_every_type_is_merged_or_refused(alpha: float, dtype: DType) -> None:
    a = checkpoint(1).overlay({TEXT: _zeros(dtype)})
    if dtype in CODES:
        with pytest.raises(UnsupportedFile, match="quantised"):
            plan(a, checkpoint(2), alpha=alpha)
        return
    merged = plan(a, checkpoint(2), alpha=alpha).state[TEXT]
    assert (merged.dtype, merged.shape) == (dtype, (64, 768))
    assert memoryview(merged.read()).nbytes == merged.nbytes


def _zeros(dtype: DType) -> LazyTensor:
    shape = (64, 768)
    return stored(dtype, shape, b"\0" * dtype.nbytes(64 * 768))


def test_quantised_weights_are_refused() -> None:
    packed = checkpoint(1).overlay(state_dict({QUERY.replace("weight", "weight_scale"): ()}))
    with pytest.raises(UnsupportedFile, match="quantised"):
        plan(packed, checkpoint(2), alpha=0.5)


def _scaled(state: StateDict) -> StateDict:
    """The checkpoint with a scale of 2 beside one layer, as ComfyUI's scaled fp8 has them."""
    name = QUERY.replace("weight", "scale_weight")
    return state.overlay({name: stored(DType.F32, (), np.float32(2).tobytes())})


@pytest.mark.parametrize("scaled", [0, 1])
def test_weights_with_scales_are_merged_as_what_they_stand_for(scaled: int) -> None:
    states = [checkpoint(1), checkpoint(2)]
    expected = [floats(state, QUERY) for state in states]
    states[scaled], expected[scaled] = _scaled(states[scaled]), 2 * expected[scaled]
    merge = plan(*states, alpha=0.25, dtype=DType.F32)
    assert merge.state.keys() == checkpoint(1).keys()
    assert np.allclose(floats(merge.state, QUERY), 0.75 * expected[0] + 0.25 * expected[1])
    assert not any(report.missing or report.unused for report in merge.reports)


def test_only_scaled_weights_that_would_be_kept_need_the_type_of_the_result() -> None:
    scaled, other = _scaled(checkpoint(1)), checkpoint(2)
    assert plan(other, scaled, alpha=0.5).state[QUERY].dtype is DType.F16
    for models, options in (((scaled, other), {}), ((other, scaled), {"sources": {"vae": 1}})):
        with pytest.raises(UnsupportedFile, match="scale_weight: its weights are fp8") as caught:
            plan(*models, alpha=0.5, **options)
        assert "--dtype" in str(caught.value.hint)


def _filled(number: float, dtype: DType = DType.F32) -> dict[str, LazyTensor]:
    """A large tensor of one number under the name of a small one."""
    shape = checkpoint(1)[QUERY].shape
    data = np.full(shape, number, np.float16 if dtype is DType.F16 else np.float32)
    return {QUERY: stored(dtype, shape, data.tobytes())}


@pytest.mark.parametrize("method", ["cosine-a", "cosine-b"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_survey_names_the_value_that_was_broken_before(method: str, bad: float) -> None:
    merge = plan(checkpoint(1), checkpoint(2).overlay(_filled(bad)), method=method, alpha=0.5)
    with pytest.raises(MergeProblem, match=r"to_q\.weight holds NaN .* before") as caught:
        merge.state[TEXT].read()
    assert caught.value.path == "b.safetensors"


def test_lengths_that_leave_float32_are_not_alike() -> None:
    large = (checkpoint(n).overlay(_filled(number)) for n, number in ((1, 1e30), (2, 2e30)))
    merged = floats(plan(*large, method="cosine-a", alpha=0.5).state, QUERY)
    assert ((merged >= 1e30) & (merged <= 2e30)).all()


@pytest.mark.parametrize("dtype", [DType.F16, DType.F8_E4M3], ids=lambda dtype: dtype.label)
@pytest.mark.parametrize("others", [1e5, -9e5], ids=["alike", "other"])
def test_no_value_becomes_infinite_by_being_rounded(others: float, dtype: DType) -> None:
    a, b = checkpoint(1).overlay(_filled(1e5)), checkpoint(2).overlay(_filled(others))
    for method in ("weighted-sum", "average"):
        weight = 0.5 if method == "weighted-sum" else None
        with pytest.raises(AssetmgrError, match=rf"to_q\.weight.*{dtype.label}"):
            plan(a, b, method=method, alpha=weight, dtype=dtype).state[QUERY].read()
        merge = plan(a, b, method=method, alpha=weight, dtype=dtype, clamped=True)
        sign = 1 if others > 0 else -1
        assert (floats(merge.state, QUERY) == sign * dtype.largest).all()
        assert merge.log.casts.clamped == {QUERY: a[QUERY].numel}


@pytest.mark.parametrize("position", [0, 1])
def test_a_value_that_was_broken_before_is_named_with_its_file(position: int) -> None:
    shape = checkpoint(1)[QUERY].shape
    nan = stored(DType.F16, shape, np.full(shape, np.nan, np.float16).tobytes())
    states = [checkpoint(1), checkpoint(2)]
    states[position] = states[position].overlay({QUERY: nan})
    merge = plan(*states, alpha=0.5)
    with pytest.raises(MergeProblem, match=r"attn1\.to_q\.weight holds NaN .* before") as caught:
        merge.state[QUERY].read()
    assert caught.value.path == f"{'ab'[position]}.safetensors"


def test_a_result_out_of_range_is_refused_naming_the_tensor() -> None:
    merge = plan(checkpoint(1), checkpoint(2), alpha=1e6)
    with pytest.raises(MergeProblem, match=r"to_q\.weight leaves the range of F16"):
        merge.state[QUERY].read()


@pytest.mark.parametrize("method", ["weighted-sum", "slerp"])
def test_a_large_tensor_is_the_same_in_pieces_and_as_a_whole(method: str) -> None:
    count = (1 << 21) + 3
    shape = (1, count)
    numbers = [np.random.default_rng(n).standard_normal(shape).astype(np.float32) for n in (1, 2)]
    numbers[1][0, : 1 << 20] = numbers[0][0, : 1 << 20]
    a, b = (
        checkpoint(seed, DType.F32).overlay({TEXT: stored(DType.F32, shape, data.tobytes())})
        for seed, data in zip((1, 2), numbers, strict=True)
    )
    merge = plan(a, b, method=method, alpha=0.5)
    merged = merge.state[TEXT]
    pieces = b"".join(bytes(piece.read()) for piece in merged.pieces)
    assert len(merged.pieces) == (3 if method == "weighted-sum" else 0)
    assert pieces in {b"", bytes(merged.read())}
    assert merge.log.changed == {TEXT}
    if method == "weighted-sum":
        assert np.allclose(floats(merge.state, TEXT), (numbers[0] + numbers[1]) / 2, atol=1e-7)


def test_blocks_that_are_read_together_are_merged_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some of them are the same in both models, the last is shorter, another type comes out."""
    a, b = checkpoint(1), checkpoint(2)
    half = a[TEXT].numel // 2
    mixed = bytes(a[TEXT].read()[: 2 * half]) + bytes(b[TEXT].read()[2 * half :])
    b = b.overlay({TEXT: stored(DType.F16, a[TEXT].shape, mixed)})
    for dtype in (None, DType.F32):
        whole = bytes(plan(a, b, alpha=0.3, dtype=dtype).state[TEXT].read())
        with monkeypatch.context() as small:
            small.setattr("converters.merge.checkpoints.combining._BLOCK_ELEMENTS", 104)
            small.setattr("converters.merge.checkpoints.combining._BLOCKS_READ", 3)
            assert bytes(plan(a, b, alpha=0.3, dtype=dtype).state[TEXT].read()) == whole
