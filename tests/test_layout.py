"""Fused kernels read memory as it lies: gradients and moments have their parameter's layout."""

import copy
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from toy import DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.config import conf_dir, validate
from mmeq.config.build import build_data, build_encoders, build_module
from mmeq.config.instantiate import optimizer
from mmeq.config.validate import plain_tree
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.encoders.vector import VectorEncoder

ADAMW = "torch.optim.AdamW"


class Pictures(nn.Module):
    """A convolution over each vector as a picture, its weights in channels-last layout."""

    def __init__(self, encoder: VectorEncoder) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 4, (2, 3), padding=1).to(memory_format=torch.channels_last)
        self.out = nn.Linear(4, DIM)

    def forward(self, x_BF):
        pictures = x_BF[:, :, None, None].expand(-1, -1, 3, 3) * torch.linspace(0, 1, 9).view(3, 3)
        return self.out(self.conv(pictures).relu().mean((2, 3)))


class Rewriting(torch.nn.Module):
    """What a method may do to gradients: put others in their place."""

    def __init__(self, module) -> None:
        super().__init__()
        step = module.method.train_batch

        def train_batch(loop, batch):
            update = loop.update

            def edited(loss, modalities, **named):
                def edit():
                    for parameter in module.parameters():
                        if parameter.grad is not None:
                            flat = parameter.grad.flatten()  # rows first, whatever the layout
                            parameter.grad = flat.view(parameter.shape).contiguous()

                update(loss, modalities, edit, **named)

            loop.update = edited
            try:
                return step(loop, batch)
            finally:
                del loop.update

        module.method.train_batch = train_batch


def trained(fused, wrap=lambda module: None):
    spec = toy_spec(2)
    chosen = partial(torch.optim.AdamW, lr=0.01, fused=fused)
    module = toy_module(spec, wrap=Pictures, optimizer=chosen)
    wrap(module)
    fit(module, toy_batches(spec, count=3))
    return module


@pytest.mark.parametrize("wrap", [lambda module: None, Rewriting], ids=["plain", "edited"])
def test_fused_steps_equal_plain_ones(wrap):
    fused, plain = trained(True, wrap), trained(False)
    assert not fused.encoders["a"].conv.weight.is_contiguous()
    for a, b in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_loaded_moments_get_the_layout_of_their_parameters():
    module = trained(True)
    saved = copy.deepcopy(module.optimizers().optimizer.state_dict())
    saved["state"] = {
        number: {key: value.contiguous() for key, value in state.items()}
        for number, state in saved["state"].items()
    }
    made = module.configure_optimizers()["optimizer"]
    made.load_state_dict(saved)
    weight = module.encoders["a"].conv.weight
    moments = made.state[weight]["exp_avg"]
    assert moments.stride() == weight.stride() != moments.contiguous().stride()
    before = module.optimizers().optimizer.state[weight]["exp_avg"]
    assert torch.equal(moments, before)


def test_optimizers_are_fused_unless_told_otherwise():
    assert optimizer({"_target_": ADAMW, "lr": 0.1}).keywords["fused"] is True
    assert optimizer({"_target_": ADAMW, "fused": False}).keywords == {"fused": False}
    assert optimizer({"_target_": ADAMW, "foreach": True}).keywords == {"foreach": True}
    assert optimizer({"_target_": "torch.optim.Adagrad"}).keywords == {}


def tree_of(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", ["dataset=emoji", "trainer.accelerator=cpu", *overrides])
    validate(cfg)
    return plain_tree(cfg)


def test_a_run_is_built_with_a_fused_optimizer():
    tree = tree_of()
    made = build_module(tree, build_data(tree)).configure_optimizers()["optimizer"]
    assert all(group["fused"] for group in made.param_groups)


@pytest.mark.parametrize(("size", "last"), [(48, False), (224, True)])
def test_large_pictures_are_encoded_in_channels_last_layout(size, last):
    spec = DatasetSpec("toy", "none", ("x", "y"), (Modality("p", "image", (3, size, size)),))
    encoders = build_encoders(tree_of("backbone=resnet18"), spec)
    layouts = {
        weight.is_contiguous(memory_format=torch.channels_last)
        for weight in encoders["p"].parameters()
        if weight.ndim == 4 and weight.shape[-1] > 1
    }
    assert layouts == {last}
