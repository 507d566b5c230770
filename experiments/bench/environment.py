"""What figures depend on: versions, processor, threads, device, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
CPUINFO = Path("/proc/cpuinfo")


def environment() -> dict[str, Any]:
    """Return what there is now, as plain types; None for what cannot be told."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("lightning"),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "commit": commit(),
    }


def version(package: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str | None:
    """Model name of the processor, where the system tells it."""
    if CPUINFO.is_file():
        for row in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = row.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or None


def commit() -> str | None:
    """Commit of this tree, ``-dirty`` if files differ from it; None outside a repository."""
    order = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(order, cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
