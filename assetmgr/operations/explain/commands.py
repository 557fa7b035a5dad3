"""The calls of this program that make an explained checkpoint again, adapters and all."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from assetmgr.operations.explain.candidates import Candidate
from assetmgr.operations.explain.explanation import Ingredient, Recovery
from assetmgr.operations.explain.mixture import Mixture, mixture_of, models_of
from assetmgr.operations.merge.recipe import parameters
from converters.bases import Base
from converters.errors import UnsupportedFile
from converters.layouts.components import UNET
from converters.merge.blocks import LISTS
from converters.merge.checkpoints.choice import LABELS

_RESULT = "merged.safetensors"


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
        {made_of[0].candidate, *made_of[0].same} if len(made_of := models_of(part)) == 1 else set()
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
