"""`diff`: two models, tensor by tensor, whatever holds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.numpy import load_file, save_file

if TYPE_CHECKING:
    from conftest import Models, Program

VAE = "first_stage_model."
CHANGED = VAE + "post_quant_conv.bias"


def test_a_pickle_equals_its_safetensors_twin(
    program: Program, models: Models, tmp_path: Path
) -> None:
    program("convert", models.checkpoint, "--to", "ckpt", "-o", tmp_path / "twin.ckpt")
    done = program("diff", models.checkpoint, tmp_path / "twin.ckpt", "--json")
    assert (done.code, done.json["equal"], done.json["differences"]) == (0, True, [])
    assert {part["different"] for part in done.json["components"]} == {0}
    assert "all the same" in program("diff", models.checkpoint, tmp_path / "twin.ckpt").out


def test_another_vae_is_told_from_the_same_unet(
    program: Program, models: Models, tmp_path: Path
) -> None:
    tensors = load_file(models.checkpoint)
    tensors[CHANGED] = tensors[CHANGED] + 1
    gone = VAE + "quant_conv.bias"
    del tensors[gone]
    save_file(tensors, tmp_path / "other.safetensors")
    done = program("diff", models.checkpoint, tmp_path / "other.safetensors", "--json")
    assert (done.code, done.json["equal"]) == (1, False)
    assert done.json["differences"] == [
        {"name": CHANGED, "how": "has other values"},
        {"name": gone, "how": "is only in the first"},
    ]
    parts = {part["name"]: part["different"] for part in done.json["components"]}
    assert parts == {"unet": 0, "text_encoder": 0, "vae": 2}
    text = program("diff", models.checkpoint, tmp_path / "other.safetensors").out
    assert f"{CHANGED} has other values" in text


def test_a_pipelines_folder_is_compared_as_its_single_file(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "pipeline"
    program("convert", models.checkpoint, "--to", "diffusers", "-o", folder)
    found = program("diff", models.checkpoint, folder, "--json").json["differences"]
    assert [each["name"].rpartition(".")[2] for each in found] == ["position_ids"]


def test_a_file_that_is_not_there_is_one_error_line(program: Program, models: Models) -> None:
    done = program("diff", models.checkpoint, "absent.safetensors")
    assert (done.code, len(done.errors)) == (1, 1)
