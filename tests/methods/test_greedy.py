"""Conditional learning speed: gates, speeds and windows by hand; what a window leaves alone."""

import copy
import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.late import Late
from mmeq.game.coalitions import all_coalitions
from mmeq.methods.greedy import Greedy

NEVER = 1e9
ADAMW = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)


def gaps(spec, batches, rate=0.3):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(batch["present"].shape, generator=generator) > rate
        batch["present"][0], batch["present"][1, 0] = True, False
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~batch["present"][:, m]] = 0.0
    return batches


class Reference:
    """The method in plain PyTorch, on late fusion, with its running sums."""

    def __init__(self, module, names):
        self.encoders, self.fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
        method = copy.deepcopy(module.method)
        self.squeeze, self.gates, self.names = method.squeeze, method.gates, names
        count = len(names)
        self.count, self.sum = torch.zeros(count), torch.zeros(count, DIM)  # of features, forgotten
        self.gate_count, self.gate_sum = torch.zeros(count), torch.zeros(count, DIM)
        self.cross, self.main = [0.0] * count, [0.0] * count
        self.steps = []

    def forward(self, batch, slow=None):
        present = batch["present"]
        rows = [self.encoders[n](batch["inputs"][n]) for n in self.names]
        if slow is not None:
            rows = [h if m == slow else h.detach() for m, h in enumerate(rows)]
        for m, h in enumerate(rows):
            self.count[m] = 0.95 * self.count[m] + present[:, m].sum()
            self.sum[m] = 0.95 * self.sum[m] + h.detach()[present[:, m]].sum(0)
        mean = self.sum / self.count[:, None]
        entering = [torch.where(present[:, m, None], h, mean[m]) for m, h in enumerate(rows)]
        z = F.relu(torch.cat(entering, 1) @ self.squeeze.weight.T + self.squeeze.bias)
        gates = [2 / (1 + torch.exp(-(z @ g.weight.T + g.bias))) for g in self.gates]
        for m, gate in enumerate(gates):
            self.gate_count[m] += present[:, m].sum()
            self.gate_sum[m] += gate.detach()[present[:, m]].sum(0)
        if slow is not None:
            gates[slow] = (self.gate_sum / self.gate_count[:, None])[slow]
        losses = []
        for m, (gate, h) in enumerate(zip(gates, rows, strict=True)):
            has = present[:, m]
            logits = (gate * h)[has] @ self.fusion.weight_MCD[m].T + self.fusion.bias_MC[m]
            losses.append(F.cross_entropy(logits, batch["label"][has]))
        return sum(losses) if slow is None else losses[slow]

    def speeds(self):
        return [math.log10(c / m) for c, m in zip(self.cross, self.main, strict=True)]

    def step(self, batch, slow=None, rate=0.1):
        parts = {f"main{m}": self.encoders[n] for m, n in enumerate(self.names)}
        parts |= {"fusion": self.fusion, "squeeze": self.squeeze}
        parts |= {f"gate{m}": gate for m, gate in enumerate(self.gates)}
        every = [(part, p) for part, module in parts.items() for p in module.parameters()]
        loss = self.forward(batch, slow)
        grads = torch.autograd.grad(loss, [p for _, p in every], allow_unused=True)
        norms = {part: [0.0, 0.0] for part in parts}
        with torch.no_grad():
            for (part, p), grad in zip(every, grads, strict=True):
                if grad is not None:
                    norms[part][0] += float((grad**2).sum())
                    norms[part][1] += float((p**2).sum())
            for m in range(len(self.names)) if slow is None else ():
                g, w = (norms["squeeze"][k] + norms[f"gate{m}"][k] for k in range(2))
                self.cross[m] += g / w
                self.main[m] += norms[f"main{m}"][0] / norms[f"main{m}"][1]
            for (_, p), grad in zip(every, grads, strict=True):
                if grad is not None:
                    p -= rate * grad
        self.steps.append(slow)


def assert_equal(module, reference):
    pairs = (
        (module.encoders, reference.encoders),
        (module.fusion, reference.fusion),
        (module.method.squeeze, reference.squeeze),
        (module.method.gates, reference.gates),
    )
    for ours, theirs in pairs:
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_two_epochs_equal_plain_pytorch(modalities, complete):
    """Regular steps only in epoch 0; then a window of 3 and one step of all, again and again."""
    spec = toy_spec(modalities, complete)
    batches = toy_batches(spec, count=6)
    if not complete:
        gaps(spec, batches)
    module = toy_module(spec, method=partial(Greedy, window=3), fusion=Late)
    reference = Reference(module, spec.names)
    fit(module, batches, epochs=2)

    slow, left = None, 0
    for epoch in range(2):
        for batch in batches:
            if left:
                reference.step(batch, slow)
                left -= 1
                continue
            reference.step(batch)
            speeds = reference.speeds()
            if epoch == 1 and max(speeds) - min(speeds) > 0.01:
                slow, left = speeds.index(max(speeds)), 3
    assert [s is None for s in reference.steps] == [True] * 7 + [False] * 3 + [True, False]
    assert_equal(module, reference)
    told = module.method.describe()
    assert list(told["speed"].values()) == pytest.approx(reference.speeds(), rel=1e-3)
    assert told["alone"] == 4
    assert (module.method.left, module.method.slow) == (2, slow)
    # each modality has its own average (the released code keeps the first one's for all)
    averages = reference.gate_sum / reference.gate_count[:, None]
    torch.testing.assert_close(module.method.averages.mean_MD, averages, atol=1e-6, rtol=1e-4)
    assert not torch.allclose(averages[0], averages[1], atol=1e-3)


def test_a_window_moves_one_encoder_and_the_readout_alone():
    spec = toy_spec(3)
    batches = toy_batches(spec, count=1)
    module = toy_module(
        spec, method=partial(Greedy, start=0, epsilon=0.0), fusion=Late, optimizer=ADAMW
    )
    first = copy.deepcopy(module.state_dict())
    fit(module, batches)  # one regular step: the window opens
    assert module.method.left == 5
    between = copy.deepcopy(module.state_dict())
    fit(module, batches * 5)

    def moved(a, b):
        shown = {n: v for n, v in a.items() if isinstance(v, torch.Tensor)}
        kinds = ("encoders", "fusion", "method.squeeze", "method.gates", "method.updates")
        names = {n for n, v in shown.items() if not torch.equal(v, b[n])}
        return {".".join(n.split(".")[:2]) for n in names if n.startswith(kinds)}

    everything = {f"encoders.{n}" for n in spec.names} | {
        *("fusion.weight_MCD", "fusion.bias_MC", "method.squeeze", "method.gates"),
        "method.updates_2M",
    }
    assert moved(first, between) == everything
    slow = spec.names[module.method.slow]
    readout = {"fusion.weight_MCD", "fusion.bias_MC"}
    assert moved(between, module.state_dict()) == {f"encoders.{slow}", *readout}
    assert module.method.left == 0  # five steps, and the sixth is of all
    assert set(module.train_losses or module.losses.summary()[0]) == {f"step/{slow}"}
    before = copy.deepcopy(module.state_dict())
    fit(module, batches)
    assert moved(before, module.state_dict()) == everything


def test_equal_speeds_open_no_window():
    spec = toy_spec(2)
    module = toy_module(spec, method=partial(Greedy, start=0, epsilon=NEVER), fusion=Late)
    fit(module, toy_batches(spec), epochs=2)
    assert module.method.describe()["alone"] == 0
    assert module.method.left == 0


def test_frozen_encoder_has_no_speed():
    spec = toy_spec(3)
    module = toy_module(spec, method=partial(Greedy, start=0, epsilon=0.0), fusion=Late)
    module.encoders["b"].requires_grad_(False)
    fit(module, toy_batches(spec), epochs=2)
    assert set(module.method.describe()["speed"]) == {"a", "c"}
    assert module.method.describe()["alone"] > 0
    assert module.method.slow != 1


def test_an_answer_depends_on_its_sample_alone_and_on_what_it_has():
    """Gates see the coalition: others enter by their mean, whatever they are."""
    spec = toy_spec(3, complete=False)
    batches = gaps(spec, toy_batches(spec, count=3))
    module = toy_module(spec, method=Greedy, fusion=Late)
    fit(module, batches)
    module.eval()
    coalitions = all_coalitions(3)
    averages = module.method.averages.mean_MD.clone()

    def answers(batch, rows=slice(None)):
        part = {
            "inputs": {n: x[rows] for n, x in batch["inputs"].items()},
            "present": batch["present"][rows],
        }
        with torch.no_grad():
            return module.method.logits(module, module.encode(part), coalitions)

    together = answers(batches[0])
    single = torch.cat([answers(batches[0], slice(i, i + 1)) for i in range(16)], 1)
    torch.testing.assert_close(together, single, atol=1e-6, rtol=1e-5)
    assert torch.equal(averages, module.method.averages.mean_MD)  # none over evaluation
    changed = copy.deepcopy(batches[0])
    changed["inputs"]["c"] = torch.randn_like(changed["inputs"]["c"])
    same = torch.isclose(answers(changed), together, atol=1e-6).all(-1)
    without = ~(coalitions[:, None, 2] & batches[0]["present"][None, :, 2])
    assert torch.equal(same, without)
    # {a} of a sample: its gate with the means of b and c, then a's readout
    method = module.method
    with torch.no_grad():
        h = module.encoders["a"](batches[0]["inputs"]["a"][:1])
        mean = method.means.mean_MD
        z = F.relu(method.squeeze(torch.cat([h, mean[1:2], mean[2:3]], 1)))
        logits = module.fusion(
            [2 * torch.sigmoid(method.gates[0](z)) * h, h, h], torch.tensor([[True, False, False]])
        )
    row = coalitions.tolist().index([True, False, False])
    torch.testing.assert_close(together[row, :1], logits[0])
    prior = coalitions.tolist().index([False] * 3)
    assert torch.equal(together[prior], module.log_prior.expand(16, -1))


def test_state_survives_a_checkpoint():
    spec = toy_spec(2)
    made = partial(Greedy, start=0)
    module = toy_module(spec, method=made, fusion=Late)
    fit(module, toy_batches(spec, count=3))
    assert module.method.left > 0
    other = toy_module(spec, method=made, fusion=Late)
    other.load_state_dict(module.state_dict())
    assert other.method.state() == module.method.state()
    assert other.method.describe() == module.method.describe()
    batches = toy_batches(spec, count=6, seed=1)
    fit(module, batches)
    fit(other, batches)
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("fusion", [Late, Concat])
def test_fused_trains_the_loss_of_all(fusion):
    spec = toy_spec(2)
    batches = toy_batches(spec, count=4)
    made = partial(Greedy, fused=True, start=0, epsilon=0.0, window=2)
    module = toy_module(spec, method=made, fusion=fusion)
    fit(module, batches, batches, epochs=8)
    assert set(module.train_losses) == {"joint"}
    assert float(module.report.full) > 1.5 / CLASSES


@pytest.mark.parametrize(
    ("option", "value"),
    [("ratio", 0.5), ("epsilon", float("nan")), ("window", 0), ("start", -1)],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Greedy("ab", dim=DIM, **{option: value})


def test_too_many_modalities_are_refused():
    with pytest.raises(MmeqError, match="6 modalities at most"):
        toy_module(toy_spec(7), method=Greedy, fusion=Late)


def test_classes_of_toy_are_learnt_with_gaps():
    spec = toy_spec(3, complete=False)
    batches = gaps(spec, toy_batches(spec, count=6))
    batches[2]["present"][:, 1] = False  # nobody has it
    module = toy_module(spec, method=Greedy, fusion=Late)
    fit(module, batches, batches, epochs=8)
    assert float(module.report.full) > 1.5 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())
