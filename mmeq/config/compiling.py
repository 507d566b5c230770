"""``compile=true``: encoders and fusion by torch.compile."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmeq.module import MultimodalModule


def lacking(accelerator: str) -> str | None:
    """Return what is not there and that compiled code needs; None when nothing is amiss.

    Args:
        accelerator: as of ``trainer.accelerator``.
    """
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        if find_spec("triton") is None:
            return "compile=true: the package triton is not installed, which CUDA needs for it"
        return None
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        return (
            f"compile=true: there is no C++ compiler {name!r}, which the CPU needs for it: install "
            "it, name another by the environment variable CXX, or leave compile=false"
        )
    return None


def compile_parts(module: MultimodalModule) -> None:
    """Let encoders and fusion be compiled when they first run; names of parameters stay.

    What a method adds, its heads and losses, is not compiled.
    """
    for encoder in module.encoders.values():
        encoder.compile()
    module.fusion.compiled = True
