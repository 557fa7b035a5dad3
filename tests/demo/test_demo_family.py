"""The demo's models and the messy folder made of them."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import torch
from helpers.verdicts import safety_of

from assetmgr.demo import folder as demo
from assetmgr.demo.family import FAMILY, TOKEN_IDS, TOKEN_TABLE, VOCABULARY, checkpoint, member
from assetmgr.demo.folder import DemoFolder, build_demo_folder
from converters.compute import value
from converters.containers import open_model
from converters.digest import weigh
from converters.errors import FileProblem, TargetExists, TruncatedFile, UnsupportedFile
from converters.identify import Kind, identify
from converters.pickles.verdict import Verdict


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DemoFolder:
    return build_demo_folder(tmp_path_factory.mktemp("demo") / "library")


def test_the_family_is_at_most_24_megabytes_of_readable_files() -> None:
    files = sorted(FAMILY.glob("*.gz"))
    assert [file.name.split(".")[0] for file in files] == [
        "checkpoint",
        "embedding",
        "hypernetwork",
        "lora",
        "vae",
    ]
    assert sum(file.stat().st_size for file in files) <= 24_000_000
    for file in files:
        assert gzip.decompress(file.read_bytes())
    for name in ("checkpoint", "embedding", "hypernetwork", "lora", "vae"):
        for tensor_name, tensor in member(name).items():
            if tensor.dtype.is_float:
                assert value(tensor).isfinite().all(), f"{name}: {tensor_name}"


def test_the_expanded_token_table_holds_the_trained_rows_at_their_ids() -> None:
    kept, whole = member("checkpoint"), checkpoint()
    assert whole[TOKEN_TABLE].shape == (VOCABULARY, 768)
    assert TOKEN_IDS not in whole
    read = whole[TOKEN_TABLE].read()
    table = torch.frombuffer(bytearray(read), dtype=torch.float16).reshape(VOCABULARY, 768)
    ids = value(kept[TOKEN_IDS])
    assert torch.equal(table[ids], value(kept[TOKEN_TABLE]))
    assert read == checkpoint()[TOKEN_TABLE].read(), "it is seeded"


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (demo.CHECKPOINT, Kind.CHECKPOINT),
        (demo.TRAINING, Kind.CHECKPOINT),
        (demo.LORA, Kind.LORA),
        (demo.EMBEDDING, Kind.EMBEDDING),
        (demo.LEARNED, Kind.EMBEDDING),
        (demo.HYPERNETWORK, Kind.HYPERNETWORK),
        (demo.VAE, Kind.VAE),
        (demo.PICKLED_VAE, Kind.VAE),
    ],
)
def test_every_form_of_the_family_is_recognised(
    folder: DemoFolder, place: Path, kind: Kind
) -> None:
    model = open_model(folder.path / place)
    identity = identify(model.state_dict)
    # An autoencoder without metadata has the names and shapes of several families.
    base = "unknown" if place == demo.PICKLED_VAE else "sd-1"
    assert (identity.kind, identity.base) == (kind, base)
    assert identity.problems == ()
    assert model.safety.verdict is not Verdict.DANGEROUS


def test_the_training_checkpoint_carries_averages_and_a_foreign_class(folder: DemoFolder) -> None:
    model = open_model(folder.path / demo.TRAINING)
    assert any(name.startswith("model_ema.") for name in model.state_dict)
    assert model.safety.verdict is Verdict.SAFE, "a known callback, and nothing of it is run"
    assert any("ModelCheckpoint" in name for name in model.safety.imports)
    assert model.state_dict.extras["global_step"] == 1700


def test_copies_are_copies(folder: DemoFolder) -> None:
    first, second = folder.path / demo.LORA, folder.path / demo.LORA_COPY
    assert first.read_bytes() == second.read_bytes()


def test_both_embeddings_hold_the_same_vectors(folder: DemoFolder) -> None:
    a1111 = open_model(folder.path / demo.EMBEDDING).state_dict
    learned = open_model(folder.path / demo.LEARNED).state_dict
    (first,), (second,) = a1111.values(), learned.values()
    assert torch.equal(value(first), value(second).float())


def test_the_bad_files_are_bad_in_their_own_way(folder: DemoFolder) -> None:
    with pytest.raises(TruncatedFile):
        open_model(folder.path / demo.BROKEN)
    with pytest.raises(UnsupportedFile, match="HTML"):
        open_model(folder.path / demo.WEB_PAGE)
    assert safety_of(folder.path / demo.HOSTILE).verdict is Verdict.DANGEROUS


def test_nothing_ran_the_hostile_pickle(folder: DemoFolder) -> None:
    for place in folder.files:
        try:
            weigh(open_model(folder.path / place).state_dict, {})
        except FileProblem:
            continue
    assert not folder.was_executed


def test_somebodys_own_folder_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "embeddings" / "gem.pt"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    with pytest.raises(TargetExists, match="holds other things"):
        build_demo_folder(tmp_path)
    assert [*tmp_path.rglob("*")] == [own.parent, own]
    assert own.read_bytes() == b"mine"


def test_a_complete_folder_is_left_alone_and_a_damaged_one_is_mended(folder: DemoFolder) -> None:
    lora = folder.path / demo.LORA

    def written() -> dict[Path, int]:
        return {place: os.stat(folder.path / place).st_mtime_ns for place in folder.files}

    before = written()
    build_demo_folder(folder.path)
    assert written() == before
    lora.unlink()
    build_demo_folder(folder.path)
    assert {**written(), demo.LORA: 0} == {**before, demo.LORA: 0}, "the others are as they were"
    assert lora.read_bytes() == (folder.path / demo.LORA_COPY).read_bytes()
