"""The folder of a diffusers pipeline is one model of the library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from blake3 import blake3
from small_models import safetensors, write_lora
from sqlalchemy import update

from converters.errors import FileMissing
from converters.hashing_folder import fingerprint_of_folder, hash_folder
from registry.scanning import naming
from registry.scanning.places import name_of
from registry.scanning.scanner import scan, scan_file
from registry.tables import schema

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


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/m/fox/unet/diffusion_pytorch_model.safetensors", "fox (unet)"),
        ("/m/fox/unet/diffusion_pytorch_model.fp16.safetensors", "fox (unet, fp16)"),
        ("/m/fox/text_encoder/model.safetensors", "fox (text_encoder)"),
        ("/m/fox/vae/pytorch_model-00001-of-00003.bin", "fox (vae, 00001-of-00003)"),
        ("/c/models--me--fox/snapshots/0a1b/vae/diffusion_pytorch_model.bin", "fox (vae)"),
        ("/m/control-fox/diffusion_pytorch_model.safetensors", "control-fox"),
        ("/m/style/pytorch_lora_weights.safetensors", "style"),
        ("/m/style/adapter_model.safetensors", "style"),
        ("/m/fox/model.safetensors", "model"),
        ("/m/unet/fox.safetensors", "fox"),
        ("/m/fox/vae/diffusion_pytorch_model_2.bin", "diffusion_pytorch_model_2"),
        ("/ui/models/vae/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model"),
        ("/ui/models/Lora/pytorch_lora_weights.safetensors", "pytorch_lora_weights"),
        ("/diffusion_pytorch_model.bin", "diffusion_pytorch_model"),
    ],
)
def test_a_file_that_is_called_as_all_are_has_the_name_of_its_folder(path, name):
    assert name_of(path) == name


@pytest.fixture
def parts(library, models):
    """The folder of a pipeline without its index, whose UNet and autoencoder are in the library."""
    folder = write_pipeline(models / "fox")
    (folder / "model_index.json").unlink()
    scan(library, [models])
    return folder


def _names(library):
    return sorted(row.name for row in library.search().rows)


def test_parts_that_are_recorded_alone_have_names_that_tell_them(library, parts):
    assert _names(library) == ["fox (unet)", "fox (vae)"]
    vae = parts / "vae" / "diffusion_pytorch_model.safetensors"
    assert library.find("fox (vae)").path == str(vae)
    assert library.search("diffusion_pytorch").total == library.search("fox").total == 2
    assert [asset.name for asset in library.assets('"fox (unet"')] == ["fox (unet)"]
    assert len(library.assets("diffusion_pytorch")) == 2


def test_the_name_of_a_part_follows_its_folder_and_finds_copies(library, parts, models):
    owl = parts.rename(models / "owl")
    assert scan(library).moved == 2
    assert _names(library) == ["owl (unet)", "owl (vae)"]
    shutil.copytree(owl / "vae", models / "cat" / "vae")
    scan(library)
    assert library.find("cat (vae)").name == "owl (vae)"


def test_parts_that_older_releases_recorded_get_names_that_tell_them(library, parts, monkeypatch):
    with library._database.writing() as connection:
        older = {"name": "diffusion_pytorch_model", "name_folded": "diffusion_pytorch_model"}
        connection.execute(update(schema.asset).values(older))
    monkeypatch.setattr(naming, "RULES", naming.RULES + 1)
    scan(library)
    assert _names(library) == ["fox (unet)", "fox (vae)"]
    assert library.search("fox").total == 2
