"""The tensors of a file as the conditions of the table see them: asked often, worked out once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from functools import cached_property
from typing import Any, TypeVar

from converters.statedict import LazyTensor

_HEADS = ("model.diffusion_model.", "model.model.", "net.")
_WEAK_HEAD = "model."
_VAE_HEADS = ("first_stage_model.", "vae.")

_T = TypeVar("_T")


class Names(Mapping[str, LazyTensor]):
    """Names and shapes of a file, with what several conditions need of them.

    `head` is the prefix that was taken off these names, `whole` the file they come from.
    """

    def __init__(
        self, tensors: Mapping[str, LazyTensor], head: str = "", whole: Names | None = None
    ) -> None:
        self._tensors = tensors
        self.head = head
        self.whole = whole or self
        self._known: dict[Callable[[Names], Any], Any] = {}

    def __getitem__(self, name: str) -> LazyTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def values(self) -> ValuesView[LazyTensor]:
        """All tensors, without looking each name up."""
        return self._tensors.values()

    def items(self) -> ItemsView[str, LazyTensor]:
        """All names with their tensors, without looking each name up."""
        return self._tensors.items()

    @cached_property
    def text(self) -> str:
        """All names, each between line ends: one search in it asks about every name at once."""
        return "\n".join(["", *(name.replace("\n", " ") for name in self._tensors), ""])

    def ending(self, ending: str) -> str | None:
        """The first name that ends so, after a dot or as a whole."""
        text = self.text
        found = [at for lead in ".\n" if (at := text.find(f"{lead}{ending}\n")) >= 0]
        if not found:
            return None
        return text[text.rindex("\n", 0, min(found) + 1) + 1 : min(found) + 1 + len(ending)]

    def size(self, name: str, axis: int) -> int | None:
        """A tensor's size along an axis; None when there is no such tensor or axis."""
        tensor = self._tensors.get(name)
        sizes = tensor.shape if tensor is not None else ()
        return sizes[axis] if -len(sizes) <= axis < len(sizes) else None

    @cached_property
    def denoiser(self) -> Names:
        """The denoiser's tensors without the prefix that most of them carry."""
        return self._without(self._denoiser_head())

    @cached_property
    def vae(self) -> Names:
        """The autoencoder's tensors without their prefix."""
        return self._without(next((h for h in _VAE_HEADS if f"\n{h}" in self.text), ""))

    def once(self, work_out: Callable[[Names], _T]) -> _T:
        """What a function makes of these names, asked of it only once."""
        if work_out not in self._known:
            self._known[work_out] = work_out(self)
        found: _T = self._known[work_out]
        return found

    def _denoiser_head(self) -> str:
        counts = Counter({head: self.text.count(f"\n{head}") for head in _HEADS})
        head, found = counts.most_common(1)[0]
        if found:
            return head
        weak = 2 * self.text.count(f"\n{_WEAK_HEAD}") > len(self)
        return _WEAK_HEAD if weak else ""

    def _without(self, head: str) -> Names:
        if not head:
            return self
        found = {n.removeprefix(head): t for n, t in self._tensors.items() if n.startswith(head)}
        return Names(found, head, self.whole)
