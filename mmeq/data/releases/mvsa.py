"""Dataset mvsa: MVSA-Single, 4,869 tweets as image and text, their sentiment as class.

Shape suffixes: N samples.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmeq.data.media.clip import Clip
from mmeq.data.media.dataset import Cells, Listing, MediaDataset
from mmeq.data.media.image import ImageFormat
from mmeq.data.options import one_of
from mmeq.data.releases.known import compare, examples
from mmeq.data.releases.release import text_lines
from mmeq.data.split import Split
from mmeq.errors import MmeqError, did_you_mean

CLASSES = ("positive", "neutral", "negative")
HEADER = "ID\ttext,image"
KNOWN = {"all": 4869}
KNOWN_LABELS = {
    "merged": {"positive": 2683, "neutral": 470, "negative": 1358},
    "agreement": {"all": 2592},
}
FRACTIONS = {"merged": (0.8, 0.1, 0.1), "agreement": (0.6, 0.2, 0.2)}
_SPACE = "\t\n\v\f\r"


class Mvsa(MediaDataset):
    """MVSA-Single as it unpacks: ``labelResultAll.txt`` and ``data/<ID>.jpg``, ``data/<ID>.txt``.

    Each row has a label of the text and one of the image. Protocols [second-hand; the draws are
    ours]; accuracies under the two are not comparable:

    - ``merged``: equal labels are kept; of a neutral and another one the other counts; positive
      against negative is dropped (358). 4,511 pairs, cut 8:1:1.
    - ``agreement``: equal labels alone. 2,592 pairs, cut 6:2:2 (1,555 / 518 / 519).

    Texts are in several encodings. One is read as UTF-8 where it is valid UTF-8 (a character that
    is cut off at its end is dropped), else as Windows-1252, the superset of Latin-1's printable
    characters. A text that is neither, or holds control characters, is absent and named.

    Args:
        data_root: folder of the release.
        prepared: folder of prepared images; None: ``<data_root>/mmeq-prepared``.
        modalities: any of image, text; None takes both.
        protocol: see above.
        fractions: of train, validation and test; None takes the protocol's.
        split_seed: another seed, another split.
        train_size: so many training samples, stratified; None keeps all.
        image: None: resized to 256, crop of 224 pixels [second-hand].

    Raises:
        MmeqError: for options that make no sense.
    """

    name = "mvsa"
    all_kinds: Mapping[str, str] = {"image": "image", "text": "text"}

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "merged",
        fractions: Sequence[float] | None = None,
        split_seed: int = 0,
        train_size: int | None = None,
        image: ImageFormat | None = None,
    ) -> None:
        one_of("protocol", protocol, tuple(FRACTIONS))
        super().__init__(data_root, prepared, modalities, {"image": image or ImageFormat()})
        self.protocol = protocol
        shares = FRACTIONS[protocol] if fractions is None else tuple(fractions)
        self.split = Split(split_seed, shares, train_size)

    def listing(self) -> Listing:
        """Read the label file, and the texts if they are wanted.

        Raises:
            MmeqError: for another header, and names the line of a row that cannot be understood,
                an unknown sentiment, a repeated ID.
        """
        root = self.root(
            "labelResultAll.txt", "data", beneath=["MVSA_Single", "MVSA-Single", "MVSA"]
        )
        rows = _rows(root / "labelResultAll.txt")
        notes = compare(self.name, "rows", {"all": len(rows)}, KNOWN)
        merge = _merged if self.protocol == "merged" else _agreed
        merged = {name: merge(*pair) for name, pair in rows.items()}
        kept = {name: label for name, label in merged.items() if label is not None}
        known = KNOWN_LABELS[self.protocol]
        counts = Counter(kept.values()) | Counter(all=len(kept))
        notes += compare(self.name, f"pairs of protocol {self.protocol}", counts, known)
        ids = list(kept)
        labels = np.array([CLASSES.index(label) for label in kept.values()], dtype=np.int64)
        cells: dict[str, Cells] = {}
        for modality in self.modalities:
            if modality == "text":
                cells[modality], more = _texts(root, ids)
                notes += more
            else:
                names = [f"data/{name}.jpg" for name in ids]
                clips: list[Clip | None] = [Clip(root / name, name) for name in names]
                cells[modality] = clips
        return Listing(
            protocol=f"{self.protocol} {self.split.describe(False)}",
            classes=CLASSES,
            ids=ids,
            labels=labels,
            split=self.split.assign(labels, CLASSES),
            cells=cells,
            notes=notes,
        )


def _merged(text: str, image: str) -> str | None:
    """Return the label of a pair, None where the two contradict each other."""
    if text == image or image == "neutral":
        return text
    return image if text == "neutral" else None


def _agreed(text: str, image: str) -> str | None:
    """Return the label of a pair, None where the two differ."""
    return text if text == image else None


def _rows(path: Path) -> dict[str, tuple[str, str]]:
    """ID → labels of text and image."""
    lines = text_lines(path)
    header = lines[0].rstrip() if lines else ""
    if header != HEADER:
        raise MmeqError(f"{path}: the header is {header!r}, expected {HEADER!r}")
    out: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        name, _, pair = (cell.strip() for cell in line.partition("\t"))
        text, comma, image = (cell.strip() for cell in pair.partition(","))
        if not (name and comma):
            raise MmeqError(f"{place}: {line!r}; expected ID, a tab, and text,image")
        for label in (text, image):
            if label not in CLASSES:
                raise MmeqError(
                    f"{place}: unknown sentiment {label!r}" + did_you_mean(label, CLASSES)
                )
        if name in out:
            raise MmeqError(f"{place}: the ID {name} occurs a second time")
        out[name] = (text, image)
    return out


def decode(data: bytes) -> str | None:
    r"""Return a text of unknown encoding; None where it is no text, see `Mvsa`.

    Examples:
        >>> decode("café".encode()), decode("café".encode("latin-1"))
        ('café', 'café')
        >>> decode(b"caf\xe9 \x00"), decode(b"cut \xf0\x9f\x98")
        (None, 'cut ')
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # one byte alone is more likely to be a Latin-1 letter
        cut_off = error.reason == "unexpected end of data" and len(data) - error.start > 1
        try:
            text = data[: error.start].decode("utf-8-sig") if cut_off else data.decode("cp1252")
        except UnicodeDecodeError:
            return None
    odd = any(unicodedata.category(one) == "Cc" and one not in _SPACE for one in text)
    return None if odd else text


def _texts(root: Path, ids: list[str]) -> tuple[list[str | None], list[str]]:
    """Text of each pair, None where there is none, and notes with names."""
    out: list[str | None] = []
    lost: dict[str, list[str]] = {"missing": [], "no text (neither UTF-8 nor Latin-1)": []}
    lost["empty"] = []
    missing, odd, empty = lost.values()
    for name in ids:
        path = f"data/{name}.txt"
        try:
            data = (root / path).read_bytes()
        except FileNotFoundError:
            missing.append(path)
            out.append(None)
            continue
        except OSError as error:
            raise MmeqError(f"{root / path} cannot be read: {error.strerror or error}") from error
        text = decode(data)
        if text is None:
            odd.append(path)
        elif not text.strip():
            empty.append(path)
        out.append((text or "").strip() or None)
    notes = [
        f"modality 'text': {len(names)} files are {why}: {examples(names)}"
        for why, names in lost.items()
        if names
    ]
    return out, notes
