"""The data module: whole batches, standardisation, bad data, leakage, workers, augmentation."""

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from mmeq.data.columns import ImageColumn, SequenceColumn, TextColumn, VectorColumn
from mmeq.data.datamodule import DataModule
from mmeq.data.emoji import Emoji
from mmeq.data.leakage import check_classes, check_leakage
from mmeq.data.manifest import Manifest
from mmeq.data.mfeat import Mfeat
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.errors import MmeqError


@dataclass
class Given:
    """A dataset that is at hand."""

    manifest: Manifest

    def load(self):
        return self.manifest


def small(count=60, complete=True, **changes):
    """Every kind of column; without ``complete`` each modality is absent in some samples."""
    random = torch.Generator().manual_seed(0)
    present = torch.ones(count, 4, dtype=torch.bool)
    if not complete:
        present[torch.arange(count), torch.arange(count) % 4] = torch.arange(count) % 3 == 0
    length = torch.arange(count) % 5 + 1
    steps = torch.randn(count, 5, 2, generator=random) * 4 + 2
    steps[torch.arange(5) >= length[:, None]] = 0
    modalities = (
        Modality("v", "vector", (3,)),
        Modality("s", "sequence", (5, 2)),
        Modality("i", "image", (3, 4, 4)),
        Modality("t", "text"),
    )
    fields = {
        "spec": DatasetSpec("small", "fixed", ("a", "b"), modalities, bool(present.all())),
        "ids": [f"n{k}" for k in range(count)],
        "labels": torch.arange(count) % 2,
        "split": np.array(["train", "train", "train", "validation", "test"] * (count // 5)),
        "columns": {
            "v": VectorColumn(torch.randn(count, 3, generator=random) * 5 + 100),
            "s": SequenceColumn(steps, length),
            "i": ImageColumn(
                torch.randint(1, 256, (count, 3, 4, 4), generator=random).to(torch.uint8)
            ),
            "t": TextColumn([f"text {k}" for k in range(count)]),
        },
        "present": present,
    }
    return Manifest(**fields | changes)


def ready(manifest, **options):
    data = DataModule(Given(manifest), **options)
    data.setup()
    return data


def jitter(raw, training, generator):
    """An augmentation: noise in training, nothing otherwise."""
    return raw + torch.randn(raw.shape, generator=generator) if training else raw


def upper(raw, training, generator):
    """A tokenizer of a kind: texts to a dict of tensors."""
    return {"ids": torch.tensor([[len(text), int(training)] for text in raw])}


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_batches_have_the_promised_form():
    data = ready(small(), batch_size=8)
    manifest = data.manifest
    (batch, *_), rows = list(data.loader("test")), manifest.rows("test")[:8]
    assert set(batch) == {"inputs", "present", "label", "index", "id"}
    assert torch.equal(batch["index"], rows)
    assert torch.equal(batch["label"], manifest.labels[rows])
    assert batch["label"].dtype == torch.int64
    assert batch["present"].shape == (8, 4)
    assert batch["id"] == [manifest.ids[row] for row in rows]
    assert batch["inputs"]["v"].shape == (8, 3)
    assert batch["inputs"]["s"]["values"].shape == (8, 5, 2)
    assert batch["inputs"]["s"]["length"].dtype == torch.int64
    assert batch["inputs"]["i"].dtype == torch.uint8
    assert batch["inputs"]["t"] == [f"text {row}" for row in rows.tolist()]
    assert list(batch["inputs"]) == list(data.spec.names)
    assert sum(len(b["id"]) for b in data.val_dataloader()) == 12


def test_vectors_and_sequences_are_standardised_by_the_train_part_alone():
    manifest = small()
    test = manifest.split == "test"
    manifest.columns["v"].values[test] += 1000  # must not leak into the statistics
    manifest.columns["v"].values[:, 2] = 7.0  # constant
    data = ready(manifest)
    train = data.manifest.rows("train")
    values = data.manifest.columns["v"].values[train]
    assert torch.allclose(values.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(values[:, :2].std(0, correction=0), torch.ones(2), atol=1e-5)
    assert (values[:, 2] == 0).all()
    column = data.manifest.columns["s"]
    valid = torch.arange(5) < column.length[:, None]
    steps = column.values[train][valid[train]]
    assert torch.allclose(steps.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(steps.std(0, correction=0), torch.ones(2), atol=1e-5)
    assert (column.values[~valid] == 0).all()
    held = data.manifest.columns["v"]
    data.setup("test")
    assert data.manifest.columns["v"] is held  # setup does nothing twice


def test_absent_modalities_are_zeros_and_leave_the_statistics_alone():
    manifest = small(complete=False)
    absent = ~manifest.present
    manifest.columns["v"].values[absent[:, 0]] = float("nan")  # unread, so no error
    data = ready(manifest)
    columns = data.manifest.columns
    assert (columns["v"].values[absent[:, 0]] == 0).all()
    assert (columns["s"].values[absent[:, 1]] == 0).all()
    assert (columns["i"].pixels[absent[:, 2]] == 0).all()
    assert all(columns["t"].texts[row] == "" for row in absent[:, 3].nonzero().flatten())
    fit = torch.from_numpy(manifest.split == "train") & manifest.present[:, 0]
    assert torch.allclose(columns["v"].values[fit].mean(0), torch.zeros(3), atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_bad_numbers_name_sample_and_modality(value):
    for modality, place in (("v", (7, 1)), ("s", (7, 0, 1))):
        manifest = small()
        manifest.columns[modality].values[place] = value
        with pytest.raises(
            MmeqError, match=f"'n7' holds NaN or an infinity in modality '{modality}'"
        ):
            ready(manifest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["x"] * 60}, "'x' occurs more than once"),
        ({"labels": torch.arange(60)}, "'n2' has the label 2, expected 0 to 1"),
        ({"labels": torch.zeros(59, dtype=torch.int64)}, "labels has 59 rows for 60"),
        ({"present": torch.ones(60, 3, dtype=torch.bool)}, "present has shape"),
        ({"present": torch.zeros(60, 4, dtype=torch.bool)}, "spec.complete"),
    ],
)
def test_inconsistent_manifests(changes, message):
    with pytest.raises(MmeqError, match=message):
        ready(small(**changes))


def test_a_sample_without_any_modality():
    manifest = small(complete=False)
    manifest.present[4] = False
    with pytest.raises(MmeqError, match="'n4' has no modality at all"):
        ready(manifest)


def test_torn_groups_are_an_error_only_where_whole_ones_are_promised():
    groups = [f"g{k // 3}" for k in range(60)]
    manifest = small(groups=groups)
    (warning,) = check_leakage(manifest)
    assert "groups in both train and test" in warning
    with pytest.warns(UserWarning, match="groups in both train and test"):
        ready(manifest)
    with pytest.raises(MmeqError, match="promises whole groups"):
        ready(small(groups=groups, grouped=True))


def test_identical_samples_across_parts_are_counted():
    manifest = small()
    for column in manifest.columns.values():
        if isinstance(column, TextColumn):
            column.texts[4] = column.texts[0]
            column.texts[9] = column.texts[0]
        elif isinstance(column, ImageColumn):
            column.pixels[[4, 9]] = column.pixels[0].clone()
        else:
            column.values[[4, 9]] = column.values[0].clone()
    manifest.columns["s"].length[[4, 9]] = int(manifest.columns["s"].length[0])
    (warning,) = check_leakage(manifest)
    assert "1 distinct samples in both train and test with identical content" in warning
    manifest.columns["t"].texts[4] = manifest.columns["t"].texts[9] = "other"
    assert not check_leakage(manifest)


def test_emoji_without_groups_warns():
    with pytest.warns(UserWarning, match=r"\d+ groups in both train and test"):
        DataModule(Emoji(modalities=["text"], grouped=False)).setup()


def test_class_frequencies():
    data = ready(small())
    expected = torch.bincount(data.manifest.labels[data.manifest.rows("train")]) / 36
    assert torch.equal(data.class_frequencies, expected)
    assert data.class_frequencies.dtype == torch.float32


def collect(data, epochs):
    loader = data.train_dataloader()
    out = []
    for epoch in epochs:
        loader.batch_sampler.sampler.set_epoch(epoch)
        out.append(list(loader))
    return out


def test_workers_and_resuming_change_nothing():
    options = {"batch_size": 8, "seed": 5, "transforms": {"v": jitter, "t": upper}}
    alone = collect(ready(small(), **options), [0, 1, 2])
    workers = collect(ready(small(), workers=2, **options), [0, 1, 2])
    assert same(dict(enumerate(chain(*alone))), dict(enumerate(chain(*workers))))
    (resumed,) = collect(ready(small(), workers=1, **options), [2])
    assert same(dict(enumerate(resumed)), dict(enumerate(alone[2])))
    # The noise of a sample differs between epochs.
    first, second = (
        {b: v for t in e for b, v in zip(t["id"], t["inputs"]["v"], strict=True)} for e in alone[:2]
    )
    assert not torch.equal(first["n0"], second["n0"])
    assert alone[0][0]["inputs"]["t"]["ids"][0, 1] == 1  # training=True


class Recorder(LightningModule):
    """Keeps what a Trainer feeds it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.automatic_optimization = False
        self.seen, self.checked = {}, []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1)

    def training_step(self, batch):
        self.seen.setdefault(self.current_epoch, []).append(batch)

    def validation_step(self, batch):
        self.checked += batch["id"]


def test_the_trainer_walks_through_the_epochs():
    options = {"batch_size": 8, "seed": 5, "transforms": {"v": jitter, "t": upper}}
    data, module = ready(small(), **options), Recorder()
    Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    ).fit(module, data)
    expected = dict(enumerate(collect(ready(small(), **options), [0, 1, 2])))
    assert list(module.seen) == [0, 1, 2]
    for epoch, batches in expected.items():
        assert same(dict(enumerate(module.seen[epoch])), dict(enumerate(batches)))
    assert module.checked == [f"n{row}" for row in range(3, 60, 5)] * 3


def test_evaluation_is_not_augmented():
    data = ready(small(), transforms={"v": jitter, "t": upper})
    batch = next(iter(data.loader("train")))
    assert torch.equal(batch["inputs"]["v"], data.manifest.columns["v"].values[batch["index"]])
    assert (batch["inputs"]["t"]["ids"][:, 1] == 0).all()


def test_wrong_options():
    for option in ({"batch_size": 0}, {"workers": -1}, {"seed": -1}):
        with pytest.raises(MmeqError, match=next(iter(option))):
            DataModule(Given(small()), **option)
    with pytest.raises(MmeqError, match="no part 'validaton'; did you mean 'validation'"):
        ready(small()).loader("validaton")
    with pytest.raises(MmeqError, match="unknown modality 'x'"):
        ready(small(), transforms={"x": jitter}).train_dataloader()


@pytest.mark.parametrize("m", range(4))
def test_modality_that_training_never_sees(m):
    manifest = small()
    manifest.present[torch.from_numpy(manifest.split == "train"), m] = False
    manifest = replace(manifest, spec=replace(manifest.spec, complete=False))
    with pytest.raises(MmeqError, match=f"'{'vsit'[m]}' is absent from the whole train part"):
        ready(manifest)


def test_train_size_on_real_data():
    data = DataModule(Mfeat(train_size=150), batch_size=64)
    data.setup()
    assert sum(len(batch["id"]) for batch in data.train_dataloader()) == 150
    assert len(data.train_dataloader()) == 3
    assert torch.allclose(data.class_frequencies, torch.full((10,), 0.1))


def test_a_part_without_a_class_is_named():
    complete = Mfeat(split_seed=1)
    assert check_classes(complete.load()) == []
    few = Mfeat(fractions=(0.98, 0.01, 0.01))
    manifest = few.load()
    manifest.labels[manifest.rows("validation")] = 3
    (message,) = check_classes(manifest)
    assert "the validation part has no sample of" in message
    assert str(manifest.spec.classes[0]) in message
    assert str(manifest.spec.classes[3]) not in message.partition(";")[0].split("of ")[1].split(
        ", "
    )
    with pytest.warns(UserWarning, match="no sample of"):
        DataModule(Given(manifest)).setup()


def test_a_share_of_a_part_is_drawn_by_the_seeds_alone():
    data = ready(small())

    def rows(**options):
        return torch.cat([batch["index"] for batch in data.loader("train", **options)]).tolist()

    whole = rows()
    one, again, other = (rows(share=0.25, draw=draw) for draw in ((3, 1), (3, 1), (3, 2)))
    assert one == again
    assert one != other
    assert len(one) == len(set(one)) == round(0.25 * len(whole))
    assert set(one) <= set(whole)
    assert one == sorted(one)
    assert len(rows(share=1e-6)) == 1
