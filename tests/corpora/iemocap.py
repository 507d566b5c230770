"""IEMOCAP as released: five sessions of dialogs, both speakers side by side in one avi."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpora.media import write_audio, write_text, write_video
from tests.corpora.scenes import facts_of, film, noise, sentence, voice
from tests.corpora.speech import fitted

IEMOCAP_CODES = ("ang", "hap", "exc", "sad", "neu", "fru", "sur", "fea", "dis", "oth", "xxx")
FOUR = {"ang": "ang", "hap": "hap", "exc": "hap", "sad": "sad", "neu": "neu"}
_WORDS = {
    "ang": "Anger",
    "hap": "Happiness",
    "exc": "Excited",
    "sad": "Sadness",
    "neu": "Neutral",
    "fru": "Frustration",
    "sur": "Surprise",
    "fea": "Fear",
    "dis": "Disgust",
    "oth": "Other",
    "xxx": "Other",
}
_LOOKS = {"ang": 0, "hap": 1, "exc": 1, "neu": 2, "sad": 3, "fru": 4, "fea": 5, "sur": 6}
_CLASSES, _GAP, _FIRST, _RATE = 8, 0.2, 0.3, 22050
_APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(58) + b"\xff\xfe"


def write_iemocap(
    root: Path,
    sessions: int = 5,
    dialogs: int = 1,
    codes: Sequence[str] = IEMOCAP_CODES,
    each: int = 1,
    seconds: float = 0.8,
    size: tuple[int, int] = (120, 72),
    fps: float = 10,
    codec: str = "pcm_s16le",
    left: str = "marked",
    seed: int = 0,
) -> dict[str, Any]:
    """Write sessions × {F, M} × dialogs dialogs with codes × each labelled utterances.

    What a reader of the release trips over is there too: in each transcript a line of nobody's
    (``M: …``) and an utterance without label (``…_MXX0``), texts with a colon or a bracket in
    them, ``Categorical/`` under EmoEvaluation, and AppleDouble files (``._Ses01F_….txt``, ``.avi``)
    in Session1.

    Args:
        root: data root.
        sessions: 1 to 5.
        dialogs: of each session and marked speaker: impro01, script01_1, impro02, script02_1, …
        codes: of the utterances, from `IEMOCAP_CODES`.
        each: utterances of each code in a dialog; the two speakers take turns.
        seconds: of an utterance, give or take a tenth.
        size: width and height of the avi, both speakers together.
        fps: frames a second.
        codec: of the avi's sound track, ``pcm_s16le`` or ``mp3``.
        left: who is seen on the left: ``marked`` (whom the dialog's name has: Ses01F), or ``F``.
        seed: of everything.

    Returns:
        The common facts (labels: codes), and by id: ``texts``, ``spans`` (seconds), ``halves``
        (left or right: where the speaker is seen), ``speakers`` (Ses01F: the woman of session 1),
        ``sessions`` (int), ``dialogs``, ``four`` (id -> label of the four classes, exc as hap).
        ``unlabelled``: ids with a transcript only.
    """
    facts: dict[str, Any] = {
        key: {} for key in ("texts", "spans", "halves", "speakers", "sessions", "dialogs")
    }
    labels: dict[str, str] = {}
    unlabelled = []
    for session in range(1, sessions + 1):
        for marked in "FM":
            for number in range(dialogs):
                scene = (
                    f"script{number // 2 + 1:02d}_1"
                    if number % 2
                    else f"impro{number // 2 + 1:02d}"
                )
                dialog = f"Ses{session:02d}{marked}_{scene}"
                turns = _turns(dialog, codes, each, seconds, seed)
                on_left = marked if left == "marked" else "F"
                _media(root / f"Session{session}", dialog, turns, on_left, size, fps, codec, seed)
                _labels(root / f"Session{session}" / "dialog", dialog, turns, seed)
                unlabelled.append(_transcript(root / f"Session{session}" / "dialog", dialog, turns))
                for name, code, text, start, end in turns:
                    who = name.rsplit("_", 1)[1][0]
                    labels[name] = code
                    facts["texts"][name] = text
                    facts["spans"][name] = (start, end)
                    facts["halves"][name] = "left" if who == on_left else "right"
                    facts["speakers"][name] = f"Ses{session:02d}{who}"
                    facts["sessions"][name] = session
                    facts["dialogs"][name] = dialog
    for folder, suffix in (
        ("EmoEvaluation", "txt"),
        ("transcriptions", "txt"),
        ("avi/DivX", "avi"),
    ):
        (root / "Session1/dialog" / folder / f"._Ses01F_impro01.{suffix}").write_bytes(_APPLE)
    four = {name: FOUR[code] for name, code in labels.items() if code in FOUR}
    return facts_of(root, labels, **facts, four=four, unlabelled=unlabelled)


_Turn = tuple[str, str, str, float, float]


def _turns(dialog: str, codes: Sequence[str], each: int, seconds: float, seed: int) -> list[_Turn]:
    rng = noise(seed, dialog)
    bag = [code for code in codes for _ in range(each)]
    now, counts, out = _FIRST, {"F": 0, "M": 0}, []
    for turn, index in enumerate(rng.permutation(len(bag))):
        code, who = bag[index], "FM"[turn % 2]
        end = round(now + float(seconds * rng.uniform(0.9, 1.1)), 4)
        text = sentence(_LOOKS.get(code, 7), rng) + "."
        text = {1: "[LAUGHTER] " + text, 2: "So: " + text}.get(turn, text)
        out.append((f"{dialog}_{who}{counts[who]:03d}", code, text, round(now, 4), end))
        counts[who] += 1
        now = end + _GAP
    return out


def _media(
    session: Path,
    dialog: str,
    turns: list[_Turn],
    on_left: str,
    size: tuple[int, int],
    fps: float,
    codec: str,
    seed: int,
) -> None:
    rng = noise(seed, dialog, "media")
    width, height = size[0] // 2, size[1]
    length = turns[-1][4] + _GAP + 0.5
    frames = rng.integers(60, 100, (round(length * fps), height, 2 * width, 3)).astype(np.uint8)
    track = rng.normal(0, 40, (round(length * _RATE), 2)).astype(np.int16)
    for name, code, text, start, end in turns:
        who = name.rsplit("_", 1)[1][0]
        look = _LOOKS.get(code, 7)
        spoken_as = f"en-us+{'f' if who == 'F' else 'm'}{1 + int(session.name[-1]) % 4}"
        sound, rate = voice(
            text.replace("[LAUGHTER]", "ha ha"), look, _CLASSES, end - start, rng, spoken_as
        )
        write_audio(session / "sentences/wav" / dialog / f"{name}.wav", sound, rate, out_rate=16000)
        at = round(start * _RATE)
        here = fitted(sound, min(len(sound), len(track) - at))
        track[at : at + len(here), "FM".index(who)] = here
        first, last = int(start * fps), min(int(np.ceil(end * fps)) + 1, len(frames))
        # The listener moves too, as chance has it: only the right half tells the label.
        looks = (look, int(rng.integers(_CLASSES)))
        for half, shown in enumerate(looks if who == on_left else looks[::-1]):
            part = film(shown, _CLASSES, last - first, (width, height), rng)
            frames[first:last, :, half * width : (half + 1) * width] = part
    write_audio(session / "dialog/wav" / f"{dialog}.wav", track, _RATE, out_rate=44100)
    encoder = "libmp3lame" if codec == "mp3" else codec
    path = session / "dialog/avi/DivX" / f"{dialog}.avi"
    write_video(path, frames, fps, "mpeg4", (track, _RATE), encoder, tag="DIVX")


def _labels(folder: Path, dialog: str, turns: list[_Turn], seed: int) -> None:
    rng = noise(seed, dialog, "labels")
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    votes = []
    for name, code, _, start, end in turns:
        v, a, d = (int(x) for x in rng.integers(1, 6, 3))
        word = _WORDS[code]
        # Nobody agrees on xxx.
        others = ("Surprise", "Fear") if code == "xxx" else (word, "Neutral")
        lines += [
            f"[{start:.4f} - {end:.4f}]\t{name}\t{code}\t[{v:.4f}, {a:.4f}, {d:.4f}]",
            f"C-E2:\t{word};\t()",
            f"C-E3:\t{others[0]};\t()",
            f"C-E4:\t{others[0]}; {others[1]};\t(mildly aggravated but staying polite)",
            f"C-{name.rsplit('_', 1)[1][0]}1:\t{others[1]};\t(curious)",
            f"A-E3:\tval {v}; act {a}; dom  {d};\t()",
            f"A-E4:\tval {v}; act {a}; dom  ;\t()",
            f"A-{name.rsplit('_', 1)[1][0]}1:\tval {v}; act {a}; dom  {d};\t()",
            "",
        ]
        votes.append(f"{name} :{word}; ()")
    write_text(folder / "EmoEvaluation" / f"{dialog}.txt", lines)
    write_text(folder / "EmoEvaluation/Categorical" / f"{dialog}_e2_cat.txt", votes)


def _transcript(folder: Path, dialog: str, turns: list[_Turn]) -> str:
    lines = [f"{name} [{start:08.4f}-{end:08.4f}]: {text}" for name, _, text, start, end in turns]
    last = turns[-1][4]
    extra = f"{dialog}_MXX0"
    lines.insert(1, "M: I know.")
    lines.append(f"{extra} [{last + 0.1:08.4f}-{last + 0.3:08.4f}]: [BREATHING]")
    write_text(folder / "transcriptions" / f"{dialog}.txt", lines)
    return extra
