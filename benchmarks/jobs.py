"""What runs inside the measured processes: one job each, named by the first argument."""

from __future__ import annotations

import sys


def convert(source: str, target: str) -> None:
    """To safetensors by this project's writer, nothing hashed."""
    _write(source, target, with_hashes=False)


def convert_unsynced(source: str, target: str) -> None:
    """The same, left to the system to be written to the disk some day, as `cp` does."""
    import os

    os.fsync = lambda _: None
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise = lambda *_: None
    _write(source, target, with_hashes=False)


def convert_hashed(source: str, target: str) -> None:
    """The same with every hash of the output."""
    _write(source, target, with_hashes=True)


def _write(source: str, target: str, *, with_hashes: bool) -> None:
    from pathlib import Path

    from converters.containers import open_model
    from converters.writers.safetensors import write_safetensors

    state = open_model(source).state_dict
    write_safetensors(state, Path(target), overwrite=True, with_hashes=with_hashes)


def convert_torch(source: str, target: str) -> None:
    """As other tools do it: everything into memory, then everything to the disk."""
    import torch
    from safetensors.torch import save_file

    loaded = torch.load(source, map_location="cpu", weights_only=True)
    save_file(loaded["state_dict"], target)


def matrices(target: str, scale: str) -> None:
    """As many fp16 numbers as the matrices of SD1's UNet have, 0.7 GB, as a model's are spread."""
    import torch
    from safetensors.torch import save_file

    rows = max(1, round(4 * float(scale)))
    name = "model.diffusion_model.input_blocks.{}.1.transformer_blocks.0.ff.net.2.weight"
    layers = {name.format(n): torch.randn(1280 * rows, 1280) / 50 for n in range(54)}
    save_file({name: layer.half() for name, layer in layers.items()}, target)


def quantise(source: str, target: str, kind: str) -> None:
    """To GGUF by this project's writer, with all hashes of the output."""
    from pathlib import Path

    from converters.containers import open_model
    from converters.identify import identify
    from converters.writers.gguf import write_gguf

    state = open_model(source).state_dict
    write_gguf(state, identify(state), Path(target), quantise=kind)


def quantise_gguf(source: str, target: str, kind: str) -> None:
    """As tools made with ggml's package do it, tensor by tensor; nothing is hashed."""
    import gguf
    import numpy as np
    from safetensors import safe_open

    chosen = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(target, "sd1", use_temp_file=False)
    with safe_open(source, "np") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            blocks = gguf.quants.quantize(file.get_tensor(name).astype(np.float32), chosen)
            writer.add_tensor(name, blocks, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def cast_half(source: str, target: str) -> None:
    """To fp16 without averages, whose bytes are never read."""
    from pathlib import Path

    from converters.containers import open_model
    from converters.dtypes import DType
    from converters.transform.cast import cast
    from converters.transform.ema import EmaChoice, apply_ema
    from converters.writers.safetensors import write_safetensors

    state, _ = apply_ema(open_model(source).state_dict, EmaChoice.DROP)
    write_safetensors(cast(state, DType.F16), Path(target), overwrite=True, with_hashes=False)


def cast_half_torch(source: str, target: str) -> None:
    """The same as other tools do it."""
    import torch
    from safetensors.torch import save_file

    loaded = torch.load(source, map_location="cpu", weights_only=True)["state_dict"]
    kept = {name: tensor for name, tensor in loaded.items() if not name.startswith("model_ema.")}
    save_file({n: t.half() if t.is_floating_point() else t for n, t in kept.items()}, target)


def merge_ours(target: str, base: str, *adapters: str) -> None:
    """LoRAs into a checkpoint by this project's engine, nothing hashed."""
    from pathlib import Path

    from converters.containers import open_model
    from converters.devices import begin_import, own_process
    from converters.merge.into_checkpoint import AdapterChoice, plan_merge
    from converters.writers.safetensors import write_safetensors

    choices = [AdapterChoice(path, open_model(path).state_dict, 0.5) for path in adapters]
    plan = plan_merge(open_model(base).state_dict, choices)
    own_process()  # as the program does
    begin_import()
    write_safetensors(plan.state_dict, Path(target), overwrite=True, with_hashes=False)


def merge_plain(target: str, base: str, *adapters: str) -> None:
    """Everything into memory, one sum after the other in fp32, everything to the disk.

    Only the names are looked up as we do it.
    """
    from safetensors.torch import load_file, save_file

    from converters.adapters.places import place_of
    from converters.adapters.targets import module_targets
    from converters.containers import open_model

    targets = module_targets(open_model(base).state_dict)
    weights = load_file(base)
    for adapter in adapters:
        tensors = load_file(adapter)
        for name, up in tensors.items():
            if not name.endswith(".lora_up.weight"):
                continue
            module = name.removesuffix(".lora_up.weight")
            change = 0.5 * (up.float() @ tensors[f"{module}.lora_down.weight"].float())
            place = targets[place_of(module)]
            rows = slice(*place.rows) if place.rows else slice(None)
            weight = weights[place.tensor]
            weight[rows] = (weight[rows].float() + change).to(weight.dtype)
    save_file(weights, target)


def merge_mecha(target: str, base: str, *adapters: str) -> None:
    """The same by sd-mecha, in fp32."""
    import sd_mecha

    model = recipe = sd_mecha.model(base)
    for adapter in adapters:
        recipe = recipe + sd_mecha.convert(sd_mecha.model(adapter), "sdxl-sgm") * 0.5
    _mecha(recipe | model, target)


def sum_ours(target: str, first: str, second: str) -> None:
    """A weighted sum of checkpoints by this project's engine, nothing hashed."""
    from pathlib import Path

    from converters.containers import open_model
    from converters.devices import begin_import, own_process
    from converters.merge.checkpoints.choice import MergeChoice, Weights
    from converters.merge.checkpoints.fitting import Model
    from converters.merge.checkpoints.plan import plan_checkpoint_merge
    from converters.writers.safetensors import write_safetensors

    models = [Model.of(path, open_model(path).state_dict) for path in (first, second)]
    plan = plan_checkpoint_merge(models, MergeChoice("weighted-sum", Weights(0.3)))
    own_process()  # as the program does
    begin_import()
    write_safetensors(plan.state, Path(target), overwrite=True, with_hashes=False)


def sum_plain(target: str, first: str, second: str) -> None:
    """The same as A1111 does it: all of both models in memory, summed in the type they have."""
    from safetensors.torch import load_file, save_file

    ours, theirs = load_file(first), load_file(second)
    for name, weight in ours.items():
        if name in theirs and weight.is_floating_point():
            ours[name] = (1 - 0.3) * weight + 0.3 * theirs[name]
    save_file(ours, target)


def sum_mecha(target: str, first: str, second: str) -> None:
    """The same by sd-mecha, in fp32."""
    import sd_mecha

    models = [sd_mecha.model(path) for path in (first, second)]
    _mecha(sd_mecha.weighted_sum(*models, alpha=0.3), target)


def _mecha(recipe: object, target: str) -> None:
    import sd_mecha
    import torch

    sd_mecha.merge(
        recipe,
        output=target,
        merge_device="cpu",
        merge_dtype=torch.float32,
        output_dtype=torch.float16,
    )


def hash_all(*paths: str) -> None:
    """Every hash of each file, as `scan` makes them."""
    from converters.containers import open_model
    from converters.hashing import hash_file

    for path in paths:
        hash_file(path, header_bytes=open_model(path).header_bytes)


def sha256(*paths: str) -> None:
    """The limit: SHA-256 in one thread over blocks of 1 MB."""
    import hashlib

    block = bytearray(1 << 20)
    view = memoryview(block)
    for path in paths:
        hasher = hashlib.sha256()
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(block):
                hasher.update(view[:count])


def sha256_folder(folder: str) -> None:
    """The same for all files of a folder."""
    from pathlib import Path

    sha256(*map(str, sorted(Path(folder).iterdir())))


def sha256_and_headers(folder: str) -> None:
    """As programs of this field learn what a folder holds: hash a file, then parse its header.

    One thread and blocks of a megabyte, in the order of names.
    """
    import json
    from pathlib import Path

    for path in sorted(Path(folder).iterdir()):
        sha256(str(path))
        with path.open("rb") as file:
            json.loads(file.read(int.from_bytes(file.read(8), "little")))


def without_torch(*arguments: str) -> None:
    """Run an assetmgr command; fails when it imported torch."""
    from assetmgr.cli.main import run

    status = run(arguments)
    if "torch" in sys.modules:
        raise SystemExit(f"assetmgr {' '.join(arguments)} imported torch")
    raise SystemExit(status)


JOBS = {
    job.__name__: job
    for job in (
        *(convert, convert_unsynced, convert_hashed, convert_torch),
        *(cast_half, cast_half_torch, hash_all, sha256, sha256_folder, sha256_and_headers),
        *(matrices, quantise, quantise_gguf),
        *(merge_ours, merge_plain, merge_mecha, sum_ours, sum_plain, sum_mecha),
    )
}

if __name__ == "__main__":
    {**JOBS, "without_torch": without_torch}[sys.argv[1]](*sys.argv[2:])
