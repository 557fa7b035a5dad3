"""Where a render runs and in which precision; the worker's view of memory.

Half precision is used only on CUDA: CPUs compute fp16 slowly, and Apple's backend has returned
non-finite values in it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from converters.errors import BadValue, NotAvailable

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `mps`.

    Raises NotAvailable for one this machine lacks, BadValue for an unknown word.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if name not in available:
        raise BadValue(f"unknown device {name!r}", hint="known devices: auto, cpu, cuda, mps")
    if not available[name]:
        raise NotAvailable(f"this machine has no {name} device", hint="use --device auto")
    return torch.device(name)


def choose_precision(name: str, device: torch.device, half: str) -> torch.dtype:
    """The type of the networks' weights; `auto` is fp32, but `half` on CUDA.

    Devices before Ampere compute bf16 by way of fp32 at best: there it is fp16.
    """
    if name == "auto":
        name = half if device.type == "cuda" else "fp32"
        if name == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            name = "fp16"
    if name not in PRECISIONS:
        raise BadValue(f"unknown dtype {name!r}", hint="known: auto, " + ", ".join(PRECISIONS))
    return PRECISIONS[name]


def round_convolutions(name: str) -> None:
    """Have CUDA convolve in fp32 where that is asked for by `name`.

    By itself it takes 10 bits of each value (TF32), enough where fp32 stands in for a type that is
    too narrow, but not where pictures are compared with those of a CPU.
    """
    torch.backends.cudnn.allow_tf32 = name != "fp32"


def precision_name(dtype: torch.dtype) -> str:
    """The word for a weight type, as `choose_precision` takes it."""
    return next(name for name, known in PRECISIONS.items() if known is dtype)


_RESET_PEAK = "5"
"""Written to `/proc/self/clear_refs`, sets `VmHWM` to what is resident (Linux, proc(5))."""


def start_measuring(device: torch.device) -> None:
    """Forget the memory peak of earlier jobs, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak since `start_measuring`: of the accelerator, else of this process.

    Apple's allocator keeps no peak, but neither does it give back what it has taken.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return process_peak()


def process_peak() -> int | None:
    """Peak resident bytes of this process, or None where the system does not tell.

    Linux: `VmHWM` (getrusage would report the parent's peak across exec). macOS: getrusage, in
    bytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        peak = next((line for line in lines if line.startswith("VmHWM:")), None)
        return None if peak is None else int(peak.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
