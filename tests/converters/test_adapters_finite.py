"""Finding values that are no numbers."""

from __future__ import annotations

import pytest
import torch

from converters.adapters.finite import all_finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_value_is_found(bad: float) -> None:
    tensor = torch.ones(3, 4)
    assert all_finite(tensor)
    tensor[1, 2] = bad
    assert not all_finite(tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_values_that_the_target_type_cannot_hold_are_found(dtype: torch.dtype) -> None:
    limit = torch.finfo(dtype).max
    assert all_finite(torch.tensor([0.0, limit]), torch.zeros(1).to(dtype))
    assert not all_finite(
        torch.tensor([0.0, -2.0 * limit], dtype=torch.float64), torch.zeros(1).to(dtype)
    )


def test_halves_that_round_down_to_the_largest_one_are_still_numbers() -> None:
    assert all_finite(torch.tensor([65519.0]), torch.zeros(1).half())
    assert not all_finite(torch.tensor([65520.0]), torch.zeros(1).half())


def test_nothing_is_finite() -> None:
    assert all_finite(torch.empty(0))
