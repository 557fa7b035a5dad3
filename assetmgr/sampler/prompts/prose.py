"""T5's encoding of prompts, which SD3 and Flux take beside CLIP's.

Weights of words are left out: T5 was trained without. An embedding's vectors stand where the prompt
names it, and the words before and after become tokens on their own (comfyanonymous/ComfyUI
`comfy/sd1_clip.py`); what has no vectors for T5 is not said to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from assetmgr.sampler.adapters.embeddings import NamedVectors, pieces
from assetmgr.sampler.prompts.emphasis import parse_emphasis
from assetmgr.sampler.prompts.prompt import PLACEHOLDER, Chunk, Token, with_inputs, with_outputs
from assetmgr.sampler.prompts.t5_tokenizer import PAD, T5Tokenizer
from assetmgr.sampler.verdicts.finiteness import checked

STAGE = "the text encoding of the prompt by T5"


def prose(
    network: Any,
    text: str,
    of_t5: T5Tokenizer,
    count: int,
    embeddings: Sequence[NamedVectors] = (),
) -> torch.Tensor:
    """The encoding `(1, count, d)` of a prompt by a T5 encoder; the end of a long one is cut.

    Raises NotFinite.
    """
    table = network.get_input_embeddings()
    rows = [_tokens(text, of_t5, count, table.embedding_dim, embeddings)]
    ids = torch.tensor([[token.id for token in row] for row in rows], device=table.weight.device)

    def call() -> torch.Tensor:
        encoded: torch.Tensor = network(inputs_embeds=with_inputs(table(ids), rows))[0]
        return encoded

    return with_outputs(checked(network, call, STAGE), rows)


def _tokens(
    text: str, of_t5: T5Tokenizer, count: int, width: int, embeddings: Sequence[NamedVectors]
) -> Chunk:
    """So many tokens: the text's, the end mark, and padding, which the families attend to."""
    told: list[Token] = []
    for piece in pieces("".join(span.text for span in parse_emphasis(text)), embeddings):
        if isinstance(piece, NamedVectors):
            told += [Token(PLACEHOLDER, 1.0, row) for row in piece.rows()]
        else:
            told += [Token(number, 1.0) for number in of_t5.ids(piece)]
    end = [Token(number, 1.0) for number in of_t5.end]
    heard = [token for token in told if token.is_for(width)][: count - len(end)] + end
    return (*heard, *(Token(PAD, 1.0),) * (count - len(heard)))
