"""Two processes of which one may get no sample that has a modality, with batch norms."""

from e2e.running import PLAIN, difference
from e2e.test_ranks import held


def test_two_ranks_of_which_one_has_no_picture(warm, tmp_path):
    """Under DDP with ResNet-18: nobody waits for the other, and both hold the same weights."""
    options = ["dataset=emoji", "dataset.size=48", "dataset.train_size=64", "backbone=resnet18"]
    options += ["backbone.dim=16", "backbone.encoders.text.width=16", "method=joint"]
    options += ["missing={image: 0.75}", "batch_size=4", "trainer.max_epochs=1", *PLAIN]
    options += ["trainer.devices=2", "callbacks.console=null", "trainer.limit_val_batches=4"]
    options += ["trainer.limit_test_batches=1"]
    folder = tmp_path / "run"
    done = warm("e2e.ranks", folder, *options, cwd=tmp_path, ranks=2)
    assert done.status == 0, done.stderr
    one, two = held(folder, 0), held(folder, 1)
    counter = "encoders.image.body.bn1.num_batches_tracked"
    counts = [int(each["weights"].pop(counter)) for each in (one, two)]
    assert 0 < min(counts) < max(counts) < 8  # of 8 batches
    for part in ("weights", "gradients"):
        kept, other = (
            {k: v for k, v in each[part].items() if "num_batches_tracked" not in k}
            for each in (one, two)
        )
        assert difference(kept, other, part) is None
    assert any("encoders.image.body.conv1" in key for key in one["gradients"])
