"""How a render gets by with less memory: measures that are taken one after the other.

Each makes a render slower or the picture a little different, so none is taken without need: the
user asks for those of `--low-vram`, or the memory did not suffice. Attention is not sliced on CUDA
and CPUs, where torch computes it without the whole matrix of scores anyway; on Apple's it pays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

import torch

from converters.errors import OutOfMemory
from converters.progress import Progress


class Measure(StrEnum):
    """What saves memory, in the words of the JSON document."""

    TILES = "tiled-vae"
    """The picture is decoded in tiles that are blended; its tones may differ a little."""
    OFFLOAD = "offload"
    """Networks rest in the computer's memory and come to the device for their turn alone."""
    HALVES = "split-guidance"
    """The UNet is given the negative prompt and the prompt one after the other."""
    SLICES = "attention-slices"
    """Attention is computed a few heads at a time."""


_LADDER: Mapping[str, tuple[Measure, ...]] = {
    "cuda": (Measure.TILES, Measure.OFFLOAD, Measure.HALVES),
    "mps": (Measure.TILES, Measure.HALVES, Measure.SLICES),
    "cpu": (Measure.TILES, Measure.HALVES),
}
"""Type of a device -> what helps there, in the order in which it is taken."""

NOT_REPLAYED = frozenset({Measure.OFFLOAD, Measure.HALVES, Measure.SLICES})
"""Measures that change how a UNet is called, or where its weights are."""

_ASKED_FOR = (Measure.TILES, Measure.OFFLOAD)
LARGEST_TILE = 512
"""Edge of a tile in pixels; pictures of up to twice that are decoded in quarters."""

_EXHAUSTED = ("out of memory", "allocate memory", "_ALLOC_FAILED")
"""How torch's backends say it in errors that are of no class of their own."""


@dataclass(slots=True)
class Thrift:
    """What saves memory in a render: what was asked for, and what it was forced to."""

    device: torch.device
    asked: frozenset[Measure]
    forced: set[Measure]

    @classmethod
    def begin(cls, device: torch.device, low_vram: bool, forced: frozenset[Measure]) -> Thrift:
        """What is asked of a render that is known to need `forced`."""
        asked = frozenset(_ASKED_FOR if low_vram else ()) & frozenset(_LADDER[device.type])
        return cls(device, asked, set(forced - asked))

    @property
    def taken(self) -> frozenset[Measure]:
        """All of it."""
        return self.asked | self.forced

    def tighten(self, progress: Progress) -> Measure | None:
        """Take one more measure; None when nothing is left that would help."""
        ladder = _LADDER[self.device.type]
        measure = next((each for each in ladder if each not in self.taken), None)
        if measure is not None:
            progress.message(f"not enough memory, going on with {measure}")
            self.forced.add(measure)
        return measure


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | OutOfMemory):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _EXHAUSTED)


def release_cache() -> None:
    """Give memory that nothing uses back to the accelerator, for its next user."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


@contextmanager
def awake(device: torch.device, *networks: torch.nn.Module) -> Iterator[None]:
    """Networks on a device for as long as the context lasts; those that are there stay.

    Afterwards every tensor is the very one that it was, so that nothing is copied back.
    """
    resting: list[tuple[MutableMapping[str, Any], str, torch.Tensor]] = []
    try:
        for held in _tensors(each for each in networks if not _is_on(device, each)):
            for name, tensor in held.items():
                if tensor is not None and tensor.device.type != device.type:
                    resting.append((held, name, tensor))
                    held[name] = _on(device, tensor)
        yield
    finally:
        for held, name, original in resting:
            held[name] = original
        if resting:
            release_cache()


def _is_on(device: torch.device, network: torch.nn.Module) -> bool:
    """Whether a network, all of which is in one place, is on a device already."""
    first = next(network.parameters(), None)
    return first is not None and first.device.type == device.type


def _tensors(networks: Iterable[torch.nn.Module]) -> Iterator[MutableMapping[str, Any]]:
    """Where the modules of networks keep their tensors, as `torch.nn.Module.to` goes over them."""
    for module in chain.from_iterable(network.modules() for network in networks):
        yield module._parameters  # noqa: SLF001
        yield module._buffers  # noqa: SLF001


def _on(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    moved = tensor.detach().to(device)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(moved, requires_grad=False)
    return moved


@contextmanager
def tiled(vae: Any, width: int, height: int, factor: int) -> Iterator[None]:
    """The decoder works tile by tile; `factor` is the pixels of a latent along an axis."""
    edge = max(factor, min(LARGEST_TILE, max(width, height) // 2) // factor * factor)
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = edge, edge // factor
    try:
        yield
    finally:
        vae.disable_tiling()


@contextmanager
def sliced(unet: Any) -> Iterator[None]:
    """Attention half of the heads at a time."""
    unet.set_attention_slice("auto")
    try:
        yield
    finally:
        unet.set_attention_slice(None)


class OneByOne:
    """A network that is given the items of a batch one after the other."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, sample: torch.Tensor, time: torch.Tensor, **told: Any) -> tuple[Any]:
        """As the network with `return_dict=False`."""
        count = len(sample)
        outputs = [
            self._network(
                sample[n : n + 1], time[n : n + 1] if time.ndim else time, **_item(told, n, count)
            )[0]
            for n in range(count)
        ]
        return (torch.cat(outputs),)


def _item(told: Mapping[str, Any], number: int, count: int) -> dict[str, Any]:
    """The arguments of one item of a batch."""

    def part(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.ndim and len(value) == count:
            return value[number : number + 1]
        return _item(value, number, count) if isinstance(value, Mapping) else value

    return {name: part(value) for name, value in told.items()}


@contextmanager
def frugal(unet: Any, taken: frozenset[Measure], device: torch.device) -> Iterator[Any]:
    """The UNet to sample with, on the device, as the measures say."""
    with ExitStack() as stack:
        stack.enter_context(awake(device, unet))
        if Measure.SLICES in taken:
            stack.enter_context(sliced(unet))
        yield OneByOne(unet) if Measure.HALVES in taken else unet
