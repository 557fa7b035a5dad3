"""What the networks behind a picture are asked one by one, and the checks of their answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from assetmgr.sampler import judge
from assetmgr.sampler.jobs import Check, ModelFile
from assetmgr.sampler.painter import Painter
from assetmgr.sampler.probes import DRAWS, Answers, difference, disc, noise_left, round_trip
from assetmgr.sampler.relatives import Likeness, likeness
from assetmgr.sampler.render import Picture, encode_picture
from assetmgr.sampler.subjects import Applied, Scaled
from assetmgr.sampler.warm import Warm, single_file
from converters.containers import open_model
from converters.errors import AssetmgrError

CLEARLY = 1.03
"""Times the noise missed that is clearly more.

A pair of blocks of the demo's UNet exchanged changes it by 0.98 to 2: some of them do next to
nothing, where only other relatives can tell which file has them wrong.
"""


@dataclass(frozen=True, slots=True)
class Examiner:
    """Asks warm networks under a painter's conditions. It raises what the painter raises."""

    painter: Painter
    warm: Warm

    def of_checkpoint(self, picture: Picture, relatives: Sequence[ModelFile]) -> Iterator[Check]:
        """What a checkpoint removes of noise, makes of prompts, and keeps of a picture."""
        if not self.warm.bundle.family.flow:
            yield judge.removes_noise(noise_left(self._answers(picture), picture.latents))
            yield from self._in_place(relatives)
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

    def _in_place(self, relatives: Sequence[ModelFile]) -> Iterator[Check]:
        """Whether the layers stand where most relatives have them.

        Where one stands against one, the file itself has to be better so to pass.
        """
        kin = [found for found in self._likenesses(relatives) if found[1].are_relatives]
        against = [(name, each) for name, each in kin if each.exchanged]
        if not kin:
            return
        name, told = (against or kin)[0]
        is_at_fault = 2 * len(against) > len(kin)
        if against and (len(kin) == 1 or 2 * len(against) == len(kin)):
            is_at_fault = not self._is_better_so(told)
        yield judge.in_place(name, told.compared, told.exchanged, ok=not is_at_fault)

    def _likenesses(self, relatives: Sequence[ModelFile]) -> Iterator[tuple[str, Likeness]]:
        """Names of checkpoints with what they have in common; what cannot be read is left out."""
        for each in relatives:
            with suppress(AssetmgrError):
                relative = single_file(open_model(each.path))
                yield each.name, likeness(self.warm.bundle.state_dict, relative)

    def _is_better_so(self, found: Likeness) -> bool:
        """Whether it takes clearly more noise off than with the exchanged layers put back.

        That is asked of a picture that neither has painted.
        """
        bundle, sampling = self.warm.bundle, self.painter.conditions.sampling
        with self.painter.ready(bundle.vae.network):
            shown = encode_picture(bundle.vae.network, disc(sampling.width, sampling.height))
        left = noise_left(self.painter.answers(self.warm, shown, DRAWS), shown)
        with bundle.patched(found.put_back(bundle.state_dict)):
            put_back = noise_left(self.painter.answers(self.warm, shown, DRAWS), shown)
        return put_back > CLEARLY * left

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
