"""`extract`: components of a checkpoint as files that other programs load by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.pipelines import checkpoint
from helpers.sd1 import CLIP, UNET, VAE
from safetensors import safe_open

from converters.containers import open_model
from converters.writers.safetensors import write_safetensors

if TYPE_CHECKING:
    from conftest import Models, Program

PREFIXES = {"vae": VAE, "unet": UNET, "text-encoder": CLIP.removesuffix("text_model.")}
KINDS = {"vae": "vae", "unet": "diffusion-model", "text-encoder": "text-encoder"}


def _contents(path: Path) -> dict[str, bytes]:
    return {name: bytes(t.read()) for name, t in open_model(path).state_dict.items()}


@pytest.mark.parametrize("part", PREFIXES)
def test_a_part_is_a_file_of_its_own_that_is_identified(
    part: str, program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "part.safetensors"
    done = program("extract", part, models.checkpoint, "-o", target, "--verify", "--json")
    assert (done.code, done.json["verified"]) == (0, True)
    prefix = PREFIXES[part]
    expected = {
        name.removeprefix(prefix): data
        for name, data in _contents(models.checkpoint).items()
        if name.startswith(prefix) and not name.endswith("position_ids")
    }
    assert _contents(target) == expected
    (found,) = program("inspect", "--json", target).json
    assert found["kind"] == KINDS[part]


def test_the_lineage_says_what_it_was_taken_out_of(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "part.safetensors"
    program("extract", "vae", models.checkpoint, "-o", target, "--dtype", "fp32")
    with safe_open(target, "np") as file:
        derivation = json.loads(file.metadata()["assetmgr.derivation"])
    assert derivation["operation"] == "extract"
    assert (derivation["parameters"]["component"], derivation["parameters"]["dtype"]) == (
        "vae",
        "fp32",
    )
    (line,) = program("show", "--json", target).json["derived_from"]
    assert line["operation"] == "extract"


def test_without_a_target_the_part_lies_beside_the_checkpoint(
    program: Program, models: Models, tmp_path: Path
) -> None:
    source = tmp_path / "model.safetensors"
    source.write_bytes(models.checkpoint.read_bytes())
    assert program("extract", "vae", source).code == 0
    assert (tmp_path / "model.vae.safetensors").exists()
    done = program("extract", "vae", source)
    assert (done.code, len(done.errors)) == (1, 1)


def test_both_text_encoders_of_sdxl_get_the_names_of_transformers(
    program: Program, tmp_path: Path
) -> None:
    source = write_safetensors(checkpoint("sdxl"), tmp_path / "sdxl.safetensors").path
    for part, width in (("text-encoder", 768), ("text-encoder-2", 1280)):
        item = program("extract", part, source, "--json").json
        state = open_model(item["target"]).state_dict
        assert state["text_model.final_layer_norm.weight"].shape == (width,)
    assert state["text_model.encoder.layers.1.self_attn.q_proj.weight"].shape == (1280, 1280)


def test_a_part_of_a_pipelines_folder_can_be_taken(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder, target = tmp_path / "pipeline", tmp_path / "vae.safetensors"
    program("convert", models.checkpoint, "--to", "diffusers", "-o", folder)
    assert program("extract", "vae", folder, "-o", target).code == 0
    (found,) = program("inspect", "--json", target).json
    assert (found["kind"], found["layout"]) == ("vae", "ldm")


@pytest.mark.parametrize(
    ("part", "cause"),
    [("text-encoder-2", "SD1 has no text_encoder_2"), ("vae", "has no vae")],
)
def test_a_part_that_is_not_there_is_refused(
    part: str, cause: str, program: Program, models: Models, tmp_path: Path
) -> None:
    source = models.checkpoint if part != "vae" else models.lora
    target = tmp_path / "x.safetensors"
    done = program("extract", part, source, "-o", target)
    assert (done.code, len(done.errors)) == (1, 1)
    assert cause in done.err
    assert not target.exists()
