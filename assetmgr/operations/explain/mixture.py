"""The merge of models that an explained checkpoint is, as `merge checkpoints` is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assetmgr.operations.convert.change import DTYPES
from assetmgr.operations.explain.candidates import MODELS, Candidate
from assetmgr.operations.explain.explanation import Ingredient, Part, Recovery
from converters.containers import open_model
from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.layouts.components import TEXT_ENCODER, UNET
from converters.merge.blocks import LISTS
from converters.merge.checkpoints.choice import MergeChoice, Weights
from converters.statedict import StateDict

_CLOSE = 2e-3
"""How far weights of one recipe may be apart."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """The models of a merge in their order, A first, and what is done with them."""

    models: tuple[Candidate, ...]
    choice: MergeChoice


def mixture_of(recovery: Recovery) -> Mixture:
    """The merge of models in an explained checkpoint, adapters left aside.

    Raises UnsupportedFile with the reason where no recipe says it.
    """
    parts = {part.name: part for part in recovery.parts}
    for part in recovery.parts:
        _require_expressible(part)
    if UNET not in parts:
        raise UnsupportedFile("without a unet there is no recipe")
    form = _form(models_of(parts[UNET]))
    builder = _Builder(form)
    for part in recovery.parts:
        if part.name != UNET:
            builder.add(part)
    choice = builder.choice(recovery)
    if len(builder.models) < 2:
        raise UnsupportedFile("all of it is of one model; there is nothing to merge")
    if len({model.kind for model in builder.models}) > 1:
        raise UnsupportedFile("some models are a UNet alone; these are not merged with checkpoints")
    return Mixture(tuple(builder.models), choice)


def _require_expressible(part: Part) -> None:
    if not part.is_explained:
        raise UnsupportedFile(f"the {part.name} is not explained")
    for each in models_of(part):
        if each.candidate.kind not in MODELS:
            raise UnsupportedFile(f"the {part.name} is of a file that is no checkpoint")
        if each.component != part.name:
            raise UnsupportedFile(f"the {part.name} is made of averages ({each.component})")
        if each.candidate.path.is_dir():
            raise UnsupportedFile("recipes are of single files, not of pipelines")


def models_of(part: Part) -> list[Ingredient]:
    """What of a component is no adapter."""
    return [each for each in part.ingredients if not each.candidate.is_adapter]


@dataclass(frozen=True, slots=True)
class _Form:
    """A method, the models in its order, and how each one's weight follows from alpha.

    `steady` and `rising` give the weights as steady + alpha · rising. `blocks` has alpha by slot.
    """

    method: str
    models: tuple[Candidate, ...]
    alpha: float | None
    steady: tuple[float, ...]
    rising: tuple[float, ...]
    beta: float | None = None
    blocks: Mapping[str, float] | None = None


def _form(made_of: Sequence[Ingredient]) -> _Form:
    """The method for the ingredients of the UNet. Raises UnsupportedFile."""
    models = tuple(each.candidate for each in made_of)
    weights = [each.weight for each in made_of]
    blocks = made_of[-1].blocks or None
    if len(models) == 1:
        return _Form("weighted-sum", models, 0.0, (1.0,), (0.0,))
    if len(models) == 2:
        return _Form("weighted-sum", models, weights[1], (1, 0), (-1, 1), blocks=blocks)
    if len(models) == 3 and _is_difference(made_of):
        plus, minus = sorted(made_of[1:], key=lambda each: -each.weight)
        ordered = (made_of[0].candidate, plus.candidate, minus.candidate)
        own = plus.blocks or None
        return _Form("add-difference", ordered, plus.weight, (1, 0, 0), (0, 1, -1), blocks=own)
    if blocks is None and all(abs(w - 1 / len(models)) < _CLOSE for w in weights):
        even = (1 / len(models),) * len(models)
        return _Form("average", models, None, even, (0.0,) * len(models))
    if len(models) == 3 and blocks is None:
        beta = weights[2]
        return _Form("weighted-sum", models, weights[1], (1 - beta, 0, beta), (-1, 1, 0), beta=beta)
    raise UnsupportedFile(f"no method merges {len(models)} models with such weights")


def _is_difference(made_of: Sequence[Ingredient]) -> bool:
    """Whether the first is kept and the others are taken from each other, in every block."""
    first, *others = made_of
    if abs(first.weight - 1) > _CLOSE or abs(sum(each.weight for each in others)) > _CLOSE:
        return False
    return all(abs(weight - 1) <= _CLOSE for weight in first.blocks.values())


class _Builder:
    """The other components, fitted into the form of the UNet."""

    def __init__(self, form: _Form) -> None:
        self._form = form
        self.models = list(form.models)
        self._alphas: dict[str, float] = {}
        self._sources: dict[str, int] = {}

    def add(self, part: Part) -> None:
        """A component. Raises UnsupportedFile for one that the form cannot give."""
        word = TEXT_ENCODER if part.name not in (UNET, "vae") else part.name
        before = self._alphas.get(word), self._sources.get(word)
        alpha = self._alpha(part)
        if alpha is not None:
            self._alphas[word] = alpha
        else:
            self._sources[word] = self._source(part)
        after = self._alphas.get(word), self._sources.get(word)
        if before not in ((None, None), after):
            raise UnsupportedFile("the text encoders are made in different ways")

    def _alpha(self, part: Part) -> float | None:
        """The alpha by which the form makes a component; None where there is none."""
        made_of = models_of(part)
        groups = {each.candidate: n for n, each in enumerate(made_of)}
        groups |= {same: n for n, each in enumerate(made_of) for same in each.same}
        if not all(model in groups for model in self._form.models) or any(
            each.blocks for each in made_of
        ):
            return self._alpha_of_first(groups, made_of)
        steady, rising = ([0.0] * len(made_of) for _ in range(2))
        for model, base, slope in zip(
            self._form.models, self._form.steady, self._form.rising, strict=True
        ):
            steady[groups[model]] += base
            rising[groups[model]] += slope
        return _solved(steady, rising, [each.weight for each in made_of])

    def _alpha_of_first(
        self, groups: Mapping[Candidate, int], made_of: Sequence[Ingredient]
    ) -> float | None:
        only_first = len(made_of) == 1 and self._form.models[0] in groups
        return 0.0 if only_first and self._form.method != "average" else None

    def _source(self, part: Part) -> int:
        made_of = models_of(part)
        if len(made_of) > 1:
            raise UnsupportedFile(f"the {part.name} is made of other models than the unet")
        equals = (made_of[0].candidate, *made_of[0].same)
        for position, model in enumerate(self.models):
            if model in equals:
                return position
        self.models.append(made_of[0].candidate)
        return len(self.models) - 1

    def choice(self, recovery: Recovery) -> MergeChoice:
        """What is to be done with the models."""
        form = self._form
        listed = () if form.blocks is None else _block_list(recovery, form)
        alphas = {
            part: alpha
            for part, alpha in self._alphas.items()
            if listed or form.alpha is None or abs(alpha - form.alpha) > _CLOSE
        }
        if form.method == "average":
            alphas = {}
        default = None if listed or form.method == "average" else form.alpha
        weights = Weights(default, alphas, listed)
        dtype = _dtype(recovery, self.models[0])
        return MergeChoice(form.method, weights, form.beta, sources=self._sources, dtype=dtype)


def _solved(
    steady: Sequence[float], rising: Sequence[float], wanted: Sequence[float]
) -> float | None:
    """The alpha that gives the wanted weights; None where none does."""
    slope = sum(each * each for each in rising)
    missing = [w - s for w, s in zip(wanted, steady, strict=True)]
    alpha = sum(r * m for r, m in zip(rising, missing, strict=True)) / slope if slope else 0.0
    off = max(abs(m - alpha * r) for r, m in zip(rising, missing, strict=True))
    return round(alpha, 9) if off <= _CLOSE else None


def _block_list(recovery: Recovery, form: _Form) -> tuple[float, ...]:
    """Alpha for each block, without BASE; blocks that the model lacks get the mean."""
    blocks, base = form.blocks or {}, recovery.subject.identity.base
    slots = LISTS.get(base, ((),))[0][1:]
    if not slots or not blocks.keys() <= set(slots):
        raise UnsupportedFile(f"{base.label} has no list of block weights")
    return tuple(blocks.get(slot, form.alpha or 0.0) for slot in slots)


def _dtype(recovery: Recovery, first: Candidate) -> DType | None:
    """The precision to ask for; None where the first model has it already."""
    ours = _main_dtype(recovery.subject.state)
    theirs = _main_dtype(open_model(first.path).state_dict)
    return None if ours is theirs or ours not in DTYPES.values() else ours


def _main_dtype(state: StateDict) -> DType | None:
    sizes: dict[DType, int] = {}
    for tensor in state.values():
        if tensor.dtype.is_float:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel
    return max(sizes, key=sizes.__getitem__, default=None)
