"""torch without the parts that merging never uses, and with them when somebody asks."""

from __future__ import annotations

import subprocess
import sys

_JOB = """
import sys
from converters.devices import computing_on, own_process
own_process()
with computing_on("cpu"):
    import torch
    assert (torch.ones(2, 3) @ torch.ones(3, 2)).half().sum() == 12
    torch.linalg.svd(torch.eye(3))
assert not {"torch.export", "torch._meta_registrations"} & sys.modules.keys()

class Twice(torch.nn.Module):
    def forward(self, x):
        return 2 * x

exported = torch.export.export(Twice(), (torch.ones(2),))
assert torch.equal(exported.module()(torch.ones(2)), torch.full((2,), 2.0))
"""


def test_what_was_left_out_of_torch_is_imported_when_it_is_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _JOB], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
