"""What a checkpoint carries that no program needs to render.

Source: CompVis/stable-diffusion `ldm/models/diffusion/ddpm.py` (register_schedule),
CompVis/latent-diffusion `ldm/modules/losses`; what A1111's and kohya's pruning drop.
"""

from __future__ import annotations

from converters.statedict import StateDict

SCHEDULE_BUFFERS = frozenset(
    {
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "betas",
        "log_one_minus_alphas_cumprod",
        "logvar",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "posterior_variance",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
    }
)
"""The noise schedule, which every program computes from its formula."""

_TRAINING = ("model_ema.", "loss.", "first_stage_model.loss.", "first_stage_model.model_ema.")


def prune(state: StateDict) -> tuple[StateDict, tuple[str, ...]]:
    """Without schedule buffers, averages and training losses; and the names that were dropped."""
    dropped = {name for name in state if name in SCHEDULE_BUFFERS or name.startswith(_TRAINING)}
    return state.drop(dropped), tuple(sorted(dropped))
