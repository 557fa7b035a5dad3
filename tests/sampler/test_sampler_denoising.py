"""What a UNet is told beside prompt and time, number by number and channel by channel."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from assetmgr.operations.preview.job import plan_job
from assetmgr.operations.preview.request import PreviewRequest
from assetmgr.operations.preview.subject import Subject
from assetmgr.sampler.models.asked_prediction import with_asked_prediction
from assetmgr.sampler.models.denoising import denoiser_of
from assetmgr.sampler.models.families import FAMILIES
from assetmgr.sampler.process.jobs import ModelFile
from assetmgr.sampler.prompts.prompt import Conditioning
from assetmgr.sampler.rendering.render import Denoiser, Sampling, sample
from assetmgr.sampler.rendering.solvers import solver_named
from converters.bases import Base, Prediction
from converters.identify import Identity
from converters.kinds import Kind
from converters.progress import SILENT
from converters.statedict import StateDict

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SCALE = 0.25
WIDE = Sampling(solver_named("Euler"), 1, 7.0, width=96, height=64, seed=1)


class Vae:
    """Encodes a picture as its means over 8 by 8 pixels, red three times and green."""

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(
        latent_channels=4, block_out_channels=(1,) * 4, scaling_factor=SCALE, shift_factor=None
    )

    def encode(self, pixels: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        assert not return_dict
        return (functional.avg_pool2d(pixels, 8)[:, [0, 0, 0, 1]] + 1,)


def told(base: Base, variant: str | None = None) -> Denoiser:
    bundle: Any = SimpleNamespace(
        state_dict=StateDict({}),
        identity=SimpleNamespace(base=base, variant=variant, prediction=Prediction.EPSILON),
        unet=SimpleNamespace(network=SimpleNamespace(config=SimpleNamespace(time_cond_proj_dim=0))),
        vae=SimpleNamespace(network=Vae()),
        family=FAMILIES[base],
        latent_factor=8,
    )
    return denoiser_of(bundle, WIDE)


def test_sdxl_is_told_the_size_height_first_and_that_nothing_was_cropped() -> None:
    sizes = told(Base.SDXL).sizes
    assert sizes is not None
    assert sizes.tolist() == [[64, 96, 0, 0, 64, 96]] * 2


def test_the_refiner_is_told_a_good_score_for_the_prompt_and_a_bad_one_for_the_negative() -> None:
    sizes = told(Base.SDXL_REFINER).sizes
    assert sizes is not None
    negative, positive = sizes.tolist()
    assert negative == [64, 96, 0, 0, 2.5]
    assert positive == [64, 96, 0, 0, 6.0]


@pytest.mark.parametrize(
    ("base", "said", "answer", "found"),
    [
        (Base.SD2, Prediction.UNKNOWN, -1.2, Prediction.V),
        (Base.SD2, Prediction.UNKNOWN, -0.8, Prediction.EPSILON),
        (Base.SD2, Prediction.EPSILON, -1.2, Prediction.EPSILON),
        (Base.SD1, Prediction.UNKNOWN, -1.2, Prediction.UNKNOWN),
    ],
)
def test_an_sd2_that_nothing_is_said_of_is_asked_what_it_predicts(
    base: Base, said: Prediction, answer: float, found: Prediction
) -> None:
    class Unet:
        device, dtype = torch.device("cpu"), torch.float32
        config = SimpleNamespace(cross_attention_dim=1024)

        def __call__(
            self, grey: torch.Tensor, moment: int, context: torch.Tensor, *, return_dict: bool
        ) -> tuple[torch.Tensor]:
            assert (moment, context.shape, return_dict) == (999, (1, 2, 1024), False)
            assert torch.equal(grey, torch.full((1, 4, 8, 8), 0.5))
            return (grey + answer,)

    identity = Identity(Kind.CHECKPOINT, base, prediction=said, evidence=("by shapes",))
    asked = with_asked_prediction(identity, Unet())
    assert asked.prediction is found
    assert asked.evidence[0] == "by shapes"


@pytest.mark.parametrize(
    ("base", "prediction", "edge"),
    [
        (Base.SD1, Prediction.EPSILON, 512),
        (Base.SD2, Prediction.EPSILON, 512),
        (Base.SD2, Prediction.V, 768),
        (Base.SD2, Prediction.UNKNOWN, 768),
        (Base.SDXL, Prediction.EPSILON, 1024),
    ],
)
def test_the_natural_size_is_that_of_the_training(
    base: Base, prediction: Prediction, edge: int, tmp_path: Path
) -> None:
    model = ModelFile("/models/base.safetensors", "base", "checkpoint")
    subject = Subject(None, model, base, (), None, None, prediction=prediction)
    job = plan_job(PreviewRequest(), subject, subject, tmp_path)
    assert (job.width, job.height) == (edge, edge)


@pytest.mark.parametrize("base", [Base.SD1, Base.SD2])
def test_others_are_told_no_sizes_and_given_nothing_beside_the_latents(base: Base) -> None:
    assert (told(base).sizes, told(base).beside) == (None, None)


def test_inpainting_is_given_a_whole_mask_and_then_the_latents_of_grey() -> None:
    beside = told(Base.SDXL, "inpaint").beside
    assert beside is not None
    assert beside.shape == (1, 5, 8, 12)
    assert (beside[:, 0] == 1).all(), "all of it is to be painted"
    assert torch.allclose(beside[:, 1:], torch.full((1, 4, 8, 12), SCALE)), "grey is 0 for the VAE"


def test_editing_is_given_no_picture() -> None:
    beside = told(Base.SD1, "pix2pix").beside
    assert beside is not None
    assert torch.equal(beside, torch.zeros(1, 4, 8, 12))


def test_what_is_beside_the_latents_follows_them_as_it_is() -> None:
    seen: list[torch.Tensor] = []

    def unet(inputs: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor]:
        seen.append(inputs)
        return (inputs[:, :4],)

    beside = torch.arange(5.0)[None, :, None, None].expand(1, 5, 8, 12)
    context = Conditioning(torch.zeros(1, 77, 8), None)
    sample(Denoiser(unet, 8, beside=beside), context, context, WIDE, SILENT)
    (inputs,) = seen
    assert inputs.shape == (2, 9, 8, 12)
    assert torch.equal(inputs[:, 4:], beside.expand(2, -1, -1, -1)), "neither scaled nor moved"
    assert torch.equal(inputs[0], inputs[1]), "alike for the negative prompt and the prompt"
    assert inputs[:, :4].std() == pytest.approx(1, abs=0.1), "the latents alone are scaled"
