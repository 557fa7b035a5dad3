"""What renders cannot be quicker than on this machine; prints a JSON object of seconds.

    python -m benchmarks.preview_floors FOLDER ROUNDS

`touch`: memory for all weights in fp32, in one piece that is new to the process, written once:
loading in that type comes to it, whoever does it; in the file's own type nothing has to be done at
all. `swap`: the weights that a LoRA changes read as they are stored, written in fp32 to memory that
is there, and 2·r·out·in operations for each. `sample`: operations of a preview's calls of the UNet
over the rate of a large product of matrices.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from benchmarks.preview_jobs import STEPS, Seconds, first_lora, median

PROBES = 4
"""Calls of the UNet that a LoRA's verdict makes beside the steps."""


def floors(folder: str, rounds: str) -> Seconds:
    """All of them, with the networks of a folder that the benchmark of previews has made."""
    import torch

    from assetmgr.sampler.models.bundle import load_bundle
    from converters.containers import open_model
    from converters.progress import SILENT

    state = open_model(str(Path(folder, "base.safetensors"))).state_dict
    bundle = load_bundle(state, torch.device("cpu"), torch.float32, SILENT)
    size = sum(p.numel() for part in bundle.parts for p in part.network.parameters())
    return {
        "touch": median(rounds, lambda: torch.empty(size).zero_()),
        "swap": _swap(bundle, folder, rounds),
        "sample": (STEPS + PROBES) * _operations(bundle.unet.network) / _rate(),
    }


def _swap(bundle: Any, folder: str, rounds: str) -> float:
    import torch

    from assetmgr.sampler.adapters.subjects import merged_onto
    from assetmgr.sampler.rendering.threads import side_by_side
    from converters import compute
    from converters.containers import open_model
    from converters.merge.into_checkpoint import AdapterChoice

    lora = open_model(first_lora(folder)).state_dict
    rank = min(min(t.shape[:2]) for name, t in lora.items() if name.endswith("down.weight"))
    changed, _ = merged_onto(bundle, AdapterChoice("lora", lora, 1.0))
    own = bundle.state_dict
    names = [name for name, tensor in changed.items() if tensor.source != own[name].source]
    work = []
    for name in names:
        rows = own[name].shape[0]
        target = torch.zeros(rows, own[name].numel // rows)
        up, down = torch.randn(rows, rank), torch.randn(rank, target.shape[1])
        work.append((compute.mapped(own[name]), target, up, down))

    def one(each: tuple[Any, ...]) -> None:
        stored, target, up, down = each
        target.copy_(stored.reshape(target.shape)).addmm_(up, down)

    nbytes = sum(target.nbytes for _, target, _, _ in work)
    return median(rounds, lambda: list(side_by_side(one, work, nbytes, torch.device("cpu"))))


def _operations(unet: Any) -> int:
    """Of a call for the prompt and the negative prompt of a picture of 64 pixels."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    hidden = torch.zeros(2, 77, unet.config.cross_attention_dim)
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        unet(torch.zeros(2, 4, 8, 8), torch.tensor(1.0), encoder_hidden_states=hidden)
    return counted.get_total_flops()


def _rate() -> float:
    """Operations a second of a large product in fp32, in one thread, as small UNets are called."""
    import torch

    from assetmgr.sampler.rendering.threads import one_thread

    edge = 2048
    factor = torch.randn(edge, edge)
    with one_thread():
        return 2 * edge**3 / median("5", lambda: factor @ factor)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(floors(*sys.argv[1:])))
