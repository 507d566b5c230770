"""CMU-MOSEI and UR-FUNNY as pickles of feature sequences, in the distributions in use."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpora.kinetics import youtube_id
from tests.corpora.scenes import facts_of, noise, sentence

MOSEI_WIDTHS = {"vision": 35, "audio": 74, "text": 300}
FUNNY_WIDTHS = {"vision": 371, "audio": 81, "text": 300}
STEPS = 50


def write_mosei(
    root: Path, train: int = 24, valid: int = 8, test: int = 8, seed: int = 0
) -> dict[str, Any]:
    """Write ``mosei_senti_data.pkl``: ``{"train": {…}, "valid": {…}, "test": {…}}``.

    Each part has float32 arrays ``vision`` [N, 50, 35], ``audio`` [N, 50, 74], ``text``
    [N, 50, 300], ``labels`` [N, 1, 1] from −3 to 3 and strings ``id`` [N, 3] (video, start, end).
    Sequences are filled with zeros in front; audio has −inf in places (log of nothing). Every
    video gives two segments of one part.

    Returns:
        The common facts (ids: ``<video>_<start>_<end>``; labels: negative, neutral or positive
        after rounding to whole numbers) and by id ``split``, ``scores`` (float), ``videos``;
        ``file``: the Path; ``lengths`` (steps that are not filling).
    """
    labels: dict[str, str] = {}
    split: dict[str, str] = {}
    scores: dict[str, float] = {}
    videos: dict[str, str] = {}
    lengths: dict[str, int] = {}
    content = {}
    for part, count in (("train", train), ("valid", valid), ("test", test)):
        rng = noise(seed, "mosei", part)
        score = np.round(np.linspace(-3, 3, count) + rng.normal(0, 0.1, count), 4).clip(-3, 3)
        score = score[rng.permutation(count)].astype(np.float32)
        sign = np.sign(np.round(score)).astype(int)
        arrays, used = _sequences(rng, sign + 1, 3, MOSEI_WIDTHS)
        arrays["audio"][:: max(count // 4, 1), -1, :3] = -np.inf
        rows = []
        for number in range(count):
            video = youtube_id(seed, "mosei", part, number // 2)
            start = f"{10.5 * (number % 2):.3f}"
            end = f"{10.5 * (number % 2) + 6.25:.3f}"
            name = f"{video}_{start}_{end}"
            rows.append((video, start, end))
            labels[name] = ("negative", "neutral", "positive")[sign[number] + 1]
            split[name], videos[name], lengths[name] = part, video, int(used[number])
            scores[name] = float(score[number])
        content[part] = {**arrays, "labels": score.reshape(-1, 1, 1), "id": np.array(rows)}
    path = root / "mosei_senti_data.pkl"
    _dump(path, content)
    facts = {"split": split, "scores": scores, "videos": videos, "lengths": lengths}
    return facts_of(root, labels, **facts, file=path)


def write_ur_funny(
    root: Path,
    train: int = 24,
    valid: int = 8,
    test: int = 8,
    empty_text: int = 0,
    original: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Write ``humor.pkl`` as MultiBench has it, or (`original`) the six pickles of UR-FUNNY v2.

    ``humor.pkl``: parts train, valid, test with float32 ``vision`` [N, 50, 371], ``audio``
    [N, 50, 81], ``text`` [N, 50, 300], filled with zeros in front, int ``labels`` [N, 1] (0, 1)
    and int ``id`` [N, 1].

    The six: data_folds (train, dev, test: lists of ids), language_sdk, openface_features_sdk,
    covarep_features_sdk (id -> punchline and context), humor_label_sdk (id -> 0 or 1),
    word_embedding_list (list of 300 numbers each).

    Args:
        root: data root.
        train: samples, half of them humorous.
        valid: the same (part ``dev`` of the original).
        test: the same.
        empty_text: samples of the train part of humor.pkl whose text is all zeros.
        original: write the six pickles in place of humor.pkl.
        seed: of everything.

    Returns:
        The common facts (ids: numbers as text; labels "0", "1"), ``split`` by id (train, valid,
        test), ``empty_text``: ids; ``original`` only: ``texts`` by id (the punchlines).
    """
    labels: dict[str, str] = {}
    split: dict[str, str] = {}
    zeros: list[str] = []
    content: dict[str, dict[str, np.ndarray]] = {}
    next_id = 1
    for part, count in (("train", train), ("valid", valid), ("test", test)):
        rng = noise(seed, "funny", part)
        target = rng.permutation(np.arange(count) % 2)
        ids = next_id + rng.permutation(count)
        next_id += count
        arrays, _ = _sequences(rng, target, 2, FUNNY_WIDTHS)
        if part == "train" and empty_text:
            arrays["text"][:empty_text] = 0
            zeros = [str(i) for i in ids[:empty_text]]
        content[part] = {**arrays, "labels": target.reshape(-1, 1), "id": ids.reshape(-1, 1)}
        for name, value in zip(ids, target, strict=True):
            labels[str(name)], split[str(name)] = str(value), part
    facts = facts_of(root, labels, split=split, empty_text=zeros)
    if original:
        facts["texts"] = _original(root, content, seed)
    else:
        _dump(root / "humor.pkl", content)
    return facts


def _sequences(
    rng: np.random.Generator, target: np.ndarray, classes: int, widths: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Noise, longer or shorter, with a direction of the class in every step."""
    used = rng.integers(8, STEPS + 1, len(target))
    filled = np.arange(STEPS) >= STEPS - used[:, None]
    arrays = {}
    for name, width in widths.items():
        directions = noise(7, name).normal(0, 1, (classes, width))
        field = rng.normal(0, 1, (len(target), STEPS, width)) + 0.5 * directions[target][:, None]
        arrays[name] = (field * filled[..., None]).astype(np.float32)
    return arrays, used


def _original(root: Path, content: dict[str, dict[str, np.ndarray]], seed: int) -> dict[str, str]:
    folds: dict[str, list[int]] = {}
    language: dict[int, dict[str, Any]] = {}
    visual: dict[int, dict[str, Any]] = {}
    acoustic: dict[int, dict[str, Any]] = {}
    humor: dict[int, int] = {}
    vocabulary: dict[str, int] = {}
    texts: dict[str, str] = {}
    for part, arrays in content.items():
        fold = folds.setdefault("dev" if part == "valid" else part, [])
        for row, identity in enumerate(arrays["id"][:, 0].tolist()):
            rng = noise(seed, "sdk", identity)
            label = int(arrays["labels"][row, 0])
            said = [sentence(k, rng) for k in (label, 2, 3)]
            numbers = [[vocabulary.setdefault(w, len(vocabulary)) for w in s.split()] for s in said]
            times = [[[0.4 * i, 0.4 * i + 0.3] for i in range(len(n))] for n in numbers]
            language[identity] = {
                "punchline_embedding_indexes": numbers[0],
                "context_embedding_indexes": numbers[1:],
                "punchline_sentence": said[0],
                "context_sentences": said[1:],
                "punchline_intervals": times[0],
                "context_intervals": times[1:],
            }
            for name, store in (("vision", visual), ("audio", acoustic)):
                steps = [arrays[name][row, -len(n) :].tolist() for n in numbers]
                store[identity] = {"punchline_features": steps[0], "context_features": steps[1:]}
            fold.append(identity)
            humor[identity], texts[str(identity)] = label, said[0]
    words = [noise(5, word).normal(0, 1, 300).tolist() for word in vocabulary]
    for name, value in {
        "data_folds": folds,
        "language_sdk": language,
        "openface_features_sdk": visual,
        "covarep_features_sdk": acoustic,
        "humor_label_sdk": humor,
        "word_embedding_list": words,
    }.items():
        _dump(root / f"{name}.pkl", value)
    return texts


def _dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        pickle.dump(value, file)
