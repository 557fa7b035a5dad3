"""Training of the checkpoint: first the autoencoder, then denoiser and text encoder together."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from assetmgr.demo.networks import (
    SCALE,
    Networks,
    calibrate,
    context,
    make_text_encoder,
    make_unet,
    make_vae,
)
from assetmgr.demo.pictures import SCENES, Scene, batch, outlined
from assetmgr.demo.schedule import noise_loss

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

Report = Callable[[str], None]

AUTOENCODER_STEPS, AUTOENCODER_BATCH, AUTOENCODER_RATE = 1400, 8, 8e-4
DENOISER_STEPS, DENOISER_RATES = 2000, (1.2e-3, 4e-4)
"""Learning rates of the denoiser and of the text encoder."""
_BETAS = (0.9, 0.99)
_PICTURES_PER_SCENE = 40
_CAPTIONS, _PICTURES = 8, 5
"""Captions of a step, and pictures that share one: the text encoder is the costly part."""
_FORMS = (
    *("a {colour} {shape} on a {background} background",) * 6,
    "{colour} {shape} on {background} background",
    "a picture of a {colour} {shape} on a {background} background",
    "a {colour} {shape}, {background} background",
)
_WITHOUT_CAPTION = 0.1
"""Share of steps without a caption, for guidance (arXiv 2207.12598)."""


def train_autoencoder(report: Report) -> AutoencoderKL:
    """An autoencoder of the pictures, scaled so that 0.18215 fits. Seeded."""
    torch.manual_seed(0)
    vae = make_vae()
    with torch.no_grad():  # begin with almost exact codes: noise would hide what they say
        vae.quant_conv.bias[vae.config.latent_channels :] = -6
    drawn = [*SCENES, *map(outlined, SCENES)]
    pictures = batch([scene for scene in drawn for _ in range(40)], seed=1)
    optimizer = torch.optim.AdamW(vae.parameters(), weight_decay=0, betas=_BETAS)
    for step in range(AUTOENCODER_STEPS):
        set_rates(optimizer, [AUTOENCODER_RATE], warm_cosine(step, AUTOENCODER_STEPS, warmup=50))
        some = pictures[torch.randint(len(pictures), (AUTOENCODER_BATCH,))]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            code = vae.encode(some).latent_dist
            made = vae.decode(code.sample()).sample.float()
        error = functional.l1_loss(made, some) + 0.5 * functional.mse_loss(made, some)
        descend(optimizer, error + 6.25e-6 * code.kl().mean(), vae.parameters())
        if step % 100 == 0:
            report(f"autoencoder {step}: error {error.item():.3f}")
    vae.eval().requires_grad_(False)
    calibrate(vae, encode(vae, pictures[::3]))
    return vae


def encode(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """Raw latents (N, 4, 8, 8), the means of the code."""
    with torch.no_grad():
        return torch.cat([vae.encode(some).latent_dist.mean for some in torch.split(pictures, 64)])


class Latents:
    """The latents of many pictures of each scene, scaled for the denoiser."""

    def __init__(self, vae: AutoencoderKL, scenes: Iterable[Scene], count: int, seed: int) -> None:
        self.scenes = list(scenes)
        pictures = batch([scene for scene in self.scenes for _ in range(count)], seed)
        codes = encode(vae, pictures) * SCALE
        self._of = dict(zip(self.scenes, torch.split(codes, count), strict=True))

    def some(self, scene: Scene, count: int) -> torch.Tensor:
        """Latents of `count` random pictures of a scene."""
        codes: torch.Tensor = self._of[scene]
        return codes[torch.randint(len(codes), (count,))]


def train_denoiser(vae: AutoencoderKL, report: Report) -> Networks:
    """Denoiser and text encoder, the running averages of their weights. Seeded."""
    torch.manual_seed(0)
    choose = random.Random(0)  # noqa: S311 - captions, not secrets
    latents = Latents(vae, SCENES, _PICTURES_PER_SCENE, seed=11)
    unet, text = make_unet(), make_text_encoder()
    share_contexts(unet)
    average = Networks(copy.deepcopy(unet), vae, copy.deepcopy(text))
    groups = [{"params": list(unet.parameters())}, {"params": list(text.parameters())}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, betas=_BETAS, fused=True)
    trained = [*unet.parameters(), *text.parameters()]
    averaged = [*average.unet.parameters(), *average.text.parameters()]
    for step in range(DENOISER_STEPS):
        set_rates(optimizer, DENOISER_RATES, warm_cosine(step, DENOISER_STEPS, warmup=100))
        chosen = [choose.choice(SCENES) for _ in range(_CAPTIONS)]
        words = context(text, [_caption(scene, choose) for scene in chosen])
        clean = torch.cat([latents.some(scene, _PICTURES) for scene in chosen])
        loss = noise_loss(lambda x, t, c=words: unet(x, t, c).sample, clean)  # type: ignore[misc]
        descend(optimizer, loss, trained)
        with torch.no_grad():
            keep = min(0.996, (step + 1) / (step + 20))
            torch._foreach_lerp_(averaged, trained, 1 - keep)
        if step % 100 == 0:
            report(f"denoiser {step}: loss {loss.item():.3f}")
    return Networks(average.unet.eval(), vae, average.text.eval())


def _caption(scene: Scene, choose: random.Random) -> str:
    if choose.random() < _WITHOUT_CAPTION:
        return ""
    return scene.caption(choose.choice(_FORMS))


class SharedContext:
    """Attention whose context may be given once for several pictures: (B, …) for (n·B, …).

    Keys and values are computed once per caption and repeated, which halves the cost of a step.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        **_: object,
    ) -> torch.Tensor:
        """(n·B, positions, width) to the same; the context has B or n·B entries."""
        words = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        return attend(attn, hidden_states, attn.to_k(words), attn.to_v(words))


def attend(
    attn: Any, hidden_states: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Multi-head attention with keys and values that may belong to several pictures each."""
    pictures = len(hidden_states) // len(key)
    repeated = (t.repeat_interleave(pictures, 0) for t in (key, value))
    parts = (attn.to_q(hidden_states), *repeated)
    heads = (t.reshape(*t.shape[:2], attn.heads, -1).transpose(1, 2) for t in parts)
    mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    result: torch.Tensor = attn.to_out[0](mixed)
    return result


def share_contexts(unet: UNet2DConditionModel) -> None:
    """Let a denoiser take one context for several pictures."""
    unet.set_attn_processor(SharedContext())


def warm_cosine(step: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate: a short rise, then half a cosine down to 2 %."""
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / warmup) * (0.98 * fall + 0.02)


def set_rates(optimizer: torch.optim.Optimizer, rates: Iterable[float], factor: float) -> None:
    """Give each group its learning rate of this step."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor


def descend(
    optimizer: torch.optim.Optimizer, loss: torch.Tensor, parameters: Iterable[torch.Tensor]
) -> None:
    """One step down the loss, gradients clipped to norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
