"""The torch zip reader against torch.load(weights_only=True), and the forms of checkpoints."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from helpers.examples import examples
from helpers.pickles import (
    call_name,
    dict_of,
    name,
    number,
    pickled,
    raw,
    tensor,
    text,
    torch_zip,
    tuple_of,
)
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.containers import Container, Inspected, Model, open_model
from converters.errors import CorruptFile, FileProblem, UnsupportedFile
from converters.pickles.verdict import Verdict

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64,
    torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def saved(value: object) -> bytes:
    target = io.BytesIO()
    torch.save(value, target)
    return target.getvalue()


def opened(data: bytes) -> Model:
    return open_model(MemoryBytes(data, "x.ckpt"))


def bytes_of(value: torch.Tensor) -> bytes:
    return bytes(value.detach().clone(memory_format=torch.contiguous_format).untyped_storage())


def flat(value: object, path: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {path: value}
    if isinstance(value, dict):
        pairs = [(str(key), member) for key, member in value.items()]
    elif isinstance(value, (list, tuple)):
        pairs = [(str(index), member) for index, member in enumerate(value)]
    else:
        return {}
    found = {}
    for key, member in pairs:
        found.update(flat(member, f"{path}.{key}" if path else key))
    return found


@st.composite
def views(draw: st.DrawFn, pool: list[torch.Tensor]) -> torch.Tensor:
    if pool and draw(st.booleans()):
        value = draw(st.sampled_from(pool))
    else:
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        dtype = draw(st.sampled_from(DTYPES))
        value = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
        pool.append(value)
    operation = draw(st.sampled_from(["as it is", "transposed", "sliced", "stepped", "expanded"]))
    if value.dim() and operation == "transposed":
        return value.transpose(0, -1)
    if value.dim() and operation == "sliced":
        start = draw(st.integers(0, value.shape[-1]))
        return value[..., start:]
    if value.dim() and operation == "stepped":
        return value[:: draw(st.integers(1, 3))]
    if operation == "expanded":
        return value.expand(draw(st.integers(0, 3)), *value.shape)
    return torch.nn.Parameter(value) if value.dtype == torch.float32 else value


@st.composite
def objects(draw: st.DrawFn) -> dict[object, object]:
    pool: list[torch.Tensor] = []
    keys = st.text("abcxyz_", min_size=1, max_size=6) | st.integers(0, 999)
    leaves = views(pool) | views(pool) | st.integers() | st.text(max_size=5) | st.none()
    nested = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(keys, inner, max_size=3)
        ),
        max_leaves=8,
    )
    return draw(st.dictionaries(st.text("abcxyz", min_size=1, max_size=6), nested, max_size=4))


@given(objects())
@examples(60)
def test_nested_tensors_are_read_equal_to_torch(value: dict[object, object]) -> None:
    data = saved(value)
    expected = flat(torch.load(io.BytesIO(data), weights_only=True))
    model = opened(data)
    assert set(model.state_dict) == set(expected)
    for path, right in expected.items():
        lazy = model.state_dict[path]
        assert lazy.shape == tuple(right.shape)
        assert bytes(lazy.read()) == bytes_of(right)
    assert model.safety.verdict is Verdict.SAFE
    assert model.problems == ()


def test_contiguous_tensors_stay_extents_of_the_file() -> None:
    base = torch.arange(24.0).reshape(4, 6)
    model = opened(saved({"whole": base, "rows": base[1:3], "turned": base.t()}))
    assert model.state_dict["whole"].extents is not None
    assert model.state_dict["rows"].extents is not None
    assert model.state_dict["turned"].extents is None


def test_a_lightning_checkpoint_gives_its_state_dict() -> None:
    weights = OrderedDict(a=torch.ones(2), b=torch.zeros(3))
    weights._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    model = opened(
        saved(
            {
                "state_dict": weights,
                "global_step": 470_000,
                "epoch": 3,
                "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
            }
        )
    )
    assert set(model.state_dict) == {"a", "b"}
    assert model.state_dict.extras == {"global_step": 470_000, "epoch": 3}
    assert model.ignored == ("optimizer_states",)
    assert model.container is Container.TORCH_ZIP


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", "params_ema", "net"])
def test_wrappers_are_taken_off(wrapper: str) -> None:
    assert set(opened(saved({wrapper: {"w": torch.ones(1)}, "n": 1})).state_dict) == {"w"}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_before_every_name_are_taken_off(prefix: str) -> None:
    value = {f"{prefix}a.w": torch.ones(1), f"{prefix}b.w": torch.ones(1)}
    assert set(opened(saved(value)).state_dict) == {"a.w", "b.w"}
    assert set(opened(saved({**value, "c": torch.ones(1)})).state_dict) == {*value, "c"}


def test_an_embedding_of_a1111_keeps_its_words() -> None:
    model = opened(
        saved(
            {
                "string_to_token": {"*": 265},
                "string_to_param": {"*": torch.ones(2, 768)},
                "name": "birb",
                "step": 1500,
                "sd_checkpoint": None,
            }
        )
    )
    assert set(model.state_dict) == {"string_to_param.*"}
    assert model.state_dict.extras == {
        "string_to_token.*": 265,
        "name": "birb",
        "step": 1500,
        "sd_checkpoint": None,
    }


def test_a_hypernetwork_of_a1111_is_flattened_by_width_and_side() -> None:
    side = {"linear.0.weight": torch.ones(2, 1), "linear.0.bias": torch.ones(2)}
    value = {768: (side, side), "layer_structure": [1, 2, 1], "activation_func": "relu"}
    model = opened(saved(value))
    assert "768.0.linear.0.weight" in model.state_dict
    assert "768.1.linear.0.bias" in model.state_dict
    assert model.state_dict.extras == {"layer_structure": [1, 2, 1], "activation_func": "relu"}


def test_a_bare_tensor_is_called_tensor() -> None:
    assert set(opened(saved(torch.ones(3))).state_dict) == {"tensor"}


def test_a_list_of_tensors_is_numbered() -> None:
    assert set(opened(saved([torch.ones(1), torch.ones(1)])).state_dict) == {"0", "1"}


def test_a_packed_zip_is_read_as_well() -> None:
    value = {"a": torch.arange(8.0), "t": torch.arange(8.0).reshape(2, 4).t()}
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(value))) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in source.namelist():
            packed.writestr(entry, source.read(entry))
    model = opened(target.getvalue())
    assert model.state_dict["a"].extents is None
    for path, right in value.items():
        assert bytes(model.state_dict[path].read()) == bytes_of(right)


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor:UserWarning")
def test_tensors_that_cannot_be_stored_are_left_out_and_named() -> None:
    value = {
        "good": torch.ones(2),
        "complex": torch.ones(2, dtype=torch.complex128),
        "sparse": torch.eye(2).to_sparse(),
        "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
        "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    }
    model = opened(saved(value))
    assert set(model.state_dict) == {"good"}
    assert len(model.problems) == 4
    assert model.safety.verdict is Verdict.SAFE


def test_numpy_numbers_become_plain_ones_and_arrays_tensors() -> None:
    numpy_scalar = call_name(
        "numpy.core.multiarray.scalar",
        call_name("numpy.dtype", text("f8"), number(0), number(1))
        + tuple_of(number(3), text("<"), b"N", b"N", b"N", number(-1), number(-1), b"K\0") + b"b",
        raw(b"\0\0\0\0\0\0\xf8?"),
    )  # fmt: skip
    empty = call_name(
        "numpy.core.multiarray._reconstruct", name("numpy", "ndarray"), tuple_of(number(0))
    )
    kind = call_name("numpy.dtype", text("<i2"))
    state = tuple_of(number(1), tuple_of(number(3)), kind, b"\x89", raw(bytes(range(6))))
    array = empty + state + b"b"
    model = opened(torch_zip(pickled(dict_of({"score": numpy_scalar, "array": array}))))
    assert model.state_dict.extras == {"score": 1.5}
    assert model.state_dict["array"].dtype.label == "I16"
    assert bytes(model.state_dict["array"].read()) == bytes(range(6))
    assert model.safety.verdict is Verdict.SAFE


def one(body: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    return torch_zip(pickled(dict_of({"w": body})), storages or {"0": bytes(16)})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (one(tensor("0", (5,), (1,), numel=4)), "needs 20 bytes of a storage of 16"),
        (one(tensor("0", (2, 2), (3, 1), numel=4)), "needs 20 bytes"),
        (one(tensor("0", (2,), (1,), numel=4, offset=3)), "needs 20 bytes"),
        (one(tensor("0", (2,), (1,), numel=8)), "of which the file holds 16"),
        (one(tensor("0", (-2,), (1,), numel=4)), "size is not a number from 0 on"),
        (one(tensor("0", (2,), (-1,), numel=4)), "stride is not a number from 0 on"),
        (one(tensor("0", (2,), (1,), numel=4, offset=-1)), "offset is not a number"),
        (one(tensor("0", (2,), (1,), numel=-4)), "length that is not a number"),
        (one(tensor("0", (2, 2), (1,), numel=4)), "2 sizes and 1 strides"),
        (one(tensor("0", (1,) * 65, (1,) * 65, numel=4)), "not a short list"),
        (one(tensor("9", (2,), (1,), numel=4)), "storage 9, which the file does not hold"),
        (one(tensor("../version", (1,), (1,), numel=0)), "which the file does not hold"),
        (one(tensor("0", (2,), (1,), numel=4, kind="FunnyStorage")), "unknown class FunnyStorage"),
        (one(tensor("0", (1 << 30, 1 << 20), (0, 0), numel=4)), "over a storage of 16"),
        (one(call_name("torch._utils._rebuild_tensor_v2", text("x"))), "with 1 arguments"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tensor_that_lies_about_its_storage_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(CorruptFile) as caught:
        opened(data)
    assert words in caught.value.cause


def test_two_paths_to_the_same_name_are_refused() -> None:
    with pytest.raises(CorruptFile, match=r"two tensors would be named a\.b"):
        opened(saved({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (torch_zip(pickled(b"}"), more={"byteorder": b"big"}), "big-endian"),
        (torch_zip(pickled(b"}"), more={"constants.pkl": pickled(b")")}), "TorchScript"),
        (torch_zip(pickled(b"}"), more={"code/x.py": b""}), "TorchScript"),
        (torch_zip(pickled(b"}"), root="a/b"), "no data.pkl"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_zip_files_are_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(UnsupportedFile) as caught:
        opened(data)
    assert words in caught.value.cause
    assert isinstance(caught.value, Inspected)


def test_two_pickles_for_two_readers_are_refused() -> None:
    target = io.BytesIO(torch_zip(pickled(b"}"), root="one"))
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("two/data.pkl", pickled(call_name("os.system", text("true"))))
    with pytest.raises(CorruptFile, match=r"several data\.pkl") as caught:
        opened(target.getvalue())
    assert isinstance(caught.value, Inspected)
    assert caught.value.safety.verdict is Verdict.DANGEROUS


def test_a_file_cut_at_any_byte_gives_an_error_of_ours() -> None:
    data = saved({"state_dict": {"a": torch.ones(3)}})
    for length in range(len(data)):
        with pytest.raises(FileProblem):
            opened(data[:length])


def test_a_checkpoint_of_1142_tensors_is_opened_without_torch_or_numpy(tmp_path: Path) -> None:
    path = tmp_path / "large.ckpt"
    torch.save({"state_dict": {f"layer.{i}.weight": torch.zeros(2) for i in range(1142)}}, path)
    program = (
        "import itertools, sys\n"
        "from converters.containers import open_model\n"
        "calls = itertools.count()\n"
        "sys.setprofile(lambda *_: next(calls))\n"
        f"model = open_model({str(path)!r})\n"
        "sys.setprofile(None)\n"
        "print(len(model.state_dict), next(calls))\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    (count, calls), imported = (line.split() for line in run.stdout.splitlines())
    assert count == "1142"
    assert int(calls) < 1142 * 1000, "a few calls for each: 0.05 s without counting them"
    assert imported == ["False", "False"]
