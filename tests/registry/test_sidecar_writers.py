"""Sidecars written for other programs: they are read again, and nobody's keys are lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.document import BadDocument
from registry.sidecars import ROWS, Origin, Sidecar, beside, read_sidecar
from registry.sidecars.known import SITE_BASES, SITE_TYPES, Known
from registry.sidecars.writers import MARK, WRITERS, encoded, is_ours, parsed, rewritten

KNOWN = Known(
    path="/m/style.v1.safetensors",
    bytes=2048,
    modified=1.5,
    added="2026-01-02T03:04:05+00:00",
    title="A style",
    kind="lora",
    base="sdxl",
    prediction="epsilon",
    description="Lines & <sks> words.\nTwo of them.",
    trigger_words=("sks", "line art"),
    negative="blurry",
    weight=0.7,
    tags=("lines", "favorite"),
    notes="best at 0.7",
    source=Origin("civitai", "12", "345", urls=("https://civitai.com/api/download/models/345",)),
    hashes={"sha256": "a" * 64, "crc32": "b" * 8, "blake3": "c" * 64, "autov1": "d" * 8},
)
NOTHING = Known(
    path="/m/x.ckpt", bytes=1, modified=0.0, added="", title="x", kind="unknown", base="unknown",
    prediction="unknown",
)  # fmt: skip


def _read(program: str, document: Mapping[str, object], tmp_path: Path) -> Sidecar:
    path = tmp_path / f"style.v1{WRITERS[program].ending}"
    path.write_bytes(encoded(document))
    ((row, name),) = beside("style.v1.safetensors", frozenset({path.name}))
    assert name == path.name
    assert row.owner == WRITERS[program].owner
    sidecar = read_sidecar(row, str(path))
    assert sidecar is not None
    return sidecar


@pytest.mark.parametrize("program", WRITERS)
def test_what_is_written_is_read_without_a_problem(program: str, tmp_path: Path) -> None:
    found = _read(program, rewritten({}, WRITERS[program].write(KNOWN)), tmp_path)
    assert found.problems == ()
    assert found.description == KNOWN.description
    assert ", ".join(found.trigger_words) == "sks, line art"


@pytest.mark.parametrize("program", WRITERS)
def test_of_a_model_of_which_nothing_is_known_nothing_is_claimed(
    program: str, tmp_path: Path
) -> None:
    found = _read(program, rewritten({}, WRITERS[program].write(NOTHING)), tmp_path)
    assert found.problems == ()
    assert (found.description, found.trigger_words, found.source) == (None, (), None)
    assert (found.claimed_hashes, found.weight, found.notes) == ({}, None, None)


def test_a1111_gets_what_its_editor_shows(tmp_path: Path) -> None:
    document = rewritten({}, WRITERS["a1111"].write(KNOWN))
    assert {name: value for name, value in document.items() if name != MARK} == {
        "description": KNOWN.description,
        "sd version": "SDXL",
        "activation text": "sks, line art",
        "preferred weight": 0.7,
        "negative text": "blurry",
        "notes": "best at 0.7",
    }
    found = _read("a1111", document, tmp_path)
    assert (found.base, found.weight, found.negative) == ("SDXL", 0.7, "blurry")
    assert found.notes == "best at 0.7"


@pytest.mark.parametrize("program", ["civitai", "cm", "lora-manager"])
def test_programs_of_the_site_get_its_numbers_words_and_hashes(
    program: str, tmp_path: Path
) -> None:
    found = _read(program, rewritten({}, WRITERS[program].write(KNOWN)), tmp_path)
    assert found.source is not None
    assert (found.source.model_id, found.source.version_id) == ("12", "345")
    assert (found.name, found.base) == ("A style", "SDXL 1.0")
    assert found.claimed_hashes["sha256"] == "a" * 64
    assert set(found.tags) == {"lines", "favorite"}


def test_swarm_gets_the_keys_of_modelspec(tmp_path: Path) -> None:
    document = rewritten({}, WRITERS["swarm"].write(KNOWN))
    assert document["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert document["modelspec.hash_sha256"] == "0x" + "a" * 64
    found = _read("swarm", document, tmp_path)
    assert (found.prediction, found.notes) == ("epsilon", "best at 0.7")


@pytest.mark.parametrize("program", WRITERS)
def test_keys_of_others_stay_and_ours_are_replaced(program: str) -> None:
    write = WRITERS[program].write
    theirs = {"favourite": [1, {"a": None}], "zzz": "kept"}
    first = rewritten(theirs, write(KNOWN))
    assert {name: first[name] for name in theirs} == theirs
    again = rewritten(first, write(NOTHING))
    assert {name: again[name] for name in theirs} == theirs
    alone = rewritten(theirs, write(NOTHING))
    assert again == alone, "nothing of what was known before is left"


@pytest.mark.parametrize("program", WRITERS)
def test_values_that_others_chose_win_over_our_defaults(program: str) -> None:
    written = WRITERS[program].write(NOTHING)
    theirs = dict.fromkeys(written.defaults, "their choice")
    document = rewritten(theirs, written)
    assert {name: document[name] for name in theirs} == theirs


def test_objects_inside_are_joined() -> None:
    theirs = {"model": {"name": "old", "nsfw": True}, "files": [{"id": 7}]}
    document = rewritten(theirs, WRITERS["civitai"].write(KNOWN))
    assert document["model"] == {
        "name": "A style",
        "nsfw": True,
        "type": "LORA",
        "tags": ["lines", "favorite"],
    }
    assert document["files"] == [{"id": 7}]


@pytest.mark.parametrize("program", WRITERS)
def test_a_file_is_ours_until_somebody_edits_it(program: str) -> None:
    written = WRITERS[program].write(KNOWN)
    document = parsed(encoded(rewritten({}, written)))
    assert is_ours(document)
    assert rewritten(document, written) == document, "and says the same when written again"
    name = next(iter(document))
    assert not is_ours({**document, name: "edited"})
    assert not is_ours({**document, "new": 1})
    assert not is_ours({key: value for key, value in document.items() if key != MARK})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    theirs=st.dictionaries(st.text(), json_values, max_size=5),
    text=st.text(st.characters(codec=None), max_size=20),
    program=st.sampled_from(sorted(WRITERS)),
)
def test_any_object_and_any_text_can_be_written_and_read(
    theirs: dict[str, object], text: str, program: str
) -> None:
    known = replace(KNOWN, title=text, description=text, notes=text, trigger_words=(text,))
    document = rewritten(theirs, WRITERS[program].write(known))
    read = parsed(encoded(document))
    assert read == document
    assert is_ours(read)


@pytest.mark.parametrize("mark", [None, 1, "x", [], {}, {"digest": 1, "wrote": 3}])
def test_a_mark_that_is_none_makes_a_file_not_ours(mark: object) -> None:
    document = {"notes": "theirs", MARK: mark}
    assert not is_ours(document)
    assert rewritten(document, WRITERS["a1111"].write(NOTHING))["notes"] == "theirs"


def test_numbers_without_a_word_in_json_are_refused() -> None:
    with pytest.raises(BadDocument):
        encoded({"x": float("nan")})


def test_every_writer_has_a_reader() -> None:
    endings = {(row.owner, ending) for row in ROWS for ending in row.endings}
    assert {(writer.owner, writer.ending) for writer in WRITERS.values()} <= endings


def test_what_is_said_to_the_site_is_what_it_said_to_us() -> None:
    from assetmgr.sources.civitai.words import BASES, TYPES

    assert all(text in BASES[base] for base, text in SITE_BASES.items())
    assert all(text in TYPES[kind] for kind, text in SITE_TYPES.items() if kind in TYPES)
    assert json.loads(encoded({"a": "ä"})) == {"a": "ä"}
