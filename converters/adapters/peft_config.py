"""What PEFT and diffusers keep beside the tensors of an adapter: ranks, alphas, kinds of scaling.

PEFT writes `adapter_config.json` next to the file, diffusers the same fields with the component
before them (`unet.r`) as JSON text into the metadata of the file. Scale is alpha / r, with
`use_rslora` alpha / √r; `rank_pattern` and `alpha_pattern` have other values for modules whose path
ends so. Source: huggingface/peft `tuners/{lora,ia3}/config.py`, `utils/other.py`
(`get_pattern_key`), huggingface/diffusers `loaders/lora_base.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from converters.adapters.module import UNSTATED, Stated
from converters.errors import CorruptFile, UnsupportedFile

CONFIG_FILE = "adapter_config.json"
"""The file beside an adapter, and the key under which its text joins the metadata."""
DIFFUSERS_CONFIG = "lora_adapter_metadata"
"""Where diffusers keeps them in the metadata of a safetensors file."""
_HEAD = re.compile(r"^base_model\.model\.")
_PLAIN_PATH = re.compile(r"[\w.-]+")
_MOST_TEXT = 1 << 20
_MOVED = ("pissa", "olora", "corda", "loftq")
"""Ways to begin a LoRA that subtract its first state from the base, which no file here has."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """The fields that decide a merge. `rank` None: nothing is said about scales.

    `feedforward` has the ends of the paths of layers whose inputs (IA)³ multiplies, None where that
    is not said by ends.
    """

    rank: float | None
    alpha: float | None
    rank_stabilised: bool
    ranks: Mapping[str, float]
    alphas: Mapping[str, float]
    cayley_series: bool
    feedforward: tuple[str, ...] | None = None

    def stated(self, module: str) -> Stated:
        """What holds for a module, by its path."""
        path = _HEAD.sub("", module)
        rank, alpha = _of_pattern(self.ranks, path, self.rank), _of_pattern(self.alphas, path, None)
        alpha = self.alpha if alpha is None else alpha
        of_inputs = None if self.feedforward is None else path.endswith(self.feedforward)
        if not rank or alpha is None:
            return Stated(None, self.cayley_series, of_inputs)
        scale = alpha / (math.sqrt(rank) if self.rank_stabilised else rank)
        return Stated(scale, self.cayley_series, of_inputs)


@dataclass(frozen=True, slots=True)
class PeftConfigs:
    """The configurations of a file by the component's prefix ("" for the whole file)."""

    by_prefix: Mapping[str, PeftConfig]

    def stated(self, module: str) -> Stated:
        """What is said about a module."""
        prefix, _, rest = module.partition(".")
        if prefix in self.by_prefix:
            return self.by_prefix[prefix].stated(rest)
        whole = self.by_prefix.get("")
        return UNSTATED if whole is None else whole.stated(module)


def peft_configs(metadata: Mapping[str, str]) -> PeftConfigs:
    """The configurations in a file's metadata.

    Raises CorruptFile for what is not of their form, UnsupportedFile for patterns of module names.
    """
    if CONFIG_FILE in metadata:
        return PeftConfigs({"": _config(_object(metadata, CONFIG_FILE), CONFIG_FILE)})
    if DIFFUSERS_CONFIG not in metadata:
        return PeftConfigs({})
    fields: dict[str, dict[str, Json]] = {}
    for name, value in _object(metadata, DIFFUSERS_CONFIG).items():
        prefix, dot, field = name.partition(".")
        fields.setdefault(prefix if dot else "", {})[field if dot else name] = value
    return PeftConfigs(
        {prefix: _config(found, DIFFUSERS_CONFIG) for prefix, found in fields.items()}
    )


def fields_of(metadata: Mapping[str, str]) -> dict[str, Json]:
    """The configuration that PEFT put beside a file. Raises CorruptFile."""
    return _object(metadata, CONFIG_FILE)


def _object(metadata: Mapping[str, str], key: str) -> dict[str, Json]:
    text = metadata[key]
    try:
        found: Json = json.loads(text) if len(text) <= _MOST_TEXT else None
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{key} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise CorruptFile(f"{key} is no JSON object of moderate size")
    return found


def _config(fields: Mapping[str, Json], where: str) -> PeftConfig:
    start = fields.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_MOVED):
        raise UnsupportedFile(
            f"its training moved the weights it belongs to (init_lora_weights {start} in {where})",
            hint="save it with PEFT's path_initial_model_for_weight_conversion",
        )
    return PeftConfig(
        rank=_number(fields, "r", where),
        alpha=_number(fields, "lora_alpha", where, _number(fields, "alpha", where)),
        rank_stabilised=fields.get("use_rslora") is True,
        ranks=_numbers(fields, "rank_pattern", where),
        alphas=_numbers(fields, "alpha_pattern", where),
        cayley_series=fields.get("use_cayley_neumann", True) is not False,
        feedforward=_ends(fields.get("feedforward_modules")),
    )


def _ends(value: Json) -> tuple[str, ...] | None:
    """The ends of paths; None for what is not a list of them (PEFT takes a text for a pattern)."""
    if not isinstance(value, list):
        return None
    ends = tuple(end for end in value if isinstance(end, str))
    return ends if len(ends) == len(value) else None


def _number(
    fields: Mapping[str, Json], name: str, where: str, default: float | None = None
) -> float | None:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_usual(value):
        raise CorruptFile(f"{name} in {where} is no number that a scale could be made of")
    return float(value)


def _numbers(fields: Mapping[str, Json], name: str, where: str) -> dict[str, float]:
    found = fields.get(name) or {}
    if not isinstance(found, dict):
        raise CorruptFile(f"{name} in {where} is no table")
    for path in found:
        if not _PLAIN_PATH.fullmatch(path):
            # PEFT takes it for a regular expression; reading it otherwise would scale wrongly.
            raise UnsupportedFile(f"{name} in {where} has a pattern, not a module: {path[:60]!r}")
    numbers = {path: _number(found, path, where) for path in found}
    return {path: number for path, number in numbers.items() if number is not None}


def _is_usual(value: float) -> bool:
    return -1e9 < value < 1e9


def _of_pattern(table: Mapping[str, float], path: str, default: float | None) -> float | None:
    """The value for the first key that is the end of the path, from a dot on."""
    ends = (key for key in table if path == key or path.endswith(f".{key}"))
    found = next(ends, None)
    return default if found is None else table[found]
