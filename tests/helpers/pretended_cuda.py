"""A CUDA device that is none: tensors say that they are there, their values lie on the CPU.

Paths that are made for accelerators run on it: what would meet on two devices is refused as CUDA
refuses it, and what would have the processor wait for the device is counted. It has one thread, no
speed and no memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from assetmgr.sampler.rendering import threads

CUDA = torch.device("cuda", 0)

_CROSSING = frozenset({"aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put_"})
"""Operations whose tensors may be on different devices."""
_WAITING = frozenset({"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::equal"})


class There(torch.Tensor):
    """A tensor on the device, whose values are those of `here`."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Self:
        """Of the same shape, strides and type."""
        made: Self = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=CUDA,
        )
        made.here = here
        return made

    def __repr__(self, **_: object) -> str:
        """Without a look at the values."""
        return f"There({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, _types: Any, _args: Any = (), _kwargs: Any = None
    ) -> Any:
        """Only for where no device is pretended."""
        raise AssertionError(f"{func} is called where no device is pretended")

    def data_ptr(self) -> int:
        """Where the values lie."""
        return self.here.data_ptr()

    def __float__(self) -> float:
        """A single number, for which the device is waited for."""
        return float(self.item())

    def tolist(self) -> Any:
        """The values, for which the device is waited for."""
        return self.cpu().tolist()

    @property
    def data(self) -> torch.Tensor:
        """The same values, as of a parameter."""
        return There(self.here.detach())

    @data.setter
    def data(self, other: torch.Tensor) -> None:
        assert isinstance(other, There), "a parameter's values stay on its device"
        if other.dtype is self.dtype:
            self.here = other.here
        else:
            torch.utils.swap_tensors(
                self, torch.nn.Parameter(There(other.here), self.requires_grad)
            )


class Pretended(TorchDispatchMode):
    """Computes for tensors of the device; `waits` are the operations that the device is waited for.

    `fails` may raise what an operation shall raise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.fails: Callable[[str], None] = lambda _: None

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Compute on the CPU, after a look at where the arguments are."""
        told: dict[str, Any] = dict(kwargs or {})
        name = func._schema.name
        tensors = [each for each in _flat((args, told)) if isinstance(each, torch.Tensor)]
        there = [each for each in tensors if isinstance(each, There)]
        target = told.get("device")
        if there and name not in _CROSSING and any(_is_here(each) for each in tensors):
            shapes = [(type(each).__name__, tuple(each.shape)) for each in tensors]
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} {shapes}")
        is_there = target.type == "cuda" if target is not None else _is_written_there(args, there)
        if is_there:
            self.fails(name)
        is_fetched = name == "aten::_to_copy" and not is_there
        if there and (is_fetched or name in _WAITING):
            self.waits.append(name)
        if target is not None:
            told["device"] = torch.device("cpu") if is_there else target
        owners = {id(each.here): each for each in there}
        result = func(*_mapped(_inner, args), **_mapped(_inner, told))

        def outer(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            owner = owners.get(id(value))
            if owner is not None:
                return owner
            return There(value) if is_there else value

        return _mapped(outer, result)


def _is_here(tensor: torch.Tensor) -> bool:
    """Whether it is on the CPU and no single number, which may be used anywhere."""
    return not isinstance(tensor, There) and tensor.ndim > 0


def _is_written_there(args: tuple[Any, ...], there: list[There]) -> bool:
    """Results are where the tensor is that is written to, else where the arguments are."""
    first = args[0] if args else None
    return isinstance(first, There) if torch.is_tensor(first) and first.ndim else bool(there)


def _flat(value: Any) -> Iterator[Any]:
    """What is in nested lists and mappings."""
    if isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _flat(each)
    else:
        yield value


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """The same lists and mappings of what is made of each value in them."""
    if isinstance(value, dict):
        return {name: _mapped(change, each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        made = [_mapped(change, each) for each in value]
        return made if isinstance(value, list) else tuple(made)
    return change(value)


def _inner(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


class _Numbered(TorchFunctionMode):
    """Gives the device its number and its tensors' parts, which torch would ask a driver for."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        told = _mapped(_numbered, dict(kwargs or {}))
        if func is torch.tensor and told.get("device") == CUDA:
            return There(func(*args, **{**told, "device": "cpu"}))
        if func == torch.Tensor.data.__set__ and isinstance(args[1], There):  # type: ignore[attr-defined]
            torch.utils.swap_tensors(args[0], torch.nn.Parameter(There(args[1].here), False))
            return None
        if func in _GUARDED and isinstance(args[0], There):
            made = func(*_mapped(_inner, args), **_mapped(_inner, told))
            if made is args[0].here:
                return args[0]
            return There(made) if torch.is_tensor(made) else made
        return func(*map(_numbered, args), **told)


_GUARDED = frozenset(
    getattr(torch.Tensor, name)
    for name in ("__getitem__", "__setitem__", "contiguous", "copy_", "dot")
)
"""What asks the device's driver before it is dispatched; of `copy_` the target only."""


def _numbered(value: Any) -> Any:
    is_named = isinstance(value, str | torch.device) and str(value) == "cuda"
    return CUDA if is_named else value


@contextmanager
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretended]:
    """The device is there for as long as the context lasts."""
    answers: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "reset_peak_memory_stats": lambda _device: None,
        "max_memory_allocated": lambda _device: 1,
        "empty_cache": lambda: None,
    }
    with monkeypatch.context() as patch, torch.no_grad(), _Numbered(), Pretended() as device:
        for name in ("__enter__", "__exit__"):  # tensors of that mode cannot be wrapped
            patch.setattr(torch.inference_mode, name, lambda *_: None)
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, answer)
        patch.setattr(threads, "WORTH_A_THREAD", 1 << 60)  # threads would not know of the device
        yield device
