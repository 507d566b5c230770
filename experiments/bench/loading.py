"""Loading media: decoded on the fly against prepared shards, a fed ResNet-18, flat memory.

CREMA-D-like clips: flv 480 × 360 at 30 frames a second with a grainy moving picture, and wav at
16 kHz, 2.5 s each; audio becomes a 257 × 188 spectrogram, video three frames of 224 × 224.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from measure import Line, in_turn, line, now, ratio
from models import device, half, moved
from torch import Tensor, nn
from torchvision.models import resnet18

from mmeq.data.datamodule import DataModule
from mmeq.data.feature_cache import FeatureCache, FeatureFormat
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


def corpus(root: Path, prepared: Path) -> CremaD:
    """The data set, with parts that few actors can fill."""
    return CremaD(str(root), str(prepared), fractions=(0.6, 0.2, 0.2))


def module(root: Path, prepared: Path, batch: int, workers: int) -> DataModule:
    """The data module that training uses."""
    data = DataModule(corpus(root, prepared), batch, workers=workers)
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
        self.net, self.batches, self.count = net.to(device()), batches, count
        self.optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        self.waiting: list[float] = []

    def __call__(self) -> float:
        """Run."""
        source, waited, where = self.batches(), 0.0, device()
        next(source)  # workers start before the clock does
        start = now(where)
        for _ in range(self.count):
            asked = time.perf_counter()
            batch = moved(next(source), where)
            waited += time.perf_counter() - asked
            self.optimizer.zero_grad(set_to_none=True)
            with half():
                logits = self.net(batch["inputs"])
            nn.functional.cross_entropy(logits.float(), batch["label"]).backward()
            self.optimizer.step()
        seconds = now(where) - start
        self.waiting.append(waited / seconds)
        return seconds / self.count


def endless(loader: Any) -> Iterator[Any]:
    """Batches, epoch after epoch."""
    while True:
        yield from loader


def anonymous_mib() -> float:
    """Memory of this process that is no mapped file (Linux)."""
    for row in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if row.startswith("RssAnon:"):
            return int(row.split()[1]) / 1024
    return float("nan")


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    actors, repeats = (3, 2) if quick else (20, 5)
    with tempfile.TemporaryDirectory() as folder:
        root, shards = Path(folder) / "cremad", Path(folder) / "shards"
        write_corpus(root, actors)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepare(corpus(root, shards), workers=2)
        for workers in (0,) if quick else (0, 2):
            yield from sources(root, shards, Path(folder), workers, repeats)
        yield fed(root, shards, *((1, 2) if quick else (3, repeats)))
        if not quick:
            yield flat(module(root, shards, 8, 0))


def sources(root: Path, shards: Path, folder: Path, workers: int, repeats: int) -> Iterator[Line]:
    """Decoding, prepared shards and cached features, in turn."""
    runs = {
        "fly": epoch(module(root, folder / "none", 8, workers)),
        "ready": epoch(module(root, shards, 8, workers)),
        "cached": epoch(cached(module(root, shards, 8, workers), folder / "features")),
    }
    found = in_turn(runs, repeats)
    for name, a, b in (
        ("loading on the fly / prepared shards", "fly", "ready"),
        ("prepared shards / cached features", "ready", "cached"),
    ):
        told = line(f"{name}, CREMA-D-like, {workers} workers", found[a], found[b])
        yield {**told, "samples_per_second": [1 / seconds for seconds in told["seconds"]]}


def cached(data: DataModule, root: Path) -> DataModule:
    """The same data with features of frozen encoders in a cache in place of its media."""
    manifest = data.manifest
    keys = np.array([hashlib.md5(one.encode()).hexdigest().encode() for one in manifest.ids], "S32")
    random = np.random.default_rng(0)

    def compute(rows: list[int]) -> Generator[tuple[list[int], np.ndarray], None, None]:
        yield rows, random.standard_normal((len(rows), 512)).astype(np.float32)

    for m, one in enumerate(data.spec.modalities):
        cache = FeatureCache(root, FeatureFormat(one.name, {}))
        cache.fill(keys, manifest.ids, compute)
        column = cache.column(keys, manifest.present[:, m].numpy())
        if column is None:
            raise RuntimeError(f"the cache has not all features of {one.name}")
        manifest.columns[one.name] = column
    return data


def fed(root: Path, shards: Path, steps: int, repeats: int) -> Line:
    """A ResNet-18 pair that waits for shards, against one that has its batches ready."""
    net = Pair()
    loader = module(root, shards, BATCH, 1).train_dataloader()
    kept = list(loader)[:2]
    shards_first = Steps(net, lambda: endless(loader), steps)
    name = "ResNet-18 pair fed from shards by one worker / from memory, a step"
    found = ratio(name, shards_first, Steps(net, lambda: endless(kept), steps), repeats)
    return {**found, "waiting": statistics.median(shards_first.waiting)}


def flat(data: DataModule, epochs: int = 6) -> Line:
    """Memory after each epoch of reading shards in this process."""
    loader, grown = data.train_dataloader(), []
    for _ in range(epochs):
        for _ in loader:
            pass
        grown.append(anonymous_mib())
    return {
        "name": f"anonymous memory (MiB) after epochs 1 to {epochs} of reading shards",
        "ratio": (share := grown[-1] / grown[0]),
        "lowest": share,
        "highest": share,
        "repeats": 1,
        "mib": grown,
    }
