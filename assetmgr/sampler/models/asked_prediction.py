"""What a UNet predicts where nothing in its file tells: it is asked.

Of SD2 there are models of noise (epsilon) and of velocity (v) with the same tensors. At the moment
of most noise the first gives back nearly what it is given, the other the negative of the picture.
Source of question and limit: the AUTOMATIC1111 web UI, `modules/sd_models_config.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from converters.bases import Base, Prediction
from converters.identify import Identity

_INPUT, _MOMENT = 0.5, 999
_LIMIT = -1.0
"""Mean of the answer without what was given, below which it is v."""


def with_asked_prediction(identity: Identity, unet: Any) -> Identity:
    """The identity, with the network's own word where its file is silent."""
    is_open = identity.base is Base.SD2 and identity.prediction is Prediction.UNKNOWN
    if not is_open:
        return identity
    found = Prediction.V if _answer(unet) < _LIMIT else Prediction.EPSILON
    told = f"the UNet's answer to a grey picture is that of {found} prediction"
    return replace(identity, prediction=found, evidence=(*identity.evidence, told))


@torch.inference_mode()
def _answer(unet: Any) -> float:
    latents = torch.full((1, 4, 8, 8), _INPUT, dtype=unet.dtype, device=unet.device)
    context = torch.full((1, 2, unet.config.cross_attention_dim), _INPUT).to(latents)
    output: torch.Tensor = unet(latents, _MOMENT, context, return_dict=False)[0]
    return (output - latents).float().mean().item()
