"""What a dataset is made of: its classes and its modalities, each with a kind and a shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmeq.errors import MmeqError, did_you_mean

UNUSED = "unused"
"""The part of samples that no part uses."""
KINDS = ("audio", "video", "image", "text", "vector", "sequence")


@dataclass(frozen=True)
class Modality:
    """One modality of a dataset.

    Attributes:
        name: its name, as in the options and in every result.
        kind: one of `KINDS`; the backbone chooses the encoder by it.
        shape: of one sample as the data module gives it: vector ``(F,)``, sequence ``(T, F)``,
            image ``(3, H, W)``, text ``()``; audio ``(samples,)`` as waveform, ``(F, T)`` as
            spectrogram; video ``(T, 3, H, W)``.
        augmented: the data module changes it in training already; an encoder need not.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    augmented: bool = False

    def __post_init__(self) -> None:
        """Refuse a kind that no backbone could encode."""
        if self.kind not in KINDS:
            raise MmeqError(
                f"modality {self.name!r} has the unknown kind {self.kind!r}"
                + did_you_mean(self.kind, KINDS)
            )


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset's name, protocol, classes and modalities; printed with every result.

    Attributes:
        name: of the dataset.
        protocol: of its split; figures under two protocols are not comparable.
        classes: names in the order of the integer labels.
        modalities: in the order of every ``M`` axis in mmeq.
        complete: no sample lacks a modality, so that ``present`` masks need no look.
    """

    name: str
    protocol: str
    classes: tuple[str, ...]
    modalities: tuple[Modality, ...]
    complete: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities' names, in order."""
        return tuple(modality.name for modality in self.modalities)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for ``results.json``."""
        return {
            "name": self.name,
            "protocol": self.protocol,
            "classes": list(self.classes),
            "modalities": [
                {"name": m.name, "kind": m.kind, "shape": list(m.shape)} for m in self.modalities
            ],
        }
