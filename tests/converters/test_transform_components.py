"""Components of a checkpoint: selected, extracted, replaced."""

from __future__ import annotations

import pytest

from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.errors import CorruptFile, UnsupportedFile
from converters.layouts import vae_to_diffusers
from converters.statedict import Extent, LazyTensor, StateDict
from converters.transform.components import bake_vae, extract_component, select_components

VAE_SHAPES = {
    "encoder.conv_in.weight": (8, 3, 3, 3),
    "encoder.down.0.block.0.conv1.weight": (8, 8, 3, 3),
    "encoder.mid.attn_1.q.weight": (8, 8, 1, 1),
    "decoder.conv_in.weight": (8, 4, 3, 3),
    "decoder.up.0.block.0.conv1.weight": (8, 8, 3, 3),
    "decoder.conv_out.weight": (3, 8, 3, 3),
}


def stored(shape: tuple[int, ...], fill: int) -> LazyTensor:
    """A half-precision tensor whose bytes are all `fill`."""
    nbytes = 2
    for size in shape:
        nbytes *= size
    return LazyTensor(
        DType.F16, shape, (Extent(MemoryBytes(bytes([fill]) * nbytes), 0, nbytes),), "t"
    )


def vae(fill: int, *, prefix: str = "", **changed: tuple[int, ...]) -> StateDict:
    shapes = {**VAE_SHAPES, **changed}
    return StateDict({prefix + name: stored(shape, fill) for name, shape in shapes.items()})


def checkpoint() -> StateDict:
    others = {
        "model.diffusion_model.out.2.bias": stored((4,), 1),
        "model_ema.diffusion_modelout2bias": stored((4,), 2),
        "cond_stage_model.transformer.text_model.final_layer_norm.bias": stored((8,), 3),
        "betas": stored((10,), 4),
    }
    return StateDict(others, {"title": "mine"}).overlay(vae(5, prefix="first_stage_model."))


def test_a_selection_keeps_what_was_named_and_what_belongs_to_nothing() -> None:
    state = checkpoint()
    unet, dropped = select_components(state, ["unet"])
    assert set(unet) == {
        "model.diffusion_model.out.2.bias",
        "model_ema.diffusion_modelout2bias",
        "betas",
    }
    assert set(dropped) == set(state) - set(unet)
    assert unet.metadata == state.metadata
    assert select_components(state, ["unet", "vae", "text_encoder"]) == (state, ())


def test_an_extracted_component_has_the_names_of_a_file_of_its_own() -> None:
    assert set(extract_component(checkpoint(), "vae")) == set(VAE_SHAPES)


@pytest.mark.parametrize("take", [extract_component, lambda s, name: select_components(s, [name])])
def test_a_component_that_is_not_there_is_refused_by_name(take: object) -> None:
    assert callable(take)
    without = checkpoint().select(lambda name: not name.startswith("first_stage_model."))
    with pytest.raises(UnsupportedFile, match="has no vae") as caught:
        take(without, "vae")
    assert caught.value.hint == "it has unet, text_encoder"


@pytest.mark.parametrize("naming", ["ldm", "diffusers", "prefixed"])
def test_a_baked_vae_replaces_the_old_one_whatever_its_naming(naming: str) -> None:
    new = vae(9)
    given = {
        "ldm": new,
        "diffusers": vae_to_diffusers(new),
        "prefixed": vae(9, prefix="first_stage_model."),
    }[naming]
    state = checkpoint()
    baked = bake_vae(state, given)
    assert {name: t.shape for name, t in baked.items()} == {n: t.shape for n, t in state.items()}
    for name, tensor in baked.items():
        expected = (
            b"\x09" if name.startswith("first_stage_model.") else bytes(state[name].read())[:1]
        )
        assert bytes(tensor.read())[:1] == expected, name
    assert baked.metadata == state.metadata


def test_a_vae_of_other_shapes_or_none_at_all_is_refused() -> None:
    wide = vae(9, **{"decoder.conv_in.weight": (8, 16, 3, 3)})
    with pytest.raises(UnsupportedFile, match=r"first_stage_model\.decoder\.conv_in\.weight"):
        bake_vae(checkpoint(), wide)
    with pytest.raises(CorruptFile):
        bake_vae(checkpoint(), StateDict({"weight": stored((3,), 1)}))
