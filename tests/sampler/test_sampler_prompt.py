"""Prompts become chunks of tokens, and chunks become conditioning."""

from typing import Any

import pytest
import torch
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.sampler.adapters.embeddings import NamedVectors
from assetmgr.sampler.models.families import END, Encoding
from assetmgr.sampler.prompts.prompt import CHUNK, START, Chunk, encode, encode_pair, tokenize
from converters.errors import BadValue


def letters(text: str) -> list[int]:
    """A tokenizer of one token a letter."""
    return [ord(c) for c in text if c.isalpha()]


def vectors(name: str, count: int) -> NamedVectors:
    return NamedVectors(name, {8: torch.arange(count * 8.0).reshape(count, 8)})


def test_an_empty_prompt_is_one_empty_chunk() -> None:
    assert tokenize("", letters) == ((),)


@given(st.integers(0, 400))
def test_a_long_prompt_fills_chunks_of_75(count: int) -> None:
    sizes = [len(chunk) for chunk in tokenize("a" * count, letters)]
    assert sum(sizes) == count
    assert all(size == CHUNK for size in sizes[:-1])


def test_an_embedding_takes_as_many_positions_as_it_has_vectors() -> None:
    ((first, *middle, last),) = tokenize("a Glow b", letters, [vectors("glow", 3)])
    assert (first.id, last.id) == (ord("a"), ord("b"))
    rows = [token.row.inputs[8] for token in middle if token.row is not None]
    assert torch.equal(torch.stack(rows), vectors("glow", 3).vectors[8])


def test_an_embedding_answers_only_to_its_whole_name() -> None:
    chunks = tokenize("glowing aglow", letters, [vectors("glow", 1)])
    assert all(token.row is None for token in chunks[0])


def test_names_with_signs_and_emphasis_are_found() -> None:
    ((token,),) = tokenize("(<glow-1>:1.5)", letters, [vectors("<glow-1>", 1)])
    assert token.row is not None
    assert token.weight == 1.5


def test_an_embedding_is_never_split_between_chunks() -> None:
    chunks = tokenize("a" * 73 + " glow b", letters, [vectors("glow", 4)])
    assert [len(chunk) for chunk in chunks] == [73, 5]


def test_an_embedding_longer_than_a_chunk_goes_over_its_end() -> None:
    chunks = tokenize("glow", letters, [vectors("glow", 80)])
    assert [len(chunk) for chunk in chunks] == [75, 5]


class Spy(torch.nn.Module):
    """A text encoder that gives its token embeddings back and keeps the ids it saw."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = torch.nn.Module()
        self.embeddings.token_embedding = torch.nn.Embedding(49408, 8)
        self.ids = torch.empty(0)

    def forward(self, ids: torch.Tensor, *, output_hidden_states: bool) -> object:
        assert not output_hidden_states
        self.ids = ids

        class Output:
            last_hidden_state = self.embeddings.token_embedding(ids)

        return Output


LAST = Encoding("text_encoder", END)


def _hidden(spy: Spy, chunks: tuple[Chunk, ...]) -> torch.Tensor:
    return encode([(spy, LAST)], chunks).hidden


def test_a_chunk_stands_between_start_and_end_and_is_padded_with_end() -> None:
    spy = Spy()
    _hidden(spy, tokenize("ab", letters))
    assert spy.ids[0].tolist() == [49406, ord("a"), ord("b"), *[49407] * 74]


def test_both_conditionings_have_the_length_of_the_longer_prompt() -> None:
    short, long = tokenize("a", letters), tokenize("a" * 160, letters)
    for pair in ((short, long), (long, short)):
        shapes = {tuple(each.hidden.shape) for each in encode_pair([(Spy(), LAST)], *pair)}
        assert shapes == {(1, 3 * 77, 8)}


def test_vectors_replace_token_embeddings_only_where_the_prompt_names_them() -> None:
    spy, glow = Spy(), vectors("glow", 2)
    with_it = _hidden(spy, tokenize("a glow", letters, [glow]))
    without = _hidden(spy, tokenize("a", letters, [glow]))
    assert torch.equal(with_it[0, 2:4], glow.vectors[8])
    assert torch.equal(with_it[0, :2], without[0, :2])
    assert torch.equal(without, _hidden(spy, tokenize("a", letters))), "nothing stays behind"


@examples(20)
@given(st.floats(0.5, 2))
def test_emphasis_scales_a_token_against_the_others_and_keeps_the_mean(weight: float) -> None:
    spy = Spy()
    plain = _hidden(spy, tokenize("ab", letters))
    strong = _hidden(spy, tokenize(f"(a:{weight})b", letters))
    assert torch.allclose(plain.mean(), strong.mean(), atol=1e-4)
    ratio = (strong[0, 1] / plain[0, 1]) / (strong[0, 2] / plain[0, 2])
    assert torch.allclose(ratio, torch.full_like(ratio, weight), rtol=1e-3)


def test_each_chunk_keeps_its_own_mean() -> None:
    spy, long = Spy(), "b" * 75 + "c"
    plain = _hidden(spy, tokenize(f"a{long}", letters))
    strong = _hidden(spy, tokenize(f"(a:2){long}", letters))
    first, second = slice(0, 77), slice(77, 154)
    assert torch.equal(plain[:, second], strong[:, second]), "nothing in it has a weight"
    assert torch.allclose(plain[:, first].mean(), strong[:, first].mean(), atol=1e-4)


def test_the_summary_of_a_long_prompt_is_that_of_its_first_chunk() -> None:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    torch.manual_seed(1)
    network = CLIPTextModelWithProjection(CLIPTextConfig(num_hidden_layers=1, **sizes)).eval()
    use = Encoding("sdxl", 0, norm=False, pooled=True)
    long, short = (tokenize("a" * count, letters) for count in (80, 75))
    pooled = encode([(network, use)], long).pooled
    expected = encode([(network, use)], short).pooled
    assert pooled is not None
    assert expected is not None
    assert pooled.shape == (1, 512)
    assert torch.allclose(pooled, expected, atol=1e-6)


def clip(layers: int = 4) -> Any:
    """A small CLIP text encoder."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(num_hidden_layers=layers, **sizes)).eval()


@pytest.mark.parametrize(
    ("use", "taken"),
    [
        (Encoding("sd1", END), {1: -1, 2: -2, 3: -3, 4: -4}),
        (Encoding("sd2", 0, least_skip=2, cut=1), {1: -1, 2: -1, 3: -2, 4: -3}),
        (Encoding("sdxl", END, least_skip=2, norm=False), {1: -2, 2: -2, 3: -3, 4: -4}),
    ],
    ids=lambda value: value.component if isinstance(value, Encoding) else "",
)
def test_clip_skip_counts_layers_from_the_end_and_never_comes_behind_the_usual_one(
    use: Encoding, taken: dict[int, int]
) -> None:
    network = clip()
    chunks = tokenize("a b", letters)
    for skip, layer in taken.items():
        ids = torch.tensor([[START, 97, 98, END, *[use.padding] * 73]])
        with torch.inference_mode():
            states = network(ids, output_hidden_states=True).hidden_states
            expected = network.final_layer_norm(states[layer]) if use.norm else states[layer]
        ours = encode([(network, use)], chunks, clip_skip=skip).hidden
        assert torch.allclose(ours, expected, atol=1e-6), skip


def test_clip_skip_beyond_the_first_layer_is_refused() -> None:
    with pytest.raises(BadValue, match="clip skip 9 leaves nothing of 4 layers"):
        encode([(clip(), Encoding("sd1", END))], ((),), clip_skip=9)
