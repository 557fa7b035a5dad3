"""Models in several files: each part is an asset that says so, and a scan tells what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from scan_counts import counts
from small_models import write_lora

from converters.shard_names import Shard, Whole, indexed_by, shard_of
from registry.scanning.parts import incomplete
from registry.scanning.scanner import scan

PARTS = ("fox-00001-of-00003.safetensors", "fox-00002-of-00003.safetensors")
LAST = "fox-00003-of-00003.safetensors"
INDEX = "fox.safetensors.index.json"


def told(*names: str, beside: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    paths = [str(Path("/m", name)) for name in names]
    others = {str(Path("/m")): frozenset(beside)}
    found = incomplete(paths, dict.fromkeys(paths), others)
    return [(Path(each.path or "").name, each.cause) for each in found]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (LAST, Shard(Whole("fox", ".safetensors"), 3, 3)),
        ("a.fp16-00001-of-00002.bin", Shard(Whole("a.fp16", ".bin"), 1, 2)),
        ("fox-00004-of-00003.safetensors", None),
        ("fox-00000-of-00003.safetensors", None),
        ("fox-1-of-3.safetensors", None),
        ("one-of-many.safetensors", None),
    ],
)
def test_a_name_says_which_part_of_how_many_a_file_is(name, part):
    assert shard_of(name) == part
    assert part is None or name == list(part.names)[part.number - 1]


def test_an_index_is_known_to_its_parts_with_a_variant_too():
    assert indexed_by(INDEX) == Whole("fox", ".safetensors")
    assert indexed_by("a.bin.index.fp16.json") == Whole("a.fp16", ".bin")
    assert indexed_by("model_index.json") is indexed_by("fox.json") is None


def test_parts_may_lie_at_the_top_of_a_disk():
    top = Path("/m").anchor
    paths = [f"{top}{name}" for name in (*PARTS, LAST)]
    assert list(incomplete(paths, dict.fromkeys(paths), {top: frozenset({INDEX})})) == []


def test_a_whole_model_with_its_index_lacks_nothing():
    assert told(*PARTS, LAST, beside=(INDEX,)) == []


def test_parts_of_gguf_need_no_index():
    assert told("a-00001-of-00001.gguf", "b.safetensors") == []


def test_what_is_missing_is_named_once_for_each_model():
    assert told(*PARTS) == [
        (LAST, "is missing, one of 3 parts of a model"),
        (INDEX, "is missing, which would put 3 parts together"),
    ]
    ((first, cause),) = told("a-00001-of-99999.gguf")
    assert first == "a-00002-of-99999.gguf"
    assert cause.endswith("model, like a-00003-of-99999.gguf, a-00004-of-99999.gguf and others")


def test_a_scan_says_once_that_a_model_is_not_whole_and_each_part_that_it_is_one(library, models):
    for content, name in enumerate(PARTS):
        write_lora(models / name, content)
    report = scan(library, [models])
    assert counts(report) == {"added": 2, "failed": 2}
    assert [Path(error.path).name for error in report.errors] == [LAST, INDEX]
    assert library.find(PARTS[1].removesuffix(".safetensors")).problems == (
        "is part 2 of 3 of a model, not a whole one",
    )
    assert counts(scan(library)) == {"unchanged": 2}
    write_lora(models / LAST, 3)
    (models / INDEX).write_text("{}")
    assert counts(scan(library)) == {"added": 1, "unchanged": 2}
