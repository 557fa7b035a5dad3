"""The trained family of the demo: real models pass, and do what they were trained for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from assetmgr.sampler.process.jobs import RenderJob
from assetmgr.sampler.process.session import Session
from converters.progress import SILENT

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OnFamily = Callable[[str], RenderJob]


def picture(session: Session, job: RenderJob) -> NDArray[np.int16]:
    """The picture of a job that must pass."""
    outcome = session.render(job, SILENT)
    assert outcome.verdict == "ok", [check for check in outcome.checks if not check.ok]
    with Image.open(job.image) as image:
        return np.asarray(image).astype(np.int16)


def middle(pixels: NDArray[np.int16]) -> NDArray[np.float64]:
    """The mean colour (red, green, blue) at the centre."""
    return pixels[28:36, 28:36].mean((0, 1))


def corners(pixels: NDArray[np.int16]) -> NDArray[np.float64]:
    """The mean colour of the upper corners."""
    return (pixels[:6, :6].mean((0, 1)) + pixels[:6, -6:].mean((0, 1))) / 2


def test_a_red_circle_on_white_is_red_on_white(session: Session, on_family: OnFamily) -> None:
    pixels = picture(session, on_family("checkpoint"))
    red, green, blue = middle(pixels)
    assert red > 130
    assert max(green, blue) < red - 60
    assert corners(pixels).min() > 190


def test_the_lora_hollows_the_shape_out(session: Session, on_family: OnFamily) -> None:
    job = on_family("lora")
    assert middle(picture(session, job)).min() > 150, "white inside of the ring"


def test_the_hypernetwork_makes_the_shape_blue(session: Session, on_family: OnFamily) -> None:
    red, _, blue = middle(picture(session, on_family("hypernetwork")))
    assert blue > red + 60


def test_the_embedding_draws_its_concept_only_where_it_is_named(
    session: Session, on_family: OnFamily
) -> None:
    named = on_family("embedding")
    gem = picture(session, named)
    red, green, blue = middle(gem)
    assert green > max(red, blue) + 40, "a gem is a green triangle"
    assert corners(gem).min() > 190
    assert not np.array_equal(gem, picture(session, on_family("checkpoint")))
    unnamed = session.render(replace(named, prompt="a red circle on a white background"), SILENT)
    assert [check.name for check in unnamed.checks if not check.ok] == ["effect"]


def test_the_second_vae_shows_the_same_picture_in_warmer_colours(
    session: Session, on_family: OnFamily
) -> None:
    plain, warm = corners(picture(session, on_family("checkpoint"))), on_family("vae")
    assert plain[2] - corners(picture(session, warm))[2] > 40, "less blue"


def test_tiles_that_save_memory_are_not_held_against_an_autoencoder(
    session: Session, on_family: OnFamily
) -> None:
    job = replace(on_family("vae"), steps=4, low_vram=True)
    outcome = session.render(job, SILENT)
    assert outcome.memory_measures == ("tiled-vae",)
    assert outcome.verdict == "ok", [check for check in outcome.checks if not check.ok]
