"""The best score survives a run folder that was moved."""

from __future__ import annotations

import lightning
import torch

from mmeq.config.checkpoint import RunCheckpoint


def test_a_moved_folder_keeps_its_best_score(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    before = RunCheckpoint(old, monitor="val/accuracy", mode="max")
    best = str(old / "checkpoints" / "best.ckpt")
    before.best_model_path = before.kth_best_model_path = best
    before.best_model_score = torch.tensor(0.7)
    before.best_k_models = {best: torch.tensor(0.7)}
    before.last_model_path = str(old / "checkpoints" / "last.ckpt")
    after = RunCheckpoint(new, monitor="val/accuracy", mode="max")
    after.load_state_dict(before.state_dict())
    here = str(new / "checkpoints" / "best.ckpt")
    assert after.best_model_path == here
    assert after.best_model_score == 0.7
    assert list(after.best_k_models) == [here]
    assert after.last_model_path == str(new / "checkpoints" / "last.ckpt")


class Tiny(lightning.LightningModule):
    """A model whose validation metric is best in its first epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/accuracy", 1.0 / (1 + self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_last_is_written_after_an_epoch_that_is_not_the_best(tmp_path):
    """Lightning 2.6 leaves last.ckpt at the best epoch, so that a resume would lose epochs."""
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)))
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[RunCheckpoint(tmp_path, monitor="val/accuracy", mode="max")],
    )
    trainer.fit(Tiny(), data, data)
    epochs = {
        name: torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)["epoch"]
        for name in ("best", "last")
    }
    assert epochs == {"best": 0, "last": 2}
