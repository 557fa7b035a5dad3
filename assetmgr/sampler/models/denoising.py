"""What the UNet of a loaded checkpoint is to be told beside prompt and time.

Sources: Stability-AI/generative-models `sgm/modules/encoders/modules.py` (sizes of SDXL and its
refiner), CompVis/stable-diffusion `scripts/inpaint.py` and timothybrooks/instruct-pix2pix (channels
beside the latents).
"""

from __future__ import annotations

from typing import Any

import torch

from assetmgr.sampler.models.bundle import Bundle
from assetmgr.sampler.models.schedules import Training
from assetmgr.sampler.rendering.render import Denoiser, Sampling, encode_picture
from converters.bases import Prediction
from converters.containers.diffusers_folder import ZERO_SNR_KEY
from converters.layouts.edm import edm_of
from converters.layouts.pipeline import ZERO_SNR_MARKER


def denoiser_of(bundle: Bundle, sampling: Sampling) -> Denoiser:
    """The denoiser of a checkpoint for pictures of a size, everything free to be painted."""
    unet = bundle.unet.network
    return Denoiser(
        unet,
        bundle.latent_factor,
        channels=bundle.vae.network.config.latent_channels,
        training=training_of(bundle),
        beside=_beside(bundle, sampling),
        sizes=_sizes(bundle, sampling),
        guidance_width=unet.config.time_cond_proj_dim,
    )


def training_of(bundle: Bundle) -> Training:
    """What the UNet was trained to predict, and from which noise."""
    sd, prediction = bundle.state_dict, bundle.identity.prediction
    if prediction is Prediction.EDM:
        edm = edm_of(sd)
        return Training(edm.prediction, edm=edm)
    if prediction is not Prediction.V:
        return Training()
    zero_snr = ZERO_SNR_MARKER in sd or sd.metadata.get(ZERO_SNR_KEY) == "true"
    return Training("v_prediction", zero_snr=zero_snr)


def _sizes(bundle: Bundle, sampling: Sampling) -> torch.Tensor | None:
    """Original size, crop, and target size or aesthetic score; negative prompt first."""
    family = bundle.family
    if not family.told_sizes:
        return None
    size = [sampling.height, sampling.width]
    if family.aesthetic is None:
        return torch.tensor([[*size, 0, 0, *size]] * 2, dtype=torch.float32)
    good, bad = family.aesthetic
    return torch.tensor([[*size, 0, 0, bad], [*size, 0, 0, good]], dtype=torch.float32)


def _beside(bundle: Bundle, sampling: Sampling) -> torch.Tensor | None:
    """For inpainting a mask over everything and a grey picture, for pix2pix no picture."""
    factor, vae = bundle.latent_factor, bundle.vae.network
    height, width = sampling.height // factor, sampling.width // factor
    if bundle.identity.variant == "inpaint":
        return torch.cat([torch.ones(1, 1, height, width), _grey(vae, sampling)], dim=1)
    if bundle.identity.variant == "pix2pix":
        return torch.zeros(1, vae.config.latent_channels, height, width)
    return None


def _grey(vae: Any, sampling: Sampling) -> torch.Tensor:
    """The latents of a picture in the middle between black and white."""
    return encode_picture(vae, torch.full((3, sampling.height, sampling.width), 0.5))
