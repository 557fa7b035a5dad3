"""What was found out for one structure answers for the next file of it, words aside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from converters.bytesource import MemoryBytes
from converters.containers import open_model
from converters.identify import identify
from converters.identify.watched import Watched
from converters.statedict import StateDict

LORA = {
    "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.zeros(4, 768),
    "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(3072, 4),
}
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "ss_base_model_version": st.sampled_from(["sd_v1", "sdxl_base_v1-0", "sd_v2", "what"]),
        "modelspec.trigger_phrase": st.sampled_from(["fox", "owl"]),
        "modelspec.architecture": st.sampled_from(["stable-diffusion-v1", "flux-1-dev/lora"]),
        "title": st.text(max_size=3),
    },
)


def read(metadata: dict[str, str]) -> StateDict:
    return open_model(MemoryBytes(save(LORA, metadata), "x.safetensors")).state_dict


@given(st.lists(METADATA, min_size=2, max_size=12))
def test_the_answer_is_that_of_a_file_seen_alone(several: list[dict[str, str]]) -> None:
    for metadata in several:
        stored = read(metadata)
        alone = StateDict(dict(stored.items()), metadata)
        assert identify(stored) == identify(alone)


def test_metadata_that_were_asked_for_decide_whether_an_answer_serves() -> None:
    watched = Watched({"a": "1", "b": "2"})
    assert (watched.get("a"), watched.get("c")) == ("1", None)
    with pytest.raises(KeyError):
        watched["d"]
    assert watched.agrees({"a": "1", "b": "other"})
    assert not watched.agrees({"a": "2"})
    assert not watched.agrees({"a": "1", "c": "now"})


def test_an_answer_that_rests_on_all_metadata_serves_nobody_else() -> None:
    watched = Watched({"a": "1"})
    assert list(watched) == ["a"]
    assert not watched.is_repeatable
