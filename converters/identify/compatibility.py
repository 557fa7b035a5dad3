"""Whether an adapter fits a checkpoint: which of its modules find a weight, and what is left over.

Only names and shapes are compared, by the code that merges (`converters.merge.fitting`), so that
what is said to fit can be merged.
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.adapters import load_adapter
from converters.adapters.targets import module_targets
from converters.bases import Base
from converters.errors import AssetmgrError
from converters.identify import identify
from converters.identify.identity import Identity
from converters.kinds import Kind
from converters.merge.fitting import Fit, apart, fit_modules
from converters.statedict import StateDict

_MODELS = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL)
_OF_A_FAMILY = (Kind.EMBEDDING, Kind.HYPERNETWORK, Kind.CONTROLNET, Kind.IP_ADAPTER, Kind.VAE)


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Whether an adapter fits, why, and how much of it.

    `fits` is None when names and shapes cannot tell. `modules` counts those that find their weight,
    `changed` names the checkpoint's tensors they would change, `unused` the adapter's keys that
    find no place.
    """

    fits: bool | None
    reason: str
    modules: int = 0
    changed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def compatibility(adapter: StateDict, checkpoint: StateDict) -> Compatibility:
    """Whether `adapter` fits `checkpoint`. Reads no tensor data and never raises."""
    ours, theirs = identify(adapter), identify(checkpoint)
    if theirs.kind not in _MODELS:
        return Compatibility(False, f"it is of kind {theirs.kind}, not a checkpoint")
    if ours.kind in _OF_A_FAMILY:
        return _by_family(ours, theirs)
    if ours.kind is not Kind.LORA:
        return Compatibility(False, f"a file of kind {ours.kind} changes no checkpoint")
    if ours.layout == "cloneofsimo":
        return Compatibility(None, "its modules have no names, only an order")
    return _by_modules(adapter, checkpoint, ours, theirs)


def _by_family(ours: Identity, theirs: Identity) -> Compatibility:
    if Base.UNKNOWN in (ours.base, theirs.base):
        return Compatibility(None, "names and shapes do not tell the families of both")
    if ours.base is theirs.base:
        return Compatibility(True, f"both are {ours.base.label}")
    return Compatibility(False, _apart(ours, theirs))


def _apart(ours: Identity, theirs: Identity) -> str:
    return f"made for {ours.base.label}, the checkpoint is {theirs.base.label}"


def _by_modules(
    adapter: StateDict, checkpoint: StateDict, ours: Identity, theirs: Identity
) -> Compatibility:
    try:
        loaded = load_adapter(adapter)
    except AssetmgrError as error:
        return Compatibility(False, error.cause)
    fit = fit_modules(loaded, module_targets(checkpoint))
    changed = tuple(dict.fromkeys(placed.tensor for placed in fit.placed))
    modules = len({module.name for module in loaded.modules})
    fits, reason = _verdict(ours, theirs, fit, modules)
    return Compatibility(fits, reason, fit.modules, changed, tuple(fit.unused))


def _verdict(ours: Identity, theirs: Identity, fit: Fit, modules: int) -> tuple[bool | None, str]:
    if (reason := apart(ours, theirs)) is not None:
        return False, reason
    if fit.misfit is not None:
        return False, fit.misfit.cause
    if not fit.placed and ours.base is theirs.base is not Base.UNKNOWN:
        said = "but its modules and the checkpoint's are named in different ways"
        return None, f"both are {ours.base.label}, {said}"
    if not fit.placed:
        return False, "none of its modules is in the checkpoint"
    if fit.modules < modules:
        return True, f"{modules - fit.modules} of its {modules} modules find no weight"
    return True, f"all of its {modules} modules find their weight"
