"""Speech for the test corpora: espeak-ng through its C library."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np

_TAKE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
# From espeak-ng/speak_lib.h.
_SYNCHRONOUS, _CHARACTER, _UTF8, _RATE, _PITCH, _RANGE = 2, 1, 1, 1, 3, 4
_TEXT, _SIZE, _INT, _POINTER = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p


def speak(
    text: str, voice: str = "en-us", pitch: int = 50, rate: int = 175, pitch_range: int = 50
) -> tuple[np.ndarray, int]:
    """Speak a text; the same call gives the same samples, in every process and after any other.

    Args:
        text: any Unicode text with something to say in it.
        voice: of espeak-ng, with a variant where one is wanted: ``en-us+f3``, ``en-gb+m2``.
        pitch: 0 to 99.
        rate: words a minute, 80 to 450.
        pitch_range: 0 (monotone) to 99.

    Returns:
        int16 [n] and its sampling rate in Hz (22050).
    """
    with _library() as library:
        hertz = library.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(espeakng_loader.get_data_path()), 0
        )
        if hertz <= 0:
            raise RuntimeError(f"espeak-ng could not be initialised: {hertz}")
        chunks: list[np.ndarray] = []

        def take(samples: Any, count: int, _: int | None) -> int:
            if samples and count > 0:
                chunks.append(np.ctypeslib.as_array(samples, (count,)).astype(np.int16))
            return 0

        callback = _TAKE(take)  # a name of its own: the library does not keep it alive
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, int(value), 0)
        raw = text.encode()
        failed = library.espeak_Synth(raw, len(raw) + 1, 0, _CHARACTER, 0, _UTF8, None, None)
        failed = failed or library.espeak_Synchronize()
        library.espeak_Terminate()
        if failed or not chunks:
            raise RuntimeError(f"espeak-ng could not speak {text!r}")
        return np.concatenate(chunks), hertz


def fitted(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut, or fill with silence, to a length."""
    out = np.zeros(length, np.int16)
    count = min(length, len(samples))
    out[:count] = samples[:count]
    return out


@contextmanager
def _library() -> Iterator[ctypes.CDLL]:
    """A copy of the library nobody has used: it never forgets what it said, not on Terminate.

    Its generator of noise and the phase of its voice go on from one text to the next, whatever
    seeds are set. Loading a copy takes 2 ms.
    """
    handle, name = tempfile.mkstemp(suffix=Path(espeakng_loader.get_library_path()).suffix)
    os.close(handle)
    shutil.copyfile(espeakng_loader.get_library_path(), name)
    try:
        library = ctypes.CDLL(name)
    finally:
        Path(name).unlink()
    library.espeak_SetVoiceByName.argtypes = [_TEXT]
    library.espeak_Initialize.argtypes = [_INT, _INT, _TEXT, _INT]
    library.espeak_Synth.argtypes = [
        _TEXT, _SIZE, ctypes.c_uint, _INT, ctypes.c_uint, ctypes.c_uint, _POINTER, _POINTER
    ]  # fmt: skip
    try:
        yield library
    finally:
        _ctypes.dlclose(library._handle)
