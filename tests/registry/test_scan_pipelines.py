"""The folder of a diffusers pipeline is one model of the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from blake3 import blake3
from small_models import safetensors, write_lora

from converters.errors import FileMissing
from converters.hashing_folder import fingerprint_of_folder, hash_folder
from registry.scanning.scanner import scan, scan_file

UNET = {"conv_in.weight": (320, 4, 3, 3), "conv_out.weight": (4, 320, 3, 3)}
VAE = {"decoder.conv_in.weight": (8, 4, 3, 3)}
COMPONENTS = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}


def write_pipeline(folder: Path, fill: int = 1) -> Path:
    for name, shapes in (("unet", UNET), ("vae", VAE)):
        part = folder / name / "diffusion_pytorch_model.safetensors"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(safetensors(shapes, {}, fill))
    (folder / "model_index.json").write_text(json.dumps(COMPONENTS))
    return folder


def test_it_is_one_asset_named_by_its_folder(library, models):
    folder = write_pipeline(models / "dreams-v1.5")
    write_lora(models / "fox.safetensors")
    report = scan(library, [models])
    assert (report.added, report.failed) == (2, 0)
    asset = library.find("dreams-v1.5")
    assert (asset.container, asset.path, asset.tensors) == ("diffusers", str(folder), 3)
    assert asset.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert library.find(str(folder)).id == asset.id
    assert scan(library).unchanged == 2


def test_its_hash_is_that_of_invokeai(models):
    folder = write_pipeline(models / "p")
    (folder / "notes.txt").write_text("not hashed")
    texts = [
        blake3(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.safetensors"))
    ]
    assert hash_folder(folder).hashes.blake3 == blake3("".join(texts).encode()).hexdigest()


def test_a_changed_component_is_another_content(library, models):
    folder = write_pipeline(models / "p")
    scan(library, [models])
    first = library.find("p").id
    write_pipeline(folder, fill=2)
    assert scan(library).updated == 1
    assert library.find(str(folder)).id != first


def test_a_moved_one_keeps_what_was_written_on_it(library, models):
    folder = write_pipeline(models / "old")
    scan(library, [models])
    library.tag([library.find("old").id], ["mine"])
    folder.rename(models / "new")
    assert scan(library).moved == 1
    assert library.find("new").tags == ("mine",)


def test_a_snapshot_of_the_hub_has_the_name_of_its_repository(library, models):
    write_pipeline(models / "models--artist--Dream-Shaper" / "snapshots" / ("0a1b" * 10))
    scan(library, [models])
    assert [row.name for row in library.search().rows] == ["Dream-Shaper"]


def test_its_parts_are_no_models_any_more_unless_somebody_wrote_on_them(library, models):
    folder = write_pipeline(models / "p")
    index = (folder / "model_index.json").rename(models / "aside")
    scan(library, [models])
    unet, vae = (library.find(str(next((folder / part).iterdir()))) for part in ("unet", "vae"))
    library.note(vae.id, "the good one")
    index.rename(folder / "model_index.json")
    report = scan(library)
    assert (report.added, report.missing) == (1, 0)
    assert {row.id for row in library.search().rows} == {vae.id, library.find("p").id}
    assert library.get(vae.id).files == ()
    assert unet.id != vae.id


def test_one_whose_components_are_broken_is_named(library, models):
    folder = write_pipeline(models / "p")
    for part in folder.rglob("*.safetensors"):
        part.write_bytes(b"not a model at all")
    report = scan(library, [models])
    assert [(error.path, error.code) for error in report.errors] == [(str(folder), "unsupported")]
    assert library.find("p").kind == "unknown"


def test_one_can_be_recorded_by_itself(library, models):
    assert scan_file(library, write_pipeline(models / "p")).container == "diffusers"


def test_a_folder_that_is_gone_is_named(models):
    with pytest.raises(FileMissing, match="vanished"):
        fingerprint_of_folder(models / "nothing")
