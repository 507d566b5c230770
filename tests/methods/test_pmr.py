"""Prototype pull: steps against plain PyTorch, prototypes over epochs, gaps, classes not seen."""

import copy
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.joint import Joint
from mmeq.methods.pmr import Pmr

ZERO = partial(Concat, absence="zero")
STILL = partial(torch.optim.SGD, lr=0.0)


def with_gaps(batches, spec, rate=0.3):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        present = torch.rand(batch["present"].shape, generator=generator) > rate
        present[~present.any(1), 0] = True
        batch["present"] = present
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~present[:, m]] = 0.0
    return batches


def class_means(encoder, batches, name, m, old, momentum):
    """Prototypes [C][D] written out; `old` holds None for a class without one."""
    out = []
    for c in range(CLASSES):
        members = [
            encoder(batch["inputs"][name])[i].detach()
            for batch in batches
            for i in range(len(batch["label"]))
            if batch["label"][i] == c and batch["present"][i, m]
        ]
        new = sum(members) / len(members) if members else None
        if new is None or old[c] is None:
            out.append(old[c] if new is None else new)
        else:
            out.append(momentum * old[c] + (1 - momentum) * new)
    return out


def reference(module, spec, batches, options, epochs):
    """Train copies of the parts by hand; returns them, the prototypes and all weights β."""
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    parameters = [*encoders.parameters(), *fusion.parameters()]
    names, shown = spec.names, batches[: round(options["share"] * len(batches))]
    prototypes = {n: [None] * CLASSES for n in names}
    betas = []
    for epoch in range(epochs):
        active = options["start"] <= epoch <= options["end"]
        if active:
            for m, n in enumerate(names):
                old = prototypes[n]
                prototypes[n] = class_means(encoders[n], shown, n, m, old, options["momentum"])
        for batch in batches:
            rows = [encoders[n](batch["inputs"][n]) for n in names]
            label, present = batch["label"], batch["present"]
            everything = torch.ones(1, len(names), dtype=torch.bool)
            gaps = None if spec.complete else present
            loss = F.cross_entropy(fusion(rows, everything, None, gaps)[0], label)
            if active:
                score, pull, entropy = [], [], []
                for m, n in enumerate(names):
                    q, ce, h = [], [], []
                    known = [c for c in range(CLASSES) if prototypes[n][c] is not None]
                    for i in range(len(label)):
                        if present[i, m] and label[i] in known:
                            away = [rows[m][i] - prototypes[n][c] for c in known]
                            p = torch.stack([-a.square().sum().sqrt() for a in away]).softmax(0)
                            own = p[known.index(label[i])]
                            q.append(own.item())
                            ce.append(-own.log())
                            h.append(-(p * p.log()).sum())
                    score.append(sum(q) / len(q))
                    pull.append(sum(ce) / len(ce))
                    entropy.append(sum(h) / len(h))
                top = max(score)
                beta = [min(max(top / s - 1, 0.0), 1.0) for s in score]
                betas.append(beta)
                loss = loss + options["alpha"] * sum(b * c for b, c in zip(beta, pull, strict=True))
                if epoch < options["start"] + options["early"]:
                    loss = loss - options["entropy"] * max(beta) * entropy[score.index(top)]
            grads = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, grad in zip(parameters, grads, strict=True):
                    parameter -= 0.1 * grad
    return encoders, fusion, prototypes, betas


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_epochs_equal_plain_pytorch(modalities, complete):
    """Before, in and after the window: the pull, the early entropy, moving prototypes, no terms."""
    spec = toy_spec(modalities, complete)
    options = {"alpha": 0.8, "momentum": 0.3, "share": 0.5, "start": 1, "end": 2}
    options |= {"entropy": 0.5, "early": 1}
    module = toy_module(spec, method=partial(Pmr, **options), fusion=ZERO)
    batches = toy_batches(spec, count=4)
    if not complete:
        with_gaps(batches, spec)
    encoders, fusion, prototypes, betas = reference(module, spec, batches, options, epochs=4)
    fit(module, batches, epochs=4)
    assert any(0 < b < 1 for beta in betas for b in beta)  # never α whatever the gap
    assert all(min(beta) == 0 for beta in betas)  # the dominant one is not pulled
    for ours, theirs in ((module.encoders, encoders), (module.fusion, fusion)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    for m, n in enumerate(spec.names):
        expected = torch.stack(prototypes[n])
        torch.testing.assert_close(module.method.prototype_MCD[m], expected, atol=1e-5, rtol=1e-4)


def test_facts_of_an_epoch_are_its_mean_weights():
    spec = toy_spec(2)
    options = {"alpha": 1.0, "momentum": 0.5, "share": 0.5, "start": 0, "end": 0}
    options |= {"entropy": 0.01, "early": 10}
    module = toy_module(spec, method=partial(Pmr, **options), fusion=ZERO)
    batches = toy_batches(spec, count=4)
    *_, betas = reference(module, spec, batches, options, epochs=1)
    fit(module, batches)
    expected = torch.tensor(betas).mean(0).tolist()
    assert list(module.method.describe()["weights"].values()) == pytest.approx(expected, abs=1e-5)


def test_outside_its_epochs_it_is_joint_training():
    spec = toy_spec(2)
    plain = toy_module(spec, method=Joint, fusion=ZERO)
    module = toy_module(spec, method=partial(Pmr, start=2), fusion=ZERO)
    for each in (plain, module):
        fit(each, toy_batches(spec), epochs=2)
    for a, b in zip(plain.encoders.parameters(), module.encoders.parameters(), strict=True):
        assert torch.equal(a, b)
    assert module.method.describe() == {}


def test_a_class_that_is_not_shown_keeps_its_prototype():
    spec = toy_spec(2)
    batches = toy_batches(spec, count=4)
    batches[0]["label"] %= 2  # the share is this batch
    module = toy_module(
        spec, method=partial(Pmr, momentum=0.25, share=0.25), fusion=ZERO, optimizer=STILL
    )
    module.method.prototype_MCD.fill_(7.0)
    module.method.known_MC.fill_(True)
    fit(module, batches)
    assert torch.all(module.method.prototype_MCD[:, 2] == 7)
    with torch.no_grad():
        features = module.encoders["b"](batches[0]["inputs"]["b"])
    expected = 0.25 * 7 + 0.75 * features[batches[0]["label"] == 1].mean(0)
    torch.testing.assert_close(module.method.prototype_MCD[1, 1], expected)


def test_a_class_without_prototype_is_left_out():
    """No NaN of a class of which the share shows nobody; its samples are neither asked nor pulled.

    Class 2 is no answer either: the others' probabilities add up to 1 without it.
    """
    spec = toy_spec(2)
    batches = toy_batches(spec, count=4)
    batches[0]["label"] %= 2  # the share is this batch
    options = {"alpha": 0.8, "momentum": 0.3, "share": 0.25, "start": 0, "end": 1}
    options |= {"entropy": 0.5, "early": 1}
    module = toy_module(spec, method=partial(Pmr, **options), fusion=ZERO)
    encoders, _, _, betas = reference(module, spec, batches, options, epochs=2)
    fit(module, batches, epochs=2)
    assert max(map(max, betas)) > 0
    assert module.method.known_MC.tolist() == [[True, True, False]] * 2
    for a, b in zip(module.encoders.parameters(), encoders.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_modality_that_nobody_of_a_batch_has():
    spec = toy_spec(3, complete=False)
    batches = with_gaps(toy_batches(spec, count=4), spec)
    batches[2]["present"][:, 0] = False
    batches[2]["present"][:, 1] = True
    module = toy_module(spec, method=partial(Pmr, share=0.5), fusion=ZERO)
    fit(module, batches, batches, epochs=3)
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert all(v == v for v in module.train_losses.values())


def test_prototypes_survive_a_checkpoint():
    spec = toy_spec(2)
    module = toy_module(spec, method=Pmr, fusion=ZERO)
    fit(module, toy_batches(spec))
    other = Pmr("ab", dim=DIM, classes=CLASSES)
    other.load_state_dict(module.method.state_dict())
    assert torch.equal(other.prototype_MCD, module.method.prototype_MCD)
    assert torch.equal(other.known_MC, module.method.known_MC)
    assert other.known_MC.all()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("alpha", -1.0),
        ("momentum", 1.5),
        ("share", 0.0),
        ("start", -1),
        ("end", -1),
        ("entropy", float("nan")),
        ("early", -1),
    ],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Pmr("ab", dim=DIM, classes=CLASSES, **{option: value})
