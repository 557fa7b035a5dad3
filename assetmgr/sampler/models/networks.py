"""Networks of diffusers and transformers, built by the shapes of tensors and filled with these.

They are built without memory (on the meta device) and without the values that training begins with,
configured by what the tensors' shapes tell, and given the mapped tensors as they are. What a
network wants and what the file has are compared before any tensor is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from assetmgr.sampler.prompts.tokenizer import VOCABULARY
from assetmgr.sampler.rendering.threads import side_by_side
from converters import compute
from converters.bases import Base
from converters.layouts.components import UNET, VAE
from converters.layouts.pipeline_configs import component_config
from converters.progress import Progress
from converters.statedict import LazyTensor, StateDict


class Incomplete(Exception):
    """A network cannot be built: tensors are missing, superfluous or of another shape."""

    def __init__(self, missing: tuple[str, ...], unexpected: tuple[str, ...] = ()) -> None:
        counts = f"{len(missing)} tensors missing, {len(unexpected)} unexpected"
        super().__init__(f"{counts}: {', '.join((*missing, *unexpected)[:3])}")
        self.missing = missing
        self.unexpected = unexpected


@dataclass(frozen=True, slots=True)
class Part:
    """A network on its device, and how its tensors are found in a state dict of the same file."""

    network: Any
    mapped: StateDict
    to_network_names: Callable[[StateDict], StateDict]


@contextmanager
def unfilled() -> Iterator[None]:
    """Networks built inside have no memory, and nothing is drawn for it."""
    with torch.device("meta"), _NoInitialValues():
        yield


class _NoInitialValues(TorchFunctionMode):
    """Leaves out the functions of `torch.nn.init`, a good part of the time of building.

    Positions are counted on the CPU: without memory torch does it by its symbolic mathematics,
    whose import takes longer than building a network.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The tensor itself in place of an initialised one."""
        told = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else told["tensor"]
        if func is torch.arange:
            told = {"device": "cpu", **told}
        return func(*args, **told)


def latent_factor(vae: Any) -> int:
    """How many pixels of a picture one latent stands for, along an axis."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def built(
    mapped: StateDict, base: Base, name: str, to_network_names: Callable[[StateDict], StateDict]
) -> Part:
    """The network of a component, which has no memory yet."""
    with unfilled():
        network = _BUILDERS.get(name, _build_text_encoder)(component_config(base, name, mapped))
    network.requires_grad_(requires_grad=False).eval()
    return Part(network, mapped, to_network_names)


def decoder_alone(part: Part) -> Part:
    """An autoencoder's network as it is built, without an encoder where its file has none."""
    if not any(name.startswith("encoder.") for name in part.mapped):
        part.network.encoder = part.network.quant_conv = None
    return part


def require_complete(parts: Mapping[str, Part]) -> None:
    """Raises Incomplete unless every network finds exactly the tensors it wants.

    What is missing has the name that it would have in a pipeline's folder, component first; what is
    there goes by its name in the file.
    """
    missing: list[str] = []
    unexpected: list[str] = []
    for component, part in parts.items():
        wanted = {name: tuple(t.shape) for name, t in part.network.state_dict().items()}
        missing += sorted(f"{component}.{name}" for name in wanted.keys() - part.mapped.keys())
        strangers = part.mapped.keys() - wanted.keys()
        unexpected += sorted(_name_in_file(part.mapped[name]) for name in strangers)
        unexpected += [
            f"{_name_in_file(tensor)} {list(tensor.shape)} instead of {list(wanted[name])}"
            for name, tensor in part.mapped.items()
            if name in wanted and tensor.shape != wanted[name]
        ]
        missing += _unheld_ids(part)
    if missing or unexpected:
        raise Incomplete(tuple(missing), tuple(unexpected))


def _unheld_ids(part: Part) -> list[str]:
    """What a text encoder of CLIP has no token embeddings for, though prompts may hold it."""
    config = part.network.config
    rows = getattr(config, "vocab_size", VOCABULARY)
    if getattr(config, "model_type", "") != "clip_text_model" or rows >= VOCABULARY:
        return []
    ids, table = f"{rows} to {VOCABULARY - 1}", "token_embedding.weight"
    name = next(_name_in_file(t) for name, t in part.mapped.items() if name.endswith(table))
    return [f"token embeddings {ids} of the text encoder ({name})"]


def fill(part: Part, device: torch.device, dtype: torch.dtype, progress: Progress) -> None:
    """Give a network its tensors, on a device and in a type."""
    there = {name: _mapped(tensor, device, dtype) for name, tensor in part.mapped.items()}
    tensors = {name: tensor for name, tensor in there.items() if tensor is not None}
    progress.advance(sum(part.mapped[name].nbytes for name in tensors))
    rest = {name: tensor for name, tensor in part.mapped.items() if name not in tensors}
    nbytes = sum(tensor.nbytes for tensor in rest.values())

    def convert(work: tuple[torch.Tensor, LazyTensor]) -> torch.Tensor:
        compute.fill(*work)
        return work[0]

    work = tuple(zip(_memory(rest.values(), device, dtype), rest.values(), strict=True))
    made = side_by_side(convert, work, nbytes, device)
    for (name, stored), tensor in zip(rest.items(), made, strict=True):
        tensors[name] = tensor
        progress.advance(stored.nbytes)
    _assign(part.network, tensors)
    _make_positions(part.network, device)


def _assign(network: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put the tensors in their places, as `load_state_dict(assign=True)` does in some more time."""
    for prefix, module in network.named_modules(remove_duplicate=False):
        for held in (module._parameters, module._buffers):  # noqa: SLF001
            for name, before in held.items():
                made = tensors.get(f"{prefix}.{name}" if prefix else name)
                if made is not None:
                    is_parameter = isinstance(before, torch.nn.Parameter)
                    held[name] = torch.nn.Parameter(made, False) if is_parameter else made


@torch.inference_mode()
def non_finite(part: Part) -> Iterator[str]:
    """The file's names of tensors that hold NaN or infinities, in the type the network has.

    The extremes of all are fetched from the device at once.
    """
    tensors = {name: t for name, t in part.network.state_dict().items() if t.numel()}
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    device = next(iter(tensors.values())).device
    ends = side_by_side(_extremes, tuple(tensors.values()), nbytes, device)
    finite = torch.isfinite(torch.stack(list(ends)).float()).all(dim=1).tolist()
    for name, fine in zip(tensors, finite, strict=True):
        if not fine:
            yield _name_in_file(part.mapped[name])


def _extremes(tensor: torch.Tensor) -> torch.Tensor:
    return torch.stack(torch.aminmax(tensor))


def _name_in_file(tensor: LazyTensor) -> str:
    return tensor.origin.rpartition(": ")[2]


def _mapped(tensor: LazyTensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor | None:
    """The tensor as it lies in its file, where nothing is to be done to it."""
    is_there = device.type == "cpu" and compute.torch_dtype(tensor.dtype) is dtype
    return compute.mapped(tensor) if is_there else None


_ALIGNED = 64
"""Bytes that tensors begin at a multiple of, as where torch gives each its own memory."""


def _memory(
    tensors: Iterable[LazyTensor], device: torch.device, dtype: torch.dtype
) -> list[torch.Tensor]:
    """Memory for the values of tensors on a device and in a type.

    On a CPU all lie in one piece: the first touch of memory is most of the time of loading, and far
    quicker in huge pages, of which there would be none at the ends of each tensor.
    """
    shapes, step = [each.shape for each in tensors], _ALIGNED // dtype.itemsize
    with torch.inference_mode(mode=False):  # whose memory no other thread could write to
        if device.type != "cpu":
            return [torch.empty(shape, device=device, dtype=dtype) for shape in shapes]
        sizes = [-(-math.prod(shape) // step) * step for shape in shapes]
        rooms = torch.split(torch.empty(sum(sizes), dtype=dtype), sizes)
    pairs = zip(rooms, shapes, strict=True)
    return [room[: math.prod(shape)].view(shape) for room, shape in pairs]


def _make_positions(network: Any, device: torch.device) -> None:
    """Give the text encoder's position ids memory: the library keeps them out of state dicts."""
    embeddings = getattr(getattr(network, "text_model", network), "embeddings", None)
    if embeddings is not None:
        count = embeddings.position_embedding.num_embeddings
        embeddings.position_ids = torch.arange(count, device=device)[None]


def build_unet(config: Mapping[str, Any]) -> Any:
    """The UNet of a configuration as it stands in a pipeline's folder."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**_arguments(config))


def _build_vae(config: Mapping[str, Any]) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(**_arguments(config))


def _build_text_encoder(config: Mapping[str, Any]) -> Any:
    import transformers

    (name,) = config["architectures"]
    return getattr(transformers, name)(transformers.CLIPTextConfig(**_arguments(config)))


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what names the class."""
    told = ("architectures", "model_type")
    return {name: v for name, v in config.items() if name not in told and name[0] != "_"}


_BUILDERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {UNET: build_unet, VAE: _build_vae}
"""Component -> how its network is built; all others are text encoders."""
