"""The writer: byte for byte what the safetensors library writes, whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import blake3
import pytest
import safetensors
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import FileBytes, MemoryBytes
from converters.dtypes import DType
from converters.errors import (
    AssetmgrError,
    BadValue,
    Cancelled,
    DiskFull,
    SourceChanged,
    TargetExists,
    TruncatedFile,
    WriteFailed,
)
from converters.progress import Progress
from converters.statedict import Extent, LazyTensor, StateDict
from converters.writers import atomic, computing
from converters.writers.atomic import AtomicTarget, write_whole
from converters.writers.safetensors import layout_of, write_safetensors

DTYPES = [DType.F32, DType.F16, DType.BF16, DType.I64, DType.U8, DType.BOOL, DType.F8_E4M3]
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)


@st.composite
def state_dicts(draw: st.DrawFn) -> tuple[StateDict, dict[str, bytes]]:
    """A state dict of stored and computed tensors, and the bytes each must have."""
    tensors: dict[str, LazyTensor] = {}
    contents: dict[str, bytes] = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=6)):
        dtype = draw(st.sampled_from(DTYPES))
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        size = LazyTensor(dtype, shape, (), "").nbytes
        data = draw(st.binary(min_size=size, max_size=size))
        contents[name] = data
        tensors[name] = LazyTensor(dtype, shape, draw(_sources(data)), f"test: {name}")
    metadata = draw(
        st.dictionaries(
            st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), max_size=3
        )
    )
    return StateDict(tensors, metadata), contents


def _sources(data: bytes) -> st.SearchStrategy[tuple[Extent, ...] | Callable[[], bytes]]:
    source = MemoryBytes(b"--" + data)
    middle = len(data) // 2
    whole = (Extent(source, 2, len(data)),)
    halves = (Extent(source, 2, middle), Extent(source, 2 + middle, len(data) - middle))
    return st.sampled_from([whole, halves, lambda: data])


@examples(60)
@given(made=state_dicts(), with_hashes=st.booleans())
def test_what_is_written_reads_back_and_equals_the_librarys_own_file(
    tmp_path_factory: pytest.TempPathFactory,
    made: tuple[StateDict, dict[str, bytes]],
    with_hashes: bool,
) -> None:
    state, contents = made
    target = tmp_path_factory.mktemp("write") / "out.safetensors"
    written = write_safetensors(state, target, with_hashes=with_hashes)
    data = target.read_bytes()
    reference = _written_by_the_library(state, contents)
    ours, theirs = _header(data), _header(reference)
    assert ours == theirs
    assert [name for name in ours if name != "__metadata__"] == [
        name for name in theirs if name != "__metadata__"
    ]
    assert len(state.metadata) > 1 or data == reference, (
        "with several texts the library's order is random"
    )
    assert data[_start(data) :] == reference[_start(reference) :]
    assert {name: value["data"] for name, value in safetensors.deserialize(data)} == contents
    assert written.nbytes == len(data) == layout_of(state).nbytes
    if with_hashes:
        assert written.hashes is not None
        assert written.hashes.sha256 == hashlib.sha256(data).hexdigest()
        assert written.hashes.blake3 == blake3.blake3(data).hexdigest()
        assert written.hashes.autov3 == hashlib.sha256(data[_start(data) :]).hexdigest()


def _written_by_the_library(state: StateDict, contents: dict[str, bytes]) -> bytes:
    kept = {name: ctypes.create_string_buffer(data, len(data)) for name, data in contents.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=_rust_name(tensor.dtype),
            shape=list(tensor.shape),
            data_ptr=ctypes.addressof(kept[name]),
            data_len=len(contents[name]),
        )
        for name, tensor in state.items()
    }
    return bytes(safetensors.serialize(specs, dict(state.metadata) or None))


def _rust_name(dtype: DType) -> str:
    return {
        DType.F32: "float32", DType.F16: "float16", DType.BF16: "bfloat16", DType.I64: "int64",
        DType.U8: "uint8", DType.BOOL: "bool", DType.F8_E4M3: "float8_e4m3fn",
    }[dtype]  # fmt: skip


def _start(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _header(data: bytes) -> dict[str, object]:
    header: dict[str, object] = json.loads(data[8 : _start(data)])
    return header


def stored_file(path: Path, size: int = 5_000_000, tensors: int = 5) -> StateDict:
    """A state dict whose tensors lie one behind the other in a new file at `path`."""
    path.write_bytes(os.urandom(size))
    source = FileBytes(path)
    step = size // tensors
    return StateDict(
        {
            f"t{i}": LazyTensor(DType.U8, (step,), (Extent(source, i * step, step),), f"t{i}")
            for i in range(tensors)
        }
    )


@pytest.mark.parametrize("with_hashes", [True, False])
@pytest.mark.parametrize("advice", ["taken", "refused", "absent"])
def test_large_copies_are_the_same_however_the_disk_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_hashes: bool, advice: str
) -> None:
    state = stored_file(tmp_path / "source")
    monkeypatch.setattr(atomic, "WRITEBACK_BYTES", 1 << 20)

    def refuse(*_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    if advice == "absent":
        monkeypatch.delattr(os, "posix_fadvise", raising=False)
    elif advice == "refused":
        monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
        monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    target = tmp_path / "out.safetensors"
    write_safetensors(state, target, with_hashes=with_hashes)
    data = target.read_bytes()
    assert data[_start(data) :] == (tmp_path / "source").read_bytes()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EXDEV, None, 0, 1000])
def test_copies_are_the_same_whatever_the_kernel_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    """It refuses, cannot, copies nothing, or less than asked for each time."""

    def copy(source: int, target: int, count: int, start: int, at: int) -> int:
        if code in (errno.ENOSYS, errno.EXDEV):
            raise OSError(code, os.strerror(code))
        data = os.pread(source, min(count, code or 0), start)
        return os.pwrite(target, data, at)

    if code is None:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    else:
        monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    state = stored_file(tmp_path / "source")
    computed = LazyTensor(DType.U8, (5,), lambda: b"12345", "computed")
    mixed = state.overlay({"t1a": computed, "t99": computed})
    target = tmp_path / "out.safetensors"
    write_safetensors(mixed, target, with_hashes=False)
    other = tmp_path / "other.safetensors"
    write_safetensors(mixed, other)
    assert target.read_bytes() == other.read_bytes()


def test_places_are_written_to_where_the_system_has_no_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    monkeypatch.delattr(os, "pwrite", raising=False)
    target = tmp_path / "out.safetensors"
    write_safetensors(stored_file(tmp_path / "source"), target, with_hashes=False)
    data = target.read_bytes()
    assert data[_start(data) :] == (tmp_path / "source").read_bytes()


@pytest.mark.parametrize("with_hashes", [True, False])
def test_computed_tensors_are_bounded_in_memory_and_written_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_hashes: bool
) -> None:
    monkeypatch.setattr(computing, "WINDOW_BYTES", 3000)
    alive, most = 0, 0

    def computed(number: int) -> LazyTensor:
        def compute() -> bytes:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return bytes([number]) * 1000

        return LazyTensor(DType.U8, (1000,), compute, f"computed {number}")

    class Counter(Progress):
        def advance(self, amount: int = 1) -> None:
            nonlocal alive
            alive -= amount == 1000

    state = StateDict({f"t{i:02}": computed(i) for i in range(20)})
    target = tmp_path / "out.safetensors"
    write_safetensors(state, target, with_hashes=with_hashes, progress=Counter())
    data = target.read_bytes()
    assert data[_start(data) :] == b"".join(bytes([i]) * 1000 for i in range(20))
    assert most <= 4, "three in the window and the one being written"


def test_a_computed_tensor_of_the_wrong_size_names_its_origin(tmp_path: Path) -> None:
    state = StateDict({"a": LazyTensor(DType.U8, (4,), lambda: b"123", "some.ckpt: a")})
    with pytest.raises(AssetmgrError, match=r"some\.ckpt: a.*3 bytes where 4"):
        write_safetensors(state, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_is_kept_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"precious")
    state = StateDict({})
    with pytest.raises(TargetExists, match="already exists"):
        write_safetensors(state, target)
    assert target.read_bytes() == b"precious"
    write_safetensors(state, target, overwrite=True)
    assert target.read_bytes() != b"precious"


@pytest.mark.parametrize("letter", ["n", "ä", "絵", "\U0001f98a"])
def test_the_longest_name_that_a_target_can_have_is_written(tmp_path: Path, letter: str) -> None:
    target = tmp_path / (letter * (255 // len(letter.encode())))
    write_whole(target, b"content")
    write_whole(target, b"other", overwrite=True)
    assert (target.read_bytes(), list(tmp_path.iterdir())) == (b"other", [target])


def test_a_target_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    with AtomicTarget(target) as file:
        file.write(b"ours")
        target.write_bytes(b"theirs")
        with pytest.raises(TargetExists):
            file.commit()
    assert target.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_targets_appear_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    write_whole(tmp_path / "out.bin", b"content")
    assert (tmp_path / "out.bin").read_bytes() == b"content"
    with pytest.raises(TargetExists):
        write_whole(tmp_path / "out.bin", b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_the_mode_of_the_target_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_safetensors(StateDict({}), tmp_path / "out.safetensors")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out.safetensors").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="folders that can be synced")
def test_the_new_name_is_on_the_disk_when_the_writer_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append(os.listdir(descriptor))

    monkeypatch.setattr(os, "fsync", fsync)
    write_safetensors(StateDict({}), tmp_path / "out.safetensors")
    assert "out.safetensors" in synced[-1]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failing_disk_leaves_the_old_target_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, after: int, call: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "out.safetensors"
    target.write_bytes(b"old")
    state = stored_file(tmp_path / "source")
    real = getattr(os, call)
    calls: list[int] = []

    def fail(*arguments: object) -> object:
        calls.append(1)
        if len(calls) > after or call == "fsync":
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    monkeypatch.setattr(os, call, fail)
    expected = DiskFull if code == errno.ENOSPC else WriteFailed
    with pytest.raises(expected, match=r"out\.safetensors"):
        write_safetensors(state, target, overwrite=True)
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert list(folder.iterdir()) == [target]


@pytest.mark.parametrize("with_hashes", [True, False])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt])
def test_an_interruption_at_any_step_leaves_nothing(
    tmp_path: Path, step: int, error: type[BaseException], with_hashes: bool
) -> None:
    state = stored_file(tmp_path / "source")

    class Interrupting(Progress):
        steps = 0

        def advance(self, amount: int = 1) -> None:
            self.steps += 1
            if self.steps == min(step, 3 if not with_hashes else 5):
                raise error

    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(error):
        write_safetensors(
            state, folder / "out.safetensors", with_hashes=with_hashes, progress=Interrupting()
        )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("computed", [False, True])
def test_a_source_that_changes_meanwhile_is_noticed_before_the_target_appears(
    tmp_path: Path, computed: bool
) -> None:
    state = stored_file(tmp_path / "source")
    if computed:
        parts = dict(state)
        state = StateDict(
            {
                name: LazyTensor(t.dtype, t.shape, t.read, t.origin, t.sources)
                for name, t in parts.items()
            }
        )

    class Meddler(Progress):
        def advance(self, amount: int = 1) -> None:
            os.utime(tmp_path / "source", ns=(1, 1))

    with pytest.raises(SourceChanged, match="modified"):
        write_safetensors(state, tmp_path / "out.safetensors", progress=Meddler())
    assert not (tmp_path / "out.safetensors").exists()


def test_a_source_that_shrank_gives_an_error(tmp_path: Path) -> None:
    state = stored_file(tmp_path / "source")
    os.truncate(tmp_path / "source", 1000)
    for with_hashes in (True, False):
        with pytest.raises(TruncatedFile, match="ends at byte"):
            write_safetensors(state, tmp_path / "out.safetensors", with_hashes=with_hashes)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_plan_of_a_file_reads_nothing(tmp_path: Path) -> None:
    def forbidden() -> bytes:
        raise AssertionError("the dry run read tensor data")

    state = StateDict({"a": LazyTensor(DType.F16, (3, 5), forbidden, "a")})
    layout = layout_of(state)
    assert layout.order == ("a",)
    assert layout.nbytes == len(layout.header) + 30


@pytest.mark.parametrize("name", ["__metadata__", "broken \ud800 text"])
def test_names_that_the_format_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(BadValue):
        layout_of(StateDict({name: LazyTensor(DType.U8, (0,), lambda: b"", "a")}))


def test_the_target_folder_is_made_and_a_folder_is_never_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "folder" / "out.bin", b"x")
    assert (tmp_path / "new" / "folder" / "out.bin").read_bytes() == b"x"
    with pytest.raises(WriteFailed, match="folder"):
        write_whole(tmp_path / "new", b"x", overwrite=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_device_or_pipe_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for target in (pipe, link):
        with pytest.raises(WriteFailed, match="not a file"):
            write_whole(target, b"x", overwrite=True)
    assert pipe.is_fifo()
    assert link.is_symlink()
