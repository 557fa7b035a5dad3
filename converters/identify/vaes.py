"""Autoencoders alone."""

from __future__ import annotations

from converters.errors import CorruptFile
from converters.identify.conditions import both, either, matching
from converters.identify.counts import components, missing
from converters.identify.identity import BROKEN, CERTAIN, SHARED, Base, Identity, Kind
from converters.identify.row import Row
from converters.layouts import sd_vae
from converters.layouts.components import VAE, own_or_component
from converters.statedict import StateDict

_HEAD = r"^(?:first_stage_model\.|vae\.)?"


def _describe(sd: StateDict) -> Identity:
    vae = own_or_component(sd, VAE)
    layout = "diffusers" if sd_vae.is_diffusers_vae(vae) else "ldm"
    base, reason = _base(sd, vae)
    problems = _gaps(vae)
    return Identity(
        Kind.VAE,
        base=base,
        layout=layout,
        confidence=SHARED if base is Base.SD1 else BROKEN if problems else CERTAIN,
        evidence=(f"an autoencoder under {layout} names", reason),
        components=components(vae, lambda _: VAE),
        problems=problems,
    )


def _base(sd: StateDict, vae: StateDict) -> tuple[Base, str]:
    first = vae.get("decoder.conv_in.weight")
    if first is None or len(first.shape) != 4:
        return Base.UNKNOWN, "decoder.conv_in.weight, which tells the family, is missing"
    latent = first.shape[1]
    if latent != 4 or "post_quant_conv.weight" not in vae:
        return Base.UNKNOWN, f"{latent} latent channels: not the autoencoder of SD1"
    if "xl" in sd.metadata.get("modelspec.architecture", "").lower():
        return Base.SDXL, "4 latent channels, and modelspec.architecture says SDXL"
    return Base.SD1, (
        "decoder.conv_in.weight takes 4 latent channels, as in SD1;"
        " the autoencoders of SD2 and SDXL have the same names and shapes"
    )


def _gaps(vae: StateDict) -> tuple[str, ...]:
    try:
        named = sd_vae.vae_to_diffusers(vae)
        expected = sd_vae.expected_tensors(named)
    except CorruptFile as error:
        return (f"the VAE is incomplete: {error.cause}",)
    optional = () if "post_quant_conv.weight" in named else ("quant_conv.", "post_quant_conv.")
    return missing("VAE", [name for name in expected if not name.startswith(optional)], named)


ROWS = (
    Row(
        "vae",
        both(
            either(
                matching(_HEAD + r"decoder\.mid\.block_1\.conv1\.weight$"),
                matching(_HEAD + r"decoder\.mid_block\.resnets\.0\.conv1\.weight$"),
            ),
            either(
                matching(_HEAD + r"(?:en|de)coder\.conv_in\.weight$"),
                matching(_HEAD + r"decoder\.conv_out\.weight$"),
            ),
        ),
        _describe,
    ),
)
