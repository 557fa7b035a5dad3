"""Autoencoders alone, and their tiny approximations.

Sources: ComfyUI `comfy/sd.py` (class VAE), huggingface/diffusers `models/autoencoders`,
madebyollin/taesd. Many families share an autoencoder's names and shapes; then the base stays
unknown and the candidates stand in the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from converters.bases import Base
from converters.errors import CorruptFile
from converters.identify.conditions import (
    ALWAYS,
    Condition,
    both,
    either,
    has_all,
    has_any,
    matching,
    no,
    shape,
    size,
    vae,
)
from converters.identify.counts import components, missing
from converters.identify.identity import BROKEN, CERTAIN, Identity
from converters.identify.names import Names
from converters.identify.row import Row
from converters.kinds import Kind
from converters.layouts import sd_vae
from converters.layouts.components import VAE, own_or_component
from converters.statedict import StateDict

_FIRST = "decoder.conv_in.weight"


@dataclass(frozen=True, slots=True)
class Latents:
    """A sort of latents: when an autoencoder makes them, and who uses them.

    `bases` are the families that share it; a single one is the base of the file.
    `irregular` are those whose missing tensors cannot be named.
    """

    when: Condition
    bases: tuple[str, ...]
    variant: str | None = None
    irregular: bool = False


_QUANT = either(has_any("post_quant_conv.weight"), has_any("quant_conv.weight"))
_F4 = both(
    size(_FIRST, 0, 512),
    either(
        both(
            has_any("encoder.down.1.downsample.conv.weight"),
            has_any("encoder.down.2.block.0.conv1.weight"),
            no(has_any("encoder.down.2.downsample.conv.weight")),
        ),
        both(
            has_any("encoder.down_blocks.1.downsamplers.0.conv.weight"),
            has_any("encoder.down_blocks.2.resnets.0.conv1.weight"),
            no(has_any("encoder.down_blocks.2.downsamplers.0.conv.weight")),
        ),
    ),
)
_TEMPORAL = matching(r"(?:\.mix_factor|\.time_stack\.|\.temporal_res_block\.)")
_WIDE = either(size(_FIRST, 0, 768, 1024), matching(r"^decoder\.condition_encoder\."))
_WAN_DIFFUSERS = "decoder.mid_block.resnets.0.norm1.gamma"
_CASCADE_C = (
    "backbone.1.0.block.0.1.num_batches_tracked",
    "encoder.backbone.1.0.block.0.1.num_batches_tracked",
    "blocks.11.num_batches_tracked",
)
"""The encoder of Stable Cascade's stage C, both halves, and the decoder alone."""
_SIXTEEN = ("sd-3", "flux", "lumina-2", "z-image", "chroma", "hidream")

KL_LATENTS = (
    Latents(_TEMPORAL, ("svd",), irregular=True),
    Latents(_F4, ("sd-x4-upscaler",), "f4", irregular=True),
    Latents(
        both(size(_FIRST, 1, 4), _WIDE), ("sd-1", "sd-2", "sdxl"), "asymmetric", irregular=True
    ),
    Latents(size(_FIRST, 1, 4), ("sd-1", "sd-2", "sdxl", "pixart", "auraflow")),
    Latents(both(size(_FIRST, 1, 16), _QUANT), (), "16-channel"),
    Latents(size(_FIRST, 1, 16), _SIXTEEN, "16-channel"),
    Latents(both(size(_FIRST, 1, 32), has_any("bn.running_mean")), ("flux-2",)),
    Latents(size(_FIRST, 1, 64), ("hunyuan-image",)),
)
"""Autoencoders of the kl family, the first that holds counts."""

VIDEO_LATENTS = (
    (
        "vae-wan",
        either(
            has_any("decoder.middle.0.residual.0.gamma"),
            both(has_any(_WAN_DIFFUSERS), has_any(_FIRST)),
        ),
        (
            Latents(has_any("decoder.upsamples.0.upsamples.0.residual.2.weight"), ("wan",), "2.2"),
            Latents(size(_FIRST, 1, 48), ("wan",), "2.2"),
            Latents(ALWAYS, ("wan", "qwen-image", "krea-2", "anima"), "16-channel"),
        ),
    ),
    (
        "vae-hunyuan-video",
        both(
            shape("decoder.conv_in.conv.weight", None, None, None, None, None),
            no(matching(r"\.norm_layer\.|\.res_blocks\.")),
        ),
        (
            Latents(size("decoder.conv_in.conv.weight", 1, 16), ("hunyuan-video",)),
            Latents(size("decoder.conv_in.conv.weight", 1, 32), ("hunyuan-video",), "1.5"),
            Latents(ALWAYS, ()),
        ),
    ),
    (
        "vae-cogvideox",
        has_all("decoder.mid_block.resnets.0.norm1.norm_layer.weight"),
        (Latents(ALWAYS, ("cogvideox",)),),
    ),
    (
        "vae-mochi",
        either(
            has_any("blocks.2.blocks.3.stack.5.weight"),
            has_any("decoder.blocks.2.blocks.3.stack.5.weight"),
            has_any("decoder.block_in.resnets.0.norm1.norm_layer.weight"),
        ),
        (Latents(ALWAYS, ("mochi",)),),
    ),
    (
        "vae-cosmos",
        has_all("decoder.unpatcher3d.wavelets"),
        (Latents(ALWAYS, ("cosmos-1",)),),
    ),
    (
        "vae-ltx",
        has_all("decoder.up_blocks.0.res_blocks.0.conv1.conv.weight"),
        (Latents(ALWAYS, ("ltx-video", "ltx-2")),),
    ),
    (
        "vae-dc-ae",
        either(
            has_any("decoder.stages.1.op_list.0.main.conv.conv.bias"),
            both(matching(r"^decoder\.up_blocks\.0\.\d+\.conv"), has_any(_FIRST)),
        ),
        (Latents(ALWAYS, ("sana",), "dc-ae"),),
    ),
    (
        "vae-cascade",
        has_any("vquantizer.codebook.weight", *_CASCADE_C),
        (
            Latents(has_any("vquantizer.codebook.weight"), ("stable-cascade",), "stage-a"),
            Latents(ALWAYS, ("stable-cascade",), "stage-c"),
        ),
    ),
    (
        "vae-tae-video",
        both(has_all("decoder.22.bias"), no(matching(r"^decoder\.(?:conv_in|mid)"))),
        (Latents(ALWAYS, ("hunyuan-video", "wan"), "taehv"),),
    ),
)
"""Autoencoders of other making: the row's name, what tells it, and its latents."""

_TINY_LATENTS = {
    4: ("sd-1", "sd-2", "sdxl"),
    16: ("sd-3", "flux"),
    32: ("flux-2",),
}
_TINY_FIRST = (
    "1.weight",
    "decoder.1.weight",
    "taesd_decoder.1.weight",
    "decoder.layers.0.weight",
)


def _describe(kinds: tuple[Latents, ...], sd: StateDict) -> Identity:
    names = Names(sd).vae
    found = next((latents for latents in kinds if latents.when.holds(names)), None)
    if found is None:
        return _identity(sd, Latents(ALWAYS, ()), ("no known family has such latents",))
    return _identity(sd, found, ())


def _identity(
    sd: StateDict, latents: Latents, reasons: tuple[str, ...], layout: str = "original"
) -> Identity:
    base = Base(latents.bases[0]) if len(latents.bases) == 1 else Base.UNKNOWN
    return Identity(
        Kind.VAE,
        base=base,
        variant=latents.variant,
        layout=layout,
        evidence=("an autoencoder", *reasons, *_candidates(latents.bases)),
        components=components(own_or_component(sd, VAE), lambda _: VAE),
    )


def _candidates(bases: tuple[str, ...]) -> tuple[str, ...]:
    if len(bases) < 2:
        return ()
    return (f"its names and shapes are the same in {', '.join(bases[:-1])} and {bases[-1]}",)


def _describe_kl(sd: StateDict) -> Identity:
    own = own_or_component(sd, VAE)
    layout = "diffusers" if sd_vae.is_diffusers_vae(own) else "ldm"
    latents = _kl_latents(sd)
    problems = () if latents.irregular else _gaps(own)
    identity = _identity(sd, latents, (_first_sentence(own),), layout)
    stated = _stated(sd, latents)
    return replace(
        identity,
        base=stated or identity.base,
        confidence=BROKEN if problems else CERTAIN,
        evidence=(*identity.evidence, *_stated_sentence(stated)),
        problems=problems,
    )


def _stated_sentence(stated: Base | None) -> tuple[str, ...]:
    return (f"modelspec.architecture says {stated}",) if stated else ()


def _kl_latents(sd: StateDict) -> Latents:
    names = Names(sd).vae
    found = (latents for latents in KL_LATENTS if latents.when.holds(names))
    return next(found, Latents(ALWAYS, ()))


def _first_sentence(own: StateDict) -> str:
    first = own.get(_FIRST)
    if first is None or len(first.shape) != 4:
        return f"{_FIRST}, which tells the family, is missing"
    return f"{_FIRST} takes {first.shape[1]} latent channels"


_ARCHITECTURES = (
    ("stable-diffusion-xl", Base.SDXL),
    ("stable-diffusion-v1", Base.SD1),
    ("stable-diffusion-v2", Base.SD2),
    ("stable-diffusion-v3", Base.SD3),
    ("stable-diffusion-3", Base.SD3),
    ("flux-1", Base.FLUX),
)
"""Beginnings of `modelspec.architecture`."""


def _stated(sd: StateDict, latents: Latents) -> Base | None:
    """The one candidate that the metadata names."""
    words = sd.metadata.get("modelspec.architecture", "").lower()
    found = (base for start, base in _ARCHITECTURES if words.startswith(start))
    return next((base for base in found if base in latents.bases), None)


def _gaps(own: StateDict) -> tuple[str, ...]:
    try:
        named = sd_vae.vae_to_diffusers(own)
        expected = sd_vae.expected_tensors(named)
    except CorruptFile as error:
        return (f"the VAE is incomplete: {error.cause}",)
    optional = () if "post_quant_conv.weight" in named else ("quant_conv.", "post_quant_conv.")
    return missing("VAE", [name for name in expected if not name.startswith(optional)], named)


def _describe_tiny(sd: StateDict) -> Identity:
    names = Names(sd)
    latent = next((names.size(n, 1) for n in _TINY_FIRST if n in names), None)
    half = "decoder"
    if "0.weight" in names:
        latent, half = _last_output(names), "encoder"
    layout = "diffusers" if "decoder.layers.0.weight" in names else "taesd"
    latents = Latents(ALWAYS, _TINY_LATENTS.get(latent or 0, ()), "taesd")
    sentence = f"the {half} of a tiny approximation (TAESD) of {latent} latent channels"
    return _identity(sd, latents, (sentence,), layout)


def _last_output(names: Names) -> int | None:
    numbers = [int(found) for found in re.findall(r"^(\d+)\.weight$", names.text, re.MULTILINE)]
    return names.size(f"{max(numbers)}.weight", 0) if numbers else None


_TINY = either(
    shape("taesd_decoder.1.weight", 64, None, 3, 3),
    shape("decoder.layers.0.weight", 64, None, 3, 3),
    both(shape("1.weight", 64, None, 3, 3), has_any("3.conv.0.weight")),
    both(shape("0.weight", 64, 3, 3, 3), has_any("1.conv.0.weight")),
    both(shape("decoder.1.weight", 64, None, 3, 3), has_any("decoder.3.conv.0.weight")),
)
_KL = both(
    either(
        has_any("decoder.mid.block_1.conv1.weight"),
        has_any("decoder.mid_block.resnets.0.conv1.weight"),
        matching(r"^decoder\.mid_block\.resnets\.0\.spatial_res_block\.conv1\.weight$"),
    ),
    has_any("encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.conv_out.weight"),
    no(has_any(_WAN_DIFFUSERS)),
)


def _row(name: str, when: Condition, describe: Callable[[StateDict], Identity]) -> Row:
    return Row(name, vae(when), describe)


ROWS = (
    _row("vae", _KL, _describe_kl),
    _row("vae-tiny", _TINY, _describe_tiny),
    *(_row(name, when, partial(_describe, kinds)) for name, when, kinds in VIDEO_LATENTS),
)

NAMES = frozenset(row.name for row in ROWS)
"""Names of the rows of autoencoders."""
