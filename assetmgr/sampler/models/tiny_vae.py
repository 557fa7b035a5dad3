"""Tiny autoencoders (TAESD and its kin): two stacks of small blocks that stand in for a VAE.

They work on latents as denoisers have them, without scale and shift. A file may hold one half only.
Source of names: madebyollin/taesd `taesd.py`, whose decoder begins with a clamp that has a number
but no tensors; ComfyUI's `taesd_encoder.`, `taesd_decoder.`; huggingface/diffusers
`autoencoder_tiny.py`.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from assetmgr.sampler.models.networks import Part, fill, require_complete, unfilled
from converters.errors import CorruptFile
from converters.layouts.components import VAE
from converters.progress import Progress
from converters.statedict import StateDict

TAESD = "taesd"
"""The variant by which identification calls them."""

_HALF = re.compile(r"(?:taesd_)?(encoder|decoder)\.(?:layers\.)?(\d{1,4})\.(.+)")
_BARE = re.compile(r"(\d{1,4})\.(.+)")


def load_tiny(sd: StateDict, device: torch.device, dtype: torch.dtype, progress: Progress) -> Any:
    """The network; a half that the file does not have is None.

    Raises Incomplete, and CorruptFile for a file that holds neither half.
    """
    mapped = tiny_to_diffusers(sd)
    with unfilled():
        network = _built(mapped)
    for half in ("encoder", "decoder"):
        if not any(name.startswith(half) for name in mapped):
            setattr(network, half, None)
    network.requires_grad_(requires_grad=False).eval()
    part = Part(network, mapped, tiny_to_diffusers)
    require_complete({VAE: part})
    progress.stage("load", mapped.nbytes)
    fill(part, device, dtype, progress)
    return network


def tiny_to_diffusers(sd: StateDict) -> StateDict:
    """The tensors under diffusers' names; what is no layer (a scale, a shift) is left out."""
    if not any(_HALF.fullmatch(name) for name in sd):
        half = "encoder" if "0.weight" in sd else "decoder"
        sd = sd.rename(lambda name: f"{half}.{name}" if _BARE.fullmatch(name) else name)
    shift = 0 if any(name.startswith("decoder.layers.") for name in sd) else 1
    layers = sd.select(lambda name: _HALF.fullmatch(name) is not None)
    return layers.rename(lambda name: _renamed(name, shift))


def _renamed(name: str, shift: int) -> str:
    match = _HALF.fullmatch(name)
    if match is None:
        return name
    number = int(match[2]) - (shift if match[1] == "decoder" else 0)
    return f"{match[1]}.layers.{number}.{match[3]}"


def _built(mapped: StateDict) -> Any:
    from diffusers import AutoencoderTiny

    for name, axis in (("decoder.layers.0.weight", 1), ("encoder.layers.14.weight", 0)):
        if name in mapped and len(mapped[name].shape) == 4:
            return AutoencoderTiny(latent_channels=mapped[name].shape[axis])
    raise CorruptFile("holds neither half of a tiny autoencoder")
