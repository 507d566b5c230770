"""A tiny real model on vectors that no file is needed for: what tests of the loop train."""

from __future__ import annotations

from functools import partial
from inspect import signature

import lightning
import torch
from torch import nn

from mmeq.data.spec import DatasetSpec, Modality
from mmeq.encoders.vector import VectorEncoder
from mmeq.fusions.memory import Memory
from mmeq.methods.shapley import Shapley
from mmeq.module import MultimodalModule

DIM, CLASSES, WIDTH = 8, 3, 5
SGD = partial(torch.optim.SGD, lr=0.1)


def toy_spec(modalities=3, complete=True):
    names = "abcdefghijklmnopqrst"[:modalities]
    return DatasetSpec(
        "toy",
        "random",
        tuple("xyz"),
        tuple(Modality(name, "vector", (WIDTH,)) for name in names),
        complete,
    )


def toy_batches(spec, batch=16, count=4, seed=0):
    """Labels depend on all modalities; modality k is seen through more and more noise."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(
        len(spec.modalities), CLASSES, WIDTH, generator=torch.Generator().manual_seed(9)
    )
    out = []
    for number in range(count):
        label = torch.randint(CLASSES, (batch,), generator=generator)
        inputs = {
            m.name: centres[k, label] + (0.5 + k) * torch.randn(batch, WIDTH, generator=generator)
            for k, m in enumerate(spec.modalities)
        }
        index = torch.arange(batch) + number * batch
        out.append(
            {
                "inputs": inputs,
                "present": torch.ones(batch, len(spec.modalities), dtype=torch.bool),
                "label": label,
                "index": index,
                "id": [f"s{i}" for i in index.tolist()],
            }
        )
    return out


def toy_module(spec=None, method=Shapley, fusion=Memory, optimizer=SGD, **options):
    spec = spec or toy_spec()
    torch.manual_seed(0)
    dropout, wrap = options.pop("dropout", 0.0), options.pop("wrap", None)
    encoders = nn.ModuleDict(
        {m.name: VectorEncoder(m, DIM, hidden=12, dropout=dropout) for m in spec.modalities}
    )
    if wrap is not None:
        encoders = nn.ModuleDict({name: wrap(encoder) for name, encoder in encoders.items()})
    prior = torch.full((CLASSES,), 1 / CLASSES)
    takes = signature(method).parameters
    sizes = {k: v for k, v in (("dim", DIM), ("classes", CLASSES)) if k in takes}
    made = method(spec.names, **sizes)
    return MultimodalModule(
        spec,
        encoders,
        fusion(len(spec.names), DIM, CLASSES, prior),
        made,
        optimizer,
        prior,
        **options,
    )


class ToyData(lightning.LightningDataModule):
    """Ready batches as a data module, for methods that sweep over a part."""

    def __init__(self, train, validation=None):
        super().__init__()
        self.parts = {"train": train, "validation": validation}

    def loader(self, split, whole=False, share=1.0, draw=(0,)):
        batches = self.parts[split]
        kept = batches[: max(1, round(share * len(batches)))]
        return torch.utils.data.DataLoader(kept, batch_size=None, shuffle=False)

    def train_dataloader(self):
        return self.loader("train")

    def val_dataloader(self):
        return [] if self.parts["validation"] is None else self.loader("validation")


def fit(module, train, validation=None, epochs=1, callbacks=(), **options):
    """Train with a real Trainer over ready batches."""
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, datamodule=ToyData(train, validation))
    return trainer
