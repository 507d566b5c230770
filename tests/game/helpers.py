"""Synthetic predictions for the tests of the game; run as a script it is one rank of many."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from mmeq.game import CoalitionGame, GameReport

NAMES = ("a", "b", "c")
CLASSES = 4
FREQUENCIES = torch.tensor([0.4, 0.3, 0.2, 0.1])


def synthetic(samples: int = 90, modalities: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Logits [S, N, C] in which each modality adds its own evidence, and labels [N]."""
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.randint(CLASSES, (samples,), generator=generator)
    signal_NC = torch.nn.functional.one_hot(label_N, CLASSES).float()
    noise = torch.randn(modalities, samples, CLASSES, generator=generator)
    evidence = [signal_NC * (m + 1) * 0.6 + noise[m] for m in range(modalities)]
    logits = []
    for row in range(1, 2**modalities):
        logits.append(sum(evidence[m] for m in range(modalities) if row >> m & 1))
    return torch.stack(logits), label_N


def tensors(report: GameReport) -> dict[str, Tensor]:
    """Every number of a report as tensors, to compare bit for bit."""
    found = {}
    for field in fields(report):
        entry = getattr(report, field.name)
        parts = entry if isinstance(entry, dict) else {"": entry}
        for key, part in parts.items():
            if isinstance(part, float | int | Tensor):
                found[field.name + key] = torch.as_tensor(part)
    return found


def play(value: str, parts: list[Tensor]) -> GameReport:
    """Play the game over the samples of the given parts, one update each."""
    logits, label = synthetic()
    metric = CoalitionGame(NAMES, FREQUENCIES, value=value, draws=60)
    for index in parts:
        metric.update(logits[:, index], label[index], index)
    return metric.compute()


EVERYTHING = torch.arange(90)
LAYOUTS = {
    # Which parts each of two ranks sees: uneven, with sample 17 on both; all on one.
    "uneven": [[EVERYTHING[:5], EVERYTHING[17:60]], [EVERYTHING[5:18], EVERYTHING[60:]]],
    "empty": [[EVERYTHING.flip(0)], []],
}


if __name__ == "__main__":
    rank, store = int(sys.argv[1]), sys.argv[2]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    for layout, parts in LAYOUTS.items():
        for value in ("accuracy", "nll"):
            report = play(value, parts[rank])
            torch.save(tensors(report), Path(f"{store}.{layout}.{value}.{rank}"))
    torch.distributed.destroy_process_group()
