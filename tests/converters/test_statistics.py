"""What the numbers of tensors are like, against torch and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.sd1 import stored
from hypothesis import given
from hypothesis import strategies as st

import converters.statistics
from converters.compute import buffer
from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.statedict import LazyTensor
from converters.statistics import _e4m3_value, _joined, _of, statistics

DTYPES = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
    torch.float8_e5m2: DType.F8_E5M2,
    torch.float8_e4m3fn: DType.F8_E4M3,
    torch.int64: DType.I64,
    torch.int8: DType.I8,
    torch.uint8: DType.U8,
}


def lazy(tensor: torch.Tensor) -> LazyTensor:
    return stored(DTYPES[tensor.dtype], tuple(tensor.shape), bytes(buffer(tensor)), "t")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_is_seen_as_torch_sees_it(dtype: torch.dtype) -> None:
    values = (torch.arange(-60, 60) / (1 if not dtype.is_floating_point else 7)).to(dtype)
    found = statistics(lazy(values.reshape(10, 12)))
    wanted = values.to(torch.float64)
    assert found.numbers == 120
    assert (found.minimum, found.maximum) == (wanted.min().item(), wanted.max().item())
    assert found.mean == pytest.approx(wanted.mean().item())
    assert found.deviation == pytest.approx(wanted.std(correction=0).item())
    assert found.zeros == int((wanted == 0).sum())


def test_all_values_of_e4m3_are_those_of_torch() -> None:
    wanted = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn).to(torch.float64)
    for bits, value in enumerate(wanted.tolist()):
        assert _e4m3_value(bits) == value or math.isnan(value)


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    found = statistics(lazy(torch.tensor([1.0, math.inf, -math.inf, math.nan, 3.0])))
    assert (found.non_finite, found.minimum, found.maximum, found.mean) == (3, 1.0, 3.0, 2.0)
    assert statistics(lazy(torch.tensor([math.nan]))).mean is None
    assert statistics(lazy(torch.zeros(0))).numbers == 0


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.lists(st.floats(-1e6, 1e6), max_size=30))
def test_runs_joined_are_as_the_whole(one: list[float], other: list[float]) -> None:
    whole = _of(np.array(one + other))
    joined = _joined(_of(np.array(one)), _of(np.array(other)))
    assert joined.numbers == whole.numbers
    assert joined.zeros == whole.zeros
    assert (joined.minimum, joined.maximum) == (whole.minimum, whole.maximum)
    if whole.mean is not None:
        assert joined.mean == pytest.approx(whole.mean, abs=1e-6)
        assert joined.deviation == pytest.approx(whole.deviation, abs=1e-6)


def test_a_large_tensor_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converters.statistics, "PIECE", 7)
    found = statistics(lazy(torch.arange(100, dtype=torch.float32)))
    assert (found.numbers, found.mean, found.maximum) == (100, pytest.approx(49.5), 99.0)


def test_types_without_numbers_of_their_own_are_refused() -> None:
    with pytest.raises(UnsupportedFile):
        statistics(LazyTensor(DType.C64, (1,), lambda: b"\0" * 8, "t"))
