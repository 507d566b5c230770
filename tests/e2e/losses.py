"""What runs of a fixed seed lose, as recorded before the engine was made faster.

Not a test. ``python -m e2e.losses`` (from ``tests``) trains all cases and writes ``losses.json``
anew: only when a change is meant to change what is learnt. `test_losses` trains them again.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from e2e.equal import ALIGNED, BASE, BATCH, CASES, MEMORY, STEP, composed, fitted

from mmeq.config.build import quieten
from mmeq.module import MultimodalModule

RECORD = Path(__file__).with_name("losses.json")
GAPS = ["missing={m0:0.5,m1:0.3,m2:0.3}"]
ADAMW = ["optim.optimizer._target_=torch.optim.AdamW", "optim.optimizer.lr=0.01"]
MANY = ["dataset.sources=5", "dataset.snr=[4,3,2,2,1]", "dataset.shared=0.9", "dataset.unique=0.9"]
EMOJI = (
    *("dataset=emoji", "trainer.accelerator=cpu", "trainer.max_epochs=2", "seed=1"),
    *("trainer.limit_train_batches=3", "trainer.limit_val_batches=2", "batch_size=16"),
    *("optim=sgd", "optim.optimizer.lr=0.02"),
)
OTHERS: dict[str, list[str]] = {
    "adamw": [*MEMORY, *ADAMW],
    "adamw, clipped, accumulated": [*MEMORY, *ADAMW, "optim.clip_norm=0.5", "optim.accumulate=2"],
    "joint, adamw": ["method=joint", *ADAMW],
    "shapley, gaps": ["fusion=concat", "method.weight=1", *GAPS],
    "gaps": [*MEMORY, *GAPS],
    "gaps, joint, concat": ["method=joint", "fusion=concat", *GAPS],
    "gaps, adamw, refresh": [*MEMORY, "method.refresh=true", *GAPS, *ADAMW],
    "concat": [*STEP, "fusion=concat"],
    "lstm": [*MEMORY, "fusion.cell=lstm", "fusion.align=none", "fusion.keep=false"],
    "default": [],
    "memory alone": [*MEMORY, "fusion.readout=memory", "fusion.inherit=true"],
    "five, one order": [*MEMORY, *MANY],
    "five, cyclic, joint": ["method=joint", *ALIGNED, *MANY, "inference=cyclic"],
    "five, sampled": [*MEMORY, *MANY, "inference=sampled"],
}
MEDIA: dict[str, list[str]] = {"emoji": MEMORY, "emoji, gaps": [*MEMORY, "missing={image:0.5}"]}


def cases() -> dict[str, dict]:
    """Name → configuration."""
    vectors = composed({**CASES, **OTHERS}, (*BASE, f"batch_size={BATCH}"))
    return vectors | composed(MEDIA, EMOJI)


def losses(tree: dict, change: Callable[[MultimodalModule], None] | None = None) -> list[dict]:
    """Of each epoch: every loss of the training, and accuracy, nll and EDM of the validation."""
    with tempfile.TemporaryDirectory() as folder:
        _, _, keep = fitted(tree, Path(folder), change)
    told = ("losses", "edm", "order")
    return [
        {
            **{key: epoch[key] for key in told},
            "nll": epoch["metrics"]["nll"],
            "accuracy": epoch["accuracy"],
        }
        for epoch in keep.epochs
    ]


def main() -> None:
    """Write the record."""
    quieten()
    torch.set_num_threads(1)
    found = {name: losses(tree) for name, tree in cases().items()}
    RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
