"""What a scan finds, what it makes of it, and files that are recorded one by one."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from scan_counts import counts
from small_models import lora_bytes, write_lora

import registry.scanning.looking as looking
from converters.containers import open_model
from converters.errors import FileMissing
from converters.hashing import hash_file
from converters.progress import Progress
from registry.scanning.scanner import scan, scan_file


def test_a_scan_registers_what_each_file_is_and_all_its_hashes(library, models):
    path = write_lora(models / "fox.safetensors", ss_output_name="foxy")
    report = scan(library, [models])
    assert counts(report) == {"added": 1}
    assert report.roots == (str(models),)
    assert report.bytes_hashed == path.stat().st_size
    asset = library.find(str(path))
    assert (asset.name, asset.kind, asset.base, asset.algorithm) == (
        "fox",
        "lora",
        "sd-1",
        ("lora",),
    )
    assert (asset.rank, asset.dtypes, asset.tensors, asset.container) == (
        4,
        {"F16": 3},
        3,
        "safetensors",
    )
    assert asset.metadata == {"ss_output_name": "foxy"}
    assert asset.state == "present"
    assert asset.path == str(path)
    expected = hash_file(path, header_bytes=open_model(path).header_bytes).hashes
    for name in ("blake3", "sha256", "crc32", "autov2", "autov3"):
        assert asset.hashes[name] == getattr(expected, name)


def test_the_hash_of_nothing_is_not_stored_as_a_hash(library, models):
    write_lora(models / "short.safetensors")  # shorter than where AutoV1 begins
    scan(library, [models])
    (asset,) = library.assets()
    assert asset.hashes["autov1"] is None


def test_a_second_scan_opens_no_file(library, models, monkeypatch):
    for number in range(3):
        write_lora(models / f"{number}.safetensors", number)
    scan(library, [models])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(looking, "open_model", refuse)
    monkeypatch.setattr(looking, "hash_model", refuse)
    report = scan(library)
    assert counts(report) == {"unchanged": 3}
    assert report.bytes_hashed == 0


def test_a_touched_file_is_read_again_and_found_unchanged(library, models):
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    os.utime(path, ns=(1, 1))
    report = scan(library)
    assert counts(report) == {"unchanged": 1}
    assert report.bytes_hashed > 0
    assert scan(library).bytes_hashed == 0


def test_equal_files_are_one_asset_in_several_places(library, models):
    write_lora(models / "a.safetensors")
    write_lora(models / "copy of a.safetensors")
    assert counts(scan(library, [models])) == {"added": 2}
    (asset,) = library.assets()
    assert len(asset.files) == 2
    assert library.search("is:duplicate").total == 1


def test_a_copy_of_a_present_file_is_added_not_moved(library, models):
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    shutil.copy(path, models / "b.safetensors")
    assert counts(scan(library)) == {"added": 1, "unchanged": 1}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (lora_bytes()[:200], "truncated"),
        (lora_bytes()[:-1], "truncated"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "unsupported"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "unsupported"),
    ],
)
def test_a_file_that_cannot_be_understood_is_registered_with_the_reason(
    library, models, content, code
):
    bad = models / "bad.safetensors"
    bad.write_bytes(content)
    write_lora(models / "good.safetensors")
    report = scan(library, [models])
    assert counts(report) == {"added": 2, "failed": 1}
    (error,) = report.errors
    assert (error.path, error.code) == (str(bad), code)
    asset = library.find(str(bad))
    assert asset.kind == "unknown"
    assert asset.problems == (error.error,)
    assert library.find("good").kind == "lora"
    assert counts(scan(library)) == {"unchanged": 2}


def test_a_hostile_pickle_is_registered_as_dangerous_and_never_run(library, models, tmp_path):
    import pickle

    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    (models / "evil.pt").write_bytes(pickle.dumps(Hostile()))
    report = scan(library, [models])
    assert report.failed == 1
    assert not marker.exists()
    asset = library.find("evil")
    assert (asset.kind, asset.safety.verdict) == ("unknown", "dangerous")
    assert asset.safety.findings
    assert library.search("is:unsafe").total == 1


def test_a_file_that_may_not_be_read_is_named_and_the_others_are_registered(
    library, models, monkeypatch
):
    """Not by its mode: root may read everything, and Windows locks files instead."""
    closed, opened = write_lora(models / "a.safetensors"), os.open

    def refuse(path, *rest, **more):
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    write_lora(models / "b.safetensors")
    report = scan(library, [models])
    assert counts(report) == {"added": 1, "failed": 1}
    (error,) = report.errors
    assert (error.path, error.code) == (str(closed), "unreadable")
    monkeypatch.undo()
    assert counts(scan(library)) == {"added": 1, "unchanged": 1}


def test_progress_tells_the_files_and_then_the_bytes(library, models):
    told: list[tuple[str, int | None, str]] = []
    done: list[int] = []

    class Collect(Progress):
        def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
            told.append((label, total, unit))
            done.append(0)

        def advance(self, amount: int = 1) -> None:
            done[-1] += amount

    write_lora(models / "a.safetensors")
    report = scan(library, [models], Collect())
    assert told == [
        ("looking into files", 1, "files"),
        ("hashing", report.bytes_hashed, "B"),
    ]
    assert done == [1, report.bytes_hashed]


def test_one_file_is_recorded_by_itself(library, models):
    path = write_lora(models / "a.safetensors")
    asset = scan_file(library, path)
    assert asset.path == str(path)
    assert library.roots() == ()
    assert counts(scan(library, [models])) == {"unchanged": 1}


def test_known_hashes_save_the_read(library, models, monkeypatch):
    path = write_lora(models / "a.safetensors")
    hashes = hash_file(path).hashes
    monkeypatch.setattr(looking, "hash_model", None)
    assert scan_file(library, path, hashes=hashes).hashes["sha256"] == hashes.sha256


def test_a_file_that_is_not_there_cannot_be_recorded(library, models):
    with pytest.raises(FileMissing):
        scan_file(library, models / "nothing.safetensors")


def test_a_file_recorded_over_another_content_shows_the_new_one(library, models):
    path = write_lora(models / "a.safetensors", 1)
    first = scan_file(library, path)
    write_lora(path, 2)
    second = scan_file(library, path)
    assert second.id != first.id
    assert library.find(str(path)).id == second.id
