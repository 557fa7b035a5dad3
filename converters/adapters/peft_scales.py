"""The fields of PEFT's configurations that tell modules, ranks and alphas.

Source: huggingface/peft `tuners/lora/config.py`, `tuners/lycoris_utils.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from converters.adapters.dora import MAGNITUDES
from converters.adapters.module import Module, numbers, rank_of
from converters.adapters.peft_config import Json
from converters.errors import UnsupportedFile

Modules = Mapping[str, Module]
"""The modules of one network by their paths in it."""


def end_of(path: str) -> str:
    """What PEFT is told of a path.

    Newer releases of transformers have no `text_model` in it; ends of paths serve all of them.
    """
    return path.removeprefix("text_model.")


def lora_config(modules: Modules) -> dict[str, Json]:
    """The fields of a LoraConfig.

    Raises UnsupportedFile where some modules have magnitudes (DoRA) and others have none.
    """
    decomposed = {path for path, module in modules.items() if module.tensors.keys() & MAGNITUDES}
    if decomposed and len(decomposed) < len(modules):
        plain = next(module for path, module in modules.items() if path not in decomposed)
        raise UnsupportedFile(
            f"module {plain.name} has no magnitudes (DoRA), but others have: "
            "PEFT would make some up for it"
        )
    scales = {path: _rank_and_alpha(module) for path, module in modules.items()}
    return {
        **scale_fields(scales, "lora_alpha"),
        "use_dora": bool(decomposed),
        "lora_bias": False,
        "bias": "none",
    }


def _rank_and_alpha(module: Module) -> tuple[int, float]:
    rank = rank_of(module) or 1
    return rank, alpha_of(module, rank)


def alpha_of(module: Module, rank: int) -> float:
    """The alpha of a module with a rank. Raises MergeProblem for one that is no number."""
    if module.stated.scale is not None:
        return module.stated.scale * rank
    if "scale" in module.tensors:
        return float(numbers(module, "scale").item()) * rank
    return float(numbers(module, "alpha").item()) if "alpha" in module.tensors else float(rank)


def scale_fields(scales: Mapping[str, tuple[int, float]], alpha_field: str) -> dict[str, Json]:
    """The usual rank and alpha, those of modules that differ, and all modules.

    `scales` has the rank and the alpha of each path.
    """
    told = {end_of(path): pair for path, pair in scales.items()}
    rank = Counter(rank for rank, _ in told.values()).most_common(1)[0][0]
    alpha = Counter(alpha for _, alpha in told.values()).most_common(1)[0][0]
    return {
        "r": rank,
        alpha_field: _whole(alpha),
        "rank_pattern": {path: own for path, (own, _) in told.items() if own != rank},
        "alpha_pattern": {path: _whole(own) for path, (_, own) in told.items() if own != alpha},
        "target_modules": [*sorted(told)],
    }


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number
