"""Peak memory of a run: of the device where there is one, else of the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measure what training and test take, from `start` to `read`.

    On CUDA the peak of what PyTorch allocated (``kind`` cuda). On the CPU the growth of the
    resident set over what it was at the start (``kind`` rss), where Linux tells it; elsewhere
    nothing. What the first batch makes libraries load is in it.
    """

    def __init__(self) -> None:
        self._device: torch.device | None = None
        self._before: float | None = None

    def start(self, device: torch.device) -> None:
        """Begin anew."""
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            RESET.write_text("5")  # proc(5): resets the peak of the resident set
            self._before = resident("VmRSS")
        except OSError:
            self._before = None

    def read(self) -> dict[str, Any] | None:
        """Return ``{"peak_mb": MiB, "kind": "cuda" | "rss"}``; None where it cannot be told."""
        if self._device is not None and self._device.type == "cuda":
            return {
                "peak_mb": torch.cuda.max_memory_allocated(self._device) / 2**20,
                "kind": "cuda",
            }
        if self._before is None:
            return None
        return {"peak_mb": max(0.0, resident("VmHWM") - self._before), "kind": "rss"}


def resident(key: str) -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (the peak) of this process in MiB."""
    for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"{STATUS} does not tell {key}")
