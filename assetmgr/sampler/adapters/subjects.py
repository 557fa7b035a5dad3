"""What each kind of asset does to the base checkpoint while it is rendered.

One function per kind: a context manager that changes the loaded networks, tells what it used and
left over, and restores the networks exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from assetmgr.sampler.adapters.embeddings import NamedVectors
from assetmgr.sampler.adapters.hypernetwork import listening
from assetmgr.sampler.adapters.inversions import carried_by, read_for
from assetmgr.sampler.adapters.patching import at_hand
from assetmgr.sampler.models.bundle import Bundle, load_vae
from assetmgr.sampler.models.flow_bundle import load_flow_vae
from assetmgr.sampler.models.networks import latent_factor
from assetmgr.sampler.models.tiny_vae import TAESD, load_tiny
from assetmgr.sampler.process.jobs import RenderJob
from assetmgr.sampler.verdicts.finiteness import NotFinite
from converters.devices import CPU
from converters.embedding_forms import is_bundled
from converters.errors import MergeProblem, UnsupportedFile, WrongFamily
from converters.hypernetworks import read_hypernetwork
from converters.identify import identify
from converters.merge.into_checkpoint import AdapterChoice, AdapterReport, plan_merge
from converters.progress import SILENT
from converters.statedict import StateDict

Scaled = Callable[[float], AbstractContextManager[None]]
"""Renders inside have a subject at this part of its weight; 0 is without it."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A subject in effect: what the prompt may name, the decoder to use, the account of its file.

    `decoder` is None for the base's own, `encoder` is one that has no decoder. `unused` names
    tensors that found no place, `note` says what was used. `scaled` puts the subject in effect at
    a part of its weight, where it has one. `largest` is its largest change of a weight, in that
    one's size, and where.
    """

    note: str
    unused: tuple[str, ...] = ()
    embeddings: tuple[NamedVectors, ...] = ()
    decoder: Any = None
    encoder: Any = None
    scaled: Scaled | None = None
    largest: tuple[float, str] | None = None


Change = Callable[[Bundle, StateDict, RenderJob], AbstractContextManager[Applied]]


def applied(bundle: Bundle, subject: StateDict, job: RenderJob) -> AbstractContextManager[Applied]:
    """The subject in effect on the bundle for as long as the context lasts.

    Raises UnsupportedFile for a kind that cannot be rendered, WrongFamily for a subject made for
    another family, Incomplete for a VAE with missing tensors.
    """
    change = SUBJECTS.get(job.subject.kind)
    if change is None:
        raise UnsupportedFile(f"not supported yet: kind {job.subject.kind}", path=job.subject.path)
    return change(bundle, subject, job)


@contextmanager
def _lora(bundle: Bundle, subject: StateDict, job: RenderJob) -> Iterator[Applied]:
    """The merged weights, as the merge command would write them; and embeddings in the file."""
    embeddings, adapter = _carried(bundle, subject)
    choice = AdapterChoice(job.subject.path, adapter, job.weight, None)
    changed, report = merged_onto(bundle, choice)
    with ExitStack() as stack:
        try:
            patch = stack.enter_context(bundle.patched(changed))
        except MergeProblem as error:  # values out of range; names and shapes were settled above
            raise NotFinite("the merge of the weights") from error
        note = f"{report.applied} modules applied"
        unused, largest = tuple(report.unused), patch.largest()
        yield Applied(note, unused, embeddings, scaled=patch.scaled, largest=largest)


def _carried(bundle: Bundle, subject: StateDict) -> tuple[tuple[NamedVectors, ...], StateDict]:
    """The embeddings in an adapter's file, and the adapter without them.

    Such as are for other text encoders are left in it, where they find no place.
    """
    if not any(map(is_bundled, subject)):
        return (), subject
    try:
        named = carried_by(bundle, subject)
    except WrongFamily:
        return (), subject
    return named, subject.select(lambda name: not is_bundled(name))


def merged_onto(bundle: Bundle, choice: AdapterChoice) -> tuple[StateDict, AdapterReport]:
    """What the file of a bundle would hold with an adapter, computed where its networks are."""
    state, device = bundle.state_dict, bundle.unet.network.device
    is_there = device.type == "cuda"  # the merge engine knows no others
    base = at_hand(bundle.parts, state, device) if is_there else state
    plan = plan_merge(base, [choice], partial=True, device=device.type if is_there else CPU)
    merged = {name: plan.state_dict[name] for name in plan.changed}
    return state.overlay(merged), plan.reports[0]


@contextmanager
def _embedding(bundle: Bundle, subject: StateDict, job: RenderJob) -> Iterator[Applied]:
    """The vectors under the trigger word, or under the name of the asset."""
    named, more = read_for(bundle, subject, job.trigger or job.subject.name)
    count = sum(1 for _ in named.rows())
    yield Applied(f"{count} vectors as {named.name!r}{more}", embeddings=(named,))


@contextmanager
def _hypernetwork(bundle: Bundle, subject: StateDict, job: RenderJob) -> Iterator[Applied]:
    """The small networks between context and keys and values."""
    hypernetwork = read_hypernetwork(subject)
    with listening(bundle.unet.network, hypernetwork, job.weight) as effect:
        if not effect.places:
            raise WrongFamily("no attention layer has the widths it is for", path=job.subject.path)
        yield Applied(f"in effect in {effect.places} attention layers", scaled=effect.scaled)


@contextmanager
def _vae(bundle: Bundle, subject: StateDict, job: RenderJob) -> Iterator[Applied]:
    """Another decoder for the same latents."""
    own = bundle.vae.network
    vae = _autoencoder(bundle, subject)
    theirs, ours = _latent_space(vae), _latent_space(own)
    if theirs != ours:
        raise WrongFamily(
            f"it decodes {theirs[0]} channels {theirs[1]} times enlarged, the base has "
            f"{ours[0]} and {ours[1]}",
            path=job.subject.path,
        )
    note = f"all {len(vae.state_dict())} tensors of the autoencoder"
    if vae.decoder is None:
        yield Applied(f"{note}, an encoder alone", encoder=vae)
    else:
        yield Applied(note if vae.encoder is not None else f"{note}, {DECODER_ALONE}", decoder=vae)


def _autoencoder(bundle: Bundle, subject: StateDict) -> Any:
    """The autoencoder of a file, for the latents of the base."""
    own, base = bundle.vae.network, bundle.identity.base
    if identify(subject).variant == TAESD:
        return load_tiny(subject, own.device, own.dtype, SILENT)
    load = load_flow_vae if bundle.family.flow else load_vae
    vae = load(subject, base, own.device, own.dtype, SILENT)
    told = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
    vae.register_to_config(**{name: getattr(own.config, name, None) for name in told})
    return vae


def _latent_space(vae: Any) -> tuple[int, int]:
    """Channels of a latent, and its pixels along an axis."""
    return int(vae.config.latent_channels), latent_factor(vae)


DECODER_ALONE = "a decoder alone: no picture can go through it"

SUBJECTS: dict[str, Change] = {
    "lora": _lora,
    "embedding": _embedding,
    "hypernetwork": _hypernetwork,
    "vae": _vae,
}
"""Kind of asset -> how it changes a render of the base."""
