"""A scan that is interrupted, and files that change, arrive or go while it runs."""

from __future__ import annotations

import gc
import json
import os
from dataclasses import replace

import pytest
from scan_counts import counts
from small_models import lora_bytes, safetensors, write_lora

import registry.scanning.looking as looking
import registry.scanning.scanner as scanner
import registry.scanning.side_by_side as side_by_side
from converters.containers import open_model
from converters.containers.safetensors import SHARED_STRUCTURES
from converters.errors import Cancelled
from converters.hashing import hash_file
from converters.progress import SILENT, CancellableProgress, Progress
from registry.scanning.scanner import scan


def test_a_file_that_vanishes_during_the_scan_is_named(library, models, monkeypatch):
    path = write_lora(models / "a.safetensors")

    def vanish(place: str) -> object:
        path.unlink()
        return open_model(place)

    monkeypatch.setattr(looking, "open_model", vanish)
    report = scan(library, [models])
    assert counts(report) == {"failed": 1}
    assert report.errors[0].code == "not_found"


class StopAt(CancellableProgress):
    """Cancels at an advance, counted from the beginning of a stage."""

    def __init__(self, label: str, advance: int) -> None:
        super().__init__()
        self.label, self.left, self.counts = label, advance, False

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.counts = label == self.label

    def advance(self, amount: int = 1) -> None:
        self.left -= self.counts
        if self.left == 0:
            self.cancel()
        super().advance(amount)


def test_a_scan_interrupted_among_the_headers_goes_on_from_there(library, models):
    for number in range(5):
        write_lora(models / f"{number}.safetensors", number)
    with pytest.raises(Cancelled):
        scan(library, [models], StopAt("looking into files", 3))
    assert library.search("kind:lora").total == 2
    assert counts(scan(library)) == {"added": 5}
    assert counts(scan(library)) == {"unchanged": 5}


def test_a_scan_interrupted_among_the_hashes_goes_on_from_there(library, models):
    for number in range(5):
        write_lora(models / f"{number}.safetensors", number)
    with pytest.raises(Cancelled):
        scan(library, [models], StopAt("hashing", 3))
    assert library.search("kind:lora").total == 5
    assert len([asset for asset in library.assets() if asset.hashes["sha256"]]) == 3
    assert counts(scan(library)) == {"added": 2, "unchanged": 3}
    assert all(asset.hashes["sha256"] for asset in library.assets())


class Between(Progress):
    """Does something when all headers were read and nothing was hashed yet."""

    def __init__(self, act) -> None:
        self.act = act

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        if label == "hashing":
            self.act()


def test_new_files_are_seen_before_they_are_hashed(library, models):
    write_lora(models / "fox.safetensors", ss_output_name="vulpix")

    def look() -> None:
        asset = library.find("fox")
        assert (asset.kind, asset.base, asset.state) == ("lora", "sd-1", "present")
        assert not any(asset.hashes.values())
        assert library.search("vulpix").total == 1
        library.tag([asset.id], ["early"])

    scan(library, [models], Between(look))
    asset = library.find("fox")
    assert asset.hashes["blake3"]
    assert asset.tags == ("early",)


def test_what_waits_to_be_hashed_keeps_no_headers_in_memory(models):
    """A library of thousands of structures must fit; what is gone is read again for the digests."""
    for rank in range(1, 2 * SHARED_STRUCTURES):
        shapes = {
            "lora_unet_a.lora_down.weight": (rank, 8),
            "lora_unet_a.lora_up.weight": (8, rank),
        }
        (models / f"{rank}.safetensors").write_bytes(safetensors(shapes, {}, rank))
    paths = sorted(map(str, models.iterdir()))
    waiting = [looking.look_into(path).recorded for path in paths]
    gc.collect()
    assert sum(file.structure is not None for file in waiting) <= SHARED_STRUCTURES
    weights = [looking.read(file, SILENT)[0].weights for file in waiting]
    assert [each.whole for each in weights] == [
        hash_file(path, weights_of=open_model(path).state_dict).weights.whole for path in paths
    ]


def test_captions_are_searched_when_their_file_was_hashed(library, models):
    captions = json.dumps({"10_fox": {f"tag number {number}": 1 for number in range(40)}})
    write_lora(models / "fox.safetensors", ss_tag_frequency=captions)
    before: list[int] = []
    act = Between(lambda: before.append(library.search('"number 17"').total))
    scan(library, [models], act)
    assert before == [0]
    assert library.search('"number 17"').total == 1


def test_what_was_written_on_a_file_before_its_content_was_known_goes_over_to_it(library, models):
    path = write_lora(models / "old.safetensors")
    scan(library, [models])
    first = library.find("old").id
    library.tag([first], ["keeper"])
    library.note(first, "mine")
    os.utime(path.rename(models / "new.safetensors"), ns=(1, 1))  # known by content

    def write() -> None:
        waiting = library.find(str(models / "new.safetensors")).id
        assert waiting != first
        library.tag([waiting], ["early", "keeper"])
        library.note(waiting, "not mine")
        library.rate(waiting, 4)

    assert counts(scan(library, progress=Between(write))) == {"moved": 1}
    (asset,) = library.assets()
    assert (asset.id, asset.name, asset.note, asset.rating) == (first, "new", "mine", 4)
    assert set(asset.tags) == {"early", "keeper"}
    assert library.search("early").total == 1


def test_a_file_that_is_forgotten_before_it_was_hashed_stays_forgotten(library, models):
    write_lora(models / "a.safetensors", 1)
    write_lora(models / "b.safetensors", 2)
    forget = Between(lambda: library.forget([library.find("a").id]))
    assert counts(scan(library, [models], forget)) == {"added": 1}
    assert [asset.name for asset in library.assets()] == ["b"]


def test_a_file_that_changes_after_its_headers_were_read_is_read_again(
    library, models, monkeypatch
):
    monkeypatch.setattr(side_by_side, "SMALL_BYTES", 0)  # small ones may be in the middle of it
    path = write_lora(models / "a.safetensors", 1, ss_output_name="one")
    change = Between(lambda: write_lora(path, 2, ss_output_name="another"))
    assert counts(scan(library, [models], change)) == {"added": 1}
    (asset,) = library.assets()
    assert asset.metadata == {"ss_output_name": "another"}
    assert asset.hashes["sha256"] == hash_file(path).hashes.sha256
    assert counts(scan(library)) == {"unchanged": 1}


def test_a_file_that_never_stands_still_is_left_alone(library, models, monkeypatch):
    path = write_lora(models / "a.safetensors")

    def restless(path, *_):
        hashed = hash_file(path)
        return replace(hashed, fingerprint=hashed.fingerprint._replace(mtime_ns=7))

    monkeypatch.setattr(looking, "hash_model", restless)
    report = scan(library, [models])
    assert [(error.path, error.code) for error in report.errors] == [(str(path), "being_written")]
    assert not library.find("a").hashes["sha256"]
    monkeypatch.undo()
    assert counts(scan(library)) == {"added": 1}


@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_still_arrives_is_left_alone_until_it_is_whole(
    library, models, monkeypatch, known
):
    path = models / "a.safetensors"
    if known:
        write_lora(path, 1)
        scan(library, [models])
    path.write_bytes(lora_bytes(2)[:-5])
    monkeypatch.setattr(scanner.time, "sleep", lambda _: path.write_bytes(lora_bytes(2)[:-1]))
    report = scan(library, [models])
    assert [(error.path, error.code) for error in report.errors] == [(str(path), "being_written")]
    assert library.search().total == known
    path.write_bytes(lora_bytes(2))
    assert counts(scan(library)) == ({"updated": 1} if known else {"added": 1})
    assert library.search("kind:unknown").total == 0


def test_a_broken_file_of_long_ago_is_not_waited_for(library, models, monkeypatch):
    path = models / "a.safetensors"
    path.write_bytes(lora_bytes()[:-5])
    os.utime(path, ns=(1, 1))
    monkeypatch.setattr(scanner.time, "sleep", None)
    assert counts(scan(library, [models])) == {"added": 1, "failed": 1}


@pytest.mark.parametrize("known", [False, True])
def test_a_broken_file_of_a_moment_ago_is_told_with_the_hint_that_it_may_still_arrive(
    library, models, known
):
    path = models / "a.safetensors"
    if known:
        write_lora(path, 1)
        scan(library, [models])
    path.write_bytes(lora_bytes(2)[:-5])
    (error,) = scan(library, [models]).errors
    assert (error.path, error.code) == (str(path), "truncated")
    assert "scan again if it is still arriving" in (error.hint or "")
    a_while_ago = path.stat().st_mtime_ns - 3600 * 10**9
    os.utime(path, ns=(a_while_ago, a_while_ago))
    (error,) = scan(library, [models]).errors
    assert "still arriving" not in (error.hint or "")
