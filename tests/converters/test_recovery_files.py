"""Recipes out of files: what is read of them, in which layouts, and adapters on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from helpers import pipelines, sd1
from helpers.sd1 import stored

from converters.adapters.targets import module_targets
from converters.bases import Base
from converters.dtypes import DType
from converters.identify import Kind
from converters.layouts.pipeline import to_components
from converters.merge import AdapterChoice, plan_merge
from converters.merge.blocks import LISTS
from converters.recovery.agreement import agreed
from converters.recovery.deltas import changes_of, delta_of
from converters.recovery.explanation import Certainty
from converters.recovery.inquiry import VALUES, Answer, ask
from converters.recovery.parts import explained_parts, joined, parts_of, slots_of
from converters.recovery.readings import Readings, Source
from converters.recovery.sampling import choose_sample, read_sample
from converters.statedict import LazyTensor, StateDict

WHOLE = (Certainty.EXACT, Certainty.ROUNDING)


def tuned(base: StateDict, seed: int, *, only: str = "") -> StateDict:
    """What training might make of a checkpoint: a small change of every weight."""

    def change(name: str, tensor: LazyTensor) -> LazyTensor:
        if not name.startswith(only) or tensor.dtype is not DType.F16:
            return tensor
        random = np.random.default_rng([seed, *name.encode()])
        values = np.frombuffer(tensor.read(), np.float16).astype(np.float32)
        values += random.standard_normal(tensor.numel, np.float32) * np.float32(0.004)
        return stored(DType.F16, tensor.shape, values.astype(np.float16).tobytes(), name)

    return base.map(change)


def mixed(weights: Mapping[float, StateDict]) -> StateDict:
    """The weighted sum of checkpoints, in half precision."""

    def mix(name: str, tensor: LazyTensor) -> LazyTensor:
        if tensor.dtype is not DType.F16:
            return tensor
        whole = sum(
            weight * np.frombuffer(state[name].read(), np.float16).astype(np.float64)
            for weight, state in weights.items()
        )
        return stored(DType.F16, tensor.shape, whole.astype(np.float16).tobytes(), name)

    return next(iter(weights.values())).map(mix)


def lora(seed: int, *, convolutions: bool = True) -> StateDict:
    """A LoRA of some layers of SD1's UNet and text encoder."""
    modules = sd1.kohya_modules(sd1.SMALL, convolutions=convolutions)
    shapes = sd1.lora_shapes({**modules, **sd1.kohya_text_modules(sd1.SMALL)})
    named = {f"{seed}:{name}": shape for name, shape in shapes.items()}
    state = sd1.state_dict(named, fill=sd1.random_fill())
    alpha = stored(DType.F16, (), np.float16(4).tobytes(), "alpha")
    return state.rename(lambda name: name.partition(":")[2]).map(
        lambda name, tensor: alpha if name.endswith(".alpha") else tensor
    )


@pytest.fixture(scope="module", name="models")
def _models() -> list[StateDict]:
    base = pipelines.checkpoint("sd-1")
    return [tuned(base, seed, only=sd1.UNET) for seed in range(4)]


def readings(target: StateDict, *models: StateDict) -> Readings:
    """An inquiry into a checkpoint; a pipeline's state is a checkpoint too."""
    parts = [parts_of(model, Kind.CHECKPOINT) for model in (target, *models)]
    return Readings(parts[0], parts[1:])


def weights(answer: Answer) -> dict[Source, float]:
    return {answer.sources[each.candidate]: each.weight for each in answer.explanation.ingredients}


def test_the_second_encoder_of_sdxl_is_explained_whose_matrices_are_fused() -> None:
    second = "conditioner.embedders.1."
    base = pipelines.checkpoint("sdxl").select(lambda name: name.startswith(second))
    models = [base, tuned(base, 1)]
    looked = readings(mixed({0.75: models[0], 0.25: models[1]}), *models)
    assert explained_parts(looked.parts) == ("text_encoder_2",)
    answer = ask(looked, "text_encoder_2")
    assert weights(answer) == {Source(0, "text_encoder_2"): 0.75, Source(1, "text_encoder_2"): 0.25}
    assert answer.explanation.certainty is Certainty.EXACT


def _with_rival_first(answer: Answer) -> Answer:
    """The answer as it is where rounding favours its rival."""
    told = answer.explanation
    (rival,) = told.rivals
    own = {each.candidate: each.weight for each in told.ingredients}
    pairs = zip(told.ingredients, rival.items(), strict=True)
    other = (replace(each, candidate=number, weight=weight) for each, (number, weight) in pairs)
    return replace(answer, explanation=replace(told, ingredients=tuple(other), rivals=(own,)))


def test_all_components_are_told_of_the_same_models_where_these_explain_them() -> None:
    """A merge in the library is as good for the UNet, and has one model's VAE, the other's text."""
    base = pipelines.checkpoint("sd-1")
    a, b = tuned(base, 1), tuned(base, 2)
    unets = mixed({0.9: a, 0.1: b}).select(lambda name: name.startswith(sd1.UNET))
    of_b = b.select(lambda name: name.startswith(sd1.VAE))
    other = a.overlay(of_b).overlay(unets)
    looked = readings(mixed({0.6: a, 0.4: b}), other, a, b)
    names = explained_parts(looked.parts)
    alone = {name: ask(looked, name) for name in names}
    alone["unet"] = _with_rival_first(alone["unet"])
    assert {source.number for source in weights(alone["unet"])} == {0, 2}
    found = agreed(looked, alone)
    assert {source.number for answer in found.values() for source in weights(answer)} == {1, 2}
    assert all(answer.explanation.certainty in WHOLE for answer in found.values())
    assert agreed(looked, found) is found


def test_a_pipeline_is_a_candidate_as_its_single_file_is(models: list[StateDict]) -> None:
    parts = to_components(models[1], Base.SD1).parts
    pipeline = StateDict(
        {f"{name}.{n}": tensor for name, part in parts.items() for n, tensor in part.items()}
    )
    looked = readings(mixed({0.6: models[0], 0.4: models[1]}), models[0], pipeline)
    answer = ask(looked, "unet")
    assert weights(answer) == {Source(0, "unet"): 0.6, Source(1, "unet"): 0.4}


def test_averages_of_a_unet_are_a_candidate_of_their_own(models: list[StateDict]) -> None:
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor
        for name, tensor in models[3].items()
        if name.startswith(sd1.UNET)
    }
    looked = readings(mixed({0.5: models[0], 0.5000001: models[3]}), models[0].overlay(averages))
    assert weights(ask(looked, "unet")) == {
        Source(0, "unet"): pytest.approx(0.5, abs=1e-3),
        Source(0, "unet_ema"): pytest.approx(0.5, abs=1e-3),
    }


@pytest.mark.parametrize("strengths", [((1, 0.8),), ((0, 1.0), (2, -0.4)), ((2, 0.05),)])
def test_adapters_in_a_checkpoint_are_found_with_their_weights(
    strengths: tuple[tuple[int, float], ...], models: list[StateDict]
) -> None:
    loras = [lora(seed) for seed in range(3)]
    choices = [
        AdapterChoice(f"{number}", loras[number], weight, weight / 2)
        for number, weight in strengths
    ]
    base = mixed({0.7: models[0], 0.3: models[1]})
    looked = readings(plan_merge(base, choices).state_dict, *models)
    before = ask(looked, "unet")
    assert before.wants_adapters
    looked.look_at(loras)
    for name, factor in (("unet", 1.0), ("text_encoder", 0.5)):
        answer = ask(looked, name)
        assert answer.explanation.certainty in WHOLE
        adapters = {s.number: w for s, w in weights(answer).items() if s.is_adapter}
        expected = {number: factor * weight for number, weight in strengths}
        assert adapters == pytest.approx(expected, abs=0.01)


def test_an_adapter_that_no_layer_has_is_left_out_with_its_reason(models: list[StateDict]) -> None:
    looked = readings(models[0], models[1])
    strange = sd1.state_dict(sd1.lora_shapes({"lora_unet_nowhere": (8, 8)}))
    ia3 = sd1.state_dict({"lora_unet_down_blocks_0_attentions_0_proj_in.weight": (32,)})
    looked.look_at([strange, ia3])
    assert looked.changes == {}
    assert len(looked.left_out) == 2


def test_the_rows_of_a_change_are_those_of_the_whole_change(models: list[StateDict]) -> None:
    parts = parts_of(models[0], Kind.CHECKPOINT)
    whole = joined(parts)
    changes = changes_of(lora(1), module_targets(whole))
    merged = plan_merge(models[0], [AdapterChoice("", lora(1))]).state_dict
    after = parts_of(merged, Kind.CHECKPOINT)
    for name in ("unet", "text_encoder"):
        sample = choose_sample(parts[name], {}, 100_000)
        delta = delta_of(changes, name, parts, sample)
        change = read_sample(after[name], sample) - read_sample(parts[name], sample)
        assert delta is not None
        assert np.allclose(delta, change, atol=1e-3)
        assert np.count_nonzero(delta) > 1000


def test_models_with_other_shapes_are_left_out(models: list[StateDict]) -> None:
    looked = readings(models[0], models[1], pipelines.checkpoint("sd-2"))
    answer = ask(looked, "unet")
    assert {source.number for source in answer.sources} == {0}
    assert "shapes" in looked.left_out[Source(1, "unet")]


def test_a_model_with_broken_numbers_is_left_out(models: list[StateDict]) -> None:
    name = f"{sd1.UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    shape = models[1][name].shape
    broken = stored(DType.F16, shape, np.full(shape, np.nan, np.float16).tobytes(), name)
    looked = readings(models[0], models[1].overlay({name: broken}), models[2])
    answer = ask(looked, "unet")
    assert {source.number for source in answer.sources} == {1}
    assert "NaN" in looked.left_out[Source(0, "unet")]


def test_many_candidates_are_first_compared_on_a_coarse_sample(
    models: list[StateDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converters.recovery.inquiry.FEW", 2)
    looked = readings(mixed({0.6: models[1], 0.4: models[3]}), *models)
    looked.look_at([lora(seed) for seed in range(3)])
    answer = ask(looked, "unet")
    assert weights(answer) == {Source(1, "unet"): 0.6, Source(3, "unet"): 0.4}
    assert len([source for source in answer.sources if not source.is_adapter]) == 2


@pytest.mark.parametrize(("family", "shapes"), [
    (Base.SD1, sd1.checkpoint_shapes), (Base.SDXL, pipelines.true_sdxl),
])  # fmt: skip
def test_of_a_real_model_a_few_megabytes_are_read(family: Base, shapes: object) -> None:
    assert callable(shapes)
    parts = parts_of(sd1.state_dict(shapes()), Kind.CHECKPOINT)
    unet = parts["unet"]
    sample = choose_sample(unet, slots_of("unet", unet), VALUES["unet"])
    assert sample.numel < 4 * VALUES["unet"]
    assert set(sample.bounds) == set(LISTS[family][0][1:])
    sizes = [stop - start for start, stop in sample.bounds.values()]
    assert min(sizes) > 10_000
    assert sum(run.numel for run in sample.thinned(6).runs) < sample.numel / 3
