"""Validation with everything against a plain one, and against 2^M passes over the data.

Everything: all coalitions under the default inference orders, φ, EDM, intervals of 1,000 draws,
and the table of missing modalities. Plain: one forward, one accuracy. Released toolkits run the
encoders again for every coalition, what is absent set to zero: so do the 2^M passes here, in a bare
loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from gauge import peak
from measure import Line, in_turn, line, now, ratio
from models import Batches, Everything, Plain, Shapley, build, device, half, moved, validation
from torch import Tensor

from mmeq.game import all_coalitions, shapley_values
from mmeq.inference.orders import inference_orders
from mmeq.methods.joint import Joint
from mmeq.module import MultimodalModule

JOBS = {
    "ResNet-18": (4, (2, 3), 2, (2,)),
    "transformer": (8, (2, 3, 6), 2, (3,)),
    "MLP": (40, (2, 3, 6), 40, (3,)),
}
"""Kind of encoders → batches and modalities, the same when quick."""
AIM = 1.10


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    for kind, (count, sizes, few, some) in JOBS.items():
        for size in some if quick else sizes:
            yield from against(kind, size, few if quick else count, 3 if quick else 5)
    if not quick:
        yield hybrid_against_one(7)


def against(kind: str, size: int, count: int, repeats: int) -> Iterator[Line]:
    """Validations of so many modalities and batches."""
    batches = Batches(kind, size, count)
    module = build(kind, size, Shapley)
    runs = {
        "all": validation(module, batches, Everything),
        "plain": validation(build(kind, size, Joint, of=Plain), batches),
        "passes": passes(module, batches),
    }
    found = in_turn(runs, repeats)
    tag = f"{kind} x {size}"
    aim: Line = {} if kind == "MLP" else {"aim": AIM}
    yield {
        **line(f"validation with everything / plain, {tag}", found["all"], found["plain"], **aim),
        "samples": batches.samples,
        **peak(runs["all"]),
    }
    plain = {
        who: median(x / y for x, y in zip(found[key], found["plain"], strict=True))
        for who, key in (("ours", "all"), ("2^M passes", "passes"))
    }
    name = f"validation with everything / 2^M passes, {tag}"
    yield line(name, found["all"], found["passes"], in_plain_passes=plain)


def passes(module: MultimodalModule, batches: Batches) -> Callable[[], float]:
    """A function that measures accuracies of all coalitions, a pass each, and gives the seconds."""
    count = len(module.spec.names)
    order = (tuple(range(count)),)
    full = torch.ones(1, count, dtype=torch.bool)

    @torch.inference_mode()
    def run() -> float:
        where = device()
        module.to(where).eval()
        start, values = now(where), []
        for row in all_coalitions(count).tolist():
            right = torch.zeros((), dtype=torch.int64, device=where)
            for batch in batches:
                batch = moved(batch, where)
                shown = zip(batch["inputs"].items(), row, strict=True)
                batch["inputs"] = {name: x if here else hidden(x) for (name, x), here in shown}
                with half():
                    logits = module.fuse(module.encode(batch), full, order)
                right += (logits[0].argmax(-1) == batch["label"]).sum()
            values.append(right)
        shapley_values(torch.stack(values).double().cpu() / batches.samples)
        return now(where) - start

    return run


def hidden(inputs: Any) -> Any:
    """Zeros in place of inputs; lengths stay."""
    if isinstance(inputs, Tensor):
        return torch.zeros_like(inputs)
    return {**inputs, "values": torch.zeros_like(inputs["values"])}


def hybrid_against_one(repeats: int) -> Line:
    """A fused prediction from raw inputs, M=3, ResNet-18: mean over 6 orders against one order."""
    (batch,) = Batches("ResNet-18", 3, 1)
    batch, where = moved(batch, device()), device()
    module = build("ResNet-18", 3, Joint).eval()
    full = module.coalitions_SM[-1:]

    def predict(name: str) -> Callable[[], float]:
        orders = inference_orders(name, (0, 1, 2))

        @torch.inference_mode()
        def run() -> float:
            start = now(where)
            with half():
                module.fuse(module.encode(batch), full, orders)
            return now(where) - start

        return run

    both = predict("hybrid"), predict("memory_guided")
    name = "hybrid inference / one order, encoders included, ResNet-18 x 3"
    return ratio(name, *both, repeats, aim=AIM)
