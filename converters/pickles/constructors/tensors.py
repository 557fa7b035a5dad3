"""Constructors of torch tensors over storages.

Sources: pytorch/pytorch `torch/_utils.py` (`_rebuild_*`: argument order, sizes and strides in
elements) and `torch/_tensor.py` (`_rebuild_from_type_v2`).
"""

from __future__ import annotations

from converters.pickles.constructors.arguments import (
    Args,
    Caller,
    Constructor,
    count,
    counts,
    expect,
    under,
)
from converters.pickles.values import BadPickle, Global, StorageRef, TensorRef, UnreadTensor


def _tensor(_caller: Caller, args: Args) -> object:
    """(storage, offset, size, stride[, requires_grad, hooks[, metadata]]), also the oldest form."""
    expect(args, 4, "_rebuild_tensor")
    metadata = args[6] if len(args) > 6 else None
    return _view(args, None, metadata)


def _typed_tensor(_caller: Caller, args: Args) -> object:
    """As `_tensor`, with the dtype before the metadata and a storage of raw bytes."""
    expect(args, 7, "_rebuild_tensor_v3")
    metadata = args[7] if len(args) > 7 else None
    return _view(args, _element_of(args[6]), metadata)


def _view(args: Args, element: str | None, metadata: object) -> TensorRef:
    storage, offset, size, stride = args[:4]
    if not isinstance(storage, StorageRef):
        raise BadPickle("a tensor over something that is not a storage")
    shape, strides = counts(size, "size"), counts(stride, "stride")
    if len(shape) != len(strides):
        raise BadPickle(f"a tensor of {len(shape)} sizes and {len(strides)} strides")
    element = element or storage.element
    if element is None:
        raise BadPickle("a tensor over raw bytes without an element type")
    flags = isinstance(metadata, dict) and (metadata.get("conj") or metadata.get("neg"))
    unread = "a conjugated or negated view" if flags else None
    return TensorRef(storage, element, count(offset, "offset"), shape, strides, unread)


def _first(_caller: Caller, args: Args) -> object:
    """A parameter or buffer is its tensor."""
    expect(args, 1, "_rebuild_parameter")
    return args[0]


def _from_type(caller: Caller, args: Args) -> object:
    """(function, class, arguments, state): a tensor subclass or a tensor with attributes."""
    expect(args, 3, "_rebuild_from_type_v2")
    return caller.call(args[0], args[2])


def _from_numpy(_caller: Caller, args: Args) -> object:
    """(array, dtype, device, requires_grad)."""
    expect(args, 1, "_rebuild_device_tensor_from_numpy")
    return args[0]


def _unread(what: str) -> Constructor:
    def make(_caller: Caller, _args: Args) -> object:
        return UnreadTensor(what)

    return make


def _element_of(dtype: object) -> str:
    """Give torch's name of an element type given as the name `torch.float16`. Raises BadPickle."""
    if isinstance(dtype, Global) and dtype.module == "torch":
        return dtype.name
    raise BadPickle("an element type that is not one of torch's")


CONSTRUCTORS: dict[str, Constructor] = {
    **under(
        ("torch._utils",),
        {
            "_rebuild_tensor": _tensor,
            "_rebuild_tensor_v2": _tensor,
            "_rebuild_tensor_v3": _typed_tensor,
            "_rebuild_parameter": _first,
            "_rebuild_parameter_with_state": _first,
            "_rebuild_device_tensor_from_numpy": _from_numpy,
            "_rebuild_device_tensor_from_cpu_tensor": _first,
            "_rebuild_sparse_tensor": _unread("a sparse tensor"),
            "_rebuild_qtensor": _unread("a quantised tensor"),
            "_rebuild_meta_tensor_no_storage": _unread("a tensor without values"),
            "_rebuild_nested_tensor": _unread("a nested tensor"),
            "_rebuild_wrapper_subclass": _unread("a tensor of a wrapper class"),
        },
    ),
    **under(
        ("torch._tensor",), {"_rebuild_from_type_v2": _from_type, "_rebuild_from_type": _from_type}
    ),
    **under(("torch.nn.parameter", "torch.nn"), {"Parameter": _first}),
}
