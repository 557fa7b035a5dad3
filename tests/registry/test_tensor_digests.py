"""What the library knows of the tensors of its files, and what that answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import pickles
from helpers.pipelines import checkpoint
from helpers.sd1 import SMALL, VAE, random_fill, state_dict, vae_shapes
from scan_counts import counts
from small_models import lora_bytes, scanned, write_lora
from sqlalchemy import delete, text, update

import converters.digest
import converters.hashing
from converters.canonical import canonical_parts
from converters.containers import open_model
from converters.digest import weigh
from converters.errors import AssetNotFound, TruncatedFile
from converters.identify import identify
from converters.layouts.pipeline import to_components
from converters.statedict import StateDict
from converters.weights import Listing, TensorDigests, Weights
from converters.writers.diffusers_folder import write_pipeline
from converters.writers.safetensors import write_safetensors
from converters.writers.torch_zip import write_torch_zip
from registry.library import Library
from registry.scanning import naming
from registry.scanning.scanner import scan, scan_file
from registry.tables import schema


def weights(whole: str, **components: str) -> Weights:
    return Weights(whole, components, TensorDigests(Listing({}), ()))


@pytest.fixture(scope="module")
def sd1() -> StateDict:
    return checkpoint("sd-1")


@pytest.fixture
def family(library: Library, models: Path, sd1: StateDict) -> Library:
    """A checkpoint, its pickle, its VAE alone, and a checkpoint with another VAE; all scanned."""
    others = state_dict(
        {f"{VAE}{name}": shape for name, shape in vae_shapes(SMALL).items()},
        fill=random_fill(scale=0.2),
    )
    write_safetensors(sd1, models / "first.safetensors", with_hashes=False)
    write_torch_zip({"state_dict": dict(sd1.items())}, models / "twin.ckpt")
    write_safetensors(sd1.overlay(others), models / "other.safetensors", with_hashes=False)
    alone = sd1.select(lambda name: name.startswith(VAE))
    write_safetensors(
        alone.rename(lambda name: name.removeprefix(VAE)),
        models / "alone.safetensors",
        with_hashes=False,
    )
    assert scan(library, [models]).errors == ()
    return library


def test_a_scan_keeps_the_digests_of_the_weights_and_of_each_component(
    family: Library, sd1: StateDict
) -> None:
    first, twin, alone = (family.find(name) for name in ("first", "twin", "alone"))
    assert first.hashes["weights"] == twin.hashes["weights"] == weigh(sd1, {}).whole
    expected = weigh(sd1, canonical_parts(sd1, "checkpoint"))
    assert first.component_digests == twin.component_digests == expected.components
    assert alone.component_digests == {"vae": expected.components["vae"]}


def test_who_else_has_a_component_is_told_by_component(family: Library) -> None:
    ids = {name: family.find(name).id for name in ("first", "twin", "other", "alone")}
    shared = {
        component: {other.name for other in others}
        for component, others in family.sharers(ids["first"]).items()
    }
    assert shared == {
        "unet": {"twin", "other"},
        "text_encoder": {"twin", "other"},
        "vae": {"twin", "alone"},
    }
    assert "vae" not in family.sharers(ids["other"])
    assert [other.id for other in family.sharers(ids["alone"])["vae"]] == sorted(
        [ids["first"], ids["twin"]]
    )


def test_the_table_of_tensors_is_kept_apart_from_what_lists_read(
    family: Library, sd1: StateDict
) -> None:
    tensors = family.tensors(family.find("twin").id)
    assert tensors is not None
    expected = weigh(sd1, {}).tensors
    assert tensors.keys() == expected.keys()
    for name, found in tensors.items():
        assert found == expected[name]._replace(digest=expected[name].digest[:16])


def test_a_component_is_found_by_its_digest(family: Library) -> None:
    digest = family.find("alone").component_digests["vae"]
    names = {row.name for row in family.search(f"hash:{digest[:12]}").rows}
    assert names == {"first", "twin", "alone"}


def test_a_pipeline_has_the_components_of_its_single_file_from_one_read(
    family: Library, models: Path, sd1: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = identify(sd1)
    parts = to_components(sd1, identity.base)
    write_pipeline(parts, identity, models / "pipeline", tokenizer={})

    def refuse(*_: object) -> None:
        raise AssertionError("a tensor was read by itself")

    monkeypatch.setattr(converters.digest, "tensor_digest", refuse)
    assert scan(family).errors == ()
    pipeline, first = family.find("pipeline"), family.find("first")
    assert pipeline.container == "diffusers"
    assert pipeline.component_digests == first.component_digests
    assert pipeline.hashes["weights"] != first.hashes["weights"]
    assert family.tensors(pipeline.id) is not None


def test_new_content_at_a_known_place_has_new_digests_and_the_old_keep_theirs(
    library: Library, models: Path
) -> None:
    path = write_lora(models / "a.safetensors", 1)
    scan(library, [models])
    before = library.find("a")
    shutil.copy(path, models / "copy.safetensors")
    path.write_bytes(lora_bytes(2))
    scan(library)
    after = library.find(str(path))
    assert after.id != before.id
    assert after.hashes["weights"] != before.hashes["weights"]
    assert library.get(before.id).hashes["weights"] == before.hashes["weights"]


def test_an_adapter_of_small_tensors_and_its_pickle_are_the_same_weights_after_a_scan(
    library: Library, models: Path
) -> None:
    path = write_lora(models / "fox.safetensors", 3)
    state = open_model(path).state_dict
    write_torch_zip(dict(state.items()), models / "twin.pt")
    assert scan(library, [models]).errors == ()
    fox, twin = library.find("fox"), library.find("twin")
    assert fox.hashes["weights"] == twin.hashes["weights"] == weigh(state, {}).whole
    tensors = library.tensors(fox.id)
    assert tensors == library.tensors(twin.id)
    assert tensors is not None
    assert {name: each[:2] for name, each in tensors.items()} == {
        name: (tensor.dtype.label, tensor.shape) for name, tensor in state.items()
    }


def test_adapters_have_a_digest_and_no_components(library: Library, models: Path) -> None:
    path = write_lora(models / "a.safetensors", 7, title="first")
    write_lora(models / "b.safetensors", 7, title="another title")
    scan(library, [models])
    one, two = library.find("a"), library.find("b")
    assert one.hashes["weights"] == two.hashes["weights"]
    assert one.hashes["weights"] == weigh(open_model(path).state_dict, {}).whole
    assert one.component_digests == {}
    assert library.sharers(one.id) == {}


def test_a_file_whose_tensors_cannot_be_read_is_registered_by_its_hashes(
    library: Library, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lora(models / "a.safetensors")

    def broken(*_: object) -> Weights:
        raise TruncatedFile("ends within a tensor", path=path)

    monkeypatch.setattr("converters.hashing.weigh_content", broken)
    report = scan(library, [models])
    assert [error.error for error in report.errors] == ["ends within a tensor"]
    asset = library.find("a")
    assert asset.hashes["sha256"] is not None
    assert (asset.hashes["weights"], asset.component_digests) == (None, {})
    assert library.tensors(asset.id) is None


def test_tensors_of_many_times_their_file_or_beyond_number_wait_until_somebody_asks(
    library: Library, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("was digested")

    monkeypatch.setattr(converters.digest, "tensor_digest", refuse)
    path = write_lora(models / "a.safetensors")
    for limit, value in (("MOST_TIMES", 0.5), ("MOST_TENSORS", 2)):
        with monkeypatch.context() as limited:
            limited.setattr(f"registry.scanning.on_disk.{limit}", value)
            assert scan_file(library, path).hashes["weights"] is None


def test_a_pickle_of_many_views_of_one_storage_costs_a_scan_no_more_than_its_bytes(
    library: Library, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("was digested")

    views = {
        f"view{at}": pickles.tensor("0", (20_000,), (1,), numel=20_100, offset=at)
        for at in range(100)
    }
    path = models / "views.pt"
    path.write_bytes(
        pickles.torch_zip(pickles.pickled(pickles.dict_of(views)), {"0": bytes(4 * 20_100)})
    )
    monkeypatch.setattr(converters.digest, "_begin", refuse)
    asset = scan_file(library, path)
    assert (asset.tensors, asset.hashes["weights"]) == (100, None)


def test_files_without_numbers_are_not_all_the_same_weights(library: Library, models: Path) -> None:
    (models / "empty.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    assert scan_file(library, models / "empty.safetensors").hashes["weights"] is None


def test_what_an_older_program_left_out_is_added_without_a_scan(library: Library) -> None:
    asset = library.record_file(scanned(1))
    assert asset.hashes["weights"] is None
    library.record_weights(asset.id, weights("e" * 64, unet="f" * 64))
    library.record_weights(asset.id, weights("e" * 64, vae="d" * 64))
    after = library.get(asset.id)
    assert after.hashes["weights"] == "e" * 64
    assert after.component_digests == {"vae": "d" * 64}
    assert library.tensors(asset.id) == {}
    with pytest.raises(AssetNotFound):
        library.record_weights(99, weights("e" * 64))


def test_a_second_reading_without_digests_leaves_those_that_are_known(library: Library) -> None:
    asset = library.record_file(scanned(1))
    library.record_weights(asset.id, weights("e" * 64, unet="f" * 64))
    again = library.record_file(scanned(1, "/elsewhere/1.pt"))
    assert (again.id, again.component_digests) == (asset.id, {"unet": "f" * 64})


def test_components_of_names_that_no_column_holds_are_left_out(library: Library) -> None:
    asset = library.record_file(scanned(1))
    library.record_weights(asset.id, weights("e" * 64, **{"x" * 33: "f" * 64, "vae": "d" * 64}))
    assert library.get(asset.id).component_digests == {"vae": "d" * 64}


def test_a_damaged_table_of_tensors_counts_as_none(library: Library) -> None:
    asset = library.record_file(scanned(1))
    library.record_weights(asset.id, weights("e" * 64))
    with library._database.writing() as connection:
        connection.execute(update(schema.asset_tensors).values(packed=b"\1broken"))
    assert library.tensors(asset.id) is None


def test_what_is_forgotten_takes_its_digests_along(library: Library) -> None:
    asset = library.record_file(scanned(1))
    library.record_weights(asset.id, weights("e" * 64, unet="f" * 64))
    library.forget([asset.id])
    with library._database.reading() as connection:
        for table in ("component", "asset_tensors"):
            assert connection.execute(text(f"select count(*) from {table}")).scalar_one() == 0


def test_a_file_that_came_with_its_hashes_is_digested_by_the_next_scan(
    library: Library, models: Path
) -> None:
    """What the program downloads or writes itself is recorded without being read again."""
    made = write_lora(models / "made.safetensors")
    asset = scan_file(library, made, hashes=converters.hashing.hash_file(made).hashes)
    assert asset.hashes["weights"] is None
    report = scan(library, [models])
    assert counts(report) == {"unchanged": 1}
    assert report.bytes_hashed == made.stat().st_size
    assert library.get(asset.id).hashes["weights"] == weigh(open_model(made).state_dict, {}).whole
    assert library.tensors(asset.id) is not None
    assert scan(library).bytes_hashed == 0


def test_content_that_was_digested_is_not_read_again_for_another_place(
    library: Library, models: Path
) -> None:
    first = write_lora(models / "first.safetensors")
    scan(library, [models])
    copy = models / "copy.safetensors"
    shutil.copy(first, copy)
    scan_file(library, copy, hashes=converters.hashing.hash_file(copy).hashes)
    assert scan(library).bytes_hashed == 0


def test_a_model_that_newer_rules_recognise_is_read_again_for_its_components(
    family: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: what was recognised before has them already."""
    owner = family.find("alone").id
    before = family.sharers(owner)
    with family._database.writing() as connection:
        connection.execute(delete(schema.component).where(schema.component.c.asset_id == owner))
        unknown = update(schema.asset).where(schema.asset.c.id == owner)
        connection.execute(unknown.values(kind="unknown"))
    assert not family.sharers(owner)
    monkeypatch.setattr(naming, "RULES", naming.RULES + 1)
    assert scan(family).bytes_hashed == 0
    assert scan(family).bytes_hashed == family.get(owner).bytes
    assert family.sharers(owner) == before != {}
    assert scan(family).bytes_hashed == 0
