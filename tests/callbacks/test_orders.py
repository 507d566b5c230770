"""All strategies compared at a test; the router fitted before it, kept in the checkpoint."""

from __future__ import annotations

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from toy import toy_batches, toy_module, toy_spec

from mmeq.callbacks.orders import OrderStudy
from mmeq.callbacks.router import FitRouter
from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.inference.orders import inference_orders


class Parts(lightning.LightningDataModule):
    """Ready batches as the data module serves them; ids differ between the parts."""

    def __init__(self, spec) -> None:
        super().__init__()
        self.parts = {}
        for seed, part in enumerate(("train", "validation", "test")):
            batches = toy_batches(spec, batch=24, count=4, seed=seed)
            for batch in batches:
                batch["id"] = [f"{part}-{name}" for name in batch["id"]]
            self.parts[part] = batches

    def loader(self, split, whole=False):
        return torch.utils.data.DataLoader(self.parts[split], batch_size=None, shuffle=False)

    def train_dataloader(self):
        return self.loader("train")

    def val_dataloader(self):
        return self.loader("validation")

    def test_dataloader(self):
        return self.loader("test")


def trained(folder, callbacks, spec=None, **options):
    spec = spec or toy_spec(3)
    module = toy_module(spec, **options)
    data = Parts(spec)
    keeper = ModelCheckpoint(folder, "best", enable_version_counter=False)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[*callbacks, keeper],
    )
    trainer.fit(module, datamodule=data)
    best = keeper.best_model_path
    trainer.test(module, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)
    return module, trainer, data, best


def test_the_finding_holds_every_strategy_and_the_oracle(tmp_path, capsys):
    spec = toy_spec(3)
    study = OrderStudy(tmp_path, draws=50)
    module, _, data, _ = trained(tmp_path, [study], spec)
    found = module.findings["strategies"]
    names = ["hybrid", "cyclic", "sampled", "memory_guided", "per_sample", "router"]
    assert list(found["strategies"]) == names
    assert (tmp_path / "figures" / "strategies.png").stat().st_size > 10_000
    assert "any order" in capsys.readouterr().out
    # recomputed by hand, from the module itself
    full, right = torch.ones(1, 3, dtype=torch.bool), []
    orders = inference_orders("hybrid", range(3))
    module.eval()
    for batch in data.parts["test"]:
        with torch.no_grad():
            each = module.fusion.per_order(module.encode(batch).rows, full, orders)[:, 0]
        right.append(torch.cat([each, each.mean(0)[None]]).argmax(-1) == batch["label"])
    right = torch.cat(right, 1)
    assert found["samples"] == right.shape[1] == 96
    assert found["oracle"]["value"] == pytest.approx(float(right[:-1].any(0).double().mean()))
    hybrid = float(right[-1].double().mean())
    assert found["strategies"]["hybrid"]["accuracy"]["value"] == pytest.approx(hybrid)
    assert hybrid == pytest.approx(float(module.test_report.values["accuracy"][-1]))
    assert (
        found["strategies"]["hybrid"]["cells"] == found["strategies"]["hybrid"]["cells_game"] == 15
    )
    assert found["strategies"]["memory_guided"]["cells"] == 3
    assert found["strategies"]["router"]["validation"]["samples"] == 96


def test_each_encoder_runs_once_a_test_batch(tmp_path):
    spec = toy_spec(3)
    module = toy_module(spec)
    data = Parts(spec)
    study = OrderStudy(tmp_path, draws=10)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[study],
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    calls = []
    module.encoders["a"].register_forward_hook(lambda *_: calls.append(1))
    trainer.test(module, datamodule=data, verbose=False)
    assert len(calls) == 4 + 4  # the validation part for the router, the test part for all


def test_a_fusion_without_an_order_says_so(tmp_path, capsys):
    module, *_ = trained(tmp_path, [OrderStudy(tmp_path)], fusion=Concat)
    assert module.findings["strategies"] == {
        "note": "fusion concat has no order of modalities: all strategies coincide"
    }
    assert "all strategies coincide" in capsys.readouterr().out
    assert not (tmp_path / "figures").exists()


def test_a_router_is_fitted_before_the_test_and_kept(tmp_path):
    module, _, data, best = trained(tmp_path, [FitRouter()], inference="router")
    kept = torch.load(best, weights_only=True)["mmeq_strategy"]
    assert torch.equal(kept["beta"], module.strategy.model["beta"])
    assert all(name.startswith("validation-") for name in kept["ids"])  # never the test part
    report = module.test_report
    # another module takes it from the checkpoint, without a callback or the validation part
    fresh = toy_module(toy_spec(3), inference="router")
    plain = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False,
    )  # fmt: skip
    plain.test(fresh, data.loader("test"), ckpt_path=best, verbose=False, weights_only=True)
    assert torch.equal(fresh.test_report.values["nll"], report.values["nll"])
    # on the validation part its figure is the cross-fitted one
    plain.test(fresh, data.loader("validation"), ckpt_path=best, verbose=False, weights_only=True)
    told = float(fresh.test_report.values["accuracy"][-1])
    assert told == pytest.approx(kept["validation"]["accuracy"])


def test_without_a_router_the_test_is_refused_and_training_is_not(tmp_path):
    with pytest.raises(MmeqError, match="no router was fitted"):
        trained(tmp_path, [], inference="router")


def test_sampled_inference_tells_orders_and_error(tmp_path):
    module, *_ = trained(
        tmp_path, [], spec=toy_spec(4), inference="sampled", strategy={"orders": 8}
    )
    found = module.findings["sampling"]
    assert 4 <= found["orders"] <= found["of"] == 8
    assert found["error"] > 0
    report = module.test_report  # the game is played under the strategy
    total = float(report.values["accuracy"][-1] - report.values["accuracy"][0])
    assert float(report.phi.sum()) == pytest.approx(total)


@pytest.mark.parametrize("inference", ["sampled", "per_sample", "router"])
def test_training_goes_on_as_if_it_had_not_stopped(tmp_path, inference):
    """Strategies draw nothing from the training's randomness."""
    from toy import fit

    spec = toy_spec(4)
    batches = toy_batches(spec)
    whole = toy_module(spec, inference=inference)
    fit(whole, batches, batches, epochs=2)
    half = toy_module(spec, inference=inference)
    trainer = fit(half, batches, batches, epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    again = toy_module(spec, inference=inference)
    rest = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(batches, batch_size=None, shuffle=False)
    rest.fit(again, loader, loader, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole.report.values["nll"], again.report.values["nll"])
