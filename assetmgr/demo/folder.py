"""The family as people really have it: a messy folder in the layout of A1111.

Copies under other names, pickles of several trainers, a broken download, a web page saved as a
model, and a pickle that would run a command if any program unpickled it. Ours never does.
"""

from __future__ import annotations

import hashlib
import io
import sys
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.demo import CONCEPT
from assetmgr.demo.family import FAMILY, checkpoint, member, second_vae
from converters.errors import TargetExists
from converters.extras import file_extras
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.writers.atomic import write_whole
from converters.writers.safetensors import write_safetensors

if TYPE_CHECKING:
    import torch

_STAMP = ".assetmgr-demo"

CHECKPOINT = Path("models/Stable-diffusion/shapes.safetensors")
TRAINING = Path("models/Stable-diffusion/shapes-training.ckpt")
LORA = Path("models/Lora/outlined.safetensors")
LORA_COPY = Path("models/Lora/from a friend/outlined_v2_FINAL.safetensors")
EMBEDDING = Path(f"embeddings/{CONCEPT}.pt")
LEARNED = Path("embeddings/learned_embeds.bin")
HYPERNETWORK = Path("models/hypernetworks/blue-shapes.pt")
VAE = Path("models/VAE/warm.safetensors")
PICKLED_VAE = Path("models/VAE/warm.vae.pt")
BROKEN = Path("models/Lora/interrupted-download.safetensors")
WEB_PAGE = Path("models/Lora/login-required.safetensors")
HOSTILE = Path("models/Stable-diffusion/totally-free-model.ckpt")
MARKER = Path("EXECUTED-BY-A-PICKLE")
"""What the hostile pickle would create."""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The folder, and the files that were made in it (relative to it)."""

    path: Path
    files: tuple[Path, ...]

    @property
    def was_executed(self) -> bool:
        """Whether anything ever ran the hostile pickle."""
        return (self.path / MARKER).exists()


def build_demo_folder(path: Path, progress: Progress = SILENT) -> DemoFolder:
    """Make the folder, or what it lacks; all of it where it is not of this version.

    Raises WriteProblem, TargetExists for a folder that holds anything else.
    """
    makers = _makers()
    folder = DemoFolder(path, tuple(makers))
    stamp, wanted = path / _STAMP, _family_hash()
    is_ours = stamp.exists() and stamp.read_text("ascii") == wanted
    lacking = [place for place in makers if not is_ours or not (path / place).exists()]
    if not lacking:
        return folder
    if not stamp.exists():
        _refuse_others(path)
        write_whole(stamp, b"")  # first, so that an interrupted demo goes on
    progress.stage("making the demo folder", len(lacking), "files")
    for place in lacking:
        target = path / place
        target.parent.mkdir(parents=True, exist_ok=True)
        makers[place](target)
        progress.advance()
    write_whole(stamp, wanted.encode("ascii"), overwrite=True)
    return folder


def _refuse_others(path: Path) -> None:
    """Among somebody's own models nothing is replaced, and no hostile pickle is put."""
    if path.is_dir() and any(path.iterdir()):
        hint = "name an empty folder, or one that is not there"
        raise TargetExists("holds other things than the demo's", path=path, hint=hint)


def _family_hash() -> str:
    """Changes with the weights and with this module, so that an old folder is made anew."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(FAMILY.glob("*.safetensors.gz")):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _makers() -> Mapping[Path, Callable[[Path], None]]:
    """Place -> what makes the file there."""
    return {
        CHECKPOINT: lambda target: _write(checkpoint(), target),
        TRAINING: _write_training_checkpoint,
        LORA: _write_lora,
        LORA_COPY: _write_lora,
        EMBEDDING: _write_a1111_embedding,
        LEARNED: _write_learned_embedding,
        HYPERNETWORK: _write_hypernetwork,
        VAE: lambda target: _write(second_vae(), target),
        PICKLED_VAE: _write_pickled_vae,
        BROKEN: _write_broken_download,
        WEB_PAGE: _write_web_page,
        HOSTILE: _write_hostile_pickle,
    }


def _write(state: StateDict, target: Path) -> None:
    write_safetensors(state, target, overwrite=True, with_hashes=False)


def _write_lora(target: Path) -> None:
    _write(member("lora"), target)


def _tensors(state: StateDict) -> dict[str, torch.Tensor]:
    from converters.compute import value

    return {name: value(tensor) for name, tensor in state.items()}


def _save(document: object, target: Path) -> None:
    """A torch zip pickle, as trainers write it."""
    import torch

    memory = io.BytesIO()
    torch.save(document, memory)
    write_whole(target, memory.getvalue(), overwrite=True)


def _write_training_checkpoint(target: Path) -> None:
    """What a trainer leaves: float32 weights of the last step, averages, callbacks, optimizer.

    The family's weights are the averages; the last step is a little off, as it is in training.
    """
    import numpy as np
    import torch

    averages = {name: tensor.float() for name, tensor in _tensors(checkpoint()).items()}
    generator = torch.Generator().manual_seed(5)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in averages.items():
        state[name] = tensor
        if name.startswith("model.diffusion_model."):
            noise = torch.randn(tensor.shape, generator=generator)
            state[name] = tensor + noise * tensor.abs().mean() * 0.02
            state["model_ema." + name.removeprefix("model.").replace(".", "")] = tensor
    state["model_ema.decay"] = torch.tensor(0.9999)
    state["model_ema.num_updates"] = torch.tensor(1700, dtype=torch.int32)
    state["betas"] = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    with _lightning() as model_checkpoint:
        document = {
            "epoch": 3,
            "global_step": 1700,
            "pytorch-lightning_version": "1.4.2",
            "state_dict": state,
            "callbacks": {model_checkpoint: {"best_model_score": np.float32(0.05)}},
            "optimizer_states": [{"state": {0: {"step": 1700, "exp_avg": torch.zeros(8)}}}],
            "lr_schedulers": [{"base_lrs": [0.0012]}],
        }
        _save(document, target)


@contextmanager
def _lightning() -> Iterator[type]:
    """A class that pickles as pytorch_lightning's callback, without that package."""
    place = "pytorch_lightning.callbacks.model_checkpoint"
    made = type("ModelCheckpoint", (), {"__module__": place})
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", place]
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[place].ModelCheckpoint = made  # type: ignore[attr-defined]
    try:
        yield made
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _write_a1111_embedding(target: Path) -> None:
    vectors = _tensors(member("embedding"))["emb_params"].float()
    document = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": vectors},
        "name": CONCEPT,
        "step": 200,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }
    _save(document, target)


def _write_learned_embedding(target: Path) -> None:
    _save({f"<{CONCEPT}>": _tensors(member("embedding"))["emb_params"]}, target)


def _write_hypernetwork(target: Path) -> None:
    state = member("hypernetwork")
    halves: list[dict[str, torch.Tensor]] = [{}, {}]
    for name, tensor in _tensors(state).items():
        _, half, inner = name.split(".", 2)
        halves[int(half)][inner] = tensor.float()
    document: dict[object, object] = dict(file_extras(state).items())
    document[768] = tuple(halves)
    _save(document, target)


def _write_pickled_vae(target: Path) -> None:
    state = {name: tensor.float() for name, tensor in _tensors(second_vae()).items()}
    _save({"state_dict": state, "global_step": 150}, target)


def _write_broken_download(target: Path) -> None:
    _write_lora(target)
    with target.open("r+b") as file:
        file.truncate(target.stat().st_size * 2 // 3)


def _write_web_page(target: Path) -> None:
    page = "<!DOCTYPE html>\n<html><head><title>Log in</title></head><body>Log in</body></html>\n"
    write_whole(target, page.encode("ascii"), overwrite=True)


def _write_hostile_pickle(target: Path) -> None:
    """GLOBAL os.system, its argument, REDUCE: unpickling this file would create the marker."""
    command = f"echo pwned > '{(target.parents[2] / MARKER).absolute()}'"
    payload = b"\x80\x02cos\nsystem\n" + _text(command) + b"\x85R."
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
    write_whole(target, memory.getvalue(), overwrite=True)


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8")
    return b"X" + len(encoded).to_bytes(4, "little") + encoded
