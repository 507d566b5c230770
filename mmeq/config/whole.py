"""Whether what a run has left is whole: checkpoints by checksums, the history by its lines."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path

from mmeq.errors import MmeqError


def check_whole(checkpoint: Path, option: str) -> None:
    """Refuse a checkpoint that was cut off or damaged; its checksums tell.

    Args:
        checkpoint: the file.
        option: the option that named it, with its value, for the message.

    Raises:
        MmeqError: when it is not whole.
    """
    if (bad := damage(checkpoint)) is not None:
        raise MmeqError(
            f"{option}: {checkpoint} is damaged ({bad} cannot be read); take another checkpoint, "
            "or train again"
        )


def damage(checkpoint: Path) -> str | None:
    """Say which part of a checkpoint cannot be read; None when it is whole."""
    try:
        with zipfile.ZipFile(checkpoint) as stored:
            return stored.testzip()
    except (zipfile.BadZipFile, EOFError):
        return "its end"
    except (RuntimeError, NotImplementedError, zlib.error, UnicodeDecodeError, struct.error):
        return "its list of parts"  # a field of it says what no checkpoint does


def check_history(folder: Path) -> None:
    """Refuse a history with a line that is none of an epoch; a torn last one is dropped later.

    Args:
        folder: the run folder.

    Raises:
        MmeqError: names file and line.
    """
    from mmeq.files import read_lines

    path = folder / "history.jsonl"
    remedy = "put the file back from a copy, or train again, in another folder"
    try:
        lines = read_lines(path)
    except UnicodeDecodeError as error:
        raise MmeqError(f"resume={folder}: {path} is no UTF-8 text; {remedy}") from error
    for number, line in enumerate(lines, 1):
        try:
            int(json.loads(line)["epoch"])
        except (ValueError, KeyError, TypeError) as error:
            raise MmeqError(
                f"resume={folder}: {path}, line {number} is none of an epoch ({line[:40]!r}); "
                f"{remedy}"
            ) from error


def trained_epochs(folder: Path) -> int:
    """Return the number of epochs in the folder's history."""
    history = folder / "history.jsonl"
    lines = history.read_text(encoding="utf-8").splitlines() if history.is_file() else []
    epochs = 0
    for line in lines:
        try:
            epochs = int(json.loads(line)["epoch"]) + 1
        except (ValueError, KeyError):
            break  # the last line of a run that was killed while writing it
    return epochs
