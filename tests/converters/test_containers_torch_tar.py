"""The tar container of torch 0.1 against torch.load, from archives made here."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch
from helpers.examples import examples
from helpers.inspecting import inspected_in_a_process
from helpers.pickles import call_name, number, pickled, text, tuple_of
from helpers.torch_tar import VALUE, by_key, integers, members, placed, stored, tar
from helpers.verdicts import safety_of
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.containers import Container, Model, open_model
from converters.errors import CorruptFile, FileProblem, TruncatedFile, UnsupportedFile
from converters.pickles.verdict import Verdict

EVIL = call_name("os.system", text("true"))


def opened(data: bytes) -> Model:
    return open_model(MemoryBytes(data, "x.ckpt"))


def test_tensors_are_read_equal_to_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(tar(members()))
    expected = torch.load(path, weights_only=False)
    model = open_model(path)
    assert model.container is Container.TORCH_TAR
    assert model.safety.verdict is Verdict.SAFE
    assert set(model.state_dict) == {"w", "t", "v"} == set(expected)
    for key, right in expected.items():
        assert model.state_dict[key].shape == tuple(right.shape)
        assert bytes(model.state_dict[key].read()) == right.contiguous().numpy().tobytes()


def test_data_stay_in_the_archive() -> None:
    model = opened(tar(members()))
    assert model.state_dict["w"].extents is not None
    assert model.state_dict["v"].extents is not None
    assert model.state_dict["t"].extents is None


def test_times_in_extension_headers_change_nothing() -> None:
    assert set(opened(tar(members(), mtime=1.5)).state_dict) == {"w", "t", "v"}


STORAGE = pickled(number(1)) + stored(1, "Float", VALUE)
NO_VIEWS = pickled(b"]")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (members(storages=pickled(number(2)) + stored(1, "Float", VALUE)), "ends before"),
        (members(storages=pickled(number(-1))), "a number of objects"),
        (members(storages=pickled(number(1 << 30))), "a number of objects"),
        (members(storages=STORAGE[:-1] + NO_VIEWS), "unknown opcode"),
        (members(storages=STORAGE.replace(integers(6), integers(1 << 40))), "bytes too early"),
        (members(storages=STORAGE.replace(integers(6), integers(-6))), "a storage of -6 elements"),
        (members(storages=STORAGE.replace(b"Float", b"Funny") + NO_VIEWS), "FunnyStorage"),
        (members(storages=STORAGE + pickled(b"](" + tuple_of(*[number(1)] * 2) + b"e")), "4 val"),
        (
            members(storages=STORAGE + pickled(
                b"](" + tuple_of(number(2), number(1), number(4), number(4)) + b"e"
            )),
            "outside storage 1",
        ),
        (members(tensors=pickled(number(1)) + placed(10, 9, [1], [1])), "over storage 9"),
        (members(tensors=pickled(number(1)) + placed(10, 1, [7], [1])), "over storage 11"),
        (members(tensors=pickled(number(3)) + placed(10, 1, [7], [1]) + placed(11, 1, [], [])
                 + placed(12, 1, [], [])), "needs 28 bytes"),
        (members(tensors=pickled(number(1)) + placed(10, 1, [-1], [1])), "sizes are not"),
        (members(tensors=pickled(number(1)) + placed(10, 1, [1] * 65, [1] * 65)), "65 dimensions"),
        (members(body=by_key(99)), "storage 99, which is not there"),
        (members(body=text("x") + b"Q"), "a key that is not a number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_archive_that_contradicts_itself_is_refused(parts: dict[str, bytes], words: str) -> None:
    with pytest.raises((CorruptFile, TruncatedFile)) as caught:
        opened(tar(parts))
    assert words in caught.value.cause


@pytest.mark.parametrize("place", ["storages", "tensors", "pickle"])
def test_a_hostile_pickle_in_any_member_is_dangerous(place: str) -> None:
    for data in (pickled(EVIL), members()[place] + pickled(EVIL)):
        report = safety_of(MemoryBytes(tar({**members(), place: data}), "x.pt"))
        assert report.verdict is Verdict.DANGEROUS


def test_a_hostile_object_is_seen_though_the_tables_are_broken() -> None:
    parts = members(storages=b"broken", body=EVIL)
    assert safety_of(MemoryBytes(tar(parts), "x.pt")).verdict is Verdict.DANGEROUS


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tar({"a.txt": b"hello"}), "not one of torch"),
        (tar({f"{i}": b"" for i in range(70)}), "more than 64 members"),
        (tar(members(), type=tarfile.SYMTYPE, linkname="/etc/passwd"), "not a plain file"),
        (tar({"x" * 300: b""}), "extensions that change names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_archives_are_refused_by_name_and_not_called_safe(data: bytes, words: str) -> None:
    source = MemoryBytes(data, "x.ckpt")
    with pytest.raises(UnsupportedFile) as caught:
        open_model(source)
    assert words in caught.value.cause
    assert safety_of(source).verdict is Verdict.SUSPICIOUS


def test_two_members_for_two_readers_are_refused() -> None:
    target = io.BytesIO(tar(members()))
    with tarfile.open(fileobj=target, mode="a") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    with pytest.raises(CorruptFile, match="'pickle' is there twice"):
        opened(target.getvalue())


def test_an_archive_cut_before_its_end_gives_an_error_of_ours() -> None:
    data = tar(members())
    end = data.rindex(pickled(b"")[-1:]) + 1
    for length in range(0, end, 7):
        with pytest.raises(FileProblem):
            opened(data[:length])


@given(st.data())
@examples(300)
def test_a_mutated_archive_gives_an_error_of_ours_or_tensors_of_the_right_size(
    drawn: st.DataObject,
) -> None:
    parts = members()
    label = drawn.draw(st.sampled_from(sorted(parts)))
    inner = bytearray(parts[label])
    inner[drawn.draw(st.integers(0, len(inner) - 1))] = drawn.draw(st.integers(0, 255))
    data = bytearray(tar({**parts, label: bytes(inner)}))
    if drawn.draw(st.booleans()):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        for lazy in opened(bytes(data)).state_dict.values():
            assert len(memoryview(lazy.read())) == lazy.nbytes
    except FileProblem:
        pass


def test_an_archive_is_inspected_without_torch_or_numpy(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    path.write_bytes(tar(members()))
    found = inspected_in_a_process(path)
    assert (found["container"], found["tensors"]) == ("torch-tar", 3)
