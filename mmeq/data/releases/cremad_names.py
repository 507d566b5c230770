"""What CREMA-D's files are called, and the lists of them.

A clip's name is ``<actor>_<sentence>_<emotion>_<level>``, e.g. 1001_DFA_ANG_XX.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

from mmeq.data.media.clip import Clip
from mmeq.data.releases.known import examples
from mmeq.data.releases.release import entries, text_lines
from mmeq.errors import MmeqError, did_you_mean

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
LEVELS = ("XX", "LO", "MD", "HI")
SUFFIX = {"AudioWAV": ".wav", "AudioMP3": ".mp3", "VideoFlash": ".flv"}
_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{2})")
_POINTER = b"version https://git-lfs"


def files(folder: Path) -> dict[str, Path]:
    """Stem → media file of a folder."""
    suffix = SUFFIX[folder.name]
    found = [path for path in entries(folder) if not path.name.startswith(".")]
    return {whole(path.stem): path for path in found if path.suffix.lower() == suffix}


def is_name(name: str) -> bool:
    """The name has the form of a clip's."""
    return _NAME.fullmatch(name) is not None


def whole(name: str) -> str:
    """The name with the level that the shortened one should have."""
    return f"{name}X" if name.endswith("_X") else name


def parse(name: str, where: str = "") -> tuple[str, str, str, str]:
    """Return actor, sentence, emotion and level of a clip's name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise MmeqError(
            f"{where}{name!r} is no name of a CREMA-D clip: expected e.g. 1001_DFA_ANG_XX"
        )
    actor, sentence, emotion, level = found.groups()
    if not 1001 <= int(actor) <= 1091:
        raise MmeqError(f"{where}{name}: the actors are 1001 to 1091, not {actor}")
    for what, code, codes in (
        ("sentence", sentence, SENTENCES),
        ("emotion", emotion, CLASSES),
        ("level", level, LEVELS),
    ):
        if code not in codes:
            raise MmeqError(f"{where}{name}: unknown {what} {code!r}" + did_you_mean(code, codes))
    return actor, sentence, emotion, level


def table(path: Path) -> list[str]:
    """The names that ``SentenceFilenames.csv`` lists."""
    try:
        rows = list(csv.reader(text_lines(path)))
    except csv.Error as error:
        raise MmeqError(f"{path}: no CSV: {error}") from error
    header = rows[0] if rows else []
    if "Filename" not in header:
        raise MmeqError(f"{path}: the header is {','.join(header)!r}, expected a column Filename")
    at = header.index("Filename")
    lines: dict[str, int] = {}
    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        name = whole(row[at] if len(row) > at else "")
        parse(name, f"{path}, line {line}: ")
        if name in lines:
            raise MmeqError(f"{path}, line {line}: {name} stands in line {lines[name]} already")
        lines[name] = line
    return list(lines)


def rows(path: Path, part: str) -> list[tuple[int, str, str]]:
    """Return line number, name and label of each row of a given list."""
    if not path.is_file():
        raise MmeqError(
            f"{part}_list={path}: there is no such file (a relative path begins at data_root)"
        )
    out = []
    for line, text in enumerate(text_lines(path), 1):
        if not text.strip():
            continue
        name, comma, label = (cell.strip() for cell in text.partition(","))
        if not comma or label not in CLASSES:
            raise MmeqError(
                f"{path}, line {line}: {text!r}; expected name,EMO with EMO one of "
                f"{', '.join(CLASSES)}"
            )
        out.append((line, whole(name), label))
    if not out:
        raise MmeqError(f"{part}_list={path}: the list has no clip")
    return out


def strange(found: dict[str, dict[str, Path]], ids: set[str]) -> list[str]:
    """Return notes that name the files which are left out, since no clip is called so."""
    out = []
    for folder, files in found.items():
        odd = [path.name for name, path in files.items() if name not in ids]
        if odd:
            out.append(f"{folder}: {len(odd)} files are no clip of the release: {examples(odd)}")
    return out


def lost(here: set[str], listed: list[str] | None) -> dict[str, list[str]]:
    """What is missing, by name: clips where the release's list is there, else actors."""
    if listed is not None:
        return {"clips": [name for name in listed if name not in here]}
    counts = Counter(name[:4] for name in here)
    gone = [str(actor) for actor in range(1001, 1092) if str(actor) not in counts]
    # 82 is what a complete actor has: 11 sentences × 6 emotions, and the one spoken at 3 levels
    few = [f"{actor} ({count} of 82)" for actor, count in sorted(counts.items()) if count < 82]
    return {"actors": gone, "clips of some actors (the release itself lacks 20)": few}


def clip(root: Path, folder: str, files: dict[str, dict[str, Path]], name: str) -> Clip:
    """The clip of a name; where its file is missing, with the path it should have."""
    path = files[folder].get(name) or root / folder / f"{name}{SUFFIX[folder]}"
    return Clip(path, f"{folder}/{path.name}")


def refuse_pointer(clips: list[Clip]) -> None:
    """A zip download of the repository holds text files in place of the media: say so early."""
    first = next((clip for clip in clips if clip.path.is_file()), None)
    if first is None:
        return
    try:
        with first.path.open("rb") as stream:
            begin = stream.read(len(_POINTER))
    except OSError as error:
        raise MmeqError(f"{first.path} cannot be read: {error.strerror or error}") from error
    if begin == _POINTER:
        raise MmeqError(
            f"{first.path} is a Git LFS pointer, not a media file: the repository was "
            "downloaded without its content; run git lfs pull in a clone of it"
        )
