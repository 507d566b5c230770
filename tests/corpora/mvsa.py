"""MVSA-Single as released: tweets with an image, texts in mixed encodings, two labels a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.corpora.media import write_image, write_text
from tests.corpora.scenes import facts_of, noise, picture, sentence

MVSA_CLASSES = ("negative", "neutral", "positive")
_LOOKS = {"negative": 0, "positive": 1, "neutral": 2}
# What stands at the end of a text, and how the file is written.
_ENDINGS = (
    ("#photo http://t.co/a1B2", "utf-8"),
    ("at the café, déjà vu", "latin-1"),
    ("\U0001f600\U0001f44d\U0001f3fd #emoji", "utf-8"),
    ("naïve façade £5", "latin-1"),
    ("“quoted” – crème", "utf-8"),
)


def write_mvsa(
    root: Path, each: int = 2, size: tuple[int, int] = (64, 48), seed: int = 0
) -> dict[str, Any]:
    """Write `each` pairs of every text and image label: 9 × each rows of labelResultAll.txt.

    The text shows the text's label and the image the image's. Every seventh image is grey, and
    every third stands on end.

    Returns:
        The common facts, where labels, classes and count are of the protocol `merged` and ids are
        all rows, and: ``pairs`` (id -> (text, image)), ``agreement`` (id -> label, both equal),
        ``dropped`` (ids of positive against negative), ``texts`` and ``encodings`` by id.
    """
    rng = noise(seed, "mvsa")
    bag = [(t, i) for t in MVSA_CLASSES for i in MVSA_CLASSES for _ in range(each)]
    pairs, merged, agreement, texts, encodings = {}, {}, {}, {}, {}
    number = 0
    for position, index in enumerate(rng.permutation(len(bag))):
        number += 1 + int(rng.random() < 0.1)  # the release's numbers have gaps
        name, (text_label, image_label) = str(number), bag[index]
        ending, encoding = _ENDINGS[position % len(_ENDINGS)]
        text = f"RT @user{number}: {sentence(_LOOKS[text_label], rng)} {ending}"
        shown = size[::-1] if position % 3 == 2 else size
        image = picture(_LOOKS[image_label], 3, shown, rng)
        grey = image.mean(-1).astype("uint8") if position % 7 == 6 else image
        write_image(root / "data" / f"{name}.jpg", grey)
        write_text(
            root / "data" / f"{name}.txt", [text], encoding, "\r\n" if position % 2 else "\n"
        )
        pairs[name], texts[name], encodings[name] = (text_label, image_label), text, encoding
        if text_label == image_label:
            agreement[name] = merged[name] = text_label
        elif "neutral" in pairs[name]:
            merged[name] = image_label if text_label == "neutral" else text_label
    rows = [f"{name}\t{text},{image}" for name, (text, image) in pairs.items()]
    write_text(root / "labelResultAll.txt", ["ID\ttext,image", *rows])
    facts = facts_of(
        root,
        merged,
        pairs=pairs,
        agreement=agreement,
        dropped=[name for name in pairs if name not in merged],
        texts=texts,
        encodings=encodings,
    )
    return {**facts, "ids": list(pairs)}
