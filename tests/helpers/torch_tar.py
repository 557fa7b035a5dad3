"""Builders of the tar files of torch 0.1 (pytorch `torch/serialization.py`, legacy_load)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import torch
from helpers.pickles import dict_of, name, number, pickled, text, tuple_of


def tar(members: Mapping[str, bytes], **details: object) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for label, data in members.items():
            info = tarfile.TarInfo(label)
            info.size = len(data)
            for detail, value in details.items():
                setattr(info, detail, value)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def integers(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little", signed=True) for value in values)


def stored(key: int, kind: str, value: torch.Tensor) -> bytes:
    data = bytes(value.contiguous().untyped_storage())
    entry = pickled(tuple_of(number(key), text("cpu"), name("torch", f"{kind}Storage")))
    return entry + integers(value.numel()) + data


def placed(key: int, storage: int, shape: list[int], stride: list[int], offset: int = 0) -> bytes:
    entry = pickled(tuple_of(number(key), number(storage), name("torch", "FloatTensor")))
    return entry + integers(len(shape), *shape, *stride, offset)


def by_key(key: int) -> bytes:
    return text(str(key)) + b"Q"


VALUE = torch.arange(6.0).reshape(2, 3)


VIEWS = pickled(b"](" + tuple_of(number(2), number(1), number(1), number(4)) + b"e")


def members(
    storages: bytes | None = None, tensors: bytes | None = None, body: bytes | None = None
) -> dict[str, bytes]:
    object_body = dict_of({"w": by_key(10), "t": by_key(11), "v": by_key(12)})
    return {
        "storages": storages or pickled(number(1)) + stored(1, "Float", VALUE) + VIEWS,
        "tensors": tensors or pickled(number(3)) + placed(10, 1, [2, 3], [3, 1])
        + placed(11, 1, [3, 2], [1, 3]) + placed(12, 2, [2], [1], 1),
        "pickle": pickled(body or object_body),
    }  # fmt: skip
