"""Casting, EMA, pruning and metadata: pure changes of a lazy state dict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.compute import buffer, value
from converters.dtypes import DType
from converters.errors import AssetmgrError, UnsupportedFile
from converters.extras import file_extras
from converters.identify import Base, Kind, Prediction, identify
from converters.statedict import Extent, LazyTensor, StateDict
from converters.transform.cast import cast
from converters.transform.ema import EmaChoice, apply_ema
from converters.transform.metadata import DERIVATION_KEY, Parent, provenance
from converters.transform.prune import SCHEDULE_BUFFERS, prune
from converters.writers.safetensors import write_safetensors

TYPES = {DType.F32: torch.float32, DType.F16: torch.float16, DType.BF16: torch.bfloat16}


def stored(tensor: torch.Tensor) -> LazyTensor:
    """A stored tensor with these values."""
    data = bytes(buffer(tensor))
    dtype = {kind: name for name, kind in TYPES.items()}.get(tensor.dtype, DType.I64)
    return LazyTensor(dtype, tuple(tensor.shape), (Extent(MemoryBytes(data), 0, len(data)),), "t")


@given(
    values=st.lists(st.floats(-60000, 60000, width=32), max_size=8),
    source=st.sampled_from(list(TYPES)),
    target=st.sampled_from(list(TYPES)),
)
def test_a_cast_gives_what_torch_gives_and_twice_is_once(
    values: list[float], source: DType, target: DType
) -> None:
    original = torch.tensor(values, dtype=torch.float32).to(TYPES[source])
    state = StateDict({"w": stored(original)})
    if original.isinf().any():
        return
    once = cast(state, target)
    assert once["w"].dtype is target
    expected = original.to(TYPES[target])
    if expected.isinf().any():
        with pytest.raises(AssetmgrError, match="too large for"):
            once["w"].read()
        return
    assert torch.equal(value(once["w"]), expected)
    assert cast(once, target)["w"] is once["w"]


def test_a_cast_leaves_integers_indices_and_equal_types_as_stored_bytes() -> None:
    state = StateDict(
        {
            "half": stored(torch.ones(2, dtype=torch.float16)),
            "steps": stored(torch.tensor([1, 2])),
            "embeddings.position_ids": stored(torch.arange(3.0)),
        }
    )
    changed = cast(state, DType.F16)
    assert dict(changed) == dict(state)


def test_a_value_that_does_not_fit_names_its_tensor_and_leaves_no_file(tmp_path: Path) -> None:
    state = cast(StateDict({"unet.w": stored(torch.tensor([1.0, 1e6]))}), DType.F16)
    with pytest.raises(AssetmgrError, match=r"unet\.w: 1 values are too large for F16"):
        write_safetensors(state, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_infinities_that_were_already_there_are_not_the_casts_fault() -> None:
    state = cast(StateDict({"w": stored(torch.tensor([float("inf"), 1.0]))}), DType.F16)
    assert value(state["w"])[0] == float("inf")


def ema_checkpoint() -> StateDict:
    plain, average = torch.zeros(2), torch.ones(2)
    return StateDict(
        {
            "model.diffusion_model.out.2.bias": stored(plain),
            "first_stage_model.conv.bias": stored(plain),
            "model_ema.diffusion_modelout2bias": stored(average),
            "model_ema.decay": stored(torch.tensor(0.99)),
            "model_ema.num_updates": stored(torch.tensor(7)),
            "betas": stored(plain),
        }
    )


def test_ema_is_kept_dropped_or_used() -> None:
    state = ema_checkpoint()
    assert apply_ema(state, EmaChoice.KEEP) == (state, ())
    dropped, names = apply_ema(state, EmaChoice.DROP)
    assert names == (
        "model_ema.decay",
        "model_ema.diffusion_modelout2bias",
        "model_ema.num_updates",
    )
    assert not value(dropped["model.diffusion_model.out.2.bias"]).any()
    used, _ = apply_ema(state, EmaChoice.USE)
    assert set(used) == set(dropped)
    assert value(used["model.diffusion_model.out.2.bias"]).all()


def test_using_ema_needs_averages_that_belong_to_weights() -> None:
    plain = ema_checkpoint().select(lambda name: not name.startswith("model_ema."))
    with pytest.raises(UnsupportedFile, match="no EMA"):
        apply_ema(plain, EmaChoice.USE)
    assert apply_ema(plain, EmaChoice.DROP) == (plain, ())
    for name in ("model_ema.stray", "model_ema.diffusion_modelout2bias"):
        stray = ema_checkpoint().overlay({name: stored(torch.ones(7))})
        with pytest.raises(UnsupportedFile, match=name.replace(".", r"\.")):
            apply_ema(stray, EmaChoice.USE)


def test_pruning_drops_what_no_program_renders_with() -> None:
    state = ema_checkpoint().overlay({"loss.logvar": stored(torch.ones(1))})
    pruned, dropped = prune(state)
    assert set(pruned) == {"model.diffusion_model.out.2.bias", "first_stage_model.conv.bias"}
    assert set(dropped) == set(state) - set(pruned)
    assert "betas" in SCHEDULE_BUFFERS
    assert prune(pruned) == (pruned, ())


@pytest.mark.parametrize(
    ("base", "variant", "prediction", "kind", "expected"),
    [
        (Base.SD1, None, Prediction.EPSILON, Kind.CHECKPOINT, "stable-diffusion-v1"),
        (Base.SD1, "inpaint", Prediction.EPSILON, Kind.VAE, "stable-diffusion-v1-inpainting/vae"),
        (Base.SD1, "pix2pix", Prediction.EPSILON, Kind.CHECKPOINT, None),
        (Base.SD2, None, Prediction.V, Kind.CHECKPOINT, "stable-diffusion-v2-768-v"),
        (Base.SD2, None, Prediction.EPSILON, Kind.LORA, "stable-diffusion-v2-512/lora"),
        (Base.SD2, None, Prediction.UNKNOWN, Kind.LORA, None),
        (Base.SD2, "depth", Prediction.EPSILON, Kind.CHECKPOINT, "stable-diffusion-v2-depth"),
        (Base.SDXL, None, Prediction.EDM, Kind.CHECKPOINT, "stable-diffusion-xl-v1-base"),
        (Base.SDXL_REFINER, None, Prediction.EPSILON, Kind.LORA,
         "stable-diffusion-xl-v1-refiner/lora"),
        (Base.FLUX, None, Prediction.FLOW, Kind.CHECKPOINT, None),
        (Base.SD1, None, Prediction.UNKNOWN, Kind.UPSCALER, None),
    ],
)  # fmt: skip
def test_architectures_are_named_in_modelspecs_words_or_not_at_all(
    base: Base, variant: str | None, prediction: Prediction, kind: Kind, expected: str | None
) -> None:
    identity = replace(
        identify(StateDict({})), kind=kind, base=base, variant=variant, prediction=prediction
    )
    texts = provenance(StateDict({}), identity, title="x", operation="convert", parents=[])
    assert texts.get("modelspec.architecture") == expected
    assert ("modelspec.title" in texts) is (expected is not None)
    told = texts.get("modelspec.prediction_type")
    assert told is None or told == prediction


@pytest.mark.parametrize(("width", "resolution"), [(320, "512x512"), (64, None)])
def test_only_a_checkpoint_of_full_width_is_said_to_be_of_the_familys_resolution(
    width: int, resolution: str | None
) -> None:
    first = stored(torch.ones(width, 4, 3, 3))
    state = StateDict({"model.diffusion_model.input_blocks.0.0.weight": first})
    identity = replace(identify(state), kind=Kind.CHECKPOINT, base=Base.SD1)
    texts = provenance(state, identity, title="mine", operation="convert", parents=[])
    assert texts["modelspec.architecture"] == "stable-diffusion-v1"
    assert texts.get("modelspec.resolution") == resolution


def test_metadata_keeps_the_old_texts_and_says_where_the_file_comes_from() -> None:
    state = StateDict(
        {"emb_params": stored(torch.ones(2, 768))},
        {"modelspec.title": "Mine", "ss_seed": "1"},
        {"step": 500, "name": "cat"},
    )
    texts = provenance(
        state,
        identify(state),
        title="ignored: the file has one",
        operation="convert",
        parents=[Parent("cat.pt", sha256="ab" * 32)],
        parameters={"dtype": "fp16"},
    )
    assert texts["modelspec.title"] == "Mine"
    assert texts["ss_seed"] == "1"
    assert texts["format"] == "pt"
    assert texts["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert file_extras(StateDict({}, texts)) == {"step": 500, "name": "cat"}
    derivation = json.loads(texts[DERIVATION_KEY])
    assert derivation["operation"] == "convert"
    assert derivation["parents"] == [
        {"name": "cat.pt", "sha256": "ab" * 32, "blake3": None, "autov3": None}
    ]
