"""Hostile and monstrous pickles: nothing runs, everything is named, growth is bounded."""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.pickles import (
    PROTO_4,
    STOP,
    call_name,
    dict_of,
    hostile_bodies,
    name,
    number,
    pickled,
    raw,
    tensor,
    text,
    torch_zip,
    tuple_of,
)
from helpers.verdicts import safety_of

from converters.bytesource import MemoryBytes
from converters.containers import Inspected, open_model
from converters.errors import CorruptFile, FileProblem, TruncatedFile, UnsafeFile
from converters.pickles import unpickling
from converters.pickles.machine import MAX_ODD_KEYS, Machine
from converters.pickles.verdict import Verdict

MARKER = Path(os.environ.get("TMPDIR", "/tmp")) / f"assetmgr-marker-{os.getpid()}"
HOSTILE = hostile_bodies(f"touch {MARKER}")
WEIGHT = tensor("0", (2,), (1,), numel=2)
DATA = {"0": struct.pack("<2f", 1.0, 2.0)}


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    yield
    assert not MARKER.exists()


def vessels(body: bytes) -> dict[str, bytes]:
    """The same payload as the files people meet."""
    beside = dict_of({"state_dict": dict_of({"w": WEIGHT}), "callbacks": body})
    frame = b"\x95" + struct.pack("<Q", len(body) + 1)
    return {
        "a bare pickle": pickled(body),
        "protocol 0": body + STOP,
        "protocol 4": PROTO_4 + body + STOP,
        "protocol 4 with a frame": PROTO_4 + frame + body + STOP,
        "broken off after the call": PROTO_4 + body,
        "a second pickle": pickled(b"N") + pickled(body),
        "torch zip": torch_zip(pickled(body)),
        "beside a state dict": torch_zip(pickled(beside), DATA),
        "after the end of data.pkl": torch_zip(pickled(b"}") + pickled(body)),
        "another pickle in the zip": torch_zip(pickled(b"}"), more={"extra.pkl": pickled(body)}),
    }


@pytest.mark.parametrize("spelling", HOSTILE)
def test_a_hostile_pickle_is_called_dangerous_in_every_vessel(spelling: str) -> None:
    for vessel, data in vessels(HOSTILE[spelling]).items():
        report = safety_of(MemoryBytes(data, "model.ckpt"))
        assert report.verdict is Verdict.DANGEROUS, vessel
        assert report.findings, vessel


@pytest.mark.parametrize("spelling", HOSTILE)
def test_the_tensors_beside_a_hostile_value_can_be_looked_at(spelling: str) -> None:
    data = vessels(HOSTILE[spelling])["beside a state dict"]
    model = open_model(MemoryBytes(data, "model.ckpt"))
    assert model.safety.verdict is Verdict.DANGEROUS
    assert bytes(model.state_dict["w"].read()) == DATA["0"]


@pytest.mark.parametrize(
    "hidden",
    ["cos\nsystem\n(S'id'\ntR.", "(cos\nsystem\nS'id'\no.", "(S'id'\nios\nsystem\n."],
)
def test_a_pickle_in_a_text_is_found_in_every_form_of_a_call(hidden: str) -> None:
    value = dict_of({"state_dict": dict_of({"w": WEIGHT}), "note": text(hidden)})
    report = safety_of(MemoryBytes(torch_zip(pickled(value), DATA), "model.ckpt"))
    assert report.verdict is Verdict.DANGEROUS
    assert "os.system" in report.imports


def test_a_dangerous_bare_pickle_is_refused_with_its_report() -> None:
    with pytest.raises(UnsafeFile, match=r"os\.system would run commands") as caught:
        open_model(MemoryBytes(pickled(HOSTILE["GLOBAL and REDUCE"]), "model.ckpt"))
    assert isinstance(caught.value, Inspected)
    assert caught.value.safety.imports == ("os.system",)


def test_a_stream_that_breaks_off_still_lists_every_name_after_the_break() -> None:
    broken = pickled(
        b"0" + call_name("os.system", text("x")) + text("pty") + text("spawn") + b"\x93"
    )
    with pytest.raises(CorruptFile) as caught:
        open_model(MemoryBytes(torch_zip(broken), "model.ckpt"))
    assert isinstance(caught.value, Inspected)
    assert set(caught.value.safety.imports) == {"os.system", "pty.spawn"}


def test_a_zip_and_a_pickle_in_one_file_is_judged_by_what_python_would_load() -> None:
    data = pickled(HOSTILE["GLOBAL and REDUCE"]) + torch_zip(pickled(b"}"))
    assert safety_of(MemoryBytes(data, "model.ckpt")).verdict is Verdict.DANGEROUS


NESTED_LISTS = b"]" * 20_000 + b"a" * 19_999
DOUBLED = b"N" + b"\x85q\x00h\x00h\x00\x86q\x00" * 200
LARGE_LIST = b"](" + b"K\x01" * 30_000 + b"eq\x01"
BOMBS = {
    "very many empty lists": b"]" * 60_000,
    "very many empty sets": b"\x8f" * 30_000,
    "very many memo entries": b"N" + b"\x94" * 45_000,
    "very many marks": b"(" * 65_000,
    "very many Nones": b"(" + b"N" * 100_000 + b"l",
    "deeply nested lists": NESTED_LISTS,
    "deeply nested tuples": b")" + b"\x85" * 30_000,
    "deeply nested dicts": b"}" * 20_000 + b"NN" + b"s",
    "tuples that double": DOUBLED,
    "tuples that double, as a key": b"}" + DOUBLED + b"Ns",
    "tuples that double, under a state dict": dict_of({"state_dict": DOUBLED, "w": WEIGHT}),
    "dicts that double": b"N" + b"".join(
        b"q\x00}(" + text("a") + b"h\x00" + text("b") + b"h\x00u" for _ in range(100)
    ),
    "lists that contain themselves": b"]q\x00h\x00a",
    "a dict that contains itself": b"}q\x00" + text("a") + b"h\x00s",
    "a large list, copied very often": LARGE_LIST
    + (name("builtins", "list") + b"q\x02(") + b"h\x02h\x01\x85R" * 2_000 + b"t",
    "a large text, encoded very often": text("x" * 50_000) + b"q\x01"
    + name("_codecs", "encode") + b"q\x02(" + b"h\x02h\x01" + text("latin1") + b"q\x03\x86R"
    + b"h\x02h\x01h\x03\x86R" * 2_000 + b"t",
    "numbers that collide as keys": b"}(" + b"".join(
        b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 6_000)
    ) + b"u",
    "a number of a megabyte": b"\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20),
    "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n",
    "a memo number beyond all bounds": b"Np" + b"9" * 18 + b"\n",
    "bytes of absurd length": b"\x8e" + b"\xff" * 8,
    "a text of absurd length": b"\x8d" + b"\xff" * 7 + b"\x7f",
    "a negative length": b"T\xff\xff\xff\xff",
    "a frame of absurd length": b"\x95" + b"\xff" * 8 + b"N",
    "bytearray of ten gigabytes": call_name("builtins.bytearray", b"\x8a\x05\x00\xe4\x0bT\x02"),
    "nested calls": name("copyreg", "__newobj__") + b"q\x00" + b"(" + b"h\x00" * 5000 + b"tR",
    "a tensor expanded to a petabyte": dict_of(
        {"w": tensor("0", (1 << 30, 1 << 20), (0, 0), numel=2)}
    ),
    "a name of a megabyte": dict_of({"x" * (1 << 20): WEIGHT}),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_bounded_memory_and_time(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a twelfth of the real budget, because tracing memory is slow."""
    monkeypatch.setattr(unpickling, "BUDGET", 4 << 20)
    body = pickled(BOMBS[bomb])
    begin = time.process_time()
    safety_of(MemoryBytes(body, "model.ckpt"))
    assert time.process_time() - begin < 1 + 2 * len(body) / 1e6
    data = torch_zip(body, DATA)
    tracemalloc.start()
    try:
        open_model(MemoryBytes(data, "model.ckpt"))
    except FileProblem:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < (10 << 20) + 4 * len(body)


def test_a_name_is_charged_with_all_that_is_kept_of_it() -> None:
    """Its text, the pair that finds it again, and its place in the table of names."""
    machine = Machine(unpickling.no_persistent_ids)
    tracemalloc.start()
    try:
        for number in range(2_000):
            machine.name("module", f"name{number}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept <= machine.spent < 2 * kept
    once = machine.spent
    machine.name("module", "name0")
    assert machine.spent == once


def test_packed_bombs_are_refused_by_their_announced_size() -> None:
    import zipfile

    data = torch_zip(pickled(b"N" * (40 << 20)), packing=zipfile.ZIP_DEFLATED)
    assert len(data) < 1 << 20
    with pytest.raises(CorruptFile, match="is more than"):
        open_model(MemoryBytes(data, "model.ckpt"))


@pytest.mark.parametrize(
    "body",
    [
        b"0",
        b"R",
        b"t",
        b"h\x05",
        b"(K\x01u",
        b"]]Ns",
        b"}(K\x01u",
        b"K\x01b",
        b"\x97",
        b"\xff",
        b"P0\n",
        b"NQ",
        b"Ix\n",
        b"Fx\n",
        b"S'x\n",
        b"S'\\x0'\n",
        b"V\\u12\n",
        b"X\x01\x00\x00\x00\xff",
        b"p-1\n",
        b"(o",
        b"K\x01K\x02a",
        b"}]Ns",
    ],
)
def test_streams_that_make_no_sense_are_corrupt(body: bytes) -> None:
    with pytest.raises((CorruptFile, TruncatedFile)) as caught:
        open_model(
            MemoryBytes(torch_zip(pickled(body + b"N" if body == b"K\x01b" else body)), "x.pt")
        )
    assert "its pickle cannot be read" in caught.value.cause


def test_mutated_hostile_and_benign_files_raise_nothing_foreign() -> None:
    chance = random.Random(20)
    benign = dict_of({"state_dict": dict_of({"a": WEIGHT, "b": WEIGHT}), "epoch": number(3)})
    seeds = [
        torch_zip(pickled(benign), DATA),
        pickled(raw(pickled(benign)) + tuple_of(WEIGHT) + b"0"),
    ]
    seeds += [torch_zip(pickled(body)) for body in list(HOSTILE.values())[:40]]
    for _ in range(1500):
        content = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            model = open_model(MemoryBytes(bytes(content), "x.ckpt"))
            for lazy in model.state_dict.values():
                assert len(bytes(lazy.read())) == lazy.nbytes
        except FileProblem:
            continue


def test_keys_whose_hashes_a_file_can_choose_are_few() -> None:
    """All multiples of Python's modulus of hashes have the same one, and many cost their square."""
    modulus = (1 << 61) - 1
    keys = (number * modulus for number in range(1, MAX_ODD_KEYS + 2))
    entries = b"".join(b"\x8a\x0a" + key.to_bytes(10, "little") + b"N" for key in keys)
    found = unpickling.unpickle(b"\x80\x02}(" + entries + b"u.")
    assert found.stopped is not None
    assert found.stopped.reason.endswith("keys that are not plain")
