"""The sampling loop against networks whose right answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from assetmgr.sampler.models.schedules import Training, scheduler_of
from assetmgr.sampler.prompts.prompt import Conditioning
from assetmgr.sampler.rendering import render
from assetmgr.sampler.rendering.render import (
    DECODED_AGAIN,
    Denoiser,
    Sampling,
    decode,
    encode_picture,
    guided,
    sample,
)
from assetmgr.sampler.rendering.solvers import SOLVERS, Solver, solver_named
from assetmgr.sampler.verdicts.finiteness import NotFinite
from converters.progress import SILENT, Progress

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TARGET = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8)
CONTEXT = Conditioning(torch.zeros(1, 77, 8), None)
EULER = Sampling(solver_named("Euler"), steps=8, cfg=1.0, width=64, height=64, seed=3)

_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
_ALPHAS = torch.cumprod(1 - _BETAS, 0)
_LOG_SIGMAS = ((1 - _ALPHAS) / _ALPHAS).sqrt().log()


class PerfectUNet:
    """Knows the picture, so predicts exactly the noise that is in its input."""

    device = torch.device("cpu")
    dtype = torch.float32
    config = SimpleNamespace(in_channels=4)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(
        self, x: torch.Tensor, time: torch.Tensor, *, encoder_hidden_states: torch.Tensor, **_: bool
    ) -> tuple[torch.Tensor]:
        self.batches.append(len(x))
        at = float(time)
        low = min(int(at), 998)
        log_sigma = torch.lerp(_LOG_SIGMAS[low], _LOG_SIGMAS[low + 1], at - low)
        alpha = 1 / (1 + (2 * log_sigma).exp())
        noise = (x - alpha.sqrt() * TARGET) / (1 - alpha).sqrt()
        # The conditional half is right; the other one would lead elsewhere.
        noise[: len(x) - 1] += 0.25
        return (noise.float(),)


@pytest.mark.parametrize(
    "solver",
    [s for s in SOLVERS if s.name not in ("DDIM", "LCM")],
    ids=lambda solver: solver.name,
)
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_every_solver_ends_at_the_picture_that_a_perfect_network_knows(
    solver: Solver, steps: int
) -> None:
    sampling = replace(EULER, solver=solver, steps=steps)
    latents = sample(Denoiser(PerfectUNet(), 8), CONTEXT, CONTEXT, sampling, SILENT)
    assert (latents - TARGET).abs().max() < 0.02


def test_ddim_ends_with_the_little_noise_of_the_first_training_step() -> None:
    sampling = replace(EULER, solver=solver_named("DDIM"), steps=12)
    latents = sample(Denoiser(PerfectUNet(), 8), CONTEXT, CONTEXT, sampling, SILENT)
    assert (latents - TARGET).std() == pytest.approx(_LOG_SIGMAS[0].exp().item(), rel=0.1)


def test_guidance_extrapolates_from_the_negative_to_the_positive_prediction() -> None:
    unet = PerfectUNet()
    sampling = replace(EULER, solver=solver_named("DPM++ 2M"), steps=1, cfg=2.0)
    guided = sample(Denoiser(unet, 8), CONTEXT, CONTEXT, sampling, SILENT)
    sigma = _LOG_SIGMAS[-1].exp()
    # u + 2(c − u) = c − 0.25, and x0 = x − σ·out.
    assert torch.allclose(guided, TARGET + 0.25 * sigma.float(), atol=0.01)
    assert unet.batches == [2]


def test_without_guidance_the_negative_prompt_is_not_evaluated() -> None:
    unet = PerfectUNet()
    sample(Denoiser(unet, 8), CONTEXT, CONTEXT, EULER, SILENT)
    assert unet.batches == [1] * 8


def test_where_nobody_looks_on_the_way_the_latents_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ancestral = replace(EULER, solver=solver_named("Euler a"))
    looked_at = sample(Denoiser(PerfectUNet(), 8), CONTEXT, CONTEXT, ancestral, SILENT)
    monkeypatch.setattr(render, "WATCHED", set())
    unet = PerfectUNet()
    assert torch.equal(sample(Denoiser(unet, 8), CONTEXT, CONTEXT, ancestral, SILENT), looked_at)
    assert len(unet.batches) == 8


def test_the_seed_alone_decides_the_noise() -> None:
    def blind(seed: int) -> torch.Tensor:
        unet = PerfectUNet()
        unet.__class__ = type("Zero", (PerfectUNet,), {"__call__": lambda _, x, *a, **k: (0 * x,)})
        return sample(Denoiser(unet, 8), CONTEXT, CONTEXT, replace(EULER, seed=seed), SILENT)

    assert torch.equal(blind(1), blind(1))
    assert not torch.equal(blind(1), blind(2))


def test_every_step_is_reported() -> None:
    class Counter(Progress):
        count = 0

        def advance(self, amount: int = 1) -> None:
            self.count += amount

    progress = Counter()
    sample(Denoiser(PerfectUNet(), 8), CONTEXT, CONTEXT, EULER, progress)
    assert progress.count == EULER.steps


@pytest.mark.parametrize("watched", [{"cpu"}, set()], ids=["watched", "made again"])
def test_non_finite_values_name_their_stage(
    watched: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "WATCHED", watched)

    class Broken(PerfectUNet):
        def __call__(self, x: torch.Tensor, *args: object, **_: object) -> tuple[torch.Tensor]:
            self.batches.append(len(x))
            return (x / 0 if len(self.batches) % 8 == 3 else x,)

    with pytest.raises(NotFinite, match="the UNet at step 3 of 8"):
        sample(Denoiser(Broken(), 8), CONTEXT, CONTEXT, EULER, SILENT)


class OverflowingVae:
    """Gives infinities in half precision, as some decoders do."""

    device = torch.device("cpu")
    config = SimpleNamespace(scaling_factor=0.5)

    def __init__(self, factor: float = 1e5) -> None:
        self.dtype = torch.float16
        self.factor = factor
        self.calls = 0

    def to(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def decode(self, values: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        assert values.dtype is self.dtype
        self.calls += 1
        return (values[:, :3] * self.factor,)

    encode = decode


def test_a_decoder_that_overflows_in_half_precision_is_tried_in_single() -> None:
    vae = OverflowingVae()
    picture = decode(vae, TARGET)
    assert vae.dtype is torch.float32
    assert picture.note == DECODED_AGAIN
    assert picture.pixels.shape == (3, 8, 8)
    assert picture.pixels.min() == 0
    assert picture.pixels.max() == 1
    assert decode(vae, TARGET).note == ""


def test_an_encoder_that_overflows_in_half_precision_is_tried_in_single() -> None:
    vae = OverflowingVae()
    assert torch.isfinite(encode_picture(vae, torch.ones(3, 8, 8))).all()
    assert vae.dtype is torch.float32


def test_half_precision_that_suffices_is_decoded_once() -> None:
    vae = OverflowingVae(1.0)
    decode(vae, TARGET)
    assert (vae.calls, vae.dtype) == (1, torch.float16)


def test_a_picture_that_is_not_finite_in_single_precision_fails() -> None:
    with pytest.raises(NotFinite, match="VAE decoder"):
        decode(OverflowingVae(), TARGET * torch.inf)
    with pytest.raises(NotFinite, match="VAE encoder"):
        encode_picture(OverflowingVae(), torch.full((3, 8, 8), torch.inf))


def test_guidance_is_brought_back_to_the_spread_of_the_prompt_for_zero_terminal_snr() -> None:
    outputs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    negative, positive = outputs.split(1)
    mixed = negative + 7 * (positive - negative)
    narrow = mixed * positive.std() / mixed.std()  # arXiv 2305.08891, equations 15 and 16
    assert torch.allclose(guided(outputs, 7.0), mixed)
    assert torch.allclose(guided(outputs, 7.0, 0.7), 0.7 * narrow + 0.3 * mixed, atol=1e-5)


def test_a_network_trained_down_to_pure_noise_is_brought_back_by_seven_tenths() -> None:
    outputs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    denoiser = Denoiser(
        lambda *_, **__: (outputs,), 8, training=Training("v_prediction", zero_snr=True)
    )
    once = replace(EULER, solver=solver_named("DDIM"), steps=1, cfg=7.0)
    ours = sample(denoiser, CONTEXT, CONTEXT, once, SILENT)
    # Of pure noise v is the negative of the picture; the first level of noise comes last.
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(EULER.seed))
    first = _ALPHAS[0].float()
    expected = -first.sqrt() * guided(outputs, 7.0, 0.7) + (1 - first).sqrt() * noise
    assert torch.allclose(ours, expected, atol=0.02)


def test_the_schedule_of_zero_terminal_snr_ends_in_pure_noise() -> None:
    scheduler = scheduler_of(Training("v_prediction", zero_snr=True), solver_named("DDIM"), 4)
    roots = _ALPHAS.sqrt()
    shifted = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2  # its algorithm 1
    assert torch.allclose(scheduler.alphas_cumprod.double(), shifted, atol=1e-5)
    assert scheduler.alphas_cumprod[-1] < 1e-6
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
