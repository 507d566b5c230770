"""Label files and transcripts of IEMOCAP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmeq.data.releases.known import examples
from mmeq.errors import MmeqError, did_you_mean

KNOWN = {
    "neu": 1708, "ang": 1103, "sad": 1084, "hap": 595, "exc": 1041, "fru": 1849,
    "sur": 107, "fea": 40, "dis": 2, "oth": 3, "xxx": 2507,
}  # fmt: skip
DIALOGS = {1: 28, 2: 30, 3: 32, 4: 30, 5: 31}
_LABEL = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\S+)\s+\[.*\]\s*")
_NAME = re.compile(r"(Ses0([1-5])([FM])_\w+)_([FM])\w+")
_TEXT = re.compile(r"(\S+)\s+\[[^\]]*\]\s*:(.*)")


@dataclass(frozen=True)
class Utterance:
    """One line of the label files.

    Attributes:
        name: e.g. Ses01F_impro01_M003.
        dialog: e.g. Ses01F_impro01.
        session: 1 to 5.
        speaker: e.g. Ses01M, the man of session 1.
        half: left or right, where the dialog's video shows the speaker.
        code: of the emotion.
        start: seconds from the beginning of the dialog.
        end: seconds.
    """

    name: str
    dialog: str
    session: int
    speaker: str
    half: str
    code: str
    start: float
    end: float


def _lines(path: Path) -> list[str]:
    """Lines of a text file in UTF-8, else in Latin-1 (some raters' comments are)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MmeqError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return data.decode("latin-1").splitlines()


def labels(root: Path) -> tuple[list[Utterance], dict[int, int], list[str]]:
    """Every labelled utterance, label files of each session, names of files without any label."""
    seen: dict[str, str] = {}
    out, dialogs, bare = list[Utterance](), dict[int, int](), list[str]()
    for session in DIALOGS:
        # the name's pattern leaves out what a Mac writes beside them (._Ses01F_impro01.txt)
        files = sorted((root / f"Session{session}/dialog/EmoEvaluation").glob("Ses*.txt"))
        dialogs[session] = len(files)
        for path in files:
            before = len(out)
            for number, line in enumerate(_lines(path), 1):
                if not line.startswith("["):
                    continue
                place = f"{path}, line {number}"
                one = _utterance(line, path.stem, place)
                if one.name in seen:
                    raise MmeqError(f"{place}: {one.name} is labelled in {seen[one.name]} already")
                seen[one.name] = place
                out.append(one)
            if len(out) == before:
                bare.append(f"Session{session}/dialog/EmoEvaluation/{path.name}")
    if not out:
        raise MmeqError(f"{root}: no label in Session*/dialog/EmoEvaluation/Ses*.txt")
    return out, dialogs, bare


def _utterance(line: str, dialog: str, place: str) -> Utterance:
    found = _LABEL.fullmatch(line)
    if found is None:
        raise MmeqError(
            f"{place}: {line!r} is no label; expected [start - end], name, emotion, [v, a, d], "
            "with tabs between"
        )
    start, end, name, code = found.groups()
    parts = _NAME.fullmatch(name)
    if parts is None or parts[1] != dialog:
        raise MmeqError(f"{place}: {name!r} is no utterance of {dialog}, as the file's name says")
    if code not in KNOWN:
        raise MmeqError(f"{place}: unknown emotion {code!r}" + did_you_mean(code, KNOWN))
    try:
        begin, finish = float(start), float(end)
    except ValueError:
        raise MmeqError(f"{place}: {start} - {end} are no seconds") from None
    if not finish > begin:
        raise MmeqError(f"{place}: {name} ends at {end} s, and begins at {start} s")
    marked, who = parts[3], parts[4]
    half = "left" if who == marked else "right"
    session = int(parts[2])
    return Utterance(name, dialog, session, f"Ses0{session}{who}", half, code, begin, finish)


def lost(dialogs: dict[int, int], bare: list[str]) -> dict[str, list[str]]:
    """Return the sessions that lack label files, and the files without labels, by name."""
    few = [
        f"Session{session} has {dialogs[session]} of {known}"
        for session, known in DIALOGS.items()
        if dialogs[session] < known
    ]
    return {"dialogs": few, "labels in files without any": bare}


def texts(root: Path, kept: Sequence[Utterance]) -> tuple[list[str | None], list[str]]:
    """Text of each utterance, None where there is none, and notes with names."""
    lines: dict[str, str] = {}
    gone = []
    for session, dialog in dict.fromkeys((one.session, one.dialog) for one in kept):
        path = root / f"Session{session}/dialog/transcriptions/{dialog}.txt"
        if not path.is_file():
            gone.append(f"Session{session}/dialog/transcriptions/{dialog}.txt")
            continue
        found = (_TEXT.fullmatch(line.strip()) for line in _lines(path))
        lines |= {match[1]: match[2].strip() for match in found if match is not None}
    out = [lines.get(one.name) or None for one in kept]
    notes = []
    if gone:
        notes.append(f"modality 'text': {len(gone)} transcripts are missing: {examples(gone)}")
    lost = [one.name for one, text in zip(kept, out, strict=True) if text is None]
    if lost:
        notes.append(
            f"modality 'text': {len(lost)} utterances have no line in the transcripts: "
            f"{examples(lost)}"
        )
    return out, notes
