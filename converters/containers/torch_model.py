"""From a followed pickle of torch to the model: what every torch container does alike.

A container only has to say where the storage of a given key lies. Several tensors may be views of
one storage, which is then looked up once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from converters.bytesource import ByteSource
from converters.containers.model import Container, Model, inspected
from converters.containers.torch_tensors import (
    Stored,
    Unread,
    array_tensor,
    lazy_tensor,
    stored_view,
)
from converters.containers.unwrapping import Tensor, Unwrapped, unwrap
from converters.errors import CorruptFile, FileProblem, TruncatedFile
from converters.pickles.values import Array, BadPickle, StorageRef, UnreadTensor
from converters.pickles.verdict import SafetyReport
from converters.statedict import LazyTensor, StateDict

FindStorage = Callable[[str], Stored]
"""Gives the storage of a key; raises BadPickle or a FileProblem when the file does not hold it."""


def torch_model(
    source: ByteSource,
    container: Container,
    value: object,
    find: FindStorage,
    *,
    safety: SafetyReport,
    problems: Iterable[str] = (),
) -> Model:
    """The model in the unpickled `value`. Raises FileProblem with the safety report."""
    try:
        found = unwrap(value)
        tensors, left_out = _Tensors(source.name, find).all(found)
    except BadPickle as error:
        raise broken_pickle(source, safety, error) from None
    except FileProblem as error:
        raise inspected(error, safety) from None
    return Model(
        path=source.name,
        nbytes=source.size,
        container=container,
        state_dict=StateDict(tensors, {}, found.extras),
        safety=safety,
        problems=(*problems, *left_out),
        ignored=tuple(found.ignored),
    )


def broken_pickle(source: ByteSource, safety: SafetyReport, error: BadPickle) -> FileProblem:
    """The error for a pickle that cannot be followed, with the safety report."""
    kind = TruncatedFile if error.truncated else CorruptFile
    return inspected(kind(f"its pickle cannot be read: {error.reason}", path=source.name), safety)


@dataclass(slots=True)
class _Tensors:
    """Makes lazy tensors and remembers the storages found."""

    path: str
    find: FindStorage
    stored: dict[str, Stored] = field(default_factory=dict)

    def all(self, found: Unwrapped) -> tuple[dict[str, LazyTensor], list[str]]:
        """The tensors, and why others were left out."""
        tensors: dict[str, LazyTensor] = {}
        problems: list[str] = []
        prefix = f"{self.path}: "
        for name, recipe in found.tensors.items():
            try:
                tensors[name] = self._one(recipe, prefix + name)
            except Unread as reason:
                problems.append(f"{name} is {reason} and was left out")
            except BadPickle as error:
                raise BadPickle(f"{name} is {error.reason}") from None
        return tensors, problems

    def _one(self, recipe: Tensor, origin: str) -> LazyTensor:
        if isinstance(recipe, UnreadTensor):
            raise Unread(recipe.what)
        if isinstance(recipe, Array):
            return array_tensor(recipe, origin)
        return lazy_tensor(recipe, self._stored(recipe.storage), origin)

    def _stored(self, storage: StorageRef) -> Stored:
        whole = self.stored.get(storage.key)
        if whole is None:
            whole = self.stored[storage.key] = self.find(storage.key)
        return stored_view(whole, storage)
