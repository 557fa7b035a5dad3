"""Lengths of vectors, against float64."""

from __future__ import annotations

import math

import pytest
import torch

from converters.norms import column_lengths, inner, length


def test_a_long_vector_loses_nothing_of_its_length() -> None:
    values = torch.full((3_000_001,), 0.3)
    values[::2] = -0.7
    exact = values.double()
    assert length(values) == pytest.approx(float(exact.norm()), rel=1e-6)
    assert inner(values, values + 1) == pytest.approx(float(exact @ (exact + 1)), rel=1e-6)


def test_columns_of_many_rows_lose_nothing_of_their_lengths() -> None:
    rows = torch.linspace(-1, 2, 60_000).reshape(-1, 3)
    assert torch.allclose(column_lengths(rows).double(), rows.double().norm(dim=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"), [([], 0.0), ([3.0, -4.0], 5.0), ([1.0, math.inf], math.inf)]
)
def test_short_vectors(values: list[float], expected: float) -> None:
    assert length(torch.tensor(values)) == expected


def test_what_is_no_number_has_no_length() -> None:
    assert math.isnan(length(torch.tensor([1.0, math.nan])))
