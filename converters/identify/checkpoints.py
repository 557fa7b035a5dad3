"""Checkpoints and UNets alone."""

from __future__ import annotations

from dataclasses import replace

from converters.errors import CorruptFile
from converters.identify.conditions import both, has_any, has_prefix, matching, no
from converters.identify.counts import components, missing
from converters.identify.identity import (
    BROKEN,
    CERTAIN,
    Base,
    Component,
    Identity,
    Kind,
    Prediction,
)
from converters.identify.row import Row
from converters.identify.unets import VARIANTS, Family, UNetFacts, family_of, unet_facts
from converters.layouts import sd_unet, sd_vae, text_encoders
from converters.layouts.components import (
    TEXT_ENCODER,
    UNET,
    VAE,
    component,
)
from converters.statedict import StateDict

_COMPLETE_STRUCTURES = (Base.SD1, Base.SD2)
"""Families whose UNet follows the regular structure, so that missing tensors can be named."""

_LDM_UNET = has_prefix(*(f"model.diffusion_model.{b}" for b in ("input_", "middle_", "output_")))
_BARE_LDM_UNET = has_any("input_blocks.0.0.weight", "input_blocks.1.0.in_layers.2.weight")
_DIFFUSERS_UNET = both(
    has_any("time_embedding.linear_1.weight", "conv_in.weight"),
    has_any("down_blocks.0.resnets.0.conv1.weight", "mid_block.resnets.0.conv1.weight"),
)


def _single_file(sd: StateDict) -> Identity:
    """A file with the prefixes of a single-file checkpoint and a UNet in it."""
    identity = _denoiser(sd)
    parts = {part.name for part in identity.components}
    if not parts & {VAE, TEXT_ENCODER}:
        return identity
    problems = (*_absent_parts(parts), *_incomplete_parts(sd, identity.base))
    return replace(
        identity,
        kind=Kind.CHECKPOINT,
        evidence=(*identity.evidence, *_part_sentences(identity.components)),
        problems=(*identity.problems, *problems),
        confidence=BROKEN if problems else identity.confidence,
    )


def _unet_alone(sd: StateDict) -> Identity:
    identity = _denoiser(sd)
    counts = components(sd, lambda _: UNET)
    return replace(identity, kind=Kind.DIFFUSION_MODEL, components=counts)


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


def _denoiser(sd: StateDict) -> Identity:
    facts = unet_facts(sd)
    family = family_of(facts)
    gaps = _unet_gaps(sd, facts, family)
    return Identity(
        Kind.DIFFUSION_MODEL,
        base=family.base if family else Base.UNKNOWN,
        variant=_variant(sd, facts),
        prediction=_prediction(sd, family),
        layout=facts.layout,
        confidence=BROKEN if gaps else CERTAIN,
        evidence=_evidence(facts, family),
        components=components(sd),
        problems=gaps,
    )


def _evidence(facts: UNetFacts, family: Family | None) -> tuple[str, ...]:
    sentences = [f"a UNet under {facts.layout} names"]
    if facts.context is not None:
        sentences.append(f"{facts.context_tensor} takes a text context of width {facts.context}")
    if facts.in_channels is not None:
        sentences.append(f"the UNet takes {facts.in_channels} input channels")
    if family is None:
        sentences.append(_no_family(facts))
    return tuple(sentences)


def _no_family(facts: UNetFacts) -> str:
    if facts.video:
        return "it has temporal layers, as video models have: no known image family"
    projection = {True: "linear", False: "convolutional", None: "no"}[facts.linear]
    return (
        f"context width {facts.context}, vector conditioning {facts.adm}, {projection} projections"
        f" and depth {facts.depth} fit no known family"
    )


def _variant(sd: StateDict, facts: UNetFacts) -> str | None:
    if "cc_projection.weight" in sd:
        return "zero123"
    if facts.in_channels is None or facts.video:
        return None
    return VARIANTS.get(facts.in_channels, f"{facts.in_channels}-channel")


_MARKERS = {
    "edm_vpred.sigma_max": Prediction.EDM,
    "edm_mean": Prediction.EDM,
    "v_pred": Prediction.V,
}
"""Marker tensors of SDXL checkpoints, the strongest first."""


def _prediction(sd: StateDict, family: Family | None) -> Prediction:
    if family is None:
        return Prediction.UNKNOWN
    stated = sd.metadata.get("modelspec.prediction_type", "")
    if stated in ("epsilon", "v"):
        return Prediction(stated)
    marked = (meaning for marker, meaning in _MARKERS.items() if marker in sd)
    return next(marked, family.prediction)


def _unet_gaps(sd: StateDict, facts: UNetFacts, family: Family | None) -> tuple[str, ...]:
    if family is not None and family.base not in _COMPLETE_STRUCTURES:
        return ()
    if family is None and facts.context is not None:
        return ()
    unet = component(sd, UNET) if facts.head else sd
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


ROWS = (
    Row("checkpoint", _LDM_UNET, _single_file, frozenset({"vae", "adapter", "text-encoder"})),
    Row("unet-ldm", both(_BARE_LDM_UNET, no(_LDM_UNET)), _unet_alone),
    Row("unet-diffusers", _DIFFUSERS_UNET, _unet_alone),
    Row(
        "checkpoint-without-unet",
        both(
            has_prefix("first_stage_model."),
            matching(r"^(?:cond_stage_model|conditioner)\."),
            no(_LDM_UNET),
        ),
        _without_unet,
        frozenset({"vae", "text-encoder"}),
    ),
)
