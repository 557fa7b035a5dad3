"""Embeddings at the command line: other forms, out of bundles and into them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from conftest import Models, Program

FIELDS = {"sources", "files", "seconds", "warnings", "errors"}
CAT = torch.randn(2, 768, generator=torch.Generator().manual_seed(1)).half()
BIG = torch.randn(2, 1280, generator=torch.Generator().manual_seed(2)).half()


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.safetensors"
    save_file({"emb_params": CAT}, path)
    return path


def test_an_embedding_goes_through_every_container(
    program: Program, cat: Path, tmp_path: Path
) -> None:
    """safetensors -> A1111's .pt -> a picture -> diffusers' .bin -> a bare tensor -> and back."""
    steps = (
        ("cat.pt", "--to", "ckpt"),
        ("cat.png", "--to", "png"),
        ("learned_embeds.bin", "--to", "ckpt", "--layout", "diffusers"),
        ("bare.pt", "--to", "ckpt", "--layout", "tensor"),
        ("back.safetensors", "--layout", "emb_params", "--dtype", "fp16"),
    )
    source = cat
    for name, *options in steps:
        target = tmp_path / name
        (item,) = program("convert", source, *options, "--verify", "-o", target, "--json").json
        assert item["verified"] is True
        source = target
    assert torch.load(tmp_path / "cat.pt")["name"] == "cat"
    assert list(torch.load(tmp_path / "learned_embeds.bin")) == ["cat"]
    assert torch.equal(torch.load(tmp_path / "bare.pt").half(), CAT)
    assert torch.equal(load_file(source)["emb_params"], CAT)
    (seen,) = program("inspect", tmp_path / "cat.png", "--json").json
    assert (seen["kind"], seen["trigger_words"]) == ("embedding", ["cat"])


def test_a_bundle_is_made_and_taken_apart(
    program: Program, models: Models, cat: Path, tmp_path: Path
) -> None:
    bundle, folder, rest = tmp_path / "bundle.safetensors", tmp_path / "out", tmp_path / "rest.st"
    fox = tmp_path / "fox.safetensors"
    save_file({"clip_l": CAT, "clip_g": BIG}, fox)
    token = tmp_path / "learned_embeds.safetensors"
    save_file({"<CAT>": -CAT[0]}, token)
    done = program(
        "merge", "embeddings", cat, fox, token, "--into", models.lora, "-o", bundle, "--json"
    ).json
    assert done.keys() == FIELDS
    assert done["files"][0]["names"] == ["cat", "fox", "<CAT>"]
    (inspected,) = program("inspect", bundle, "--json").json
    assert inspected["kind"] == "lora"
    assert sorted(inspected["trigger_words"]) == ["<CAT>", "cat", "fox"]
    call = ("extract", "embeddings", bundle, "--output-dir", folder, "--rest", rest, "--json")
    planned = program(*call, "--dry-run").json
    assert planned["seconds"] is None
    assert not folder.exists()
    assert len(program(*call).json["files"]) == 4
    (vectors,) = load_file(folder / "CAT-2.safetensors").values()
    assert torch.equal(vectors, -CAT[:1])
    assert torch.equal(load_file(folder / "cat.safetensors")["emb_params"], CAT)
    assert torch.equal(load_file(folder / "fox.safetensors")["clip_g"], BIG)
    plain, left = load_file(models.lora), load_file(rest)
    assert plain.keys() == left.keys()
    assert all(torch.equal(left[name], tensor) for name, tensor in plain.items())
    shown = program("show", folder / "cat.safetensors", "--json").json
    assert shown["derived_from"][0]["operation"] == "extract embeddings"


def test_the_halves_of_an_sdxl_embedding_come_apart_and_together(
    program: Program, tmp_path: Path
) -> None:
    pair = tmp_path / "fox.safetensors"
    save_file({"clip_l": CAT, "clip_g": BIG}, pair)
    assert program("extract", "embeddings", pair, "--per-encoder").code == 0
    halves = [tmp_path / f"fox.{encoder}.safetensors" for encoder in ("clip_l", "clip_g")]
    again = tmp_path / "again.safetensors"
    assert program("merge", "embeddings", *reversed(halves), "-o", again).code == 0
    assert {n: t.tolist() for n, t in load_file(again).items()} == {
        "clip_l": CAT.tolist(),
        "clip_g": BIG.tolist(),
    }


def test_what_cannot_be_is_one_error_and_nothing_is_written(
    program: Program, models: Models, cat: Path, tmp_path: Path
) -> None:
    target = tmp_path / "x.safetensors"
    calls = (
        (("extract", "embeddings", models.lora), 1, "adapter without embeddings"),
        (("extract", "embeddings", models.checkpoint), 1, "no token vectors"),
        (("extract", "embeddings", cat, "--layout", "clip_g", "--output-dir", target), 1, "width"),
        (("extract", "embeddings", cat, "--rest", target, "--output-dir", target), 1, "beside"),
        (("merge", "embeddings", cat, "-o", target), 2, "merged with nothing"),
        (("merge", "embeddings", cat, "--into", models.checkpoint, "-o", target), 1, "an adapter"),
        (("merge", "embeddings", cat, cat, "-o", target), 1, "two embeddings are named"),
        (("merge", "embeddings", cat, "--into", models.lora, "-o", cat), 2, "also a source"),
        (("convert", models.lora, "--to", "png", "-o", target), 1, "no embedding"),
        (("convert", models.lora, "--layout", "emb_params", "-o", target), 1, "no layout"),
        (("convert", cat, "--layout", "clip_l+clip_g", "-o", target), 1, "does not hold"),
    )
    for call, code, words in calls:
        done = program(*call)
        assert (done.code, words in done.err) == (code, True), (call, done.err)
        assert done.err.count("error:") == 1
    assert not target.exists()
