"""The formulas of merging, against plain numpy and sd-mecha (where installed), and their laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from converters.merge.checkpoints import METHODS
from converters.merge.checkpoints.dare import kept
from converters.merge.checkpoints.method import Numbers

Array = np.ndarray
SHAPES = st.sampled_from([(), (1,), (7,), (4, 6), (3, 5, 1, 1), (4, 3, 3, 3)])
ALPHAS = st.floats(-1, 2, width=32)


@st.composite
def tensors(draw: st.DrawFn, count: int) -> list[Array]:
    """`count` arrays of one shape."""
    shape = draw(SHAPES)
    numbers = st.integers(-64, 64).map(lambda n: n / 32)
    return [draw(arrays.arrays(np.float64, shape, elements=numbers)) for _ in range(count)]


def merged(method: str, models: list[Array], **numbers: Any) -> Array:
    given_ = [torch.from_numpy(np.asarray(model)).float() for model in models]
    result = METHODS[method].combine(given_, Numbers(**numbers))
    assert result.dtype is torch.float32
    assert result.shape == models[0].shape
    return result.numpy().astype(np.float64)


def near(found: Array, expected: Array) -> bool:
    scale = 1 + np.abs(expected).max(initial=0)
    return bool(np.abs(found - expected).max(initial=0) <= 1e-5 * scale)


@given(tensors(3), ALPHAS, ALPHAS)
@examples(30)
def test_weighted_sum(models: list[Array], alpha: float, beta: float) -> None:
    a, b, c = models
    assert near(merged("weighted-sum", [a, b], alpha=alpha), (1 - alpha) * a + alpha * b)
    expected = (1 - alpha - beta) * a + alpha * b + beta * c
    assert near(merged("weighted-sum", models, alpha=alpha, beta=beta), expected)


@given(tensors(3), ALPHAS)
@examples(30)
def test_add_difference(models: list[Array], alpha: float) -> None:
    a, b, c = models
    assert near(merged("add-difference", models, alpha=alpha), a + alpha * (b - c))


@given(tensors(3), ALPHAS)
@examples(30)
def test_train_difference(models: list[Array], alpha: float) -> None:
    a, b, c = models
    expected = a.copy()
    for index in np.ndindex(a.shape):
        toward, learned = abs(b[index] - a[index]), b[index] - c[index]
        if toward + abs(learned):
            expected[index] += 1.8 * alpha * toward / (toward + abs(learned)) * learned
    assert near(merged("train-difference", models, alpha=alpha), expected)


@given(tensors(2), st.floats(0, 1, width=32))
@examples(40)
def test_slerp(models: list[Array], alpha: float) -> None:
    a, b = (model.reshape(-1) for model in models)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    assume(min(lengths) > 0.1)
    cosine = a @ b / (lengths[0] * lengths[1])
    omega = np.arccos(np.clip(cosine, -1, 1))
    assume(np.sin(omega) > 0.01)
    arc = np.sin((1 - alpha) * omega) * a / lengths[0] + np.sin(alpha * omega) * b / lengths[1]
    expected = ((1 - alpha) * lengths[0] + alpha * lengths[1]) * arc / np.sin(omega)
    found = merged("slerp", models, alpha=alpha).reshape(-1)
    assert np.abs(found - expected).max() <= 1e-4 * (1 + np.abs(expected).max())


@pytest.mark.parametrize("factor", [1.0, 2.0, 1 + 1e-5, -1.0, 0.0])
def test_slerp_of_what_points_the_same_or_the_opposite_way_is_the_line(factor: float) -> None:
    a = np.random.default_rng(0).standard_normal((8, 8))
    assert near(merged("slerp", [a, factor * a], alpha=0.3), 0.7 * a + 0.3 * factor * a)


def test_slerp_keeps_the_length_of_models_of_one_length() -> None:
    a, b = np.eye(2)
    halfway = merged("slerp", [a, b], alpha=0.5)
    assert np.allclose(halfway, np.sqrt(0.5), atol=1e-6)


@given(tensors(4), ALPHAS, st.floats(0.05, 1))
@examples(40)
def test_ties(models: list[Array], alpha: float, density: float) -> None:
    base, *others = models
    deltas = [other - base for other in others]
    trimmed = []
    for delta in deltas:
        sizes = np.sort(np.abs(delta).reshape(-1))[::-1]
        least = sizes[int(np.ceil(density * sizes.size)) - 1]
        trimmed.append(np.where(np.abs(delta) >= least, delta, 0))
    elected = np.sign(sum(trimmed))
    expected = base.copy()
    for index in np.ndindex(base.shape):
        agreed = [t[index] for t in trimmed if np.sign(t[index]) == elected[index] != 0]
        if agreed:
            expected[index] += alpha * np.mean(agreed)
    assert near(merged("ties", models, alpha=alpha, density=density), expected)


def test_ties_keeps_the_share_of_the_largest_differences() -> None:
    base = np.zeros(10)
    other = np.arange(1.0, 11.0) * np.where(np.arange(10) % 2, -1, 1)
    found = merged("ties", [base, other], alpha=1.0, density=0.3)
    assert np.flatnonzero(found).tolist() == [7, 8, 9]


@given(tensors(3), ALPHAS, st.floats(0, 0.95), st.integers(0, 2**40))
@examples(30)
def test_dare(models: list[Array], alpha: float, drop: float, seed: int) -> None:
    numbers = Numbers(alpha=alpha, drop=drop, seed=seed, name="x")
    expected = models[0].copy()
    for position in (1, 2):
        mask = kept(numbers, position, expected.size).reshape(expected.shape)
        expected = expected + alpha / (1 - drop) * mask * (models[position] - models[0])
    found = merged("dare", models, alpha=alpha, drop=drop, seed=seed, name="x")
    assert near(found, expected)


def test_dare_drops_the_share_it_is_told_and_keeps_the_expectation() -> None:
    for drop in (0.0, 0.25, 0.9):
        mask = kept(Numbers(drop=drop, seed=5, name="weight"), 1, 200_000)
        assert abs(mask.mean() - (1 - drop)) < 0.005
    zeros, ones = np.zeros(200_000), np.ones(200_000)
    assert abs(merged("dare", [zeros, ones], alpha=1.0, drop=0.5).mean() - 1) < 0.01


def test_what_dare_drops_depends_on_seed_model_and_tensor_alone() -> None:
    masks = {
        kept(Numbers(drop=0.5, seed=seed, name=name), position, 64).tobytes()
        for seed in (0, 1)
        for name in ("a", "b")
        for position in (1, 2)
    }
    assert len(masks) == 8
    numbers = Numbers(drop=0.5, seed=1, name="a")
    assert kept(numbers, 1, 64).tobytes() in masks
    assert np.array_equal(kept(numbers, 1, 64), kept(numbers, 1, 99)[:64])
    # Fixed for ever: a recipe must give the same file in every version.
    assert np.packbits(kept(numbers, 1, 16)).tolist() == FIRST_MASK


FIRST_MASK = [59, 130]


@given(tensors(3), ALPHAS)
@examples(30)
def test_perpendicular(models: list[Array], alpha: float) -> None:
    a, b, c = models
    ours, theirs = a - c, b - c
    square = (ours * ours).sum()
    part = theirs - ours * ((ours * theirs).sum() / square if square else 0)
    found = merged("perpendicular", models, alpha=alpha)
    assert near(found, a + alpha * part)
    added = found - a
    assert abs((added * ours).sum()) <= 1e-3 * (1 + np.abs(ours).sum() * np.abs(theirs).sum())


@given(tensors(4))
@examples(30)
def test_average(models: list[Array]) -> None:
    assert near(merged("average", models), np.mean(models, axis=0))


def _cosines(a: Array, b: Array) -> Array:
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return (a * b).sum(axis=0) / np.maximum(lengths, 1e-12)


def _whole(a: Array, b: Array) -> float:
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def _unit(a: Array) -> Array:
    return np.atleast_1d(a) / np.maximum(np.linalg.norm(np.atleast_1d(a), axis=0), 1e-12)


@given(tensors(2), st.floats(0, 1, width=32))
@examples(60)
def test_cosine_a_and_b(models: list[Array], alpha: float) -> None:
    a, b = models
    similar = {
        "cosine-a": (_cosines(a, b) + _whole(_unit(a), _unit(b))) / 2,
        "cosine-b": (_cosines(a, b) + _whole(a, b)) / 2,
    }
    for method, similarity in similar.items():
        k = np.clip((similarity + 0.5) / 1.25 - alpha, 0, 1)
        expected = (np.atleast_1d(a) * k + np.atleast_1d(b) * (1 - k)).reshape(a.shape)
        assert near(merged(method, models, alpha=alpha, spread=(-0.5, 0.75)), expected)
    # Variant A takes the size of a weight alone, as its source does.
    positive, negative = (
        merged("cosine-a", models, alpha=each, spread=(-0.5, 0.75)) for each in (alpha, -alpha)
    )
    assert np.array_equal(positive, negative)


def test_cosine_surveys_all_similarities_but_the_outermost() -> None:
    generator = np.random.default_rng(1)
    pairs = [generator.standard_normal((2, 6, 40)) for _ in range(5)]
    everything = np.sort(np.concatenate([_cosines(a, b) for a, b in pairs]))
    survey = METHODS["cosine-a"].survey
    assert survey is not None
    found = survey([torch.from_numpy(pair).float() for pair in pairs])
    low = np.percentile(everything, 1, method="midpoint")
    inner = everything[everything >= low]
    inner = inner[inner <= np.percentile(inner, 99, method="midpoint")]
    assert np.allclose(found, (inner.min(), inner.max()), atol=1e-6)


def test_a_method_that_has_nothing_to_survey_still_answers() -> None:
    survey = METHODS["cosine-b"].survey
    assert survey is not None
    assert survey([]) == (0.0, 0.0)


@given(tensors(2), st.floats(0, 1, width=32))
@examples(40)
def test_the_symmetric_methods_are_symmetric(models: list[Array], alpha: float) -> None:
    a, b = models
    for method in ("weighted-sum", "slerp"):
        forth = merged(method, [a, b], alpha=alpha)
        assert near(merged(method, [b, a], alpha=1 - alpha), forth)
    assert near(merged("average", [b, a]), merged("average", [a, b]))
    third = np.zeros_like(a)
    options = {"alpha": alpha, "density": 0.5}
    forth = merged("ties", [third, a, b], **options)
    assert near(merged("ties", [third, b, a], **options), forth)


@given(tensors(3))
@examples(30)
def test_the_ends_of_every_method(models: list[Array]) -> None:
    a, b, c = models
    for method in ("add-difference", "train-difference", "perpendicular"):
        assert near(merged(method, models, alpha=0.0), a)
        assert near(merged(method, [a, b, b], alpha=1.7), a)
    assert near(merged("add-difference", [c, b, c], alpha=1.0), b)
    for method in ("ties", "dare"):
        assert near(merged(method, models, alpha=0.0), a)
        assert near(merged(method, [a, b], alpha=1.0), b), "nothing trimmed, nothing dropped"


Oracle = Callable[..., torch.Tensor]


def _oracle(name: str) -> Oracle:
    sd_mecha = pytest.importorskip("sd_mecha")
    wrapped: Oracle = getattr(sd_mecha, name).__wrapped__
    return wrapped


def _random(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(12, 8, 3, 3, generator=generator) for _ in range(count)]


def _ours(method: str, models: list[torch.Tensor], **numbers: Any) -> torch.Tensor:
    return METHODS[method].combine(models, Numbers(**numbers))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::SyntaxWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sd_mecha_agrees() -> None:
    a, b, c = _random(3)
    alpha = torch.tensor(0.3)
    pairs = [
        (_ours("slerp", [a, b], alpha=0.3), _oracle("slerp")(a, b, alpha=alpha)),
        (
            _ours("train-difference", [a, b, c], alpha=0.3),
            a + _oracle("train_difference_mask")(a, b, c, alpha=alpha) * (b - c),
        ),
        (
            _ours("perpendicular", [a, b, c], alpha=0.3),
            a + 0.3 * _oracle("perpendicular_component")(a - c, b - c),
        ),
        (
            _ours("ties", [a, b, c], alpha=0.3),
            a + 0.3 * _oracle("ties_sum")(b - a, c - a, k=1.0, vote_sgn=True),
        ),
        (
            _ours("cosine-b", [a, b], alpha=0.3, spread=(0.0, 1.0)),
            _oracle("add_cosine_b")(a, b, alpha=alpha),
        ),
    ]
    for ours, theirs in pairs:
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
