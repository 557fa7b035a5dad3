"""Files that did not change are called what newer rules call them, by their headers alone."""

from __future__ import annotations

import pytest
from scan_counts import counts
from small_models import write_lora
from sqlalchemy import update

import registry.scanning.looking as looking
import registry.scanning.scanner as scanner
from converters.errors import FileUnreadable
from registry.scanning import naming
from registry.scanning.scanner import scan
from registry.tables import schema

OLDER = {"kind": "unknown", "base": "unknown", "algorithm": (), "problems": ("never heard of",)}


@pytest.fixture
def known(library, models, monkeypatch):
    """Two LoRAs that a scan by older rules called unknown; no scan may hash them again."""
    for name in ("fox", "owl"):
        write_lora(models / f"{name}.safetensors", name, ss_output_name=f"{name}y")
    scan(library, [models])
    _forget(library)
    monkeypatch.setattr(looking, "hash_model", _never)
    monkeypatch.setattr(naming, "RULES", naming.RULES + 1)
    return library


def _forget(library) -> None:
    with library._database.writing() as connection:
        connection.execute(update(schema.asset).values(OLDER))


def _never(*_: object, **__: object) -> None:
    raise AssertionError("a file that did not change was read")


def test_the_first_scan_by_newer_rules_names_what_older_ones_named(known):
    known.tag([1], add=["mine"])
    assert known.kinds() == {"unknown": 2}
    report = scan(known)
    assert (counts(report), report.bytes_hashed) == ({"unchanged": 2}, 0)
    assert known.kinds() == {"lora": 2}
    asset = known.find("#1")
    assert (asset.base, asset.algorithm, asset.problems, asset.tags) == (
        *("sd-1", ("lora",), ()),
        ("mine",),
    )


def test_what_is_named_is_not_looked_into_again(known, monkeypatch):
    scan(known)
    monkeypatch.setattr(scanner, "look_into", _never)
    assert counts(scan(known)) == {"unchanged": 2}


def test_a_file_that_is_away_is_named_when_it_is_back(known, models):
    away = models.with_name("away")
    models.rename(away)
    scan(known)
    assert known.kinds() == {"unknown": 2}
    away.rename(models)
    scan(known)
    assert known.kinds() == {"lora": 2}


def test_a_scan_that_ends_in_between_leaves_the_rest_for_the_next(known, monkeypatch):
    real = scanner.look_into

    def unreadable(path):
        if "owl" in path:
            raise FileUnreadable("is locked by another program", path=path)
        return real(path)

    monkeypatch.setattr(scanner, "look_into", unreadable)
    assert [error.error for error in scan(known).errors] == ["is locked by another program"]
    assert known.kinds() == {"lora": 1, "unknown": 1}
    monkeypatch.setattr(scanner, "look_into", real)
    scan(known)
    assert known.kinds() == {"lora": 2}


def test_words_of_the_metadata_find_what_was_named(known):
    scan(known)
    assert [asset.name for asset in known.assets("foxy")] == ["fox"]


def test_a_library_of_the_newest_rules_looks_into_nothing_twice(library, models, monkeypatch):
    write_lora(models / "fox.safetensors")
    scan(library, [models])
    monkeypatch.setattr(scanner, "look_into", _never)
    assert counts(scan(library)) == {"unchanged": 1}


def test_an_asset_that_was_forgotten_meanwhile_is_left_out(known, models, monkeypatch):
    real = scanner.look_into

    def forgetting(path):
        if "owl" in path:
            known.forget([known.find(path).id])
        return real(path)

    monkeypatch.setattr(scanner, "look_into", forgetting)
    scan(known)
    assert known.kinds() == {"lora": 1}


def test_nothing_is_named_where_all_was_forgotten_meanwhile(known, monkeypatch):
    real = scanner.look_into

    def forgetting(path):
        known.forget([known.find(path).id])
        return real(path)

    monkeypatch.setattr(scanner, "look_into", forgetting)
    scan(known)
    assert known.kinds() == {}
