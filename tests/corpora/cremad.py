"""CREMA-D as released: wav or mp3, flv video, the tables of the GitHub repository, split lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.corpora.media import write_audio, write_text, write_video
from tests.corpora.scenes import facts_of, film, noise, voice

CREMAD_CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}


def write_cremad(
    root: Path,
    actors: int = 3,
    sentences: int = 1,
    emotions: int = 6,
    seconds: float = 1.2,
    size: tuple[int, int] = (96, 72),
    fps: float = 15,
    audio: Sequence[str] = ("wav",),
    video: bool = True,
    codec: str = "mp3",
    lists: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Write actors × sentences × emotions clips.

    Args:
        root: data root.
        actors: 1 to 91, named 1001 and up; even ones are women.
        sentences: 1 to 12.
        emotions: the first so many of ANG DIS FEA HAP NEU SAD.
        seconds: of a clip, give or take a tenth.
        size: width and height of the video.
        fps: frames a second.
        audio: any of ``wav`` (AudioWAV, 16 kHz) and ``mp3`` (AudioMP3, 44.1 kHz).
        video: write VideoFlash (flv1).
        codec: of the flv's sound track, ``mp3`` or ``adpcm_swf``.
        lists: write ``train.csv`` and ``test.csv`` (rows ``name,EMO``, no header), every fifth
            clip to the test part, as the lists of the `ogm` protocol are.
        seed: of everything.

    Returns:
        The common facts, and ``actors`` (id -> actor), ``split`` (id -> train or test, if lists),
        ``train_list``, ``test_list`` (Paths, if lists), ``seconds`` (id -> float).
    """
    ids, labels, who, lengths = [], {}, {}, {}
    codes = CREMAD_CODES[:emotions]
    for actor in range(1001, 1001 + actors):
        for sentence in list(SENTENCES)[:sentences]:
            for number, code in enumerate(codes):
                name = f"{actor}_{sentence}_{code}_XX"
                rng = noise(seed, name)
                length = round(float(seconds * rng.uniform(0.9, 1.1)), 2)
                speaker = f"en-us+{'m' if actor % 2 else 'f'}{1 + actor % 3}"
                sound = voice(SENTENCES[sentence], number, len(codes), length, rng, speaker)
                if "wav" in audio:
                    write_audio(root / "AudioWAV" / f"{name}.wav", *sound, out_rate=16000)
                if "mp3" in audio:
                    path = root / "AudioMP3" / f"{name}.mp3"
                    write_audio(path, *sound, codec="libmp3lame", out_rate=44100)
                if video:
                    frames = film(number, len(codes), round(length * fps), size, rng)
                    path = root / "VideoFlash" / f"{name}.flv"
                    encoder = "libmp3lame" if codec == "mp3" else codec
                    write_video(path, frames, fps, "flv1", sound, encoder, 22050)
                ids.append(name)
                labels[name], who[name], lengths[name] = code, str(actor), length
    _tables(root, ids, labels, actors)
    facts = facts_of(root, labels, actors=who, seconds=lengths)
    if lists:
        order = [ids[i] for i in noise(seed, "lists").permutation(len(ids))]
        split = {name: "test" if i % 5 == 0 else "train" for i, name in enumerate(order)}
        for part in ("train", "test"):
            rows = [f"{name},{labels[name]}" for name in order if split[name] == part]
            write_text(root / f"{part}.csv", rows)
            facts[f"{part}_list"] = root / f"{part}.csv"
        facts["split"] = {name: split[name] for name in ids}
    return facts


def _tables(root: Path, ids: list[str], labels: dict[str, str], actors: int) -> None:
    rows = [f'{number},"{name}"' for number, name in enumerate(ids, 1)]
    write_text(root / "SentenceFilenames.csv", ['"Stimulus_Number","Filename"', *rows])
    people = [
        f"{1001 + i},{20 + i % 50},{'Female' if i % 2 else 'Male'},Caucasian,Not Hispanic"
        for i in range(actors)
    ]
    write_text(root / "VideoDemographics.csv", ["ActorID,Age,Sex,Race,Ethnicity", *people])
    votes, tallies = [], []
    for number, name in enumerate(ids, 1):
        letter = labels[name][0]
        votes.append(f'"{number}","{name}","{letter}","60","{letter}","70","{letter}","80"')
        counts = ["10" if letter == each else "0" for each in "ADFHNS"]
        tallies.append(f'"{number}",{",".join(counts)},"{name}",10,1,"{letter}"')
    folder = root / "processedResults"
    write_text(
        folder / "summaryTable.csv",
        [
            '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel",'
            '"MultiModalVote","MultiModalLevel"',
            *votes,
        ],
    )
    write_text(
        folder / "tabulatedVotes.csv",
        ['"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"', *tallies],
    )
