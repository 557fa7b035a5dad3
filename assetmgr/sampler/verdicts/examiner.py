"""What the networks behind a picture are asked one by one, and the checks of their answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from assetmgr.sampler.adapters.subjects import Applied, Scaled
from assetmgr.sampler.process.jobs import Check, ModelFile
from assetmgr.sampler.process.warm import Warm, single_file
from assetmgr.sampler.rendering.memory import Measure, awake
from assetmgr.sampler.rendering.painter import Painter
from assetmgr.sampler.rendering.render import Picture
from assetmgr.sampler.verdicts import judge
from assetmgr.sampler.verdicts.finiteness import NotFinite
from assetmgr.sampler.verdicts.judge import Exchanged
from assetmgr.sampler.verdicts.probes import (
    DRAWS,
    FRUGAL,
    LARGEST,
    Answers,
    difference,
    noise_left,
    round_trip,
)
from assetmgr.sampler.verdicts.relatives import Likeness, likeness
from converters.containers import open_model
from converters.errors import AssetmgrError

CLEARLY = 0.5
"""Logarithm of the noise missed, with layers put back against as they are, that is a clear answer.

Of random pairs of blocks exchanged in the demo's UNet as it is, with a LoRA merged at three
weights, and with noise of a tenth and a third of its weights, 404 cases with four prompts in all,
the healthy network lost 0.33 by it at most, in three of them more than 0.3. Of blocks that do next
to nothing only more files can tell. A picture that neither painted is no judge: shown a disc, a
healthy one lost up to 0.54.
"""


def _whose(gain: float, against: int, so: int) -> Exchanged:
    """Which files have layers exchanged, by what the network gains so and how many have them so."""
    if abs(gain) > CLEARLY:
        return Exchanged.THERE if gain > 0 else Exchanged.HERE
    if against == so:
        return Exchanged.UNCLEAR
    return Exchanged.HERE if against > so else Exchanged.THERE


@dataclass(frozen=True, slots=True)
class Examiner:
    """Asks warm networks under a painter's conditions. It raises what the painter raises."""

    painter: Painter
    warm: Warm

    def of_checkpoint(self, picture: Picture, relatives: Sequence[ModelFile]) -> Iterator[Check]:
        """What a checkpoint removes of noise, makes of prompts, and keeps of a picture."""
        if not self.warm.bundle.family.flow:
            yield judge.removes_noise(noise_left(self._answers(picture), picture.latents))
            yield from self._in_place(relatives, picture)
            conditions = self.painter.conditions
            if conditions.prompt != conditions.negative:
                positive, negative = self.painter.conditionings(self.warm, ())
                yield judge.prompt_matters(difference(positive, negative))
        yield self._round_trip(self.warm.bundle.vae.network)

    def of_change(self, change: Applied, picture: Picture, reference: Picture) -> Iterator[Check]:
        """What an asset changed, against the render without it."""
        effect = judge.effect(picture, reference)
        if change.decoder is not None or change.encoder is not None:
            yield judge.same_picture(picture, reference)
            if getattr(change.decoder, "encoder", None) is not None:
                yield self._round_trip(change.decoder)
        if change.scaled is not None:
            yield from self._weighed(change.scaled, picture, effect)
        else:
            yield effect

    def _in_place(self, relatives: Sequence[ModelFile], picture: Picture) -> Iterator[Check]:
        """Whether the layers stand where most files have them, of which this is one.

        What the network says for or against itself clearly goes before any number of files, which
        may be copies of each other.
        """
        kin = [found for found in self._likenesses(relatives) if found[1].are_relatives]
        against = [(name, each) for name, each in kin if each.exchanged]
        if not kin:
            return
        name, told = (against or kin)[0]
        whose = Exchanged.NOT
        if against:
            whose = _whose(self._gain(told, picture), len(against), 1 + len(kin) - len(against))
        yield judge.in_place(name, told.compared, told.exchanged, whose)

    def _likenesses(self, relatives: Sequence[ModelFile]) -> Iterator[tuple[str, Likeness]]:
        """Names of checkpoints with what they have in common; what cannot be read is left out."""
        for each in relatives:
            with suppress(AssetmgrError):
                relative = single_file(open_model(each.path))
                yield each.name, likeness(self.warm.bundle.state_dict, relative)

    def _gain(self, found: Likeness, picture: Picture) -> float:
        """What it misses of noise with the exchanged layers put back, against as it is (log).

        Each does better with what itself has painted, so that is asked of a picture of either.
        """
        bundle, own = self.warm.bundle, picture.latents
        try:
            with bundle.patched(found.put_back(bundle.state_dict)):
                theirs = self.painter.latents(self.warm, (), "sample with layers put back")
                put_back = [self._missed(own), self._missed(theirs)]
        except NotFinite:
            return math.inf
        left = [self._missed(own), self._missed(theirs)]
        return math.fsum(map(math.log, put_back)) / 2 - math.fsum(map(math.log, left)) / 2

    def _missed(self, latents: torch.Tensor) -> float:
        return max(noise_left(self.painter.answers(self.warm, latents, DRAWS), latents), 1e-9)

    def _answers(self, picture: Picture, draws: int = DRAWS) -> Answers:
        return self.painter.answers(self.warm, picture.latents, draws)

    def _weighed(self, scaled: Scaled, picture: Picture, effect: Check) -> Iterator[Check]:
        """What the denoiser answers with all, half and nothing of an asset that has a weight."""
        whole = self._answers(picture)
        if not self.warm.bundle.family.flow:
            yield judge.removes_noise(noise_left(whole, picture.latents))
        yield effect
        if effect.ok:
            with scaled(0.5):
                half = self._answers(picture, 1)
            with scaled(0.0):
                without = self._answers(picture, 1)
            yield judge.half_effect(half.apart(without), whole.apart(without))

    def _round_trip(self, vae: Any) -> Check:
        """Of a whole picture: the seams of tiles would be held against the autoencoder."""
        sampling, thrift = self.painter.conditions.sampling, self.painter.thrift
        largest = FRUGAL if Measure.TILES in thrift.taken else LARGEST
        with awake(thrift.device, vae):
            return judge.round_trip(round_trip(vae, sampling.width, sampling.height, largest))
