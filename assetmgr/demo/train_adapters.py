"""Training of the adapters on the finished checkpoint, each for one visible effect.

| adapter | what it learns |
|---|---|
| LoRA (LoCon) | "outlined": shapes become outlines |
| embedding | "gem": a word for a green triangle |
| hypernetwork | every shape becomes blue |
| second VAE | warmer colours from the same latents |
"""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.nn.utils import parametrize

from assetmgr.demo import CONCEPT, STYLE_TRIGGER
from assetmgr.demo.networks import Networks, context, rows_of
from assetmgr.demo.pictures import SCENES, Scene, batch, outlined
from assetmgr.demo.schedule import noise_loss
from assetmgr.demo.train_base import (
    Latents,
    Report,
    SharedContext,
    attend,
    descend,
    encode,
    set_rates,
    share_contexts,
    warm_cosine,
)

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

LORA_RANK, LORA_ALPHA = 4, 4.0
CONCEPT_VECTORS = 2
HYPERNETWORK_WIDTH = 48
"""Width of its middle layer: 768 times the 0.0625 of its layer structure."""
LORA_STEPS, CONCEPT_STEPS, HYPERNETWORK_STEPS, VAE_STEPS = 200, 100, 150, 150
_CAPTIONS, _PICTURES = 6, 4
_WARMTH = torch.tensor([1.0, 0.84, 0.55])[:, None, None]
"""How the second VAE tints red, green and blue."""


class LowRank(torch.nn.Module):
    """W + alpha/rank · up @ down, as a parametrization of a weight (LoRA, arXiv 2106.09685)."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        rank = min(LORA_RANK, *weight.shape[:2])
        self.down = torch.nn.Parameter(torch.randn(rank, *weight.shape[1:]) * 0.02)
        ones = (1,) * (weight.ndim - 2)
        self.up = torch.nn.Parameter(torch.zeros(weight.shape[0], rank, *ones))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight."""
        product = self.up.flatten(1) @ self.down.flatten(1)
        return weight + LORA_ALPHA / len(self.down) * product.view_as(weight)


def train_lora(base: Networks, report: Report) -> dict[str, torch.Tensor]:
    """A LoCon of attention, projections and 3x3 convolutions, under kohya's names. Seeded."""
    torch.manual_seed(1)
    unet, text = copy.deepcopy(base.unet), copy.deepcopy(base.text)
    share_contexts(unet)
    modules = dict(_adapted("lora_unet", unet, _is_unet_target))
    modules |= _adapted("lora_te_text_model", text, _is_text_target)
    scenes = [outlined(scene) for scene in SCENES]
    latents = Latents(base.vae, scenes, 12, seed=21)
    parameters = [p for module in modules.values() for p in module.parameters()]
    _train(
        "LoRA",
        parameters,
        2e-3,
        LORA_STEPS,
        lambda choose: _pairs(choose, scenes, latents, f"{{caption}} {STYLE_TRIGGER}"),
        functools.partial(context, text),
        unet,
        report,
    )
    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        tensors[f"{name}.lora_down.weight"] = module.down.detach()
        tensors[f"{name}.lora_up.weight"] = module.up.detach()
        tensors[f"{name}.alpha"] = torch.tensor(LORA_ALPHA)
    return tensors


def _is_unet_target(name: str) -> bool:
    attention = name.endswith(("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out"))
    return attention or (".conv" in name and ".resnets." in name and "shortcut" not in name)


def _is_text_target(name: str) -> bool:
    return name.endswith(("q_proj", "v_proj"))


def _adapted(
    prefix: str, network: torch.nn.Module, wanted: Callable[[str], bool]
) -> dict[str, LowRank]:
    """Give the wanted modules a trainable change; by their names in kohya's files."""
    network.requires_grad_(False)
    found = {}
    for path, module in list(network.named_modules()):
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and wanted(path):
            change = LowRank(module.weight)
            parametrize.register_parametrization(module, "weight", change)
            found[f"{prefix}_{path.replace('.', '_')}"] = change
    return found


def train_embedding(base: Networks, report: Report) -> torch.Tensor:
    """Vectors (2, 768) of the new word, everything else frozen (arXiv 2208.01618). Seeded."""
    torch.manual_seed(2)
    unet, text = copy.deepcopy(base.unet).requires_grad_(False), base.text
    share_contexts(unet)
    table: torch.Tensor = text.get_input_embeddings().weight.detach()
    vectors = torch.nn.Parameter(table.mean(0, keepdim=True).repeat(CONCEPT_VECTORS, 1))
    gems = [s for s in SCENES if (s.colour, s.shape) == ("green", "triangle")]
    latents = Latents(base.vae, gems, 40, seed=31)
    _train(
        "embedding",
        [vectors],
        5e-3,
        CONCEPT_STEPS,
        lambda choose: _pairs(choose, gems, latents, f"a {CONCEPT} on a {{background}} background"),
        lambda captions: _with_concept(text, captions, vectors),
        unet,
        report,
    )
    return vectors.detach()


def _with_concept(text: Any, captions: list[str], vectors: torch.Tensor) -> torch.Tensor:
    """Contexts of captions whose third place on is taken by the vectors of the new word."""
    rows = torch.tensor([rows_of(c.replace(CONCEPT, "a " * CONCEPT_VECTORS)) for c in captions])
    embedded = text.get_input_embeddings()(rows).clone()
    embedded[:, 2 : 2 + CONCEPT_VECTORS] = vectors
    hook = text.get_input_embeddings().register_forward_hook(lambda *_: embedded)
    try:
        states: torch.Tensor = text(input_ids=rows).last_hidden_state
    finally:
        hook.remove()
    return states


class Hyper(torch.nn.Module):
    """x + linear(relu(linear(x))): one half of a hypernetwork, A1111 structure [1, 0.0625, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(768, HYPERNETWORK_WIDTH)
        self.second = torch.nn.Linear(HYPERNETWORK_WIDTH, 768)
        torch.nn.init.normal_(self.second.weight, std=0.01)
        torch.nn.init.zeros_(self.second.bias)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """The changed context, (N, 77, 768)."""
        changed: torch.Tensor = words + self.second(functional.relu(self.first(words)))
        return changed

    def tensors(self) -> dict[str, torch.Tensor]:
        """Under A1111's names: the activation stands between at index 1."""
        layers = {"linear.0": self.first, "linear.2": self.second}
        return {
            f"{name}.{key}": value.detach()
            for name, layer in layers.items()
            for key, value in layer.state_dict().items()
        }


class HyperAttention(SharedContext):
    """Attention whose keys and values see the context through a hypernetwork."""

    def __init__(self, keys: Hyper, values: Hyper) -> None:
        self._keys, self._values = keys, values

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        **_: object,
    ) -> torch.Tensor:
        """As `SharedContext`; self-attention is untouched."""
        if encoder_hidden_states is None:
            return super().__call__(attn, hidden_states)
        keys, values = self._keys(encoder_hidden_states), self._values(encoder_hidden_states)
        return attend(attn, hidden_states, attn.to_k(keys), attn.to_v(values))


def train_hypernetwork(base: Networks, report: Report) -> dict[str, Mapping[str, torch.Tensor]]:
    """The two halves for the context width, `k` and `v`. Seeded."""
    torch.manual_seed(3)
    unet = copy.deepcopy(base.unet).requires_grad_(False)
    keys, values = Hyper(), Hyper()
    unet.set_attn_processor(HyperAttention(keys, values))
    latents = Latents(base.vae, [s for s in SCENES if s.colour == "blue"], 40, seed=41)

    def pairs(choose: random.Random) -> tuple[list[str], torch.Tensor]:
        scenes = [choose.choice(SCENES) for _ in range(_CAPTIONS)]
        blue = [replace(scene, colour="blue") for scene in scenes]
        clean = torch.cat([latents.some(scene, _PICTURES) for scene in blue])
        return [scene.caption() for scene in scenes], clean

    parameters = [*keys.parameters(), *values.parameters()]
    words = functools.partial(context, base.text)
    _train("hypernetwork", parameters, 3e-3, HYPERNETWORK_STEPS, pairs, words, unet, report)
    return {"k": keys.tensors(), "v": values.tensors()}


def train_second_vae(vae: AutoencoderKL, report: Report) -> AutoencoderKL:
    """The autoencoder with warmer colours, from the last level of its decoder. Seeded."""
    torch.manual_seed(4)
    warm = copy.deepcopy(vae)
    decoder = warm.decoder
    last = torch.nn.ModuleList([decoder.up_blocks[-1], decoder.conv_norm_out, decoder.conv_out])
    parameters = list(last.requires_grad_(True).parameters())
    pictures = batch([scene for scene in SCENES for _ in range(4)], seed=51)
    codes = encode(vae, pictures)
    targets = ((pictures + 1) * _WARMTH) - 1
    optimizer = torch.optim.AdamW(parameters, weight_decay=0)
    for step in range(VAE_STEPS):
        set_rates(optimizer, [4e-4], warm_cosine(step, VAE_STEPS, warmup=10))
        some = torch.randint(len(codes), (8,))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = warm.decode(codes[some]).sample.float()
        loss = functional.l1_loss(made, targets[some])
        descend(optimizer, loss, parameters)
        if step % 50 == 0:
            report(f"second VAE {step}: error {loss.item():.3f}")
    return warm.eval().requires_grad_(False)


def _pairs(
    choose: random.Random, scenes: list[Scene], latents: Latents, form: str
) -> tuple[list[str], torch.Tensor]:
    """Captions of random scenes, and latents of pictures of each."""
    chosen = [choose.choice(scenes) for _ in range(_CAPTIONS)]
    clean = torch.cat([latents.some(scene, _PICTURES) for scene in chosen])
    return [scene.caption(form.replace("{caption}", scene.caption())) for scene in chosen], clean


def _train(
    label: str,
    parameters: Sequence[torch.Tensor],
    rate: float,
    steps: int,
    pairs: Callable[[random.Random], tuple[list[str], torch.Tensor]],
    words: Callable[[list[str]], torch.Tensor],
    unet: Any,
    report: Report,
) -> None:
    """Descend the noise loss of captioned latents by `parameters` alone."""
    choose = random.Random(label)  # noqa: S311 - captions, not secrets
    optimizer = torch.optim.AdamW(parameters, weight_decay=0)
    for step in range(steps):
        set_rates(optimizer, [rate], warm_cosine(step, steps, warmup=20))
        captions, clean = pairs(choose)
        given = words(captions)
        loss = noise_loss(lambda x, t, c=given: unet(x, t, c).sample, clean)  # type: ignore[misc]
        descend(optimizer, loss, parameters)
        if step % 50 == 0:
            report(f"{label} {step}: loss {loss.item():.3f}")
