"""What the networks behind a picture are asked one by one, and the checks of their answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from assetmgr.sampler import judge
from assetmgr.sampler.jobs import Check
from assetmgr.sampler.painter import Painter
from assetmgr.sampler.probes import DRAWS, Answers, difference, noise_left, round_trip
from assetmgr.sampler.render import Picture
from assetmgr.sampler.subjects import Applied, Scaled
from assetmgr.sampler.warm import Warm


@dataclass(frozen=True, slots=True)
class Examiner:
    """Asks warm networks under a painter's conditions. It raises what the painter raises."""

    painter: Painter
    warm: Warm

    def of_checkpoint(self, picture: Picture) -> Iterator[Check]:
        """What a checkpoint removes of noise, makes of prompts, and keeps of a picture."""
        if not self.warm.bundle.family.flow:
            yield judge.removes_noise(noise_left(self._answers(picture), picture.latents))
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
        sampling = self.painter.conditions.sampling
        with self.painter.ready(vae):
            return judge.round_trip(round_trip(vae, sampling.width, sampling.height))
