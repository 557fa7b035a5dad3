"""Train the demo's model family anew: `python -m assetmgr.demo.train`.

45 minutes on two otherwise idle cores. Everything is seeded; stages that are already in the work
folder are not repeated. The results are written into the package as float16 safetensors files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from assetmgr.demo import CONCEPT, PROMPT, STYLE_TRIGGER
from assetmgr.demo.family import RETRAINED, TOKEN_IDS, keep
from assetmgr.demo.networks import (
    Networks,
    checkpoint_tensors,
    make_text_encoder,
    make_unet,
    make_vae,
    stored,
    token_ids,
    vae_tensors,
)
from assetmgr.demo.train_adapters import (
    HYPERNETWORK_STEPS,
    LORA_ALPHA,
    LORA_RANK,
    train_embedding,
    train_hypernetwork,
    train_lora,
    train_second_vae,
)
from assetmgr.demo.train_base import train_autoencoder, train_denoiser
from converters.extras import extras_as_metadata
from converters.statedict import Plain, StateDict

_STARTED = time.monotonic()


def main() -> None:
    """Train what is missing in the work folder and write the family."""
    parser = argparse.ArgumentParser(description="Train the demo's model family anew.")
    parser.add_argument("--work", type=Path, default=Path("family-work"), help="stages so far")
    work: Path = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    networks = _base(work)
    ids = stored({TOKEN_IDS: torch.tensor(token_ids())})
    _write("checkpoint", checkpoint_tensors(networks).overlay(ids), _CHECKPOINT)
    lora = _stage(work / "lora.safetensors", lambda: train_lora(networks, report))
    _write("lora", stored(lora), _LORA)
    vectors = _stage(
        work / "embedding.safetensors", lambda: {"emb_params": train_embedding(networks, report)}
    )
    _write("embedding", stored(vectors), _EMBEDDING)
    hyper = _stage(
        work / "hypernetwork.safetensors", lambda: _flat(train_hypernetwork(networks, report))
    )
    _write("hypernetwork", stored(hyper), extras_as_metadata(HYPERNETWORK_SETTINGS))
    second = make_vae()
    second.load_state_dict(
        _stage(
            work / "second-vae.safetensors",
            lambda: train_second_vae(networks.vae, report).state_dict(),
        )
    )
    _write("vae", vae_tensors(second).select(lambda name: name.startswith(RETRAINED)), _VAE)


def _base(work: Path) -> Networks:
    vae, unet, text = make_vae(), make_unet(), make_text_encoder()
    place = work / "autoencoder.safetensors"
    vae.load_state_dict(_stage(place, lambda: train_autoencoder(report).state_dict()))
    vae.eval().requires_grad_(False)
    places = work / "denoiser.safetensors", work / "text-encoder.safetensors"
    if not all(place.exists() for place in places):
        trained = train_denoiser(vae, report)
        for place, network in zip(places, (trained.unet, trained.text), strict=True):
            save_file(_owned(network.state_dict()), place)
    unet.load_state_dict(load_file(places[0]))
    text.load_state_dict(load_file(places[1]))
    return Networks(unet.eval(), vae, text.eval())


def _stage(place: Path, train: Callable[[], Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The tensors of a stage: from its file, or trained and kept there."""
    if not place.exists():
        save_file(_owned(train()), place)
    loaded: dict[str, torch.Tensor] = load_file(place)
    return loaded


def _owned(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def _flat(halves: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The names that a pickled hypernetwork of this width has once it is read."""
    return {
        f"768.{index}.{name}": tensor
        for index, half in enumerate(("k", "v"))
        for name, tensor in halves[half].items()
    }


def _write(name: str, state: StateDict, texts: Mapping[str, str]) -> None:
    nbytes = keep(name, state.with_metadata({"format": "pt", **texts}))
    report(f"{name}: {nbytes:,} bytes")


def report(line: str) -> None:
    """A line with the time since the start."""
    sys.stderr.write(f"{time.monotonic() - _STARTED:6.0f} s  {line}\n")


def _modelspec(architecture: str, title: str, **more: str) -> dict[str, str]:
    texts = {
        "sai_model_spec": "1.0.1",
        "architecture": f"stable-diffusion-v1{architecture}",
        "implementation": "diffusers",
        "title": title,
        "author": "the assetmgr demo",
        "license": "Apache-2.0",
        **more,
    }
    return {f"modelspec.{key}": text for key, text in texts.items()}


_CHECKPOINT = _modelspec("", "Coloured shapes", resolution="64x64", prediction_type="epsilon") | {
    "assetmgr.preview_prompt": PROMPT
}
_LORA = _modelspec("/lora", "Outlined shapes", trigger_phrase=STYLE_TRIGGER) | {
    "ss_base_model_version": "sd_v1",
    "ss_network_module": "lycoris.kohya",
    "ss_network_dim": str(LORA_RANK),
    "ss_network_alpha": str(LORA_ALPHA),
    "ss_network_args": json.dumps({"algo": "locon", "conv_dim": str(LORA_RANK)}),
    "ss_tag_frequency": json.dumps({f"1_{STYLE_TRIGGER}": {STYLE_TRIGGER: 90, "shape": 90}}),
    "ss_num_train_images": "90",
    "assetmgr.preview_prompt": f"{PROMPT} {STYLE_TRIGGER}",
}
_EMBEDDING = _modelspec("/textual-inversion", "Gem", trigger_phrase=CONCEPT) | {
    "assetmgr.preview_prompt": f"a {CONCEPT} on a white background"
}
_VAE = _modelspec("/vae", "Warm colours")
HYPERNETWORK_SETTINGS: Mapping[str, Plain] = {
    "name": "blue-shapes",
    "step": HYPERNETWORK_STEPS,
    "layer_structure": [1, 0.0625, 1],
    "activation_func": "relu",
    "is_layer_norm": False,
    "activate_output": False,
    "weight_initialization": "Normal",
    "use_dropout": False,
}
"""What A1111 stores beside the tensors of a hypernetwork."""


if __name__ == "__main__":
    main()
