"""Whether checkpoints can be merged, from names and shapes; and the refusals, each with a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converters.bases import Base, Prediction
from converters.errors import MergeProblem, WrongFamily
from converters.identify import Identity, Kind, identify
from converters.layouts.components import (
    OTHER,
    PREFIXES,
    TEXT_ENCODER,
    UNET,
    UNET_EMA,
    VAE,
    component_of,
)
from converters.layouts.pipeline import is_pipeline_state
from converters.statedict import LazyTensor, StateDict
from converters.transform.prune import SCHEDULE_BUFFERS

_KINDS = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL)

_OF_FOLDER = {
    **dict.fromkeys(("unet", "transformer"), UNET),
    **dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3"), TEXT_ENCODER),
    "vae": VAE,
}
"""The components of a pipeline's folder."""
_FIRST = ("input_blocks.0.0.weight", "conv_in.weight")
_PLAIN_CHANNELS, _MORE_CHANNELS = 4, {8: "pix2pix", 9: "inpainting"}
_WIDER_FIRST = "give the model with more input channels as A: those that only it has are kept"


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint of a merge: what to call it in messages, its tensors, and what it is.

    The tensors of a pipeline's folder are named `<component>.<tensor>`.
    """

    name: str
    state: StateDict
    identity: Identity
    is_folder: bool = False

    @classmethod
    def of(cls, name: str, state: StateDict) -> Model:
        """The model of a file's tensors."""
        return cls(name, state, identify(state), is_pipeline_state(state))

    def component_of(self, name: str) -> str:
        """The component of a tensor; a file that is only a UNet needs no prefix."""
        if self.is_folder:
            return _OF_FOLDER.get(name.partition(".")[0], OTHER)
        found = component_of(name)
        bare = found == OTHER and self.identity.kind is Kind.DIFFUSION_MODEL
        return UNET if bare else found


def require_family(models: Sequence[Model]) -> None:
    """Raises WrongFamily unless all are checkpoints or UNets of one family under one naming."""
    first = models[0]
    for model in models:
        _require_mergeable(model)
        ours, theirs = first.identity, model.identity
        if theirs.base is not ours.base:
            raise WrongFamily(
                f"is {theirs.base.label}, but {first.name} is {ours.base.label}", path=model.name
            )
        if theirs.layout != ours.layout:
            raise WrongFamily(
                f"has {theirs.layout} names, but {first.name} has {ours.layout} names",
                path=model.name,
                hint="convert one of them first",
            )


def _require_mergeable(model: Model) -> None:
    kind, base = model.identity.kind, model.identity.base
    if kind not in _KINDS:
        raise WrongFamily(f"is of kind {kind}, not a checkpoint", path=model.name)
    if base is Base.UNKNOWN:
        raise WrongFamily("is of a family that cannot be told", path=model.name)


def mergeable(model: Model, name: str) -> bool:
    """Whether a tensor holds weights: no indices, schedule, markers or averages."""
    part = model.component_of(name)
    return (
        model.state[name].dtype.is_float
        and not name.endswith("position_ids")
        and name not in SCHEDULE_BUFFERS
        and part in PREFIXES
        and part != UNET_EMA
        and bool(model.state[name].numel)
    )


def inputs_of(name: str, models: Sequence[Model]) -> tuple[LazyTensor, ...]:
    """A tensor as every model has it. Raises MergeProblem when they do not fit each other.

    A's first convolution may take more channels than that of the others.
    """
    first, *others = models
    tensors = tuple(model.state[name] for model in models)
    ours = tensors[0].shape
    for model, tensor in zip(others, tensors[1:], strict=True):
        if not tensor.dtype.is_float:
            raise _misfit(name, model, f"is {tensor.dtype.label} here, but weights in {first.name}")
        if tensor.shape != ours and not _is_wider(name, ours, tensor.shape):
            hint = _WIDER_FIRST if _is_wider(name, tensor.shape, ours) else None
            raise _misfit(name, model, _shapes(name, first, model), hint)
    if len({tensor.shape for tensor in tensors[1:]}) > 1:
        odd = next(m for m in others if m.state[name].shape != others[0].state[name].shape)
        raise _misfit(name, odd, _shapes(name, others[0], odd))
    return tensors


def _is_wider(name: str, ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """Inpainting (9 channels) and pix2pix (8) models take those of plain models first.

    As in AUTOMATIC1111/stable-diffusion-webui `modules/extras.py`: A must be the wider model, its
    first channels are merged with those of the others, the rest stays.
    """
    return (
        name.endswith(_FIRST)
        and len(ours) == len(theirs) == 4
        and ours[1] in _MORE_CHANNELS
        and theirs[1] == _PLAIN_CHANNELS
        and (ours[0], *ours[2:]) == (theirs[0], *theirs[2:])
    )


def channel_warnings(inputs: Sequence[LazyTensor]) -> tuple[str, ...]:
    """What happens to the input channels that only A has."""
    ours, theirs = inputs[0].shape, inputs[-1].shape
    if ours == theirs:
        return ()
    kind, kept = _MORE_CHANNELS[ours[1]], ours[1] - theirs[1]
    told = f"A is {kind} and takes {ours[1]} input channels: the first {theirs[1]} are merged"
    return (f"{told}, the other {kept} stay as they are",)


def _shapes(name: str, first: Model, other: Model) -> str:
    ours, theirs = first.state[name].shape, other.state[name].shape
    return f"has shape {list(theirs)}, but {list(ours)} in {first.name}"


def _misfit(name: str, model: Model, cause: str, hint: str | None = None) -> MergeProblem:
    return MergeProblem(f"{name} {cause}", path=model.name, hint=hint)


def prediction_warnings(models: Mapping[str, Model]) -> tuple[str, ...]:
    """What models that predict other things than A does will do to the result."""
    told = {
        label: model.identity.prediction
        for label, model in models.items()
        if model.identity.prediction is not Prediction.UNKNOWN
    }
    if len(set(told.values())) < 2:
        return ()
    said = ", ".join(f"{label} {prediction}" for label, prediction in told.items())
    return (f"the models predict different things: {said}",)
