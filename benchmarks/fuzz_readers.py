"""Mutate model files and read them: only errors of ours may appear, and nothing may run.

    python -m benchmarks.fuzz_readers [COUNT] [SEED]

COUNT files (100,000 if not given) are made from benign, hostile and odd ones by changing, cutting,
repeating and inserting bytes. Each is opened, every tensor read. Reported are the outcomes and the
slowest file. Exit status 1 when a foreign exception appeared, a tensor had
the wrong length, or the command in the hostile files ran.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save

from converters.bytesource import MemoryBytes
from converters.containers import open_model
from converters.errors import FileProblem

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.pickles import hostile_bodies, pickled, torch_zip

MAX_READ = 64 << 20


def seeds(command: str) -> list[tuple[str, bytes]]:
    """Name and content of the files that are mutated."""
    weights = {"a": torch.ones(3), "b": torch.arange(6.0).reshape(2, 3).t(), "c": torch.ones(0)}
    checkpoint = {"state_dict": weights, "epoch": 3, "optimizer_states": [weights]}
    found = [("x.safetensors", save({"a": torch.ones(3), "b": torch.ones(2)}, {"format": "pt"}))]
    for legacy in (False, True):
        target = io.BytesIO()
        torch.save(checkpoint, target, _use_new_zipfile_serialization=not legacy)
        found += [("x.ckpt", target.getvalue())] * 40
    for body in hostile_bodies(command).values():
        found += [("x.pt", torch_zip(pickled(body))), ("x.pkl", pickled(body))]
    return found


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to four changes of the content."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.random()
        if kind < 0.6 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind < 0.7:
            del data[at:]
        elif kind < 0.85:
            end = min(len(data), at + chance.randint(1, 40))
            data[at:at] = data[at:end] * chance.randint(1, 30)
        else:
            data[at:at] = chance.randbytes(chance.randint(1, 9))
    return bytes(data)


def outcome(name: str, content: bytes) -> str:
    """How reading ended; a foreign exception passes through."""
    try:
        model = open_model(MemoryBytes(content, name))
        for tensor in model.state_dict.values():
            if tensor.nbytes <= MAX_READ and len(bytes(tensor.read())) != tensor.nbytes:
                return "WRONG LENGTH"
    except FileProblem as error:
        return error.code
    return f"read, {model.safety.verdict}"


def main(arguments: list[str]) -> int:
    """Run and report."""
    count = int(arguments[0]) if arguments else 100_000
    chance = random.Random(int(arguments[1]) if len(arguments) > 1 else 1)
    marker = Path(tempfile.mkdtemp()) / "ran"
    corpus = seeds(f"touch {marker}")
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(count):
        name, content = chance.choice(corpus)
        content = mutated(content, chance)
        begin = time.perf_counter()
        try:
            result = outcome(name, content)
        except Exception as error:  # noqa: BLE001 - this is what the fuzzer looks for
            result = f"FOREIGN {type(error).__name__}: {error}"
            (marker.parent / f"crash-{sum(outcomes.values())}").write_bytes(content)
        slowest = max(slowest, time.perf_counter() - begin)
        outcomes[result] += 1
    for result, times in outcomes.most_common():
        print(f"{times:8d}  {result}")
    print(f"slowest file {slowest:.3f} s")
    bad = marker.exists() or any(result.startswith(("FOREIGN", "WRONG")) for result in outcomes)
    print(f"FAILED, see {marker.parent}" if bad else "nothing foreign, nothing ran")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
