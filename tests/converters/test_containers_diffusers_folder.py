"""Pipeline folders as other programs leave them: variants, shards, pickles, gaps, wrong indexes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.inspecting import inspected_in_a_process
from helpers.pickles import call_name, dict_of, pickled, tensor, torch_zip
from safetensors.torch import save_file

from converters.containers import Container, is_pipeline, open_model
from converters.errors import CorruptFile, FileProblem, UnsupportedFile
from converters.pickles.verdict import Verdict

WHOLE = "diffusion_pytorch_model.safetensors"
INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.32.0",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": [None, None],
    "requires_safety_checker": False,
}


def weights(path: Path, number: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"w": torch.full((2,), float(number))}, path)
    return path


def shards(folder: Path, stem: str, middle: str = "") -> None:
    """Two shards with an index, as save_pretrained names them with and without a variant."""
    names = [f"{stem}{middle}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    places = {}
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        save_file({f"w{number}": torch.ones(1)}, folder / name)
        places[f"w{number}"] = name
    index = folder / f"{stem}.safetensors.index{middle}.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model_index.json").write_text(json.dumps(INDEX))
    weights(tmp_path / "unet" / WHOLE, 1)
    weights(tmp_path / "vae" / WHOLE, 2)
    return tmp_path


def torch_from(data: bytes) -> float:
    return float(torch.frombuffer(bytearray(data), dtype=torch.float32)[0])


def test_the_components_with_weights_are_one_state_dict(folder: Path) -> None:
    assert is_pipeline(folder)
    model = open_model(folder)
    assert model.container is Container.DIFFUSERS
    assert list(model.state_dict) == ["unet.w", "vae.w"]
    assert torch_from(bytes(model.state_dict["vae.w"].read())) == 2
    assert model.nbytes == sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert (model.path, model.problems) == (str(folder), ())
    assert model.safety.verdict is Verdict.SAFE


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        ((WHOLE, "diffusion_pytorch_model.fp16.safetensors"), 1),
        (("diffusion_pytorch_model.fp16.safetensors",), 1),
        (("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"), 1),
        (("diffusion_pytorch_model.bf16.safetensors", WHOLE), 2),
    ],
)
def test_of_several_files_the_plain_safetensors_are_read_first(
    present: tuple[str, ...], chosen: int, folder: Path
) -> None:
    (folder / "unet" / WHOLE).unlink()
    for number, name in enumerate(present, 1):
        weights(folder / "unet" / name, number)
    data = bytes(open_model(folder).state_dict["unet.w"].read())
    assert torch_from(data) == chosen


@pytest.mark.parametrize("middle", ["", ".fp16"])
def test_a_component_in_shards_is_read_through_its_index(middle: str, folder: Path) -> None:
    (folder / "unet" / WHOLE).unlink()
    shards(folder / "unet", "diffusion_pytorch_model", middle)
    assert list(open_model(folder).state_dict) == ["unet.w0", "unet.w1", "vae.w"]


def test_the_older_spelling_of_a_variant_in_shards_is_read(folder: Path) -> None:
    (folder / "unet" / WHOLE).unlink()
    shards(folder / "unet", "diffusion_pytorch_model")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    for shard in (folder / "unet").glob("*-of-00002.safetensors"):
        shard.rename(shard.with_suffix(".fp16.safetensors"))
    text = index.read_text().replace("-of-00002.", "-of-00002.fp16.")
    (folder / "unet" / "diffusion_pytorch_model.safetensors.fp16.index.json").write_text(text)
    index.unlink()
    assert list(open_model(folder).state_dict) == ["unet.w0", "unet.w1", "vae.w"]


def test_a_pickled_component_is_read_and_its_dangers_are_named(folder: Path) -> None:
    (folder / "vae" / WHOLE).unlink()
    entries = {"w": tensor("0", (2,), (1,), numel=2), "x": call_name("os.system")}
    hostile = torch_zip(pickled(dict_of(entries)), {"0": bytes(8)})
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(hostile)
    model = open_model(folder)
    assert model.safety.verdict is Verdict.DANGEROUS
    assert any("vae" in finding and "os.system" in finding for finding in model.safety.findings)


def test_a_component_without_weights_is_a_problem_and_the_rest_is_read(folder: Path) -> None:
    (folder / "vae" / WHOLE).unlink()
    model = open_model(folder)
    assert list(model.state_dict) == ["unet.w"]
    assert model.problems == ("vae: has no weights",)


def test_a_component_that_is_not_there_is_a_problem(folder: Path) -> None:
    (folder / "vae" / WHOLE).unlink()
    (folder / "vae").rmdir()
    assert open_model(folder).problems == ("vae: cannot be opened: No such file or directory",)


def test_a_truncated_component_is_a_problem_that_says_where(folder: Path) -> None:
    path = folder / "vae" / WHOLE
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = open_model(folder).problems
    assert problem.startswith("vae: ")


def test_a_folder_of_no_readable_component_is_refused(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(UnsupportedFile, match="no component of the pipeline can be read: unet"):
        open_model(folder)


@pytest.mark.parametrize("name", ["../vae", "/etc", "un/et", "..", "UNET", ""])
def test_a_component_name_cannot_lead_out_of_the_folder(name: str, folder: Path) -> None:
    outside = {name: ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps({**INDEX, **outside}))
    assert list(open_model(folder).state_dict) == ["unet.w", "vae.w"]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "JSON"),
        (b"[]", "JSON"),
        (b'{"unet": ["a", "b"], "unet": ["a", "b"]}', "twice"),
        (b"\xff", "UTF-8"),
        (b" " * (1 << 20) + b"{}", "longer than 1 MB"),
    ],
)
def test_a_model_index_that_is_none_is_refused_by_name(
    content: bytes, cause: str, folder: Path
) -> None:
    (folder / "model_index.json").write_bytes(content)
    with pytest.raises(CorruptFile) as caught:
        open_model(folder)
    assert caught.value.path == str(folder / "model_index.json")
    assert cause in caught.value.cause


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"prediction_type": "v_prediction"}, {"modelspec.prediction_type": "v"}),
        ({"prediction_type": "epsilon"}, {"modelspec.prediction_type": "epsilon"}),
        ({"prediction_type": "sample"}, {}),
        ({"prediction_type": ["v"]}, {}),
        ({"rescale_betas_zero_snr": True}, {"diffusers.rescale_betas_zero_snr": "true"}),
    ],
)
def test_the_scheduler_says_what_is_predicted(
    config: dict[str, Any], said: dict[str, str], folder: Path
) -> None:
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    assert open_model(folder).state_dict.metadata == said


def test_the_folder_of_a_single_component_is_its_weights(folder: Path) -> None:
    model = open_model(folder / "unet")
    assert (model.container, list(model.state_dict)) == (Container.SAFETENSORS, ["w"])
    assert model.path == str(folder / "unet" / WHOLE)


def test_a_folder_without_any_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileProblem):
        open_model(tmp_path)


def test_a_pipeline_is_inspected_as_one_model(folder: Path) -> None:
    found = inspected_in_a_process(folder)
    assert (found["container"], found["tensors"]) == ("diffusers", 2)
    assert found["path"] == str(folder)
