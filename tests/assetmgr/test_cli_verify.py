"""`verify`: damage is found and named, and the registered hashes stay."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import numpy as np
import pytest
from helpers import pickles
from safetensors.numpy import load_file, save_file

if TYPE_CHECKING:
    from conftest import Models, Program


@pytest.fixture
def checkpoint(program: Program, models: Models, tmp_path: Path) -> Path:
    """A scanned checkpoint of one's own."""
    path = tmp_path / "library" / "model.safetensors"
    path.parent.mkdir()
    shutil.copy(models.checkpoint, path)
    program("scan", path.parent)
    return path


def test_a_whole_file_is_ok_and_that_is_kept(program: Program, checkpoint: Path) -> None:
    (found,) = program("verify", "--json").json
    assert (found["integrity"], found["structure"], found["render"]) == ("ok", "ok", None)
    assert [check["name"] for check in found["checks"]] == [
        "integrity",
        "opens",
        "safe",
        "complete",
        "finite",
    ]
    kept = program("show", checkpoint, "--json").json["verification"]
    assert (kept["integrity"], kept["structure"]) == ("ok", "ok")


def test_bit_rot_is_found_and_the_old_hash_stays(program: Program, checkpoint: Path) -> None:
    before = program("show", checkpoint, "--json").json["hashes"]["sha256"]
    data = bytearray(checkpoint.read_bytes())
    data[-1] ^= 1
    checkpoint.write_bytes(data)
    done = program("verify", checkpoint, "--json")
    assert (done.code, done.json[0]["integrity"], done.json[0]["structure"]) == (1, "failed", "ok")
    assert f"SHA-256 was {before} and is" in done.err
    shown = program("show", checkpoint, "--json").json
    assert shown["hashes"]["sha256"] == before
    assert shown["verification"]["integrity"] == "failed"
    assert "integrity FAILED, structure ok" in program("show", shown["name"]).out


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_broken_numbers_are_named(
    dtype: str, number: float, program: Program, tmp_path: Path
) -> None:
    weight = np.zeros((3, 768), dtype)
    weight[1, 5] = number
    save_file({"emb_params": weight}, tmp_path / "broken.safetensors")
    program("scan", tmp_path)
    done = program("verify")
    assert done.code == 1
    assert "finite: 1 tensors hold NaN or infinities: emb_params" in done.err
    assert "FAILED" in done.out


def test_a_checkpoint_that_lacks_tensors_is_not_complete(
    program: Program, models: Models, tmp_path: Path
) -> None:
    tensors = load_file(models.checkpoint)
    del tensors["model.diffusion_model.out.2.weight"]
    save_file(tensors, tmp_path / "part.safetensors")
    program("scan", tmp_path)
    done = program("verify", "--json")
    assert (done.code, done.json[0]["structure"]) == (1, "failed")
    assert "complete: the UNet is incomplete" in done.err


def test_a_file_that_is_gone_or_unknown_is_named_and_the_rest_is_verified(
    program: Program, checkpoint: Path
) -> None:
    cli_models.tiny(checkpoint.parent / "other.safetensors")
    program("scan", checkpoint.parent)
    checkpoint.unlink()
    done = program("verify", checkpoint, "#99", checkpoint.parent / "other.safetensors", "--json")
    assert done.code == 1
    first, second, third = done.json
    assert (first["integrity"], first["structure"]) == ("failed", "failed")
    assert second["code"] == "asset_not_found"
    assert third["integrity"] == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_download_that_the_cache_names_otherwise_is_damaged(
    program: Program, models: Models, tmp_path: Path
) -> None:
    blob = tmp_path / "cache" / "blobs" / ("0" * 64)
    blob.parent.mkdir(parents=True)
    shutil.copy(models.lora, blob)
    (tmp_path / "cache" / "fox.safetensors").symlink_to(blob)
    assert "the download is damaged" in program("scan", tmp_path / "cache").err
    done = program("verify", "fox", "--json")
    assert (done.code, done.json[0]["integrity"]) == (1, "failed")
    assert f"the cache names SHA-256 {'0' * 64}" in done.err


def test_nothing_to_do_in_an_empty_library_is_said_in_one_line(program: Program) -> None:
    for command, said in (("verify", "scan a folder first"), ("scan", "name one")):
        done = program(command)
        assert (done.code, done.out.count("\n")) == (0, 1)
        assert said in done.out
    assert program("verify", "--json").json == []


@pytest.mark.parametrize("bare", [False, True])
def test_a_dangerous_pickle_is_not_ok_even_without_tensors(
    program: Program, tmp_path: Path, bare: bool
) -> None:
    path = tmp_path / "library" / "evil.pt"
    path.parent.mkdir()
    pickled = pickles.pickled(pickles.call_name("os.system", pickles.text("true")))
    path.write_bytes(pickled if bare else pickles.torch_zip(pickled, {}))
    program("scan", path.parent)
    done = program("verify", "--json")
    (safe,) = (check for check in done.json[0]["checks"] if check["name"] == "safe")
    assert (done.code, safe["ok"]) == (1, False)
    assert "dangerous" in safe["detail"]
    assert "os.system" in safe["detail"]
