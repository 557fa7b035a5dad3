"""`convert`, from files as people have them to registered safetensors files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_models
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from assetmgr import __version__
from assetmgr.operations.convert import formats as operation

if TYPE_CHECKING:
    from conftest import Models, Program

AVERAGED = "model_ema."


def _names(path: Path) -> set[str]:
    with safe_open(path, "np") as file:
        return set(file.keys())


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        return dict(file.metadata())


@pytest.fixture
def old(models: Models, tmp_path: Path) -> Path:
    """A private name of the pickled checkpoint."""
    path = tmp_path / "old.ckpt"
    os.link(models.pickled, path)
    return path


def test_a_pickle_becomes_safetensors_with_equal_tensors(program: Program, old: Path) -> None:
    before = (old.stat().st_mtime_ns, old.read_bytes())
    (item,) = program("convert", "--json", old).json
    target = old.with_suffix(".safetensors")
    assert (item["source"], item["target"]) == (str(old), str(target))
    assert item["bytes"] == target.stat().st_size
    assert item["tensors"] == len(_names(target))
    assert (old.stat().st_mtime_ns, old.read_bytes()) == before
    first, second = program("hash", "--json", old, target).json
    assert first["weights"] == second["weights"], "the digest of the tensors is format-independent"
    assert first["sha256"] != second["sha256"]
    assert item["hashes"] == {name: second[name] for name in item["hashes"]}


def test_what_a_file_was_made_of_is_in_its_metadata_and_in_the_library(
    program: Program, old: Path
) -> None:
    program("scan", old.parent)
    (item,) = program("convert", "--json", old, "--dtype", "bf16", "--ema", "drop").json
    metadata = _metadata(Path(item["target"]))
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1"
    derivation = json.loads(metadata["assetmgr.derivation"])
    parent = program("show", "--json", old).json
    assert derivation["parents"][0]["sha256"] == parent["hashes"]["sha256"]
    shown = program("show", "--json", f"#{item['asset']}").json
    (line,) = shown["derived_from"]
    assert line["version"] == __version__
    assert (line["asset"], line["operation"]) == (parent["id"], "convert")
    assert line["parameters"] == {
        "dtype": "bf16",
        "ema": "drop",
        "prune": False,
        "on_overflow": "keep",
    }
    assert shown["hashes"]["sha256"] == item["hashes"]["sha256"]
    assert f"old.ckpt #{parent['id']} by convert" in program("show", item["target"]).out


def test_metadata_of_the_source_is_kept(program: Program, models: Models, tmp_path: Path) -> None:
    target = tmp_path / "half.safetensors"
    assert program("convert", models.checkpoint, "-o", target, "--dtype", "bf16").code == 0
    assert _metadata(target)["author"] == "somebody"


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("fp32", "F32"),
        ("fp16", "F16"),
        ("bf16", "BF16"),
        ("fp8_e4m3fn", "F8_E4M3"),
        ("fp8_e5m2", "F8_E5M2"),
    ],
)
def test_the_precision_is_changed_for_floats_only(
    word: str, label: str, program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    program("convert", models.checkpoint, "-o", target, "--dtype", word)
    (found,) = program("inspect", "--json", target).json
    assert set(found["dtypes"]) == {label, "I64"}


def test_averages_are_kept_dropped_or_used(program: Program, old: Path, tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for choice in ("keep", "drop", "use"):
        target = tmp_path / f"{choice}.safetensors"
        (found[choice],) = program("convert", "--json", old, "--ema", choice, "-o", target).json
    kept, dropped, used = (_names(tmp_path / f"{c}.safetensors") for c in found)
    assert any(name.startswith(AVERAGED) for name in kept)
    assert dropped == used == {name for name in kept if not name.startswith(AVERAGED)}
    # Entries outside the model are named as dropped whatever is chosen.
    assert kept - dropped == set(found["drop"]["dropped"]) - set(found["keep"]["dropped"])
    name = "model.diffusion_model.input_blocks.0.0.weight"
    average = AVERAGED + name.removeprefix("model.").replace(".", "")
    with (
        safe_open(tmp_path / "keep.safetensors", "np") as before,
        safe_open(tmp_path / "use.safetensors", "np") as after,
    ):
        assert (after.get_tensor(name) == before.get_tensor(average)).all()
        assert not (before.get_tensor(name) == before.get_tensor(average)).all()


def test_using_averages_that_are_not_there_is_an_error(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "x.safetensors"
    done = program("convert", models.checkpoint, "--ema", "use", "-o", target)
    assert done.code == 1
    assert "no EMA weights" in done.errors[0]
    assert not target.exists()


def test_pruning_drops_what_no_program_renders_with(
    program: Program, old: Path, tmp_path: Path
) -> None:
    target = tmp_path / "slim.safetensors"
    (item,) = program("convert", "--json", old, "--prune", "-o", target).json
    assert "betas" in item["dropped"]
    assert not any(name.startswith((AVERAGED, "betas")) for name in _names(target))


def test_a_dry_run_says_what_would_happen_and_does_nothing(
    program: Program, old: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    done = program("convert", "--json", old, "--dtype", "fp32", "--dry-run")
    (plan,) = done.json
    assert sorted(tmp_path.iterdir()) == before
    assert plan["hashes"] is plan["seconds"] is plan["asset"] is None
    assert program("list", "--json").json["total"] == 0
    (made,) = program("convert", "--json", old, "--dtype", "fp32").json
    assert {key: made[key] for key in ("target", "tensors", "bytes", "dropped")} == {
        key: plan[key] for key in ("target", "tensors", "bytes", "dropped")
    }


def test_targets_are_replaced_only_when_told(program: Program, old: Path) -> None:
    target = old.with_suffix(".safetensors")
    target.write_text("precious")
    done = program("convert", old)
    assert done.code == 1
    assert done.errors == [f"error: {target}: already exists"]
    assert "--overwrite" in done.err
    assert target.read_text() == "precious"
    assert program("convert", old, "--overwrite").code == 0
    assert _names(target)


def test_the_same_conversion_gives_the_same_bytes(
    program: Program, models: Models, tmp_path: Path
) -> None:
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    for target in (first, second):
        program("convert", models.lora, "-o", target, "--dtype", "fp32")
    assert first.read_bytes() == second.read_bytes()


def test_a_file_cannot_be_its_own_target(program: Program, models: Models) -> None:
    before = models.lora.read_bytes()
    for arguments in ([], ["-o", models.lora, "--overwrite"]):
        done = program("convert", models.lora, *arguments)
        assert done.code == 2
        assert "its own target" in done.errors[0]
    assert models.lora.read_bytes() == before


def test_no_source_is_the_target_by_another_name(
    program: Program, models: Models, tmp_path: Path
) -> None:
    alias, vae = tmp_path / "alias.safetensors", tmp_path / "vae.safetensors"
    shutil.copyfile(models.lora, alias)
    os.link(alias, tmp_path / "lora.safetensors")
    assert program("extract", "vae", models.checkpoint, "-o", vae).code == 0
    before = alias.read_bytes(), vae.read_bytes()
    for arguments in (
        (tmp_path / "lora.safetensors", "-o", alias),
        (models.checkpoint, "--vae", vae, "-o", vae),
        (models.checkpoint, "--vae", vae, "--to", "diffusers", "-o", tmp_path),
    ):
        done = program("convert", *arguments, "--overwrite")
        assert done.code == 2
        assert "also a source" in done.errors[0] or "a source in it" in done.errors[0]
    assert (alias.read_bytes(), vae.read_bytes()) == before


def _mixed(folder: Path) -> Path:
    deeper = folder / "in" / "deeper"
    deeper.mkdir(parents=True)
    cli_models.pickled(deeper.parent / "a.pt", {"a": (2, 3)})
    cli_models.pickled(deeper / "b.bin", {"b": (4,)})
    cli_models.tiny(deeper.parent / "already.safetensors")
    (deeper.parent / "broken.ckpt").write_bytes(b"PK\x03\x04 and no more")
    (deeper.parent / "notes.txt").write_text("not a model")
    (deeper.parent / ".hidden.ckpt").write_text("not looked at")
    return deeper.parent


def test_a_folder_is_converted_file_by_file_past_the_broken_ones(
    program: Program, tmp_path: Path
) -> None:
    folder = _mixed(tmp_path)
    done = program("convert", "--json", folder)
    assert done.code == 1
    assert [Path(item["source"] or item["path"]).name for item in done.json] == [
        "a.pt",
        "broken.ckpt",
    ]
    assert [len(item.get("errors", [])) for item in done.json] == [0, 1]
    assert len(done.errors) == 1
    assert (folder / "a.safetensors").is_file()
    assert not (folder / "broken.safetensors").exists()


def test_an_output_folder_mirrors_the_folders_of_the_source(
    program: Program, tmp_path: Path
) -> None:
    folder, out = _mixed(tmp_path), tmp_path / "out"
    program("convert", folder, "--recursive", "--output-dir", out)
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert made == ["a.safetensors", "already.safetensors", "deeper/b.safetensors"]


def test_two_sources_of_one_target_are_not_merged_into_each_other(
    program: Program, tmp_path: Path
) -> None:
    for suffix in (".ckpt", ".pt"):
        cli_models.pickled(tmp_path / f"same{suffix}", {suffix: (2,)})
    done = program("convert", tmp_path)
    assert done.code == 1
    assert "would also be the target of" in done.errors[0]
    assert _names(tmp_path / "same.safetensors") == {".ckpt"}


def test_a_folder_with_nothing_to_convert_says_so(program: Program, tmp_path: Path) -> None:
    cli_models.tiny(tmp_path / "already.safetensors")
    done = program("convert", tmp_path)
    assert done.code == 0
    assert "nothing to convert" in done.err


def test_a_mislabelled_file_is_taken_for_what_it_is(
    program: Program, models: Models, tmp_path: Path
) -> None:
    wrong = tmp_path / "really-a-pickle.safetensors"
    shutil.copy(cli_models.pickled(tmp_path / "x.ckpt", {"a": (2, 3)}), wrong)
    (found,) = program("inspect", "--json", wrong).json
    assert found["container"] == "torch-zip"
    assert program("convert", wrong, "-o", tmp_path / "right.safetensors").code == 0
    assert _names(tmp_path / "right.safetensors") == {"a"}


def test_a_dangerous_pickle_is_converted_without_running_it(
    program: Program, tmp_path: Path
) -> None:
    marker = tmp_path / "it-was-run"
    source = cli_models.hostile(tmp_path / "bad.ckpt", marker)
    done = program("convert", source)
    assert done.code == 0
    assert "warning:" in done.err
    assert "dangerous" in done.err
    (found,) = program("inspect", "--json", source.with_suffix(".safetensors")).json
    assert found["safety"]["verdict"] == "safe"
    assert not marker.exists()


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """A file of two tensors, one with values that half precision cannot hold."""
    path = tmp_path / "loud.safetensors"
    values = np.array([1e6, -1e6, 1.0], np.float32)
    save_file({"large": values, "small": np.ones(3, np.float32)}, path)
    return path


def test_a_tensor_that_would_overflow_keeps_its_precision_and_is_named(
    program: Program, loud: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    done = program("convert", loud, "-o", target, "--dtype", "fp16", "--json")
    assert done.code == 0
    assert "1 tensors keep their precision" in done.err
    assert "large" in done.json[0]["warnings"][-1]
    with safe_open(target, "np") as file:
        assert file.get_tensor("large").tolist() == [1e6, -1e6, 1.0]
        assert file.get_tensor("small").dtype == np.float16


def test_overflow_can_be_clamped_or_refused(program: Program, loud: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    call = ("convert", loud, "-o", target, "--dtype", "fp16", "--json", "--on-overflow")
    refused = program(*call, "fail")
    assert (refused.code, refused.json[0]["code"]) == (1, "overflow")
    assert not target.exists()
    (item,) = program(*call, "clamp").json
    assert item["losses"] == [{"tensor": "large", "clamped": 2, "vanished": 0, "nan": 0}]
    with safe_open(target, "np") as file:
        assert file.get_tensor("large").tolist() == [65504.0, -65504.0, 1.0]


def test_chosen_components_alone_are_written(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    (item,) = program(
        "convert", models.checkpoint, "-o", target, "--components", "vae", "--json"
    ).json
    assert all(name.startswith("first_stage_model.") for name in _names(target))
    assert set(item["dropped"]) == _names(models.checkpoint) - _names(target)
    wrong = program(
        "convert", models.checkpoint, "-o", tmp_path / "x.safetensors", "--components", "nose"
    )
    assert wrong.code == 2
    assert "there are unet, vae, text_encoder" in wrong.err


def test_another_vae_is_baked_in_and_is_a_parent(
    program: Program, models: Models, tmp_path: Path
) -> None:
    vae = tmp_path / "other.vae.safetensors"
    own = [name for name in _names(models.checkpoint) if name.startswith("first_stage_model.")]
    with safe_open(models.checkpoint, "np") as file:
        tensors = {name: file.get_tensor(name) for name in own}
    save_file({name.partition(".")[2]: tensor + 1 for name, tensor in tensors.items()}, vae)
    target = tmp_path / "baked.safetensors"
    (item,) = program("convert", models.checkpoint, "-o", target, "--vae", vae, "--json").json
    with safe_open(target, "np") as file:
        for name in own:
            assert np.array_equal(file.get_tensor(name), tensors[name] + 1), name
    assert item["tensors"] == len(_names(models.checkpoint))
    derivation = json.loads(_metadata(target)["assetmgr.derivation"])
    assert [parent["name"] for parent in derivation["parents"]] == ["base.safetensors", vae.name]


def test_a_written_file_is_compared_on_request_and_a_wrong_one_is_removed(
    program: Program, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.safetensors"
    call = ("convert", models.checkpoint, "-o", target, "--dtype", "bf16", "--verify", "--json")
    assert program(*call).json[0]["verified"] is True
    target.unlink()
    honest = operation.write_safetensors

    def flipping(*arguments: Any, **options: Any) -> Any:
        written = honest(*arguments, **options)
        data = bytearray(target.read_bytes())
        data[-1] ^= 1
        target.write_bytes(data)
        return written

    monkeypatch.setattr(operation, "write_safetensors", flipping)
    done = program(*call)
    assert (done.code, done.json[0]["code"]) == (1, "write_failed")
    assert "has other values" in done.err
    assert not target.exists()
