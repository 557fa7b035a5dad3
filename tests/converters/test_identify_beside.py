"""What lies beside a file tells where names and shapes do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.identities.common import SD2
from helpers.sd1 import (
    SMALL,
    Shapes,
    Widths,
    clip_shapes,
    prefixed,
    state_dict,
    unet_shapes,
    vae_shapes,
)

from converters.identify import Base, Kind, Prediction, identify
from converters.identify.beside import identify_file, with_prediction_beside
from converters.statedict import StateDict

V_CONFIG = 'model:\n  params:\n    parameterization: "v"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.model.ckpt"


@pytest.mark.parametrize("widths", [SMALL, SD2])
def test_the_configuration_of_a_checkpoint_says_what_it_predicts(
    widths: Widths, path: Path
) -> None:
    state = state_dict(unet_shapes(widths))
    assert identify_file(path, state) == identify(state)
    (path.parent / "my.model.yaml").write_text(V_CONFIG)
    found = identify_file(path, state)
    assert found.prediction is Prediction.V
    assert found.evidence[-1] == "my.model.yaml beside it says v prediction"
    assert identify(with_prediction_beside(path, state)).prediction is Prediction.V


def test_what_the_file_says_itself_comes_first(path: Path) -> None:
    (path.parent / "my.model.yaml").write_text(V_CONFIG)
    state = state_dict(unet_shapes(SD2), metadata={"modelspec.prediction_type": "epsilon"})
    assert identify_file(path, state).prediction is Prediction.EPSILON


@pytest.mark.parametrize(
    ("scale", "base"), [(0.13025, Base.SDXL), (0.18215, Base.UNKNOWN), ("big", Base.UNKNOWN)]
)
def test_the_scale_of_its_latents_tells_whose_vae_it_is(
    scale: float | str, base: Base, path: Path
) -> None:
    (path.parent / "config.json").write_text(json.dumps({"scaling_factor": scale}))
    assert identify_file(path, state_dict(vae_shapes(SMALL))).base is base


@pytest.mark.parametrize("text", ["", "[1]", "{", "\0", "[" * 100_000])
def test_a_configuration_that_says_nothing_changes_nothing(text: str, path: Path) -> None:
    for name in ("config.json", "my.model.yaml"):
        (path.parent / name).write_text(text)
    for shapes in (vae_shapes(SMALL), unet_shapes(SD2)):
        state = state_dict(shapes)
        assert identify_file(path, state) == identify(state)
        assert with_prediction_beside(path, state) is state


def test_half_a_pipeline_without_its_denoiser_is_still_a_checkpoint() -> None:
    shapes: Shapes = {
        **prefixed("vae.", vae_shapes(SMALL)),
        **prefixed("text_encoder.text_model.", clip_shapes(SMALL)),
    }
    identity = identify(StateDict(state_dict(shapes).tensors))
    assert (identity.kind, identity.base, identity.variant) == (
        Kind.CHECKPOINT,
        Base.UNKNOWN,
        None,
    )
