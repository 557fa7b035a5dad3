"""The recipe that makes an explained checkpoint again, and the commands that do what it cannot."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.change import DTYPES
from assetmgr.operations.derive import parent_of
from assetmgr.operations.explain import Ingredient, Part, Recovery
from assetmgr.operations.explain_candidates import MODELS, Candidate
from assetmgr.operations.explain_report import Making
from assetmgr.operations.merge_recipe import Recipe, parameters, recipe_text
from converters.bases import Base
from converters.containers import open_model
from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.layouts.components import TEXT_ENCODER, UNET
from converters.merge.blocks import LISTS
from converters.merge.checkpoints.choice import LABELS, MergeChoice, Weights
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.writers.atomic import refuse_existing, write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

_CLOSE = 2e-3
"""How far weights of one recipe may be apart."""
_RESULT = "merged.safetensors"


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
    form = _form(_models(parts[UNET]))
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
    for each in _models(part):
        if each.candidate.kind not in MODELS:
            raise UnsupportedFile(f"the {part.name} is of a file that is no checkpoint")
        if each.component != part.name:
            raise UnsupportedFile(f"the {part.name} is made of averages ({each.component})")
        if each.candidate.path.is_dir():
            raise UnsupportedFile("recipes are of single files, not of pipelines")


def _models(part: Part) -> list[Ingredient]:
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
        made_of = _models(part)
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
        made_of = _models(part)
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


def making_of(
    workspace: Workspace, recovery: Recovery, progress: Progress = SILENT, *, pinned: bool = False
) -> Making:
    """How to make the checkpoint again.

    The recipe needs the hashes of its models: with `pinned` those that the library does not know
    are read for them, else it has none.
    """
    commands = commands_of(recovery)
    try:
        return Making(_recipe(workspace, recovery, progress, pinned=pinned), None, commands)
    except UnsupportedFile as error:
        return Making(None, error.cause, commands)


def _recipe(workspace: Workspace, recovery: Recovery, progress: Progress, *, pinned: bool) -> str:
    """The recipe as text. Raises UnsupportedFile with the reason where there is none."""
    if any(each.candidate.is_adapter for part in recovery.parts for each in part.ingredients):
        raise UnsupportedFile("recipes are of checkpoints alone, and this has adapters in it")
    mixture = mixture_of(recovery)
    unknown = [model for model in mixture.models if model.sha256 is None]
    if unknown and not pinned:
        raise UnsupportedFile(f"{unknown[0].name} has no hashes yet; --recipe makes them")
    parents = [parent_of(workspace, model.path, progress) for model in mixture.models]
    return recipe_text(Recipe(recovery.subject.path.stem, mixture.choice, tuple(parents)))


def write_recipe(making: Making, target: Path, *, overwrite: bool) -> None:
    """Keep a recipe as a file. Raises UnsupportedFile without one, TargetExists, WriteProblem."""
    if making.recipe is None:
        raise UnsupportedFile(f"there is no recipe: {making.recipe_problem}", path=target)
    refuse_existing(target, overwrite=overwrite)
    write_whole(target, making.recipe.encode("utf-8"), overwrite=overwrite)


def commands_of(recovery: Recovery) -> tuple[str, ...]:
    """Calls of this program that make the checkpoint again; none where it cannot be made."""
    adapters = list(_adapters(recovery))
    if not all(part.is_explained for part in recovery.parts):
        return ()
    first = _only_model(recovery)
    calls: list[list[str]] = []
    if first is None:
        try:
            calls.append(_merge_call(mixture_of(recovery), "mixed.safetensors" if adapters else ""))
        except UnsupportedFile:
            return ()
    if adapters:
        base = "mixed.safetensors" if first is None else str(first.path)
        calls.append(_adapters_call(base, adapters, recovery.subject.identity.base))
    return tuple(map(shlex.join, calls))


def _only_model(recovery: Recovery) -> Candidate | None:
    """The model that all components are of, adapters left aside."""
    alike = [
        {made_of[0].candidate, *made_of[0].same} if len(made_of := _models(part)) == 1 else set()
        for part in recovery.parts
    ]
    common = set.intersection(*alike) if alike else set()
    used = [each.candidate for part in recovery.parts for each in part.ingredients]
    return next((each for each in used if each in common), None)


def _merge_call(mixture: Mixture, target: str) -> list[str]:
    choice = mixture.choice
    told = parameters(choice)
    call = ["assetmgr", "merge", "checkpoints", *(str(model.path) for model in mixture.models)]
    call += ["--method", choice.method]
    alphas = [f"{part}={weight:g}" for part, weight in sorted(choice.alpha.components.items())]
    if choice.alpha.default is not None:
        alphas.insert(0, f"{choice.alpha.default:g}")
    call += ["--alpha", ",".join(alphas)] if alphas else []
    call += ["--beta", f"{choice.beta:g}"] if choice.beta is not None else []
    if choice.alpha.blocks:
        call += ["--block-weights", ",".join(f"{weight:g}" for weight in choice.alpha.blocks)]
    if choice.sources:
        parts = sorted(choice.sources.items())
        call += ["--components", ",".join(f"{part}={LABELS[n]}" for part, n in parts)]
    call += ["--dtype", str(told["dtype"])] if choice.dtype else []
    return [*call, "-o", target or _RESULT]


@dataclass(frozen=True, slots=True)
class _Strength:
    """An adapter's weights in the denoiser and in the text encoders."""

    adapter: Candidate
    denoiser: float
    encoders: float
    blocks: Mapping[str, float]


def _adapters(recovery: Recovery) -> Iterator[_Strength]:
    found: dict[Candidate, dict[str, Ingredient]] = {}
    for part in recovery.parts:
        for each in part.ingredients:
            if each.candidate.is_adapter:
                found.setdefault(each.candidate, {})[part.name] = each
    for adapter, parts in found.items():
        inner = [each.weight for name, each in parts.items() if name != UNET]
        unet = parts.get(UNET)
        yield _Strength(
            adapter,
            unet.weight if unet else 0.0,
            inner[0] if inner else 0.0,
            unet.blocks if unet else {},
        )


def _adapters_call(base: str, adapters: Sequence[_Strength], family: Base) -> list[str]:
    call = ["assetmgr", "merge", "adapters", base]
    slots = LISTS.get(family, ((),))[0]
    has_blocks = any(each.blocks for each in adapters)
    for each in adapters:
        weight = 1.0 if each.blocks else each.denoiser
        call.append(f"{each.adapter.path}={weight:g},{each.encoders:g}")
    for each in adapters if has_blocks else ():
        call += ["--block-weights", ",".join(f"{each.blocks.get(s, 1.0):g}" for s in slots)]
    return [*call, "-o", _RESULT]
