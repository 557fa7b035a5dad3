"""What a network does on the CPU, recorded once and played back on its weights as they are then.

Small networks spend more time between their operations than in them. A record is torch's own
(`torch.jit`), with the layers taken apart, sizes worked out that are the same in every call, and
operations left out that change nothing; what is left is the very arithmetic of the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

_jit: Any = torch.jit  # which has no types for these
_passes: Any = torch._C  # noqa: SLF001

_SIMPLIFIED = ("dce", "cse", "peephole", "constant_propagation", "cse", "dce", "constant_pooling")
"""Passes of torch over a record, the ones first that make it small for the others."""

_IDENTITIES = ("aten::dropout", "aten::to", "aten::slice", "aten::expand")
"""Operations that are none where size and type stay: the network is not in training."""

Recorded = Callable[..., torch.Tensor]


def record(network: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Recorded | None:
    """A function of tensors of the sizes of `inputs` that gives what the network gives.

    The network takes and gives tensors. None where torch cannot record it, or cannot any longer.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a record does not hold: other sizes
            graph, _ = _jit._get_trace_graph(network, tuple(inputs))  # noqa: SLF001
        for name in _SIMPLIFIED:
            getattr(_passes, f"_jit_pass_{name}")(graph)
        _leave_out_identities(graph)
        played = _passes._create_function_from_graph("network", graph)  # noqa: SLF001
    except (AttributeError, RuntimeError):
        return None
    weights = tuple(_weights(network))

    def play(*given: torch.Tensor) -> torch.Tensor:
        with _jit.optimized_execution(False):
            output: torch.Tensor = played(*given, *weights)
        return output

    return play


def _weights(network: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Parameters and buffers in the order in which a record takes them, shared ones once."""
    seen: set[int] = set()
    for tensor in network.state_dict(keep_vars=True).values():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def _leave_out_identities(graph: Any) -> None:
    nodes = list(graph.nodes())
    if any(node.kind().endswith("_") for node in nodes):  # what writes in place may write there
        return
    for node in nodes:
        if _is_identity(node):
            node.output().replaceAllUsesWith(node.inputsAt(0))
            node.destroy()


def _is_identity(node: Any) -> bool:
    if node.kind() == "aten::div":
        by = node.inputsAt(1).node()
        if by.kind() != "prim::Constant" or by.output().toIValue() != 1:
            return False
    elif node.kind() not in _IDENTITIES:
        return False
    before, after = node.inputsAt(0).type(), node.output().type()
    same: bool = before.sizes() == after.sizes() and before.dtype() == after.dtype()
    return same
