"""Where and with what a run was made: the content of ``environment.json``."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Trainer

import mmeq


def git_commit(folder: str | Path) -> str | None:
    """Return the commit that ``folder`` is tracked at, ``+dirty`` when files changed, else None."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None  # no git, no repository or no commit yet
        return done.stdout.strip()

    commit = git("log", "-1", "--format=%H", "--", ".")
    if not commit:
        return None
    return commit + ("+dirty" if git("status", "--porcelain", "--", ".") else "")


def environment(trainer: Trainer) -> dict[str, Any]:
    """Return versions, platform, commit, device and threads as plain types."""
    device = trainer.strategy.root_device
    return {
        "mmeq": mmeq.__version__,
        "commit": git_commit(Path(mmeq.__file__).parent),
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "lightning": str(lightning.__version__),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "devices": trainer.world_size,
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
    }
