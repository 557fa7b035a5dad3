"""What a file says about itself, whoever wrote it."""

from __future__ import annotations

import json

import pytest
from helpers.sd1 import state_dict
from hypothesis import given
from hypothesis import strategies as st

from converters.extras import METADATA_KEY
from converters.identify.about import About, about
from converters.statedict import StateDict


def said(metadata: dict[str, str]) -> About:
    return about(StateDict({}, metadata))


def test_a_modelspec_is_believed_before_the_trainer() -> None:
    found = said(
        {
            "modelspec.title": "Gems",
            "modelspec.author": "somebody",
            "modelspec.description": "Shiny.",
            "modelspec.license": "CC0",
            "modelspec.usage_hint": "weight 0.7",
            "modelspec.tags": "gem, shiny ,gem,",
            "ss_output_name": "gems-000010",
            "ss_training_comment": "third try",
        }
    )
    assert found == About("Gems", "somebody", "Shiny.", "CC0", "weight 0.7", ("gem", "shiny"))


def test_without_one_the_trainers_words_serve() -> None:
    found = said({"ss_output_name": "gems-000010", "ss_training_comment": "None"})
    assert (found.title, found.description) == ("gems-000010", None)


def test_training_settings_are_numbers_where_they_are_numbers() -> None:
    found = said(
        {
            "ss_network_module": "lycoris.kohya",
            "ss_network_dim": "16",
            "ss_network_alpha": "0.5",
            "ss_network_args": json.dumps({"algo": "loha", "conv_dim": "8"}),
            "ss_unet_lr": "1e-4",
            "ss_text_encoder_lr": "None",
            "ss_resolution": "(512, 512)",
            "ss_sd_model_name": "123",
            "ss_noise_offset": "nan",
        }
    )
    assert found.training == {
        "base_model": "123",
        "network": "lycoris.kohya",
        "dim": 16,
        "alpha": 0.5,
        "network_args": {"algo": "loha", "conv_dim": "8"},
        "unet_learning_rate": 0.0001,
        "resolution": "(512, 512)",
    }


@pytest.mark.parametrize("inside", ["pickle", "metadata"])
def test_values_beside_the_tensors_tell_of_training_too(inside: str) -> None:
    extras = {"step": 4000, "sd_checkpoint_name": "base", "sd_checkpoint": None}
    state = state_dict({"emb_params": (1, 768)})
    if inside == "pickle":
        state = StateDict(state.tensors, {}, extras)
    else:
        state = state.with_metadata({METADATA_KEY: json.dumps(extras)})
    assert about(state).training == {"steps": 4000, "base_model": "base"}


@given(
    st.dictionaries(
        st.sampled_from(["ss_network_args", "ss_network_dim", "ss_seed", "modelspec.tags"]),
        st.one_of(st.text(), st.integers().map(str), st.floats().map(str)),
    )
)
def test_whatever_is_written_there_something_is_answered(metadata: dict[str, str]) -> None:
    json.dumps(said(metadata).training, allow_nan=False)
