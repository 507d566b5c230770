"""A gauge of the memory that a step takes above what was taken before it."""

from __future__ import annotations

import ctypes
import gc
import math
from collections.abc import Callable
from typing import Any

import torch

from mmeq.callbacks.memory import PeakMemory

M_MMAP_THRESHOLD = -3
"""Of mallopt(3)."""


def give_back(at_once: bool) -> None:
    """Let glibc give back to the system what is freed, so that what is resident is in use, or not.

    By itself it keeps pieces below 32 MiB, of which one process then has many and another few. To
    be called before there are any. It slows a step by a few percent, most where tensors are large.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**16 if at_once else 2**25)


def trim() -> None:
    """Let glibc give back what is free now, or what is used anew would not show as growth."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


class Gauge:
    """MiB: on CUDA what PyTorch has allocated, else growth of the process's resident set."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak, self.before = device, PeakMemory(), 0.0

    def start(self) -> None:
        """Begin."""
        gc.collect()
        trim()
        if self.device.type == "cuda":
            self.before = torch.cuda.memory_allocated(self.device) / 2**20
        self.peak.start(self.device)

    def read(self) -> float:
        """The most since then; NaN where the system does not tell."""
        found = self.peak.read()
        return float("nan") if found is None else found["peak_mb"] - self.before


def peak(run: Callable[[], Any]) -> dict[str, float]:
    """``{"peak_mb": MiB}`` that one more run takes above what is there; {} if that is not told."""
    gauge = Gauge(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    gauge.start()
    run()
    found = gauge.read()
    return {} if math.isnan(found) else {"peak_mb": found}
