"""What modules of each algorithm are in PEFT: its tensors, and the fields of its configuration.

PEFT makes the tensors of a layer from its configuration and fills them from the file, so that only
those are written whose shapes it would make. It computes LoRA, LoHa, LoKr and (IA)³ as LyCORIS
does; OFT and BOFT turn the inputs of a layer there and its outputs here, GLoRA and differences do
not exist. Sources: huggingface/peft `tuners/{loha,lokr,ia3}/{config,layer}.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from converters.adapters.dora import MAGNITUDES
from converters.adapters.ia3_forms import ia3_of_peft, is_of_inputs
from converters.adapters.lokr import lokr_scale
from converters.adapters.module import Module, rank_of
from converters.adapters.peft_config import Json
from converters.adapters.peft_scales import Modules, alpha_of, end_of, lora_config, scale_fields
from converters.adapters.spelling import is_convolution, lora_of_peft
from converters.errors import UnsupportedFile
from converters.statedict import LazyTensor

Tensors = dict[str, LazyTensor]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A row of the table: PEFT's word, the tensors of one module by their endings, the fields.

    Both raise UnsupportedFile naming a module that PEFT cannot have so.
    """

    word: str
    tensors: Callable[[Module, str], Tensors]
    fields: Callable[[Modules], dict[str, Json]]


def algorithm_of(module: Module) -> Algorithm:
    """The row for a module. Raises UnsupportedFile with the reason where PEFT has none."""
    decomposed = module.tensors.keys() & MAGNITUDES and module.family != "lora"
    if decomposed or module.family not in ALGORITHMS:
        kind = f"{module.family} with magnitudes (DoRA)" if decomposed else module.family
        why = _WHY_NOT.get(module.family, "PEFT has no form for it")
        raise UnsupportedFile(
            f"module {module.name} is {kind}: {why}", hint="`assetmgr resize` makes a LoRA of most"
        )
    return ALGORITHMS[module.family]


_TURNS = "PEFT turns the inputs of a layer, this its outputs"
_WHY_NOT = {"oft": _TURNS, "boft": _TURNS}


def _misfit(module: Module, why: str) -> UnsupportedFile:
    return UnsupportedFile(f"module {module.name} is {module.family} as PEFT has none: {why}")


def _kernel_is_one(module: Module, role: str) -> bool:
    return set(module.shape(role)[2:]) <= {1}


# -- LoHa ------------------------------------------------------------------------------------------

_CORES = ("hada_t1", "hada_t2")


def _loha(module: Module, _: str) -> Tensors:
    """The parts as they are: PEFT keeps matrices for convolutions, too."""
    found = {role: t for role, t in module.tensors.items() if role.startswith("hada_")}
    if _CORES[0] in found:
        if _kernel_is_one(module, _CORES[0]):
            raise _misfit(module, "it has cores (Tucker) for a kernel of one")
        return found
    return {role: _matrix(tensor) for role, tensor in found.items()}


def _loha_fields(modules: Modules) -> dict[str, Json]:
    ranks = {path: rank_of(module) or 1 for path, module in modules.items()}
    for path, module in modules.items():
        if {tensor.shape[0] for role, tensor in module.tensors.items() if "_b" in role} != {
            ranks[path]
        }:
            raise _misfit(module, "its two halves have other ranks")
    scales = {path: (ranks[path], alpha_of(m, ranks[path])) for path, m in modules.items()}
    cores = _one_form(modules, "hada_t1", "hada_w1_b")
    return {**scale_fields(scales, "alpha"), "use_effective_conv2d": cores}


def _one_form(modules: Modules, core: str, factor: str) -> bool:
    """Whether convolutions have cores (Tucker): PEFT gives them to all, or to none."""
    cored = [module for module in modules.values() if core in module.tensors]
    for path, module in modules.items() if cored else ():
        plain = core not in module.tensors and factor in module.tensors
        if plain and _may_have_kernel(path):
            raise _misfit(module, f"it has no core (Tucker), but {cored[0].name} has")
    return bool(cored)


def _may_have_kernel(path: str) -> bool:
    """Whether the layer of a path can be a convolution of more than one pixel."""
    return path.rpartition(".")[2] in ("conv", "conv1", "conv2", "conv_in", "conv_out")


def _matrix(tensor: LazyTensor) -> LazyTensor:
    return tensor.reshape((tensor.shape[0], tensor.numel // tensor.shape[0]))


# -- LoKr ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The sizes of both factors, (rows, columns) each, and which of them are whole."""

    first: tuple[int, int]
    second: tuple[int, int]
    first_is_whole: bool
    second_is_whole: bool

    @classmethod
    def of(cls, module: Module) -> _Sizes:
        first, second = (_size(module, f"lokr_w{half}") for half in (1, 2))
        whole = (f"lokr_w{half}" in module.tensors for half in (1, 2))
        return cls(first, second, *whole)

    def rank(self, module: Module, *, both: bool) -> int:
        """A rank by which PEFT makes these very tensors. Raises UnsupportedFile.

        It makes a factor of two matrices where the rank is less than half of its larger side, the
        first only if `both`.
        """
        least = [max(self.second) / 2] if self.second_is_whole else []
        least += [max(self.first) / 2] if both and self.first_is_whole else []
        below = [] if self.second_is_whole else [max(self.second) / 2]
        below += [] if self.first_is_whole else [max(self.first) / 2]
        rank = rank_of(module) or math.ceil(max([1.0, *least]))
        ranks = {module.shape(role)[0] for role in _LOKR_RANKS if role in module.tensors}
        if len(ranks) > 1 or any(rank < n for n in least) or any(rank >= n for n in below):
            raise _misfit(module, f"it would make other factors for rank {rank}")
        return rank


_LOKR_RANKS = ("lokr_w1_b", "lokr_w2_b")


def _size(module: Module, role: str) -> tuple[int, int]:
    if role in module.tensors:
        rows, columns, *_ = module.shape(role)
        return rows, columns
    a, b = module.shape(f"{role}_a"), module.shape(f"{role}_b")
    if "lokr_t2" in module.tensors and role == "lokr_w2":
        return a[1], b[1]
    return a[0], b[1]


def _lokr(module: Module, path: str) -> Tensors:
    found = {role: t for role, t in module.tensors.items() if role.startswith("lokr_")}
    if "lokr_t2" in found and _kernel_is_one(module, "lokr_t2"):
        raise _misfit(module, "it has a core (Tucker) for a kernel of one")
    if "lokr_w2" in found and not is_convolution(path, len(module.shape("lokr_w2"))):
        found["lokr_w2"] = _matrix(found["lokr_w2"])
    return found


def _lokr_fields(modules: Modules) -> dict[str, Json]:
    sizes = {path: _Sizes.of(module) for path, module in modules.items()}
    both = not all(size.first_is_whole for size in sizes.values())
    ranks = {path: size.rank(modules[path], both=both) for path, size in sizes.items()}
    scales = {path: (ranks[path], lokr_scale(m) * ranks[path]) for path, m in modules.items()}
    return {
        **scale_fields(scales, "alpha"),
        "use_effective_conv2d": _one_form(modules, "lokr_t2", "lokr_w2_b"),
        "decompose_both": both,
        "decompose_factor": _factor(modules, sizes),
    }


def _factor(modules: Modules, sizes: Mapping[str, _Sizes]) -> int:
    """The number that PEFT splits all sizes by. Raises UnsupportedFile where there is none."""
    candidates = dict.fromkeys([-1, *(side for size in sizes.values() for side in size.first)])
    for factor in candidates:
        if all(_is_split(modules[path], size, factor) for path, size in sizes.items()):
            return factor
    odd = next(iter(modules.values()))
    raise _misfit(odd, "no one number splits the sizes of its module and the others so")


def _is_split(module: Module, size: _Sizes, factor: int) -> bool:
    rows, columns = size.second
    flattened = "lokr_w2_b" in module.tensors and "lokr_t2" not in module.tensors
    return any(
        columns % kernel == 0 and _splits(size.first, (rows, columns // kernel), factor)
        for kernel in (_KERNELS if flattened else (1,))
    )


_KERNELS = (1, 9)
"""Elements of the kernels of diffusion models, which a factor's columns have in them."""


def _splits(first: tuple[int, int], second: tuple[int, int], factor: int) -> bool:
    pairs = zip(first, second, strict=True)
    return all(factorization(a * b, factor) == (a, b) for a, b in pairs)


def factorization(size: int, factor: int) -> tuple[int, int]:
    """The two sizes, the smaller first, that PEFT and LyCORIS split a size into.

    They are `factor` and what is left, where it divides the size; else the most even ones whose
    smaller is at most `factor` (-1: whatever).
    """
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = size if factor == -1 else factor
    smaller = max(n for n in range(1, math.isqrt(size) + 1) if size % n == 0 and n <= limit)
    return smaller, size // smaller


# -- (IA)³ -----------------------------------------------------------------------------------------


def _ia3_fields(modules: Modules) -> dict[str, Json]:
    return {
        "target_modules": [*sorted(map(end_of, modules))],
        "feedforward_modules": [
            *sorted(end_of(path) for path, module in modules.items() if is_of_inputs(module))
        ],
    }


ALGORITHMS: Mapping[str, Algorithm] = {
    "lora": Algorithm("LORA", lora_of_peft, lora_config),
    "loha": Algorithm("LOHA", _loha, _loha_fields),
    "lokr": Algorithm("LOKR", _lokr, _lokr_fields),
    "ia3": Algorithm("IA3", ia3_of_peft, _ia3_fields),
}
"""Our families that PEFT has, too."""


def one_algorithm(modules: Iterable[Module]) -> Algorithm:
    """The row for all modules of a network. Raises UnsupportedFile for several."""
    found: dict[str, Module] = {}
    for module in modules:
        found.setdefault(algorithm_of(module).word, module)
    if len(found) > 1:
        first, second, *_ = found.values()
        raise UnsupportedFile(
            f"module {second.name} is {second.family}, but {first.name} is {first.family}: "
            "an adapter of PEFT has one algorithm"
        )
    return algorithm_of(next(iter(found.values())))
