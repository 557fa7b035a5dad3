"""The committed weights of the family, and the whole token table from the rows that are kept.

The captions use 49 of CLIP's 49,408 tokens; storing the others would make the family four times as
large. They get seeded random rows of the same deviation when the checkpoint is expanded.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

from converters.bytesource import MemoryBytes
from converters.containers import open_model
from converters.dtypes import DType
from converters.statedict import Buffer, LazyTensor, StateDict
from converters.writers.atomic import write_whole
from converters.writers.safetensors import write_safetensors

FAMILY = Path(__file__).parent / "family"
"""Folder of the weights: checkpoint, lora, embedding, hypernetwork, vae; gzipped safetensors."""

TOKEN_IDS = "assetmgr.token_ids"  # noqa: S105 - the name of a tensor
"""The ids of the kept rows, in the order of the rows."""

TOKEN_TABLE = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"  # noqa: S105
VOCABULARY = 49_408
RETRAINED = ("decoder.up.0.", "decoder.norm_out.", "decoder.conv_out.")
"""What the second VAE does not share with the checkpoint's: the last level of the decoder."""

_VAE = "first_stage_model."
_SEED = 1


def member(name: str) -> StateDict:
    """One of the files as it is stored."""
    packed = (FAMILY / f"{name}.safetensors.gz").read_bytes()
    return open_model(MemoryBytes(gzip.decompress(packed), f"{name}.safetensors")).state_dict


def keep(name: str, state: StateDict) -> int:
    """Store one of the files; gives its size in bytes. The same tensors give the same file."""
    target = FAMILY / f"{name}.safetensors"
    write_safetensors(state, target, overwrite=True, with_hashes=False)
    packed = gzip.compress(target.read_bytes(), 9, mtime=0)
    write_whole(target.with_name(f"{target.name}.gz"), packed, overwrite=True)
    target.unlink()
    return len(packed)


def second_vae() -> StateDict:
    """The second VAE: that of the checkpoint with its retrained tensors."""
    own = member("checkpoint").select(lambda name: name.startswith(_VAE))
    retrained = member("vae")
    whole = own.rename(lambda name: name.removeprefix(_VAE)).overlay(retrained)
    return whole.with_metadata(retrained.metadata)


def checkpoint() -> StateDict:
    """The checkpoint as any program takes it, with a whole token table."""
    kept = member("checkpoint")
    rows, ids = kept[TOKEN_TABLE], kept[TOKEN_IDS]
    shape = (VOCABULARY, rows.shape[1])
    table = LazyTensor(
        DType.F16, shape, functools.partial(_expanded, rows, ids), rows.origin, rows.sources
    )
    return kept.drop({TOKEN_IDS}).overlay({TOKEN_TABLE: table})


def _expanded(rows: LazyTensor, ids: LazyTensor) -> Buffer:
    import numpy as np

    kept = np.frombuffer(rows.read(), np.float16).reshape(rows.shape)
    numbers = np.frombuffer(ids.read(), np.int64)
    table = np.random.default_rng(_SEED).standard_normal((VOCABULARY, rows.shape[1]), np.float32)
    table *= kept.astype(np.float32).std()
    whole = table.astype(np.float16)
    whole[numbers] = kept
    return whole.tobytes()
