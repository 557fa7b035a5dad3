"""A UNet that is called again and again for one prompt, without what is the same each time.

Keys and values of the prompt are the same in every step: they are computed once, and of a prompt
that is one for all of a batch for one of it. Of quick networks on a CPU the operations are recorded
after some calls and played back (`recording`). Both give the very numbers of the network itself.
Whoever listens in on a layer by a hook hears all calls: then nothing is played back.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from assetmgr.sampler.rendering.recording import Recorded, record

CALLS = 30
"""So many calls are made before operations are recorded, which takes the time of some."""
QUICK = 0.1
"""Seconds of a call above which the time between operations does not matter."""

_Key = tuple[object, ...]


class Replay:
    """Calls a UNet as itself, with `return_dict=False`; kept for as long as the UNet is."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._places = list(_text_places(unet))
        kept = {id(place.layer) for place in self._places}
        layers = [module for module in unet.modules() if id(module) not in kept]
        self._hooks = [
            hooks
            for layer in layers
            for hooks in (layer._forward_hooks, layer._forward_pre_hooks)  # noqa: SLF001
        ]
        self._is_told = False
        self._times: defaultdict[_Key, list[float]] = defaultdict(list)
        self._recorded: dict[_Key, Recorded | None] = {}

    @contextmanager
    def told(self, hidden: torch.Tensor) -> Iterator[None]:
        """All calls inside are for this encoding `(B, n, d)` of the prompts."""
        try:
            for place in self._places:
                place.remember(hidden)
            self._is_told = True
            yield
        finally:
            self._is_told = False
            for place in self._places:
                place.forget()

    def __call__(
        self, sample: torch.Tensor, moment: torch.Tensor, **told: Any
    ) -> tuple[torch.Tensor]:
        """As the UNet, whose arguments `told` are tensors or mappings of tensors."""
        told.pop("return_dict", None)
        moment = moment.float().expand(len(sample))  # as the network would, so that records fit
        if not self._is_told or sample.device.type != "cpu" or self._is_heard:
            return self._plain(sample, moment, told)
        names, values = _flat(told)
        key = (names, *(tuple(each.shape) for each in (sample, moment, *values)))
        if key not in self._recorded:
            return self._measured(key, sample, moment, told)
        recorded = self._recorded[key]
        if recorded is None:
            return self._plain(sample, moment, told)
        return (recorded(sample, moment, *values),)

    def _plain(self, sample: Any, moment: Any, told: Mapping[str, Any]) -> tuple[torch.Tensor]:
        output: tuple[torch.Tensor] = self._unet(sample, moment, **told, return_dict=False)
        return output

    @property
    def _is_heard(self) -> bool:
        return any(self._hooks)

    def _measured(
        self, key: _Key, sample: Any, moment: Any, told: Mapping[str, Any]
    ) -> tuple[torch.Tensor]:
        started = time.perf_counter()
        output = self._plain(sample, moment, told)
        times = self._times[key]
        times.append(time.perf_counter() - started)
        if len(times) == CALLS:
            quick = sorted(times)[CALLS // 2] < QUICK
            self._recorded[key] = self._record(sample, moment, told) if quick else None
        return output

    def _record(self, sample: Any, moment: Any, told: Mapping[str, Any]) -> Recorded | None:
        names, values = _flat(told)
        return record(_Flat(self._unet, names).eval(), (sample, moment, *values))


class _Given(torch.nn.Module):
    """Gives what was computed before."""

    def __init__(self) -> None:
        super().__init__()
        with torch.inference_mode(mode=False):  # whose tensors cannot be given other values
            self.values = torch.nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """The values, whatever is asked."""
        return self.values


class _Place:
    """Where an attention layer makes keys or values of the prompt."""

    def __init__(self, attention: Any, name: str) -> None:
        self._attention, self._name = attention, name
        self.layer = getattr(attention, name)
        self._given = _Given()

    def remember(self, hidden: torch.Tensor) -> None:
        if hidden.stride(0) == 0:  # one prompt for all of a batch
            values = self.layer(hidden[:1]).expand(len(hidden), -1, -1)
        else:
            values = self.layer(hidden)
        with torch.inference_mode(mode=False):
            self._given.values.data = values.clone()
        setattr(self._attention, self._name, self._given)

    def forget(self) -> None:
        setattr(self._attention, self._name, self.layer)


def _text_places(unet: Any) -> Iterator[_Place]:
    """Those of layers that take the prompt's encoding as it is."""
    if unet.config.encoder_hid_dim_type is not None:
        return
    for name, module in unet.named_modules():
        if name.endswith(".attn2") and module.is_cross_attention and not module.norm_cross:
            yield from (_Place(module, part) for part in ("to_k", "to_v"))


def _flat(told: Mapping[str, Any]) -> tuple[tuple[str, ...], list[torch.Tensor]]:
    """Names and tensors of nested arguments, in one order."""
    names: list[str] = []
    values: list[torch.Tensor] = []
    for name, value in told.items():
        inner = value if isinstance(value, Mapping) else {"": value}
        names += [f"{name}.{key}" for key in inner]
        values += inner.values()
    return tuple(names), values


def _nested(names: Sequence[str], values: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    told: dict[str, Any] = {}
    for path, value in zip(names, values, strict=True):
        name, _, key = path.partition(".")
        if key:
            told.setdefault(name, {})[key] = value
        else:
            told[name] = value
    return told


class _Flat(torch.nn.Module):
    """The UNet with tensors for arguments, as it can be recorded."""

    def __init__(self, unet: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.unet, self._names = unet, names

    def forward(self, sample: Any, moment: Any, *values: Any) -> Any:
        """The output alone."""
        told = _nested(self._names, values)
        return self.unet(sample, moment, **told, return_dict=False)[0]
