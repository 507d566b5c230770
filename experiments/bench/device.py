"""On CUDA alone: images per second, share of the measured matrix-product ceiling, idle share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

import torch
from measure import Line, in_turn, line, now
from models import Batches, Shapley, build, device, epoch, floor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mmeq.methods.joint import Joint

KIND, MODALITIES, BATCH, SIDE = "ResNet-18", 2, 64, 8192


def lines(quick: bool) -> Iterator[Line]:
    """All measurements; without CUDA one line that says so."""
    if device().type != "cuda":
        yield {"name": "device: not run, there is no CUDA device", "device": "cpu"}
        return
    batches = Batches(KIND, MODALITIES, 4 if quick else 20, BATCH)
    alternating = build(KIND, MODALITIES, Shapley)
    runs = {
        "alternating": epoch(alternating, batches),
        "joint": epoch(build(KIND, MODALITIES, Joint), batches),
        "floor": floor(alternating, batches),
    }
    found = in_turn(runs, 3 if quick else 7)
    with FlopCounterMode(display=False) as counter:
        floor(alternating, Batches(KIND, MODALITIES, 1, BATCH))()
    work = counter.get_total_flops() * len(batches.batches)
    ceiling = products()
    for name, against in (("joint epoch", "joint"), ("forward and backward alone", "floor")):
        told = line(
            f"alternating epoch / {name}, {KIND} x {MODALITIES}, B={BATCH}, on the device",
            found["alternating"],
            found[against],
        )
        told["images_per_second"] = [MODALITIES * batches.samples / s for s in told["seconds"]]
        told["of_ceiling"] = [work / s / ceiling for s in told["seconds"]]
        yield {**told, "ceiling_tflops": ceiling / 1e12}
    share = idle(runs["alternating"], median(found["alternating"]))
    yield {"name": "device idle in an alternating epoch", "share": share}


def products() -> float:
    """Floating-point operations a second of bf16 matrix products, the best of several."""
    where = device()
    a, b = (torch.randn(SIDE, SIDE, device=where, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = now(where)
        for _ in range(10):
            a @ b
        best = min(best, (now(where) - start) / 10)
    return 2 * SIDE**3 / best


def idle(run: Callable[[], float], seconds: float) -> float:
    """Share of an epoch's time, as measured without the profiler, in which no kernel runs."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        run()
    busy = sum(
        float(event.self_device_time_total)  # microseconds
        for event in found.key_averages()
        if event.device_type.name == "CUDA" and not event.is_user_annotation
    )
    return max(0.0, 1 - busy / 1e6 / seconds)
