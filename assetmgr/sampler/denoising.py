"""What the UNet of a loaded checkpoint is to be told beside prompt and time.

Sources: Stability-AI/generative-models `sgm/modules/encoders/modules.py` (sizes of SDXL and its
refiner), CompVis/stable-diffusion `scripts/inpaint.py` and timothybrooks/instruct-pix2pix (channels
beside the latents).
"""

from __future__ import annotations

from typing import Any

import torch

from assetmgr.sampler.bundle import Bundle
from assetmgr.sampler.render import Denoiser, Sampling
from converters.bases import Prediction
from converters.containers.diffusers_folder import ZERO_SNR_KEY
from converters.layouts.pipeline import ZERO_SNR_MARKER


def denoiser_of(bundle: Bundle, sampling: Sampling) -> Denoiser:
    """The denoiser of a checkpoint for pictures of a size, everything free to be painted."""
    sd = bundle.state_dict
    zero_snr = ZERO_SNR_MARKER in sd or sd.metadata.get(ZERO_SNR_KEY) == "true"
    is_v = bundle.identity.prediction is Prediction.V
    return Denoiser(
        bundle.unet.network,
        bundle.latent_factor,
        channels=bundle.vae.network.config.latent_channels,
        prediction="v_prediction" if is_v else "epsilon",
        zero_snr=zero_snr and is_v,
        beside=_beside(bundle, sampling),
        sizes=_sizes(bundle, sampling),
    )


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


@torch.inference_mode()
def _grey(vae: Any, sampling: Sampling) -> torch.Tensor:
    """The latents of a picture in the middle between black and white."""
    picture = torch.zeros(1, 3, sampling.height, sampling.width, device=vae.device, dtype=vae.dtype)
    mean: torch.Tensor = vae.encode(picture).latent_dist.mean
    return mean.float().cpu() * float(vae.config.scaling_factor)
