"""Every fusion under every method, with few and many modalities, whole and with gaps."""

import math
import time

import lightning
import numpy as np
import pytest
import torch
from e2e.running import SMALL, history, results
from torch import nn

from mmeq.data.columns import SequenceColumn, VectorColumn
from mmeq.data.datamodule import DataModule
from mmeq.data.manifest import Manifest
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.encoders.sequence import SequenceEncoder
from mmeq.encoders.vector import VectorEncoder
from mmeq.fusions.attention import Attention
from mmeq.fusions.concat import Concat
from mmeq.fusions.film import Film
from mmeq.fusions.gated import Gated
from mmeq.fusions.late import Late
from mmeq.fusions.memory import Memory
from mmeq.fusions.sum import Sum
from mmeq.methods.joint import Joint
from mmeq.methods.shapley import Shapley
from mmeq.methods.unimodal import Unimodal
from mmeq.module import MultimodalModule

FUSIONS = {"memory": Memory, "concat": Concat, "sum": Sum, "gated": Gated, "film": Film}
FUSIONS |= {"late": Late, "attention": Attention}
EASY = ("dataset.shared=0.9", "dataset.unique=0.9", "dataset.snr=5", "optim.optimizer.lr=5e-3")


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize("method", ["shapley", "joint"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_losses_fall(fusion, method, sources, warm, tmp_path):
    options = [*SMALL, *EASY, f"fusion={fusion}", f"method={method}", f"dataset.sources={sources}"]
    folder = warm.train(tmp_path / "run", *options, "trainer.max_epochs=2")
    first, second = (line["losses"] for line in history(folder))
    assert sum(second.values()) < sum(first.values())
    assert results(folder)["test"]["samples"] == 48


@pytest.mark.parametrize("fusion", ["memory", "concat"])
def test_bfloat16(fusion, warm, tmp_path):
    options = [*SMALL, *EASY, f"fusion={fusion}", "trainer.precision=bf16-mixed"]
    folder = warm.train(tmp_path / "run", *options, "trainer.max_epochs=2")
    losses = [loss for line in history(folder) for loss in line["losses"].values()]
    assert all(map(math.isfinite, losses))
    done = warm("mmeq.eval", f"run={folder}", "accelerator=cpu", cwd=tmp_path)
    assert "agrees with results.json exactly" in done.stdout, done.stdout + done.stderr


def test_ten_modalities(warm, tmp_path):
    options = [*SMALL, *EASY, "dataset.sources=10", "fusion=memory"]
    start = time.perf_counter()
    folder = warm.train(tmp_path / "run", *options, "trainer.max_epochs=2")
    assert time.perf_counter() - start < 60
    assert len(results(folder)["test"]["values"]) == 2**10
    assert results(folder)["inference"] == "auto"


class Made:
    """A dataset of this test: a sequence and vectors, of which samples may lack some."""

    def __init__(self, present: str, modalities: int = 3, samples: int = 150) -> None:
        self.present, self.samples = present, samples
        self.names = ("steps", "one", "two")[:modalities]

    def load(self) -> Manifest:
        draw = torch.Generator().manual_seed(3)
        labels = torch.arange(self.samples) % 3
        length = torch.randint(3, 9, (self.samples,), generator=draw)
        steps = torch.randn(self.samples, 8, 4, generator=draw)
        steps[..., 0] += 2.0 * labels[:, None]
        columns = {"steps": SequenceColumn(steps, length)}
        for name in self.names[1:]:
            values = torch.randn(self.samples, 5, generator=draw)
            values[torch.arange(self.samples), labels] += 3.0
            columns[name] = VectorColumn(values)
        present = torch.ones(self.samples, len(self.names), dtype=torch.bool)
        if self.present == "one each":  # no sample has two modalities
            present = torch.zeros_like(present)
            column = torch.randint(len(self.names), (self.samples,), generator=draw)
            present[torch.arange(self.samples), column] = True
        elif self.present == "some":
            present = torch.rand(present.shape, generator=draw) < 0.6
            present[~present.any(1), 0] = True
        kinds = (Modality("steps", "sequence", (8, 4)), Modality("one", "vector", (5,)))
        kinds = (*kinds, Modality("two", "vector", (5,)))[: len(self.names)]
        complete = bool(present.all())
        split = ["train", "train", "train", "validation", "test"] * (self.samples // 5)
        return Manifest(
            spec=DatasetSpec("made", "by hand", ("a", "b", "c"), kinds, complete),
            ids=[f"made-{row}" for row in range(self.samples)],
            labels=labels,
            split=np.array(split),
            columns=columns,
            present=present,
        )


def train(dataset: Made, fusion: type, method: object, epochs: int = 2, **options: object):
    lightning.seed_everything(0, verbose=False)
    data = DataModule(dataset, batch_size=16)
    data.setup()
    kinds = {"sequence": SequenceEncoder, "vector": VectorEncoder}
    encoders = nn.ModuleDict(
        {m.name: kinds[m.kind](m, 12, hidden=16) for m in data.spec.modalities}
    )
    frequencies = data.class_frequencies
    module = MultimodalModule(
        spec=data.spec,
        encoders=encoders,
        fusion=fusion(len(dataset.names), 12, 3, frequencies, **options),
        method=method,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=5e-3),
        class_frequencies=frequencies,
    )
    losses = []

    class Watch(lightning.Callback):
        def on_validation_end(self, trainer, pl_module):
            losses.append(dict(pl_module.train_losses))

    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[Watch()],
    )
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    return module, losses


@pytest.mark.parametrize("present", ["some", "one each"])
@pytest.mark.parametrize("method", ["shapley", "joint", "unimodal"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_gaps(fusion, method, present):
    dataset = Made(present)
    made = {
        "shapley": lambda: Shapley(dataset.names),
        "joint": lambda: Joint(dataset.names),
        "unimodal": lambda: Unimodal(dataset.names, modality="one"),
    }[method]()
    module, losses = train(dataset, FUSIONS[fusion], made)
    assert sum(losses[-1].values()) < sum(losses[0].values())
    assert torch.isfinite(module.test_report.phi).all()
    assert all(p.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("supervise", ["final", "sequential", "unimodal", "prefixes"])
@pytest.mark.parametrize("options", [{}, {"align": "both", "inherit": True, "cell": "lstm"}])
def test_gaps_under_every_step_loss(supervise, options):
    dataset = Made("one each", modalities=2)
    method = Shapley(dataset.names, supervise=supervise)
    module, losses = train(dataset, Memory, method, **options)
    assert all(map(math.isfinite, losses[-1].values()))
    assert torch.isfinite(module.test_report.phi).all()


def test_sequences_are_learnt():
    """Four fifths of the test part by a modality whose class lies in its first feature."""
    dataset = Made("all")
    module, _ = train(dataset, Memory, Shapley(dataset.names), epochs=8)
    assert float(module.test_report.alone[0]) > 0.8
    assert module.test_report.full > 0.9
