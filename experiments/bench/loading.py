"""Loading media: decoded on the fly against prepared shards, a fed ResNet-18, flat memory.

CREMA-D-like clips: flv 480 × 360 at 30 frames a second with a grainy moving picture, and wav at
16 kHz, 2.5 s each; audio becomes a 257 × 188 spectrogram, video three frames of 224 × 224.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import script
import torch
from measure import ratio
from torch import Tensor, nn
from torchvision.models import resnet18

from mmeq.data.datamodule import DataModule
from mmeq.data.media.preparing import prepare
from mmeq.data.releases.cremad import CremaD

CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
RATE, SECONDS, FPS, SIZE = 16000, 2.5, 30, (480, 360)
BATCH = 4


def write_corpus(root: Path, actors: int) -> int:
    """Write six clips an actor in the official layout; return how many."""
    (root / "AudioWAV").mkdir(parents=True)
    (root / "VideoFlash").mkdir()
    random = np.random.default_rng(0)
    for actor in range(1001, 1001 + actors):
        for code in CODES:
            name = f"{actor}_DFA_{code}_XX"
            write_film(root / "VideoFlash" / f"{name}.flv", random)
            write_sound(root / "AudioWAV" / f"{name}.wav", random)
    return actors * len(CODES)


def write_film(path: Path, random: np.random.Generator) -> None:
    """Write a drifting grainy picture."""
    width, height = SIZE
    coarse = random.integers(0, 256, (height // 8 + 40, width // 8 + 40, 3), dtype=np.uint8)
    picture = coarse.repeat(8, 0).repeat(8, 1)
    with av.open(path, "w") as container:
        stream = container.add_stream("flv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 500_000
        for step in range(int(SECONDS * FPS)):
            moved = picture[step * 2 : step * 2 + height, step * 3 : step * 3 + width]
            grain = random.integers(0, 24, (height, width, 1), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved // 2 + grain), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_sound(path: Path, random: np.random.Generator) -> None:
    """Write a noisy tone."""
    time_T = np.arange(int(RATE * SECONDS)) / RATE
    wave = 8000 * np.sin(2 * np.pi * random.uniform(120, 400) * time_T)
    samples = (wave + random.normal(0, 800, len(time_T))).astype(np.int16)
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def module(root: Path, prepared: Path, batch: int, workers: int) -> DataModule:
    """The data module that training uses."""
    data = DataModule(
        CremaD(str(root), str(prepared), fractions=(0.8, 0.1, 0.1)), batch, workers=workers
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.setup()
    return data


def epoch(data: DataModule) -> Callable[[], float]:
    """A function that loads the train part once and gives the seconds for a clip."""
    loader = data.train_dataloader()

    def run() -> float:
        start, count = time.perf_counter(), 0
        for batch in loader:
            count += len(batch["id"])
        return (time.perf_counter() - start) / count

    return run


class Pair(nn.Module):
    """ResNet-18 on the spectrogram and on the frames, the field's recipe; logits are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.video = resnet18(num_classes=6), resnet18(num_classes=6)
        self.audio.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits [B, 6]."""
        frames = inputs["video"].flatten(0, 1).float() / 255
        film = self.video(frames).unflatten(0, inputs["video"].shape[:2]).mean(1)
        return self.audio(inputs["audio"][:, None]) + film


class Steps:
    """Trains a few steps; gives the seconds of one, and keeps the share spent waiting for data.

    Args:
        net: what is trained.
        batches: makes an endless source of batches.
        count: steps.
    """

    def __init__(self, net: Pair, batches: Callable[[], Iterator[Any]], count: int) -> None:
        self.net, self.batches, self.count = net, batches, count
        self.optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        self.waiting: list[float] = []

    def __call__(self) -> float:
        """Run."""
        source, waited = self.batches(), 0.0
        next(source)  # workers start before the clock does
        start = time.perf_counter()
        for _ in range(self.count):
            asked = time.perf_counter()
            batch = next(source)
            waited += time.perf_counter() - asked
            self.optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(self.net(batch["inputs"]), batch["label"]).backward()
            self.optimizer.step()
        seconds = time.perf_counter() - start
        self.waiting.append(waited / seconds)
        return seconds / self.count


def endless(loader: Any) -> Iterator[Any]:
    """Batches, epoch after epoch."""
    while True:
        yield from loader


def anonymous_mib() -> float:
    """Memory of this process that is no mapped file (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def lines(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements."""
    actors, repeats = (10, 3) if quick else (20, 5)
    with tempfile.TemporaryDirectory() as folder:
        root, shards = Path(folder) / "cremad", Path(folder) / "shards"
        write_corpus(root, actors)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepare(CremaD(str(root), str(shards)), workers=2)
        for workers in (0, 2):
            fly = epoch(module(root, Path(folder) / "none", 8, workers))
            ready = epoch(module(root, shards, 8, workers))
            line = ratio(
                f"loading on the fly / prepared, CREMA-D-like, {workers} workers",
                fly,
                ready,
                repeats,
            )
            line["clips_per_second"] = [1 / seconds for seconds in line["seconds"]]
            yield line
        yield fed(root, shards, repeats)
        yield flat(module(root, shards, 8, 0))


def fed(root: Path, shards: Path, repeats: int) -> dict[str, Any]:
    """A ResNet-18 pair that waits for shards, against one that has its batches ready."""
    net = Pair()
    loader = module(root, shards, BATCH, 1).train_dataloader()
    kept = list(loader)[:2]
    shards_first = Steps(net, lambda: endless(loader), 3)
    line = ratio(
        "ResNet-18 pair fed from shards by one worker / from memory, a step",
        shards_first,
        Steps(net, lambda: endless(kept), 3),
        repeats,
    )
    line["waiting"] = statistics.median(shards_first.waiting)
    print(f"  share of a step spent waiting for data: {100 * line['waiting']:.2f} %", flush=True)
    return line


def flat(data: DataModule, epochs: int = 6) -> dict[str, Any]:
    """Memory after each epoch of reading shards in this process."""
    loader, grown = data.train_dataloader(), []
    for _ in range(epochs):
        for _ in loader:
            pass
        grown.append(anonymous_mib())
    line = {"name": "anonymous memory (MiB) after epochs 1 to 6 of reading shards", "mib": grown}
    print(f"{line['name']:<66} {' '.join(f'{mib:.0f}' for mib in grown)}", flush=True)
    return line


if __name__ == "__main__":
    script.main(__doc__, "loading", "clips and repeats", lines, av=av.__version__)
