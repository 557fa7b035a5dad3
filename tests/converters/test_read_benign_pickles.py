"""Benign files with classes in them: tensors are read, and nothing cries wolf."""

from __future__ import annotations

import argparse
import datetime as dt
import io
import pathlib
from collections import Counter, defaultdict, deque

import numpy as np
import pytest
import torch
from helpers.pickles import foreign_classes

from converters.bytesource import MemoryBytes
from converters.containers import Model, open_model
from converters.pickles.verdict import Verdict


def opened(value: object) -> Model:
    target = io.BytesIO()
    torch.save(value, target)
    return open_model(MemoryBytes(target.getvalue(), "x.ckpt"))


def an_optimizers_state() -> dict[str, object]:
    """Made when it is needed: the first optimizer imports torch's compiler, for a second."""
    return {"o": torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).state_dict()}


def safe(case: str) -> dict[str, object]:
    value = SAFE[case]
    return value() if callable(value) else value


SAFE = {
    "a numpy number": {"best_score": np.float32(0.5), "count": np.int64(3)},
    "a numpy array": {"history": np.arange(4.0), "kind": np.dtype("f4")},
    "a random state": {"numpy": np.random.default_rng(1).bit_generator.state},
    "a namespace": {"args": argparse.Namespace(lr=0.1, layers=[1, 2])},
    "dates and paths": {
        "at": dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
        "to": pathlib.PurePosixPath("a/b"),
    },
    "collections": {"a": Counter("abc"), "b": defaultdict(list, {"x": [1]}), "c": deque([1, 2])},
    "plain values": {
        "a": {1, 2},
        "b": frozenset({3}),
        "c": 1j,
        "d": b"x",
        "e": 2**80,
        "f": slice(1),
    },
    "torch's own values": {"a": torch.Size([1]), "b": torch.device("cpu"), "c": torch.float16},
    "a parameter dict": {"p": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(3))})},
    "a whole module": {"m": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())},
    "an optimizer's state": an_optimizers_state,
    "an exception": {"e": ValueError("x")},
    "lines of words that read like imports": {"labels": "tacos\ntakoyaki\ncat\ndog\nicode\nx\n"},
}


@pytest.mark.parametrize("case", SAFE)
def test_well_known_values_beside_tensors_are_safe(case: str) -> None:
    model = opened({"state_dict": {"w": torch.ones(2)}, **safe(case)})
    assert model.safety.verdict is Verdict.SAFE
    assert model.safety.findings == ()
    assert set(model.state_dict) == {"w"}


@pytest.mark.parametrize("case", SAFE)
def test_well_known_values_among_tensors_do_not_hide_them(case: str) -> None:
    model = opened({"w": torch.ones(2), "more": safe(case)})
    assert model.safety.verdict is Verdict.SAFE
    assert bytes(model.state_dict["w"].read()) == torch.ones(2).numpy().tobytes()


def test_an_embedding_in_a_parameter_dict_is_read() -> None:
    vectors = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(1, 768))})
    model = opened({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": vectors})
    assert set(model.state_dict) == {"string_to_param.*", "string_to_token.*"}
    assert model.safety.verdict is Verdict.SAFE


def test_a_whole_module_gives_its_parameters_and_buffers() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    assert set(opened(module).state_dict) == set(module.state_dict())


def test_a_module_beside_other_entries_is_the_model_with_its_own_names() -> None:
    module = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 3)))
    model = opened({"epoch": 1, "model": module})
    assert set(model.state_dict) == {"0.0.weight", "0.0.bias"}


def test_lightning_callbacks_are_safe() -> None:
    path = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
    with foreign_classes(path) as (callback,):
        state = {"monitor": "val/loss", "best_model_score": np.float32(0.5)}
        model = opened({"state_dict": {"w": torch.ones(2)}, "callbacks": {callback: state}})
    assert model.safety.verdict is Verdict.SAFE
    assert path in model.safety.imports
    assert model.ignored == ("callbacks",)


@pytest.mark.parametrize(
    "path",
    [
        "transformers.training_args.TrainingArguments",
        "mylab.models.encoder.Encoder",
        "__main__.Config",
        "ldm.modules.ema.LitEma",
        "pytorch_lightning.trainer.states.TrainerFn",
        "easydict.EasyDict",
    ],
)
def test_unknown_classes_are_suspicious_and_left_out(path: str) -> None:
    import sys

    before = sys.modules.get("__main__")
    try:
        if path.startswith("__main__."):
            setattr(before, "Config", type("Config", (), {"__module__": "__main__"}))  # noqa: B010
            classes = [before.Config]  # type: ignore[union-attr]
            model = opened({"state_dict": {"w": torch.ones(2)}, "x": classes[0]()})
        else:
            with foreign_classes(path) as (kind,):
                model = opened({"state_dict": {"w": torch.ones(2)}, "x": kind()})
    finally:
        if hasattr(before, "Config"):
            delattr(before, "Config")
    assert model.safety.verdict is Verdict.SUSPICIOUS
    assert path in model.safety.findings[0]
    assert set(model.state_dict) == {"w"}


def test_tensors_inside_an_unknown_object_can_be_read() -> None:
    with foreign_classes("mylab.data.Bag") as (bag,):
        value = bag()
        value.weights = {"w": torch.ones(2)}
        model = opened(value)
    assert set(model.state_dict) == {"weights.w"}
    assert model.safety.verdict is Verdict.SUSPICIOUS


def test_a_module_of_an_unknown_class_gives_its_parameters() -> None:
    with foreign_classes("mylab.nets.Holder") as (holder,):
        value = holder()
        value._parameters = {"w": torch.ones(2)}
        value._modules = {"inner": torch.nn.Linear(1, 1)}
        value._buffers = {}
        model = opened({"epoch": 3, "model": value})
    assert set(model.state_dict) == {"w", "inner.weight", "inner.bias"}
    assert model.state_dict.extras["epoch"] == 3


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_torch_can_write_is_read(protocol: int) -> None:
    target = io.BytesIO()
    torch.save({"w": torch.ones(2), "b": bytearray(b"x")}, target, pickle_protocol=protocol)
    model = open_model(MemoryBytes(target.getvalue(), "x.ckpt"))
    assert set(model.state_dict) == {"w"}
    assert model.safety.verdict is Verdict.SAFE
