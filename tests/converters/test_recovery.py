"""Recipes out of samples: what was mixed comes back, and what was not is not claimed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st

from converters.dtypes import DType
from converters.recovery.explaining import explain
from converters.recovery.explanation import Certainty, Explanation
from converters.recovery.least_squares import Sampled
from converters.recovery.rounding import BF16, FP16, FP32, Grid, grid_of, rounded, steps

COUNT = 24_000
SLOTS = {f"IN{n:02}": place for n, place in enumerate(pairwise(range(0, COUNT + 1, COUNT // 6)))}
GRIDS = {"fp16": (DType.F16, FP16), "bf16": (DType.BF16, BF16), "fp32": (DType.F32, FP32)}
WHOLE = (Certainty.EXACT, Certainty.ROUNDING)

Values = np.ndarray


def noise(seed: int, scale: float) -> Values:
    return np.random.default_rng(seed).standard_normal(COUNT) * scale


def stored(values: Values, grid: Grid = FP16) -> Values:
    return rounded(np.asarray(values, np.float32), grid).astype(np.float32)


ORIGIN = noise(0, 0.05)
TUNED = [stored(ORIGIN + noise(n, 0.004)) for n in range(1, 9)]
"""Models that were all trained from the same one."""
DELTAS = [noise(100 + n, 0.001).astype(np.float32) for n in range(4)]
FIRST_DELTA = len(TUNED)


def found(
    target: Values,
    models: Sequence[Values] = TUNED,
    deltas: Sequence[Values] = DELTAS,
    dtype: DType = DType.F16,
) -> Explanation:
    return explain(
        Sampled(target, grid_of(target, dtype)),
        [Sampled(model, FP16) for model in models],
        [Sampled(delta) for delta in deltas],
        SLOTS,
    )


def recipe(explanation: Explanation) -> dict[int, float]:
    return {each.candidate: each.weight for each in explanation.ingredients}


@st.composite
def recipes(draw: st.DrawFn) -> dict[int, float]:
    """Up to four models whose weights add up to one, and up to three adapters."""
    models = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True))
    shares = [draw(st.integers(4, 20)) for _ in models]
    mixed = {model: share / sum(shares) for model, share in zip(models, shares, strict=True)}
    adapters = draw(st.lists(st.integers(0, 3), max_size=3, unique=True))
    strength = st.sampled_from([-0.6, -0.25, 0.3, 0.5, 0.85, 1.0, 1.4])
    return mixed | {FIRST_DELTA + adapter: draw(strength) for adapter in adapters}


@given(recipes(), st.sampled_from(list(GRIDS)))
@examples(25)
def test_any_mixture_comes_back_and_nothing_else_is_chosen(
    mixed: dict[int, float], precision: str
) -> None:
    dtype, grid = GRIDS[precision]
    everything = [*TUNED, *DELTAS]
    exact = sum(weight * everything[n].astype(np.float64) for n, weight in mixed.items())
    explanation = found(stored(exact, grid), dtype=dtype)
    assert explanation.certainty in WHOLE
    assert recipe(explanation).keys() == mixed.keys()
    for number, weight in mixed.items():
        tolerance = 0.004 if grid is BF16 else 5e-4
        assert recipe(explanation)[number] == pytest.approx(weight, abs=tolerance)
    if len(mixed) > 1:
        assert explanation.explained == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.3, 1.0, -0.5])
def test_a_difference_of_models_of_which_one_was_trained_from_the_other(alpha: float) -> None:
    later = stored(TUNED[1] + noise(50, 0.0006))
    target = stored(TUNED[0] + alpha * (later - TUNED[1]))
    explanation = found(target, [*TUNED, later])
    assert recipe(explanation) == pytest.approx({0: 1.0, 1: -alpha, 8: alpha}, abs=1e-3)
    assert explanation.certainty is Certainty.EXACT


def test_weights_of_blocks_are_told_where_one_weight_does_not_do() -> None:
    alphas = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]
    weight = np.repeat(alphas, COUNT // 6)
    explanation = found(stored((1 - weight) * TUNED[2] + weight * TUNED[5]))
    second = next(each for each in explanation.ingredients if each.candidate == 5)
    assert dict(second.blocks) == pytest.approx(dict(zip(SLOTS, alphas, strict=True)), abs=1e-3)
    assert len(explanation.ingredients) == 2
    assert explanation.certainty in WHOLE


def test_one_weight_everywhere_has_no_blocks() -> None:
    explanation = found(stored(0.7 * TUNED[2] + 0.3 * TUNED[5]))
    assert not any(each.blocks for each in explanation.ingredients)
    assert recipe(explanation) == {2: 0.7, 5: 0.3}  # moved to the plain numbers that were meant


def test_programs_that_merge_in_half_precision_leave_over_no_more_than_rounding() -> None:
    target = stored(stored(0.6 * TUNED[0]) + stored(0.4 * TUNED[3]))
    explanation = found(target)
    assert explanation.certainty is Certainty.ROUNDING
    assert recipe(explanation) == pytest.approx({0: 0.6, 3: 0.4}, abs=1e-3)


def test_a_model_trained_on_is_not_called_a_mixture() -> None:
    explanation = found(stored(TUNED[4] + noise(60, 0.001)))
    assert explanation.certainty is Certainty.NONE
    assert recipe(explanation) == {4: 1.0}
    assert explanation.explained == 0


def test_relatives_do_not_stand_for_an_ingredient_that_is_not_there() -> None:
    stranger = stored(ORIGIN + noise(70, 0.004))
    explanation = found(stored(0.6 * TUNED[0] + 0.4 * stranger))
    assert set(recipe(explanation)) == {0}
    assert 0.3 < explanation.unknown < 0.45
    assert explanation.certainty is Certainty.NONE


def test_a_known_part_is_told_beside_an_unknown_share() -> None:
    stranger = stored(ORIGIN + noise(70, 0.004))
    explanation = found(stored(0.5 * TUNED[0] + 0.3 * TUNED[1] + 0.2 * stranger))
    assert set(recipe(explanation)) == {0, 1}
    assert explanation.certainty is Certainty.PARTIAL
    assert explanation.explained is not None
    assert 0.7 < explanation.explained < 0.95
    assert explanation.unknown > 0.1


def test_two_models_and_an_adapter_that_is_not_there() -> None:
    target = stored(0.6 * TUNED[0] + 0.4 * TUNED[1] + noise(80, 0.001))
    explanation = found(target, TUNED[:2])
    assert recipe(explanation) == pytest.approx({0: 0.6, 1: 0.4}, abs=0.01)
    assert explanation.certainty is Certainty.PARTIAL


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_relatives_are_no_proof(count: int) -> None:
    stranger = stored(ORIGIN + noise(70, 0.004))
    explanation = found(stored(0.6 * TUNED[0] + 0.4 * stranger), TUNED[:count])
    assert set(recipe(explanation)) == {0}
    assert explanation.certainty is Certainty.NONE


def test_models_that_have_nothing_to_do_with_it_are_not_named() -> None:
    explanation = found(stored(noise(90, 0.05)))
    assert explanation.ingredients == ()
    assert explanation.certainty is Certainty.NONE


def test_without_candidates_nothing_is_known() -> None:
    assert found(TUNED[0], []).ingredients == ()


def test_models_that_are_the_same_but_for_rounding_are_named_together() -> None:
    finer = (ORIGIN + noise(1, 0.004)).astype(np.float32)
    models = [TUNED[1], stored(finer), finer, TUNED[2]]
    target = Sampled(stored(0.5 * finer + 0.5 * TUNED[1]), FP16)
    sampled = [Sampled(model, FP32 if model is finer else FP16) for model in models]
    explanation = explain(target, sampled, [], SLOTS)
    assert {each.candidate: each.same for each in explanation.ingredients} == {0: (), 2: (1,)}


def test_a_model_in_eight_bits_is_not_called_the_same_as_others() -> None:
    coarse = Grid("fp8_e4m3", 3, -6)
    models = [Sampled(TUNED[0], FP16), Sampled(stored(TUNED[3], coarse), coarse)]
    models += [Sampled(TUNED[1], FP16)]
    target = Sampled(stored(0.5 * TUNED[0] + 0.5 * TUNED[1]), FP16)
    explanation = explain(target, models, [], SLOTS)
    assert {each.candidate: each.same for each in explanation.ingredients} == {0: (), 2: ()}


def test_a_merge_in_the_library_is_a_rival_and_one_made_later_is_none() -> None:
    target = stored(0.3 * TUNED[0] + 0.7 * TUNED[3])
    other = stored(0.5 * TUNED[0] + 0.5 * TUNED[3])
    later = stored(0.5 * target + 0.5 * TUNED[6])
    explanation = found(target, [*TUNED, other, later], [])
    assert recipe(explanation) == {0: 0.3, 3: 0.7}
    assert [set(rival) for rival in explanation.rivals] == [{3, 8}]


def test_a_model_made_of_the_target_is_no_ingredient_for_its_rounding() -> None:
    target = stored(0.3 * TUNED[0] + 0.7 * TUNED[3])
    made = target.copy()  # the very rounding errors, but where something was merged into it
    made[: COUNT // 6] = stored(made[: COUNT // 6] + DELTAS[0][: COUNT // 6])
    explanation = found(target, [*TUNED, made], [])
    assert recipe(explanation) == {0: 0.3, 3: 0.7}
    assert explanation.certainty is Certainty.EXACT


def test_models_that_share_rounding_errors_are_not_taken_for_more_exact() -> None:
    target = stored(TUNED[0] + 0.5 * DELTAS[0])
    other = stored(target + DELTAS[1])
    other[: COUNT // 2] = target[: COUNT // 2]
    explanation = found(target, [*TUNED, other])
    assert recipe(explanation) == {0: 1.0, FIRST_DELTA + 1: 0.5}  # behind one model more


def test_an_adapter_of_small_weight_is_found_below_rounding() -> None:
    explanation = found(stored(TUNED[2] + 0.02 * DELTAS[1]))
    assert set(recipe(explanation)) == {2, FIRST_DELTA + 1}


def relatives(scale: float) -> list[Values]:
    """Eight models, each trained from one before, that differ by little more than rounding."""
    found = [stored(ORIGIN)]
    for number, parent in enumerate((0, 1, 2, 3, 0, 5, 1)):
        found.append(stored(found[parent] + noise(200 + number, scale)))
    return found


@pytest.mark.parametrize("scale", [1e-3, 1e-4])
@pytest.mark.parametrize(
    "mixed",
    [
        {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25},
        {1: 0.25, 5: 0.25, 6: 0.25, 7: 0.25},
        {1: 0.4, 3: 0.3, 6: 0.2, 7: 0.1},
        dict.fromkeys((0, 2, 3, 5, 6, 7), 1 / 6),
    ],
)
def test_an_average_of_close_relatives_comes_back(mixed: dict[int, float], scale: float) -> None:
    models = relatives(scale)
    target = stored(sum(weight * models[n].astype(np.float64) for n, weight in mixed.items()))
    explanation = found(target, models)
    assert recipe(explanation) == pytest.approx(mixed, abs=1e-8)
    assert explanation.certainty is Certainty.EXACT


@pytest.mark.parametrize("scale", [1e-3, 1e-4])
def test_merges_among_relatives_and_later_ones_do_not_stand_for_an_average(scale: float) -> None:
    models = relatives(scale)
    target = stored(sum(0.25 * models[n].astype(np.float64) for n in (1, 3, 5, 7)))
    models.append(stored(0.5 * models[1] + 0.5 * models[3]))
    models.append(stored(0.7 * target + 0.3 * models[2]))
    explanation = found(target, models)
    assert recipe(explanation) == dict.fromkeys((1, 3, 5, 7), 0.25)
    assert explanation.certainty is Certainty.EXACT


def test_an_average_that_lacks_one_of_close_relatives_is_not_called_exact() -> None:
    models = relatives(1e-4)
    target = stored(sum(0.25 * models[n].astype(np.float64) for n in (2, 4, 6, 7)))
    explanation = found(target, [model for n, model in enumerate(models) if n != 6])
    assert explanation.certainty is not Certainty.EXACT
    assert explanation.excess > 2


@pytest.mark.parametrize(("kind", "dtype"), [(np.float16, DType.F16), (np.float32, DType.F32)])
def test_steps_are_those_of_the_type(kind: type, dtype: DType) -> None:
    values = (
        np.random.default_rng(1).standard_normal(500) * 2.0 ** np.arange(-30, -5, 0.05)
    ).astype(kind)
    grid = {DType.F16: FP16, DType.F32: FP32}[dtype]
    assert np.array_equal(steps(values.astype(np.float32), grid), np.spacing(np.abs(values)))


@given(st.integers(0, 2**32 - 1))
@examples(20)
def test_rounding_to_half_precision_is_that_of_numpy(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal(300) * 2.0 ** random.integers(-20, 10, 300)
    assert np.array_equal(rounded(values, FP16), values.astype(np.float16))


def test_the_grid_is_that_of_the_values_not_of_their_file() -> None:
    values = noise(3, 0.05).astype(np.float32)
    assert grid_of(values, DType.F32) is FP32
    assert grid_of(stored(values, FP16), DType.F32) is FP16
    assert grid_of(stored(values, BF16), DType.F32) is BF16
    assert grid_of(stored(values, FP16), DType.F16) is FP16
