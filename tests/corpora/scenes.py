"""Pictures, films, voices and texts in which the number of a class can be seen, with noise."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpora.speech import fitted, speak

_WORDS = (
    ("terrible", "shouting", "storm"),
    ("wonderful", "sunny", "holiday"),
    ("table", "station", "paper"),
    ("lonely", "crying", "rain"),
    ("rotten", "smell", "kitchen"),
    ("danger", "running", "night"),
    ("sudden", "surprise", "thunder"),
    ("music", "dancing", "drums"),
)
_FILLER = (
    "today",
    "people",
    "maybe",
    "really",
    "outside",
    "again",
    "morning",
    "something",
    "about",
)
_FRAMES = ("I saw", "She said", "They know", "We heard", "You think", "He wants")


def noise(seed: int, *key: int | str) -> np.random.Generator:
    """Random numbers that depend on the seed and on what they are for, not on the order."""
    parts = [seed, *(part if isinstance(part, int) else hash_of(part) for part in key)]
    return np.random.default_rng(parts)


def hash_of(text: str) -> int:
    """Return a number that is the same in every process (`hash` is not)."""
    return int.from_bytes(text.encode(), "little") % (2**61 - 1)


def picture(
    number: int, classes: int, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """A still of the class: uint8 [H, W, 3]; size is width, height."""
    still: np.ndarray = film(number, classes, 1, size, rng)[0]
    return still


def film(
    number: int, classes: int, frames: int, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """A shape moves over a noisy ground: uint8 [T, H, W, 3].

    The class gives the colour and the direction; place, size and ground are chance.
    """
    width, height = size
    hue = (number / classes + rng.normal(0, 0.15 / classes)) % 1.0
    colour = np.array(colorsys.hsv_to_rgb(hue, 0.85, 0.95)) * 255
    ground = rng.uniform(40, 110, 3)
    angle = 2 * np.pi * number / classes + rng.normal(0, 0.2)
    step = np.array([np.cos(angle) * width, np.sin(angle) * height]) / 24
    place = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    radius = min(width, height) * rng.uniform(0.18, 0.28)
    y, x = np.mgrid[:height, :width]
    out = np.empty((frames, height, width, 3), np.uint8)
    for time in range(frames):
        # The shape wraps round, so that every frame shows it.
        dx = (x - place[0] + width / 2) % width - width / 2
        dy = (y - place[1] + height / 2) % height - height / 2
        inside = dx**2 + dy**2 < radius**2 if number % 2 else np.maximum(abs(dx), abs(dy)) < radius
        field = np.where(inside[..., None], colour, ground)
        out[time] = np.clip(field + rng.normal(0, 14, field.shape), 0, 255)
        place = place + step
    return out


def sentence(number: int, rng: np.random.Generator, words: int = 6) -> str:
    """A short text with one or two words of the class among others."""
    bag = [str(word) for word in rng.choice(_FILLER, max(words - 3, 1))]
    own = _WORDS[number % len(_WORDS)]
    for word in rng.choice(own, 1 + int(rng.integers(2)), replace=False):
        bag.insert(int(rng.integers(len(bag) + 1)), str(word))
    return f"{rng.choice(_FRAMES)} {' '.join(bag)}"


def voice(
    text: str,
    number: int,
    classes: int,
    seconds: float,
    rng: np.random.Generator,
    name: str = "en-us",
) -> tuple[np.ndarray, int]:
    """The text with the pitch and pace of the class, and some hiss: int16 [n] and its rate."""
    share = number / max(classes - 1, 1)
    pitch = int(np.clip(5 + 90 * share + rng.normal(0, 4), 0, 99))
    pace = int(np.clip(130 + 150 * ((number * 2) % classes) / classes + rng.normal(0, 6), 80, 400))
    spoken, rate = speak(text, name, pitch, pace, 20 + 60 * (number % 2))
    samples = fitted(spoken, round(seconds * rate)).astype(float)
    samples += rng.normal(0, 60, len(samples))
    return np.clip(samples, -32768, 32767).astype(np.int16), rate


def tune(
    number: int, classes: int, seconds: float, rng: np.random.Generator, rate: int = 22050
) -> tuple[np.ndarray, int]:
    """A sound whose height and beat are the class's: int16 [n] and its rate."""
    time = np.arange(round(seconds * rate)) / rate
    base = 150 * 2 ** (3.5 * number / classes + rng.normal(0, 0.05))
    wave = sum(np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    beat = 0.6 + 0.4 * np.sin(2 * np.pi * (2 + 1.5 * (number % 4)) * time + rng.uniform(0, 6))
    samples = 6000 * rng.uniform(0.6, 1.2) * wave * beat + rng.normal(0, 250, len(time))
    return np.clip(samples, -32768, 32767).astype(np.int16), rate


def facts_of(root: Path, labels: dict[str, str], **more: Any) -> dict[str, Any]:
    """The facts that all writers return, and those of one."""
    return {
        "root": root,
        "ids": list(labels),
        "labels": labels,
        "classes": sorted(set(labels.values())),
        "count": len(labels),
        **more,
    }
