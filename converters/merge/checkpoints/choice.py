"""What a merge of checkpoints is told, and whether that makes sense."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from converters.dtypes import DType
from converters.errors import BadValue
from converters.layouts.components import PREFIXES, TEXT_ENCODER, UNET, VAE
from converters.merge.checkpoints.block_weights import block_weights, slots_of_unet
from converters.merge.checkpoints.fitting import Model
from converters.merge.checkpoints.method import Method
from converters.statedict import StateDict

LABELS = string.ascii_uppercase
"""What the models are called by their positions."""
COMPONENTS = (UNET, VAE, TEXT_ENCODER)
"""The components that can be taken from one model, or have a weight of their own."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How strongly to merge: everywhere, in each component, in each block of the UNet.

    `blocks` is a list of merge block weight; its BASE is the weight of all that is not the UNet.
    `default` None is allowed where everything has a weight of its own.
    """

    default: float | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    blocks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MergeChoice:
    """What to do with the models: a key of METHODS, its numbers, and components from one model.

    `sources` maps a component to the position of the model that it is taken from as it is. None
    stands for numbers that were not given; `dtype` None keeps A's types. Values that a type cannot
    hold are an error, or its largest if `clamped`.
    """

    method: str
    alpha: Weights = field(default_factory=Weights)
    beta: float | None = None
    density: float | None = None
    drop: float | None = None
    seed: int | None = None
    sources: Mapping[str, int] = field(default_factory=dict)
    dtype: DType | None = None
    clamped: bool = False


def participants(models: Sequence[Model], choice: MergeChoice, method: Method) -> Sequence[Model]:
    """The models that the method merges; each other one must be the source of a component.

    Raises BadValue for a choice that makes no sense.
    """
    _require_options(choice, method)
    count = method.models(len(models), beta=choice.beta is not None)
    if len(models) < max(count, method.least):
        wanted = str(count) if method.most is not None else f"at least {method.least}"
        raise BadValue(f"{method.name} merges {wanted} models, not {len(models)}")
    for position in range(count, len(models)):
        if position not in choice.sources.values():
            raise BadValue(
                f"{method.name} merges {count} models; {LABELS[position]} has no part in it",
                path=models[position].name,
                hint="name a component to take from it" + _hint_of_beta(method),
            )
    for component, position in choice.sources.items():
        if component not in COMPONENTS:
            raise BadValue(f"no component '{component}'; there are {', '.join(COMPONENTS)}")
        if position >= len(models):
            raise BadValue(
                f"the {component} is to come from {LABELS[position]}, which is not given"
            )
    return models[:count]


def _hint_of_beta(method: Method) -> str:
    return ", or give it a weight with --beta" if "beta" in method.options else ""


_LARGEST_WEIGHT = 1e6
_WEIGHT = f"a number of at most {_LARGEST_WEIGHT:,.0f} either way"


def _is_weight(number: float) -> bool:
    """Whether float32 can hold what becomes of a weight; False for NaN."""
    return abs(number) <= _LARGEST_WEIGHT


_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "beta": (_is_weight, _WEIGHT),
    "density": (lambda number: 0 < number <= 1, "above 0 and at most 1"),
    "drop": (lambda number: 0 <= number < 1, "at least 0 and below 1"),
    "seed": (lambda number: number >= 0, "at least 0"),
}
_REQUIRED = frozenset({"density", "drop"})


def _require_options(choice: MergeChoice, method: Method) -> None:
    for name, (allowed, words) in _RANGES.items():
        given: float | None = getattr(choice, name)
        if given is None and name in method.options & _REQUIRED:
            raise BadValue(f"{method.name} needs --{name}")
        if given is not None and name not in method.options:
            raise BadValue(f"{method.name} takes no --{name}")
        if given is not None and not allowed(given):
            raise BadValue(f"--{name} must be {words}, not {given}")


def weight_of(first: Model, choice: MergeChoice, method: Method) -> Callable[[str], float]:
    """The weight of each tensor. Raises BadValue where there is none."""
    alpha = choice.alpha
    if "alpha" not in method.options:
        if alpha != Weights():
            raise BadValue(f"{method.name} takes no --alpha and no --block-weights")
        return lambda _: 0.0
    by_component = _by_component(first, choice, method)
    slots: dict[str, float] = {}
    if alpha.blocks:
        given = block_weights(alpha.blocks, first.identity.base).weights
        if not all(map(_is_weight, alpha.blocks)):
            raise BadValue(f"a block weight must be {_WEIGHT}")
        slots = {name: given[slot] for name, slot in _slots(first).items()}
    return lambda name: slots[name] if name in slots else by_component[first.component_of(name)]


def _by_component(first: Model, choice: MergeChoice, method: Method) -> dict[str, float]:
    alpha = choice.alpha
    base = alpha.default
    if alpha.blocks:
        listed = block_weights(alpha.blocks, first.identity.base).base
        base = base if listed is None else listed
    _require_known_parts(choice, method)
    present = {first.component_of(name) for name in first.state}
    weights: dict[str, float] = {}
    for component in COMPONENTS:
        weight = alpha.components.get(component, base)
        covered = component in choice.sources or (component == UNET and alpha.blocks)
        needed = component in present and not covered
        if weight is None and needed:
            raise BadValue(f"the {component} has no weight", hint="give one with --alpha")
        if weight is not None and not _is_weight(weight):
            raise BadValue(f"a weight must be {_WEIGHT}, not {weight}")
        weights[component] = weight or 0.0
    return weights


def _require_known_parts(choice: MergeChoice, method: Method) -> None:
    """Raises BadValue for a weight of no component, or of one that is not merged by it."""
    for component in choice.alpha.components:
        if component not in COMPONENTS:
            raise BadValue(f"no component '{component}'; there are {', '.join(COMPONENTS)}")
        if component in choice.sources:
            label = LABELS[choice.sources[component]]
            raise BadValue(f"the {component} comes from {label} as it is; it takes no weight")
        if component in method.spared:
            raise BadValue(f"{method.name} leaves the {component} of A as it is")
        if component == UNET and choice.alpha.blocks:
            raise BadValue("the unet has block weights; it takes no other weight")


def _slots(model: Model) -> dict[str, str]:
    """Name of each tensor of the UNet -> its slot."""
    names = [name for name in model.state if model.component_of(name) == UNET]
    head = PREFIXES[UNET][0]
    bare = {name.removeprefix(head): name for name in names}
    unet = StateDict({short: model.state[name] for short, name in bare.items()})
    return {bare[short]: slot for short, slot in slots_of_unet(unet).items()}
