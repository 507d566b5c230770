"""Training: an alternating epoch against a joint one, and against the encoders alone.

The same encoders, batches, fusion (the memory) and optimizer (the default AdamW, clipped)
on both sides. The floor is a plain loop of the encoders' forward and backward: no fusion, no
optimizer, no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial

import torch
from gauge import peak
from measure import Line, in_turn, line, now, ratio
from models import Batches, Shapley, build, device, epoch, floor, half
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmeq.config.compiling import compile_parts
from mmeq.data.spec import Modality
from mmeq.encoders.resnet import PictureResNet
from mmeq.methods.joint import Joint

JOBS = {
    "ResNet-18": (2, 2, (2, 3, 6), (2,)),
    "transformer": (4, 2, (2, 3, 6), (3,)),
    "MLP": (40, 20, (2, 3, 6), (2, 3, 6)),
}
"""Kind of encoders → batches an epoch and when quick, modalities and when quick."""
AIMS = {"ResNet-18": 1.10, "transformer": 1.10, "MLP": 2.0}
FLOOR = 1.25


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    for kind, (count, few, sizes, some) in JOBS.items():
        for size in some if quick else sizes:
            yield from against(kind, size, few if quick else count, 2 if quick else 5)
    if not quick:
        yield from switched()


def switched() -> Iterator[Line]:
    """What two options bring: half precision, and compiled encoders and fusion."""
    batches = Batches("ResNet-18", 2, 4)
    module = build("ResNet-18", 2, Shapley)
    pair = epoch(module, batches, "bf16-mixed"), epoch(module, batches, "32-true")
    yield ratio("alternating epoch, precision bf16-mixed / 32-true, ResNet-18 x 2", *pair, 5)
    for size in (48, 112, 224):
        net = PictureResNet(Modality("x", "image", (3, size, size)), 512, augment=False)
        last = deepcopy(net).to(memory_format=torch.channels_last)
        pictures = torch.randint(256, (8, 3, size, size), dtype=torch.uint8)
        pair = passes(last, pictures), passes(net, pictures)
        name = f"forward and backward, channels-last / rows-first, ResNet-18, {size} x {size}"
        yield ratio(name, *pair, 7)
    for kind, size, count in (("MLP", 3, 40), ("MLP", 6, 40), ("transformer", 3, 4)):
        batches, compiled = Batches(kind, size, count), build(kind, size, Shapley)
        compile_parts(compiled)
        pair = epoch(compiled, batches), epoch(build(kind, size, Shapley), batches)
        yield ratio(f"alternating epoch, compile=true / false, {kind} x {size}", *pair, 5)


def against(kind: str, size: int, count: int, repeats: int) -> Iterator[Line]:
    """Alternating epochs of so many modalities and batches."""
    batches = Batches(kind, size, count)
    alternating, joint_module = build(kind, size, Shapley), build(kind, size, Joint)
    runs = {
        "alternating": epoch(alternating, batches),
        "joint": epoch(joint_module, batches),
        "floor": floor(alternating, batches),
    }
    found = in_turn(runs, repeats)
    ours, joint, least = found["alternating"], found["joint"], found["floor"]
    tag = f"{kind} x {size}"
    rate = partial(rates, kind, size, batches.samples)
    one = Batches(kind, size, 1)
    least_possible = flops(epoch(alternating, one)) / flops(epoch(joint_module, one))
    first = line(f"alternating epoch / joint epoch, {tag}", ours, joint, aim=AIMS[kind])
    first["in_products"] = least_possible
    yield {**first, **rate(first), **peak(runs["alternating"])}
    second = line(f"alternating epoch / forward and backward alone, {tag}", ours, least)
    yield {**second, **rate(second), **({} if kind == "MLP" else {"aim": FLOOR})}


def passes(net: nn.Module, pictures: Tensor) -> Callable[[], float]:
    """A function that runs a network forward and backward and gives its seconds."""
    net, pictures = net.to(device()), pictures.to(device())

    def run() -> float:
        begun = now(device())
        net.zero_grad(set_to_none=True)
        with half():
            features = net(pictures)
        features.sum().backward()
        return now(device()) - begun

    return run


def flops(run: Callable[[], float]) -> int:
    """Operations of the matrix products and convolutions that a run makes, backwards included."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def rates(kind: str, modalities: int, samples: int, line: Line) -> Line:
    """Samples per second on both sides of a line, and images (or spectrograms) of ResNets."""
    found = {"samples_per_second": [samples / seconds for seconds in line["seconds"]]}
    if kind == "ResNet-18":
        found["images_per_second"] = [modalities * one for one in found["samples_per_second"]]
    return found
