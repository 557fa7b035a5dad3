"""Checkpoints and denoisers alone: one row for each family, and one for UNets of none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from converters.bases import CONTEXT_WIDTH, Base, Prediction
from converters.errors import CorruptFile
from converters.identify import text_encoders as encoders
from converters.identify import vaes
from converters.identify.conditions import both, denoiser, has_prefix, matching, no
from converters.identify.counts import components, missing
from converters.identify.families import Family
from converters.identify.identity import BROKEN, CERTAIN, Component, Identity
from converters.identify.names import Names
from converters.identify.prediction import prediction_of
from converters.identify.row import Row
from converters.identify.transformers import TRANSFORMERS
from converters.identify.transformers_diffusers import TRANSFORMERS_DIFFUSERS
from converters.identify.unet_facts import UNetFacts, unet_facts
from converters.identify.unets import ANY_UNET, UNETS, AnyUNet
from converters.kinds import Kind
from converters.layouts import sd_unet, sd_vae, text_encoders
from converters.layouts.components import (
    OTHER,
    TEXT_ENCODER,
    UNET,
    VAE,
    component,
    component_of,
    own_or_component,
)
from converters.statedict import StateDict

FAMILIES = (*UNETS, *TRANSFORMERS, *TRANSFORMERS_DIFFUSERS)
"""Every family whose denoiser is known."""

_COMPLETE_STRUCTURES = (Base.SD1, Base.SD2)
"""Families whose UNet follows the regular structure, so that missing tensors can be named."""

_IRREGULAR = ("tiny", "sdxs")
_SINGLE_FILE = "model.diffusion_model."
_NO_FAMILY = Family("unet", Base.UNKNOWN, prediction=Prediction.UNKNOWN)


def _describe(family: Family, sd: StateDict) -> Identity:
    """A denoiser of this family; with a VAE or text encoder beside it, a checkpoint."""
    names = Names(sd).denoiser
    facts = names.once(unet_facts)
    variant = _variant(family, names)
    gaps = _unet_gaps(sd, facts, family, variant)
    prediction, reasons = prediction_of(sd, family)
    identity = Identity(
        Kind.DIFFUSION_MODEL,
        base=family.base,
        variant=variant,
        prediction=prediction,
        layout=facts.layout or family.layout,
        confidence=BROKEN if gaps else CERTAIN,
        evidence=(*_evidence(family, names), *reasons),
        components=components(sd, _part_of(names.head)),
        problems=gaps,
    )
    return _with_parts(identity, sd, facts)


def _with_parts(identity: Identity, sd: StateDict, facts: UNetFacts) -> Identity:
    parts = {part.name for part in identity.components}
    if not parts & {VAE, TEXT_ENCODER}:
        return identity
    problems: tuple[str, ...] = ()
    if facts.layout is not None:
        problems = (*_absent_parts(parts), *_incomplete_parts(sd, identity.base))
    return replace(
        identity,
        kind=Kind.CHECKPOINT,
        evidence=(*identity.evidence, *_part_sentences(identity.components)),
        problems=(*identity.problems, *problems),
        confidence=BROKEN if problems else identity.confidence,
    )


def _part_of(head: str) -> Callable[[str], str]:
    """Where a tensor belongs: without its own prefix the denoiser has whatever nothing else has."""

    def part(name: str) -> str:
        found = component_of(name)
        ours = name.startswith(head) if head else True
        return UNET if found == OTHER and ours else found

    return part


def _variant(family: Family, names: Names) -> str | None:
    channels = names.once(unet_facts).in_channels
    found = next((word for word, when in family.variants if when.holds(names)), None)
    if found is None and family.base in CONTEXT_WIDTH and channels not in (4, None):
        return f"{channels}-channel"
    return found


def _evidence(family: Family, names: Names) -> tuple[str, ...]:
    facts = names.once(unet_facts)
    if facts.layout is None:
        marker = f"{names.head}{family.keys[0]} is " if family.keys else ""
        return (f"{marker}named as in the denoiser of {family.base.label}",)
    sentences = [f"a UNet under {facts.layout} names"]
    if facts.context is not None:
        sentences.append(f"{facts.context_tensor} takes a text context of width {facts.context}")
    if facts.in_channels is not None:
        sentences.append(f"the UNet takes {facts.in_channels} input channels")
    if family.base is Base.UNKNOWN:
        sentences.append(_no_family(facts))
    return tuple(sentences)


def _no_family(facts: UNetFacts) -> str:
    if facts.video:
        return "it has temporal layers, as video models have: no known image family"
    projection = {True: "linear", False: "convolutional", None: "no"}[facts.linear]
    return (
        f"context width {facts.context}, vector conditioning {facts.adm}, {projection} projections"
        f" and depth {facts.deepest} fit no known family"
    )


def _unet_gaps(
    sd: StateDict, facts: UNetFacts, family: Family, variant: str | None
) -> tuple[str, ...]:
    unknown = family.base is Base.UNKNOWN
    regular = facts.context is None if unknown else family.base in _COMPLETE_STRUCTURES
    if facts.layout is None or not regular or variant in _IRREGULAR:
        return ()
    unet = own_or_component(sd, UNET)
    try:
        ldm = unet if facts.layout == "ldm" else _as_ldm(unet)
        return missing("UNet", sd_unet.expected_tensors(ldm), ldm)
    except CorruptFile as error:
        return (f"the UNet is incomplete: {error.cause}",)


def _as_ldm(unet: StateDict) -> StateDict:
    return sd_unet.diffusers_skeleton(unet).name_map().inverse.apply(unet)


def _absent_parts(parts: set[str]) -> list[str]:
    problems = []
    if VAE not in parts:
        problems.append("the checkpoint has no VAE (first_stage_model.*)")
    if TEXT_ENCODER not in parts:
        problems.append("the checkpoint has no text encoder (cond_stage_model.*)")
    return problems


def _incomplete_parts(sd: StateDict, base: Base) -> tuple[str, ...]:
    return (*_vae_gaps(sd), *(_clip_gaps(sd) if base is Base.SD1 else ()))


def _vae_gaps(sd: StateDict) -> tuple[str, ...]:
    vae = component(sd, VAE)
    if not len(vae):
        return ()
    try:
        named = sd_vae.vae_to_diffusers(vae)
        return missing("VAE", sd_vae.expected_tensors(named), named)
    except CorruptFile as error:
        return (f"the VAE is incomplete: {error.cause}",)


def _clip_gaps(sd: StateDict) -> tuple[str, ...]:
    if not len(component(sd, TEXT_ENCODER)):
        return ()
    clip = text_encoders.clip_to_transformers(sd)
    if text_encoders.layer_count(clip) == 0:
        return ("the text encoder is not the CLIP of SD1",)
    return missing("text encoder", text_encoders.expected_tensors(clip), clip)


def _part_sentences(parts: tuple[Component, ...]) -> tuple[str, ...]:
    return tuple(
        f"{part.tensors} tensors of the {part.name.replace('_', ' ')}"
        for part in parts
        if part.name in (VAE, TEXT_ENCODER)
    )


def _without_unet(sd: StateDict) -> Identity:
    """A checkpoint whose UNet is not there."""
    return Identity(
        Kind.CHECKPOINT,
        layout="ldm",
        confidence=BROKEN,
        evidence=_part_sentences(components(sd)),
        components=components(sd),
        problems=("the UNet is missing", *_incomplete_parts(sd, Base.UNKNOWN)),
    )


_PARTS = vaes.NAMES | encoders.NAMES | {"adapter"}
"""Rows that hold for what lies beside a denoiser, or was left in its file by a merge."""


def _row(family: Family) -> Row:
    return Row(
        family.name,
        denoiser(family.condition),
        partial(_describe, family),
        family.beats | _PARTS,
    )


NAMES = frozenset({ANY_UNET, *(family.name for family in FAMILIES)})
"""Names of the rows of denoisers."""

ROWS = (
    *map(_row, FAMILIES),
    Row(ANY_UNET, denoiser(AnyUNet()), partial(_describe, _NO_FAMILY), _PARTS),
    Row(
        "checkpoint-without-unet",
        both(
            has_prefix("first_stage_model."),
            matching(r"^(?:cond_stage_model|conditioner)\."),
            no(has_prefix(_SINGLE_FILE)),
        ),
        _without_unet,
        _PARTS,
    ),
)
