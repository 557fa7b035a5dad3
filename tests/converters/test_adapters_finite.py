"""Finding values that are no numbers."""

from __future__ import annotations

import pytest
import torch

from converters.adapters.finite import all_finite, clamp
from converters.compute import torch_dtype
from converters.dtypes import DType


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_value_is_found(bad: float) -> None:
    tensor = torch.ones(3, 4)
    assert all_finite(tensor)
    tensor[1, 2] = bad
    assert not all_finite(tensor)


NARROW = [DType.F16, DType.BF16, DType.F8_E5M2, DType.F8_E4M3]


@pytest.mark.parametrize("dtype", NARROW, ids=lambda dtype: dtype.label)
def test_values_that_the_target_type_cannot_hold_are_found(dtype: DType) -> None:
    limit = torch.finfo(torch_dtype(dtype)).max
    assert all_finite(torch.tensor([0.0, limit]), dtype)
    assert not all_finite(torch.tensor([0.0, -2.0 * limit], dtype=torch.float64), dtype)


def test_halves_that_round_down_to_the_largest_one_are_still_numbers() -> None:
    assert all_finite(torch.tensor([65519.0]), DType.F16)
    assert not all_finite(torch.tensor([65520.0]), DType.F16)


@pytest.mark.parametrize("dtype", [DType.F16, DType.F8_E4M3], ids=lambda dtype: dtype.label)
def test_what_is_too_large_is_clamped_and_counted(dtype: DType) -> None:
    values = torch.tensor([1.0, dtype.overflow, -3e38, dtype.largest])
    assert clamp(values, dtype) == 2
    assert values.tolist() == [1.0, dtype.largest, -dtype.largest, dtype.largest]


def test_what_is_no_number_is_not_clamped() -> None:
    values = torch.tensor([1e9, float("nan")])
    assert clamp(values, DType.F16) is None
    assert values[0] == 1e9


def test_nothing_is_finite() -> None:
    assert all_finite(torch.empty(0))
