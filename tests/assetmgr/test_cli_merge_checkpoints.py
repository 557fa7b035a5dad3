"""`merge checkpoints` and `merge replay`: what is made, what is remembered, what is refused."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import numpy as np
import pytest
from helpers import pipelines, sd1
from safetensors import safe_open

from converters.writers.safetensors import write_safetensors

if TYPE_CHECKING:
    from conftest import Done, Models, Program, Scan

QUERY = sd1.UNET + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
DECODER = sd1.VAE + "decoder.conv_in.weight"
FIELDS = {
    *("target", "method", "parameters", "models", "merged_tensors", "equal_tensors", "tensors"),
    *("bytes", "seconds", "hashes", "recipe", "overflow", "warnings", "asset", "errors"),
}


def _model(path: Path, seed: int) -> Path:
    shapes = {f"{seed}:{n}": s for n, s in sd1.checkpoint_shapes(cli_models.WIDTHS).items()}
    state = sd1.state_dict(shapes, fill=sd1.random_fill()).rename(lambda n: n.partition(":")[2])
    return write_safetensors(state, path, with_hashes=False).path


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return [_model(folder / f"{name}.safetensors", n) for n, name in enumerate("abc", 1)]


@pytest.fixture
def files(_made: list[Path]) -> list[Path]:
    """Three checkpoints of one family that tests read and never change."""
    return _made


def _tensor(path: Path, name: str) -> np.ndarray:
    with safe_open(path, "np") as file:
        found: np.ndarray = file.get_tensor(name).astype(np.float32)
    return found


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        return dict(file.metadata())


def merge(program: Program, *arguments: object) -> Done:
    return program("merge", "checkpoints", "--json", *arguments)


def test_a_weighted_sum_is_written_and_told(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    a, b, _ = files
    target = tmp_path / "out.safetensors"
    done = merge(program, a, b, "--method", "weighted-sum", "--alpha", "0.25,vae=0", "-o", target)
    assert done.code == 0, done.err
    found = done.json
    assert set(found) == FIELDS
    assert found["target"] == str(target)
    assert found["bytes"] == target.stat().st_size
    assert found["parameters"] == {
        "method": "weighted-sum", "alpha": 0.25, "alpha_of": {"vae": 0.0}, "dtype": "keep"
    }  # fmt: skip
    first, second = found["models"]
    assert first == {"label": "A", "path": str(a), "missing": [], "unused": []}
    assert (second["label"], second["path"]) == ("B", str(b))
    assert 0 < found["merged_tensors"] < found["tensors"]
    assert found["equal_tensors"] == 0
    assert found["overflow"] == {}
    expected = 0.75 * _tensor(a, QUERY) + 0.25 * _tensor(b, QUERY)
    assert np.allclose(_tensor(target, QUERY), expected, atol=1e-4)
    assert np.array_equal(_tensor(target, DECODER), _tensor(a, DECODER))


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "add-difference", "--alpha", "1"),
        ("--method", "train-difference", "--alpha", "0.5", "--dtype", "fp32"),
        ("--method", "weighted-sum", "--alpha", "0.5", "--beta", "0.2"),
        ("--method", "ties", "--alpha", "0.7", "--density", "0.3"),
        ("--method", "dare", "--alpha", "0.7", "--drop", "0.5", "--seed", "9"),
        ("--method", "perpendicular", "--alpha", "0.7"),
        ("--method", "average"),
        ("--method", "add-difference", "--alpha", "1e6", "--on-overflow", "clamp"),
        ("--method", "cosine-a", "--alpha", "0.2", "--components", "text_encoder=C"),
        ("--method", "slerp", "--block-weights", ",".join(["0.5"] * 26), "--components", "vae=C"),
    ],
    ids=lambda options: " ".join(options[:2]),
)
def test_every_method_merges_and_its_recipe_gives_the_same_bytes(
    options: tuple[str, ...], program: Program, scan: Scan, files: list[Path], tmp_path: Path
) -> None:
    scan(files[0].parent)
    target, again = tmp_path / "blend.safetensors", tmp_path / "other-name.safetensors"
    done = merge(program, *files, *options, "-o", target)
    assert done.code == 0, done.err
    assert done.json["merged_tensors"]
    assert bool(done.json["overflow"]) == ("clamp" in options)
    assert done.json["recipe"] == _metadata(target)["assetmgr.recipe"]
    replayed = program("merge", "replay", "--json", target, "-o", again)
    assert replayed.code == 0, replayed.err
    assert again.read_bytes() == target.read_bytes()
    assert {**replayed.json, "target": 0, "seconds": 0, "asset": 0} == {
        **done.json, "target": 0, "seconds": 0, "asset": 0
    }  # fmt: skip


def test_a_dry_run_says_the_size_and_writes_nothing(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    arguments = (*files[:2], "--method", "slerp", "--alpha", "0.5", "-o", target)
    planned = merge(program, *arguments, "--dry-run").json
    assert list(tmp_path.iterdir()) == []
    assert set(planned) == FIELDS
    nothing = ("seconds", "hashes", "recipe", "asset", "equal_tensors")
    assert all(planned[name] is None for name in nothing)
    assert planned["bytes"] == merge(program, *arguments).json["bytes"]


def test_the_result_knows_all_its_parents_and_what_was_done(
    program: Program, scan: Scan, files: list[Path], tmp_path: Path
) -> None:
    scan(files[0].parent)
    target = tmp_path / "out.safetensors"
    done = merge(program, *files, "--method", "add-difference", "--alpha", "0.8", "-o", target)
    shown = program("show", "--json", f"#{done.json['asset']}").json
    lines = shown["derived_from"]
    assert [line["name"] for line in lines] == [path.name for path in files]
    assert all(line["asset"] for line in lines)
    assert {line["operation"] for line in lines} == {"merge checkpoints"}
    assert lines[0]["parameters"] == done.json["parameters"]
    assert (shown["kind"], shown["base"]) == ("checkpoint", "sd-1")


def test_the_recipe_is_readable_and_pins_its_models(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "blend.safetensors"
    done = merge(
        program, *files, "--method", "weighted-sum", "--alpha", "0.4", "--components", "vae=C",
        "-o", target,
    )  # fmt: skip
    recipe = tomllib.loads(done.json["recipe"])
    hashes = program("hash", "--json", *files).json
    assert [model["sha256"] for model in recipe["models"]] == [h["sha256"] for h in hashes]
    assert [model["file"] for model in recipe["models"]] == [path.name for path in files]
    assert (recipe["title"], recipe["method"], recipe["alpha"]) == ("blend", "weighted-sum", 0.4)
    assert recipe["components"] == {"vae": "C"}


def test_a_recipe_as_a_file_finds_its_models_beside_it_without_a_library(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "blend.safetensors"
    options = ("--method", "weighted-sum", "--alpha", "0.4", "-o", target)
    recipe = merge(program, *files[:2], *options).json["recipe"]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for path in files[:2]:
        shutil.copy(path, folder)
    (folder / "blend.toml").write_text(recipe)
    again = tmp_path / "again.safetensors"
    done = program("merge", "replay", "--json", folder / "blend.toml", "-o", again)
    assert done.code == 0, done.err
    assert again.read_bytes() == target.read_bytes()


def test_a_renamed_model_is_found_by_its_hash(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    copies = [Path(shutil.copy(path, folder)) for path in files[:2]]
    target = tmp_path / "blend.safetensors"
    merge(program, *copies, "--method", "weighted-sum", "--alpha", "0.4", "-o", target)
    copies[0].rename(folder / "renamed.safetensors")
    lost = program("merge", "replay", "--json", target, "-o", tmp_path / "x.safetensors")
    assert lost.code == 1
    (error,) = lost.json["errors"]
    assert (error["code"], error["path"]) == ("not_found", copies[0].name)
    assert "--search" in error["hint"]
    program("scan", folder)
    again = tmp_path / "again.safetensors"
    assert program("merge", "replay", target, "-o", again).code == 0
    assert again.read_bytes() == target.read_bytes()


def test_models_of_the_same_content_are_each_found(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    a, b = (Path(shutil.copy(files[0], folder / f"{name}.safetensors")) for name in "ab")
    target, again = tmp_path / "blend.safetensors", tmp_path / "again.safetensors"
    merge(program, a, b, files[1], "--method", "add-difference", "--alpha", "0.4", "-o", target)
    program("scan", folder, files[1].parent)
    done = program("merge", "replay", target, "-o", again)
    assert done.code == 0, done.err
    assert again.read_bytes() == target.read_bytes()


def test_models_are_found_by_their_names_in_the_folders_to_search(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    target, again = tmp_path / "blend.safetensors", tmp_path / "again.safetensors"
    merge(program, *files[:2], "--method", "slerp", "--alpha", "0.4", "-o", target)
    call = ("merge", "replay", "--json", target, "-o", again)
    assert program(*call).code == 1
    assert program(*call, "--search", tmp_path, "--search", files[0].parent).code == 0
    assert again.read_bytes() == target.read_bytes()


def test_a_model_that_is_not_the_one_of_the_recipe_is_refused(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "blend.safetensors"
    options = ("--method", "weighted-sum", "--alpha", "0.4", "-o", target)
    recipe = merge(program, *files[:2], *options).json["recipe"]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "blend.toml").write_text(recipe)
    shutil.copy(files[2], folder / files[0].name)
    done = program("merge", "replay", "--json", folder / "blend.toml", "-o", tmp_path / "x")
    (error,) = done.json["errors"]
    assert error["code"] == "merge_problem"
    assert error["path"] == str(folder / files[0].name)
    assert "is not the file of the recipe" in error["error"]


RECIPE = f"""
version = 1
operation = "merge checkpoints"
title = "x"
method = "weighted-sum"
alpha = 0.5
[[models]]
label = "A"
file = "a.safetensors"
sha256 = "{"0" * 64}"
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("= =", "is not TOML"),
        ("\x00", "is not TOML"),
        ("", "is no recipe of version 1"),
        (RECIPE.replace("version = 1", "version = 2"), "is no recipe of version 1"),
        (RECIPE.replace("version = 1", "version = true"), "'version' must be a whole number"),
        (RECIPE.replace("0.5", '"much"'), "'alpha' must be a number"),
        (RECIPE.replace("weighted-sum", "stir"), "unknown method 'stir'"),
        (RECIPE.replace("alpha", "alpah"), "unknown key 'alpah'"),
        (RECIPE.replace('"A"', '"B"'), "labelled A, B, C"),
        (RECIPE.replace("sha256", "autov3"), "its sha256 or blake3"),
        (RECIPE.replace("0000", "000x"), "is no hash of 64 hex digits"),
        (RECIPE.replace("[[models]]", "[models]"), "'models' must be a list of tables"),
        (RECIPE.replace("alpha = 0.5", 'dtype = "fp12"'), "dtype 'fp12' is none of"),
        ("x = " + "[" * 5000, "is not TOML"),
        ("#" * (2 << 20), "too long"),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_that_is_no_recipe_is_one_error_naming_it(
    text: str, said: str, program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    done = program("merge", "replay", "--json", path, "-o", tmp_path / "out.safetensors")
    assert done.code == 2, done.err
    (error,) = done.json["errors"]
    assert said in error["error"]
    assert error["path"] == str(path)


def test_a_model_without_a_recipe_and_a_recipe_that_is_not_there_are_named(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    none = program("merge", "replay", "--json", files[0], "-o", tmp_path / "x")
    (error,) = none.json["errors"]
    assert (error["code"], error["error"]) == ("unsupported", "holds no recipe")
    gone = program("merge", "replay", "--json", tmp_path / "gone.toml", "-o", tmp_path / "x")
    assert gone.json["errors"][0]["code"] == "not_found"
    (tmp_path / "latin.toml").write_bytes(b"title = '\xe9'")
    latin = program("merge", "replay", "--json", tmp_path / "latin.toml", "-o", tmp_path / "x")
    assert latin.json["errors"][0]["error"].startswith("is not UTF-8")


def _refusals(files: list[Path], models: Models) -> Iterator[tuple[list[object], str, str, str]]:
    a, b, c = files
    yield [a, a], "bad_value", str(a), "is given twice, as A and as B"
    yield [a, models.lora], "wrong_family", str(models.lora), "of kind lora"
    yield [a, b, "--block-weights", "0.5,0.5"], "bad_value", "", "not 2"
    yield [a, b, "--block-weights", "x"], "bad_value", "", "'x' in 'x' is no number"
    yield [a, b, "--alpha", "heavy"], "bad_value", "", "is no number"
    yield [a, b, "--alpha", "0.5,0.6"], "bad_value", "", "gives a weight twice"
    yield [a, b, "--components", "vae"], "bad_value", "", "is not COMPONENT=A"
    yield [a, b, "--components", "vae=7"], "bad_value", "", "'7' is no label"
    yield [a, b, c], "bad_value", str(c), "C has no part in it"
    yield [a], "bad_value", "", "merges 2 models, not 1"
    yield [a, "absent"], "asset_not_found", "absent", ""


def test_what_cannot_be_merged_is_one_error_and_nothing_is_written(
    program: Program, files: list[Path], models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    for arguments, code, path, said in _refusals(files, models):
        weight = [] if "--alpha" in arguments else ["--alpha", "0.5"]
        done = merge(program, *arguments, "--method", "weighted-sum", *weight, "-o", target)
        (error,) = done.json["errors"]
        assert error["code"] == code, error
        assert (error["path"] or "") == path
        assert said in error["error"]
    assert list(tmp_path.iterdir()) == []


def test_another_family_and_other_shapes_are_refused_naming_key_and_file(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    sdxl = write_safetensors(pipelines.checkpoint("sdxl"), folder / "xl.safetensors").path
    options = ("--method", "weighted-sum", "--alpha", "0.5", "-o", tmp_path / "out.safetensors")
    (error,) = merge(program, files[0], sdxl, *options).json["errors"]
    assert (error["code"], error["path"]) == ("wrong_family", str(sdxl))
    small = write_safetensors(pipelines.checkpoint("sd-1"), folder / "small.safetensors").path
    (error,) = merge(program, files[0], small, *options).json["errors"]
    assert (error["code"], error["path"]) == ("merge_problem", str(small))
    assert "has shape" in error["error"]
    assert not (tmp_path / "out.safetensors").exists()


def test_folders_and_files_are_merged_alike_and_replayed(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    a, b, _ = files
    folder, target, again = (tmp_path / name for name in ("b", "ab.safetensors", "ba.safetensors"))
    assert program("convert", b, "-o", folder, "--to", "diffusers").code == 0
    options = ("--method", "weighted-sum", "--alpha", "0.3", "-o")
    done = merge(program, a, folder, *options, target)
    assert done.code == 0, done.err
    merge(program, a, b, *options, tmp_path / "files.safetensors")
    for name in (QUERY, DECODER):
        assert np.array_equal(_tensor(target, name), _tensor(tmp_path / "files.safetensors", name))
    model = tomllib.loads(done.json["recipe"])["models"][1]
    assert (model["file"], len(model["sha256"])) == ("b", 64)
    replay = ("merge", "replay", "--json", target, "--search", a.parent, "-o", again)
    replayed = program(*replay)
    assert replayed.code == 0, replayed.err
    assert again.read_bytes() == target.read_bytes()
    (folder / "vae" / "late.bin").write_bytes(b"other weights")
    (error,) = program(*replay, "--overwrite").json["errors"]
    assert (error["code"], error["path"]) == ("merge_problem", str(folder))


def test_neither_a_source_nor_an_existing_file_is_a_target(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    a, b, _ = files
    target = tmp_path / "precious"
    target.write_text("precious")
    options = ("--method", "weighted-sum", "--alpha", "0.5", "-o")
    assert merge(program, a, b, *options, target).code == 1
    assert target.read_text() == "precious"
    own = merge(program, a, b, *options, b, "--overwrite")
    assert own.code == 2
    assert "is also a source" in own.errors[0]


def test_people_are_told_what_a_model_lacks(
    program: Program, files: list[Path], tmp_path: Path
) -> None:
    shapes = sd1.checkpoint_shapes(cli_models.WIDTHS)
    short = {name: shape for name, shape in shapes.items() if name != QUERY}
    other = cli_models.tensors(tmp_path / "short.safetensors", short)
    done = program(
        "merge", "checkpoints", files[0], other, "--method", "weighted-sum", "--alpha", "0.5",
        "-o", tmp_path / "out.safetensors",
    )  # fmt: skip
    assert done.code == 0
    assert f"B lacks 1 tensors: {QUERY}" in done.out
    assert "tensors merged" in done.out
