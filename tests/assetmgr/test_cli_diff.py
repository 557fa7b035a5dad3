"""`diff`: two models, tensor by tensor, whatever holds them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.gguf import entry, gguf
from safetensors.numpy import load_file, save_file

from assetmgr.operations import diff as comparing
from converters.diff_components import side_by_side
from converters.errors import UnsupportedFile

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


def test_many_differences_are_counted_and_all_named_on_request(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "half.safetensors"
    program("convert", models.checkpoint, "--dtype", "bf16", "-o", target)
    total = len(program("diff", models.checkpoint, target, "--json").json["differences"])
    *named, rest = program("diff", models.checkpoint, target).out.splitlines()[3:]
    assert (len(named), rest) == (20, f"  and {total - 20:,} more; --verbose names all")
    whole = program("diff", models.checkpoint, target, "--verbose").out.splitlines()
    assert len(whole) == total + 3


def test_a_pipelines_folder_is_compared_as_its_single_file(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "pipeline"
    program("convert", models.checkpoint, "--to", "diffusers", "-o", folder)
    found = program("diff", models.checkpoint, folder, "--json").json["differences"]
    assert [each["name"].rpartition(".")[2] for each in found] == ["position_ids"]


def test_what_no_single_file_can_hold_is_said_to_be_unlike(
    program: Program, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of Flux, whose pipelines part what its files fuse."""
    folder = tmp_path / "pipeline"
    program("convert", models.checkpoint, "--to", "diffusers", "-o", folder)

    def fused(*sides: Any) -> Any:
        return replace(side_by_side(*sides), unlike=("unet",))

    def refused(*_: object) -> None:
        raise UnsupportedFile("has no single file")

    monkeypatch.setattr(comparing, "side_by_side", fused)
    monkeypatch.setattr(comparing, "to_single_file", refused)
    call = ("diff", models.checkpoint, folder, "--read")
    done = program(*call, "--json")
    assert (done.code, done.json["equal"], done.json["unlike"]) == (1, False, ["unet"])
    assert "kept in other tensors by the other layout\n" in program(*call).out


def _scanned(program: Program, models: Models, folder: Path) -> tuple[Path, Path]:
    """The checkpoint and one with another VAE, both in the library."""
    tensors = load_file(models.checkpoint)
    tensors[CHANGED] = tensors[CHANGED] + 1
    folder.mkdir()
    first, second = folder / "first.safetensors", folder / "second.safetensors"
    shutil.copy(models.checkpoint, first)
    save_file(tensors, second)
    assert program("scan", folder).code == 0
    return first, second


def _refuse(*_: object) -> None:
    raise AssertionError("a file was opened")


def test_files_that_the_library_knows_are_compared_without_opening_them(
    program: Program, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _scanned(program, models, tmp_path / "library")
    opened = program("diff", models.checkpoint, second, "--json").json
    assert opened["from_index"] is False
    monkeypatch.setattr("assetmgr.operations.diff.open_model", _refuse)
    done = program("diff", first, second, "--json")
    assert (done.code, done.json["from_index"]) == (1, True)
    assert done.json["differences"] == [{"name": CHANGED, "how": "has other values"}]
    assert {**done.json, "a": opened["a"], "from_index": False} == opened
    assert program("diff", "first", "second", "--json").json == done.json
    same = program("diff", first, first, "--json")
    assert (same.code, same.json["equal"], same.json["from_index"]) == (0, True, True)


def test_files_that_are_not_there_now_are_compared_from_the_index(
    program: Program, models: Models, tmp_path: Path
) -> None:
    """Their disk may be in a drawer."""
    first, second = _scanned(program, models, tmp_path / "library")
    before = program("diff", first, second, "--json").json
    (tmp_path / "library").rename(tmp_path / "elsewhere")
    program("scan")
    for pair in ((first, second), ("first", "second")):
        done = program("diff", *pair, "--json")
        assert (done.code, done.json) == (1, before)
    done = program("diff", first, tmp_path / "elsewhere" / "first.safetensors")
    assert done.errors == [f"error: {first}: no such file"]


def _adapter(path: Path, fill: float, **more: int) -> Path:
    """A LoRA of small tensors; `more` are further ones, of zeros."""
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {
        f"{name}.lora_down.weight": np.full((4, 768), 1, np.float16),
        f"{name}.lora_up.weight": np.full((320, 4), fill, np.float16),
        f"{name}.alpha": np.array(4, np.float16),
    }
    save_file(tensors | {n: np.zeros(size, np.float16) for n, size in more.items()}, path)
    return path


def test_adapters_of_small_tensors_are_compared_without_opening_them(
    program: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    first = _adapter(folder / "first.safetensors", 1)
    second = _adapter(folder / "second.safetensors", 2)
    assert program("scan", folder).code == 0
    opened = program("diff", first, shutil.copy(second, tmp_path / "second.safetensors"), "--json")
    for gone in (first, second):
        gone.unlink()
    done = program("diff", "first", "second", "--json")
    assert (done.code, done.json["from_index"], opened.json["from_index"]) == (1, True, False)
    assert done.json["differences"] == opened.json["differences"]
    (changed,) = done.json["differences"]
    assert changed["name"].endswith(".lora_up.weight")


def test_checksums_that_agree_by_chance_are_not_believed(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    first = _adapter(folder / "first.safetensors", 1)
    second = _adapter(folder / "second.safetensors", 2)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("zlib_ng.zlib_ng.crc32", lambda *_: 7)
        program("scan", folder)
    done = program("diff", first, second, "--json").json
    assert (len(done["differences"]), done["from_index"]) == (1, False)


def test_an_adapter_is_compared_from_the_index_with_one_that_is_digested_by_another_rule(
    program: Program, tmp_path: Path
) -> None:
    """Of small tensors both have checksums, of large ones digests."""
    folder = tmp_path / "library"
    folder.mkdir()
    large = {"same": 150_000, "other": 150_000}
    many = {f"tiny{number}": 1 for number in range(60)}
    small = _adapter(folder / "small.safetensors", 1, **large, **many)
    digested = _adapter(folder / "digested.safetensors", 2, **large)
    tensors = load_file(digested)
    tensors["other"] = tensors["other"] + 1
    save_file(tensors, digested)
    opened = program("diff", small, digested, "--json").json
    assert program("scan", folder).code == 0
    shutil.rmtree(folder)
    done = program("diff", "small", "digested", "--json").json
    assert done == {**opened, "from_index": True}
    changed = [each["name"] for each in done["differences"] if each["how"] == "has other values"]
    assert [name.rpartition(".")[2] for name in changed] == ["weight", "other"]


def test_a_pipeline_and_a_file_are_compared_from_the_index(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    first, second = folder / "first", folder / "second.safetensors"
    folder.mkdir()
    program("convert", models.checkpoint, "--to", "diffusers", "-o", first)
    tensors = load_file(models.checkpoint)
    tensors[CHANGED] = tensors[CHANGED] + 1
    save_file(tensors, second)
    opened = program("diff", first, second, "--json").json
    assert program("scan", folder).code == 0
    shutil.rmtree(folder)
    done = program("diff", "first", "second", "--json")
    assert (done.code, done.json) == (1, {**opened, "from_index": True})
    assert done.json["differences"] == [
        {"name": "text_encoder.position_ids", "how": "is only in the second"},
        {"name": "vae.post_quant_conv.bias", "how": "has other values"},
    ]
    assert {part["name"]: part["different"] for part in done.json["components"]} == {
        "text_encoder": 1,
        "unet": 0,
        "vae": 1,
    }


def test_files_are_read_where_that_is_asked_for(
    program: Program, models: Models, tmp_path: Path
) -> None:
    first, second = _scanned(program, models, tmp_path / "library")
    done = program("diff", first, second, "--json").json
    assert program("diff", first, second, "--read", "--json").json == {**done, "from_index": False}
    first.unlink()
    assert program("diff", "first", second, "--read").errors == [f"error: {first}: no such file"]


@pytest.mark.parametrize("values", [1, 2])
def test_quantised_models_are_compared_by_their_blocks_from_the_index(
    program: Program, tmp_path: Path, values: int
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    for number, (name, value) in enumerate((("first", 1), ("second", values))):
        block = np.array([value], np.float16).tobytes() + bytes([7] * 32)
        content = gguf({"a.weight": ((32,), "Q8_0", block)}, {"x": entry(4, "<I", number)})
        (folder / f"{name}.gguf").write_bytes(content)
    opened = program("diff", folder / "first.gguf", folder / "second.gguf", "--json").json
    assert program("scan", folder).code == 0
    shutil.rmtree(folder)
    done = program("diff", "first", "second", "--json").json
    assert done == {**opened, "from_index": True}
    assert done["equal"] is (values == 1)


def test_two_pipelines_are_compared_from_the_index_by_their_own_names(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    first, second = folder / "first", folder / "second"
    folder.mkdir()
    program("convert", models.checkpoint, "--to", "diffusers", "-o", first)
    shutil.copytree(first, second)
    path = second / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["quant_conv.bias"] = tensors["quant_conv.bias"] + 1
    save_file(tensors, path)
    opened = program("diff", first, second, "--json").json
    assert program("scan", folder).code == 0
    done = program("diff", first, second, "--json").json
    assert done["differences"] == [{"name": "vae.quant_conv.bias", "how": "has other values"}]
    assert {part["name"]: part["different"] for part in done["components"]} == {
        "text_encoder": 0,
        "unet": 0,
        "vae": 1,
    }
    assert (opened, done["from_index"]) == ({**done, "from_index": False}, True)
    shutil.rmtree(first)
    assert program("diff", "first", second, "--json").json["from_index"] is True
    lost = program("diff", "first", models.checkpoint)
    assert (lost.code, lost.errors) == (1, [f"error: {first}: no such file"])


def test_a_file_that_changed_since_the_scan_is_opened(
    program: Program, models: Models, tmp_path: Path
) -> None:
    first, second = _scanned(program, models, tmp_path / "library")
    shutil.copy(first, tmp_path / "copy")
    os.utime(second, ns=(1, 1))
    assert program("diff", first, second, "--json").json["from_index"] is False
    (tmp_path / "copy").replace(second)
    done = program("diff", first, second, "--json").json
    assert (done["equal"], done["from_index"]) == (True, False)


def test_without_a_usable_library_files_are_opened(
    program: Program, models: Models, tmp_path: Path
) -> None:
    Path(os.environ["ASSETMGR_HOME"], "library.db").write_bytes(b"no database" * 100)
    shutil.copy(models.checkpoint, tmp_path / "copy.safetensors")
    done = program("diff", models.checkpoint, tmp_path / "copy.safetensors", "--json")
    assert (done.code, done.json["equal"], done.json["from_index"]) == (0, True, False)


def test_a_file_that_is_not_there_is_one_error_line(program: Program, models: Models) -> None:
    done = program("diff", models.checkpoint, "absent.safetensors")
    assert (done.code, len(done.errors)) == (1, 1)


def test_components_that_the_library_did_not_keep_are_read(
    program: Program, models: Models, tmp_path: Path
) -> None:
    """The folders of a pipeline may have any names, and those of other rules had other parts."""
    folder = tmp_path / "library"
    first, second = folder / "first", folder / "second.safetensors"
    folder.mkdir()
    program("convert", models.checkpoint, "--to", "diffusers", "-o", first)
    more = first / "a_component_of_a_very_long_name_indeed"
    more.mkdir()
    save_file({"weight": np.ones(3, np.float32)}, more / "model.safetensors")
    index = json.loads((first / "model_index.json").read_text())
    (first / "model_index.json").write_text(json.dumps(index | {more.name: ["x", "Y"]}))
    tensors = load_file(models.checkpoint)
    del tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"]
    save_file(tensors, second)
    opened = program("diff", first, second, "--json").json
    assert program("scan", folder).code == 0
    done = program("diff", first, second, "--json").json
    assert done["differences"] == [{"name": f"{more.name}.weight", "how": "is only in the first"}]
    assert done == opened
