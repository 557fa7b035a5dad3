"""The verdict's statistics separate pictures from everything a broken model gives."""

import pytest
import torch
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.sampler.process.jobs import Check
from assetmgr.sampler.rendering.render import Picture
from assetmgr.sampler.verdicts import judge
from assetmgr.sampler.verdicts.finiteness import NotFinite
from assetmgr.sampler.verdicts.probes import disc, in_one_tone, psnr

FACTOR = 8


def picture(pixels: torch.Tensor) -> Picture:
    return Picture(torch.linspace(-2, 2, 256).reshape(1, 4, 8, 8), pixels)


def failed(pixels: torch.Tensor) -> set[str]:
    return {check.name for check in judge.of_picture(picture(pixels), FACTOR) if not check.ok}


def circle(edge: int = 64, radius: float = 0.3, x: float = 0.5, y: float = 0.5) -> torch.Tensor:
    """A red circle on white."""
    axis = (torch.arange(edge) + 0.5) / edge
    inside = (axis[None, :] - x).square() + (axis[:, None] - y).square() < radius**2
    pixels = torch.ones(3, edge, edge)
    pixels[0][inside], pixels[1][inside], pixels[2][inside] = 0.9, 0.1, 0.1
    return pixels


@examples(30)
@given(st.floats(0.18, 0.4), st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.sampled_from([64, 512]))
def test_a_shape_on_a_ground_passes_wherever_it_lies(
    radius: float, x: float, y: float, edge: int
) -> None:
    assert failed(circle(edge, radius, x, y)) == set()


def test_a_disc_comes_back_in_other_tones_but_not_as_a_negative_or_not_at_all() -> None:
    shown = disc(64, 64)

    def passes(given: torch.Tensor) -> bool:
        return judge.round_trip(psnr(*in_one_tone(shown, given))).ok

    warmer = torch.tensor([0.9, 0.6, 0.4])[:, None, None]
    noise = torch.rand(shown.shape, generator=torch.Generator().manual_seed(1))
    assert passes(shown)
    assert passes(shown * warmer + 0.1)
    assert not any(map(passes, (1 - shown, shown * 0.01, shown.flip(0), noise, shown * 0)))


def test_a_gradient_passes() -> None:
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    assert failed(ramp) == set()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("edge", [64, 512])
def test_white_noise_is_noise(edge: int, seed: int) -> None:
    pixels = torch.rand(3, edge, edge, generator=torch.Generator().manual_seed(seed))
    assert failed(pixels) == {"not noise"}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("edge", [256, 512])
def test_noise_enlarged_like_latents_that_were_never_denoised_is_noise(
    edge: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 3, edge // FACTOR, edge // FACTOR, generator=generator)
    smooth = torch.nn.functional.interpolate(latents, scale_factor=FACTOR, mode="bicubic")[0]
    assert "not noise" in failed((smooth * 0.25 + 0.5).clamp(0, 1))


def test_black_white_and_flat_pictures_are_named_so() -> None:
    assert {"not black", "not flat"} <= failed(torch.zeros(3, 64, 64))
    assert {"not white", "not flat"} <= failed(torch.ones(3, 64, 64))
    assert "not flat" in failed(torch.full((3, 64, 64), 0.5))


def test_latents_that_still_hold_noise_are_not_denoised() -> None:
    for spread, ok in ((1, True), (14.6, False)):
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * spread
        check = judge.of_picture(Picture(latents, circle()), FACTOR)[0]
        assert (check.name, check.ok) == ("denoised", ok)


def test_what_the_base_alone_fails_as_well_is_said_of_an_asset_on_it() -> None:
    flat, plain = picture(torch.full((3, 64, 64), 0.5)), picture(circle())
    for base, told in ((flat, True), (plain, False), (None, False)):
        checks = {check.name: check for check in judge.beside_base(flat, base, FACTOR)}
        assert not checks["not flat"].ok
        assert (judge.AS_BASE in checks["not flat"].detail) == told
        assert judge.AS_BASE not in checks["not black"].detail


def test_another_decoder_must_show_the_same_picture() -> None:
    plain = picture(circle())
    assert judge.same_picture(picture(circle() * 0.8 + 0.1), plain).ok
    assert not judge.same_picture(picture(circle(x=0.2, y=0.2, radius=0.2)), plain).ok
    assert not judge.same_picture(picture(torch.full((3, 64, 64), 0.5)), plain).ok


def test_an_effect_is_a_difference_that_eight_bits_can_show() -> None:
    plain = picture(circle())
    assert not judge.effect(plain, plain).ok
    assert not judge.effect(picture(circle() * 0.9999), plain).ok
    assert judge.effect(picture(circle(radius=0.25)), plain).ok


def test_loading_names_what_is_missing_and_what_is_left_over() -> None:
    assert judge.loads_completely((), (), note="all 3") == Check(
        "loads completely", ok=True, value=None, threshold=None, detail="all 3"
    )
    names = [f"t{number}" for number in range(9)]
    check = judge.loads_completely(names, ["x"])
    assert not check.ok
    assert check.detail == "9 missing: t0, t1, t2, t3, t4 and 4 more; 1 not used: x"


def test_the_finite_check_names_stage_and_layer() -> None:
    assert judge.finite(None).ok
    assert judge.finite(None, "the VAE overflows").detail == "the VAE overflows"
    check = judge.finite(NotFinite("the UNet at step 2 of 4", "mid_block.resnets.0.conv1"))
    assert not check.ok
    assert check.detail == (
        "the UNet at step 2 of 4 is not finite, first in mid_block.resnets.0.conv1"
    )


def test_weights_that_are_not_finite_are_counted_and_named() -> None:
    assert judge.weights_finite(()).ok
    check = judge.weights_finite(("out.2.weight",))
    assert (check.ok, check.value, check.threshold) == (False, 1, 0)
    assert check.detail == "1 with NaN or infinities: out.2.weight"


def test_a_network_may_miss_four_fifths_of_what_a_guess_misses() -> None:
    assert judge.removes_noise(0.79).ok, "the most of a trained one, with 10 steps"
    assert not judge.removes_noise(0.81).ok


def test_half_the_weight_has_an_effect_of_the_same_order() -> None:
    assert judge.half_effect(0.05, 0.1).ok
    assert judge.half_effect(0.05, 0.1).value == 0.5
    assert not judge.half_effect(0.0, 0.1).ok, "nothing happens"
    assert not judge.half_effect(0.2, 0.1).ok, "more than the whole weight does"
