"""Encoders over a body that training does not own: their state holds what was trained."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmeq.encoders.lora import is_adapter
from mmeq.errors import MmeqError


class Lent(nn.Module):
    """An encoder whose ``body`` comes from a model's own files, frozen unless ``tune`` is full.

    A state dict leaves out what training leaves alone of the body: it holds the body's digest
    instead, and refuses to be loaded into an encoder over another one. A state that has these
    weights too, as those of earlier versions, is compared with them. With tune=full all of the body
    is in it. Copies (`copy.deepcopy`) share the frozen weights.

    Attributes:
        places: options that may name files of the model, which must be there for every build.
        body: the model.
        kind: of the modality.
        tune: what training moves.
        digest: tells the body's frozen weights from others.
    """

    places: ClassVar[tuple[str, ...]] = ("model", "weights")
    body: Any
    kind: str
    tune: str
    digest: str

    def _lent(self) -> dict[str, Tensor]:
        """The body's tensors that training leaves alone, by their names in the encoder."""
        if self.tune == "full":
            return {}
        entries = self.body.state_dict(keep_vars=True)
        return {f"body.{key}": one for key, one in entries.items() if not is_adapter(key)}

    def state_dict(  # type: ignore[override]
        self,
        *args: Any,  # noqa: ANN401 - torch's
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """What training changes, and the body's digest."""
        out: dict[str, Any] = super().state_dict(*args, **kwargs)
        for key in self._lent():
            out.pop(kwargs.get("prefix", "") + key, None)
        return out

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        *rest: Any,  # noqa: ANN401
    ) -> None:
        lent, extra = self._lent(), f"{prefix}_extra_state"
        if extra not in state_dict:  # of a version that stored the body
            given = ((state_dict.get(prefix + key), one) for key, one in lent.items())
            if not all(old is not None and torch.equal(old.to(one), one) for old, one in given):
                raise self._refuse("other weights")
            state_dict[extra] = self.get_extra_state()
        # a strict load asks for the frozen weights: here they are, as they are
        state_dict.update({prefix + key: one for key, one in lent.items()})
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def get_extra_state(self) -> dict[str, str]:
        """Which body the state belongs to."""
        return {"body": self.digest}

    def set_extra_state(self, state: dict[str, str]) -> None:
        """Refuse the state of an encoder over another body."""
        if self.tune != "full" and state["body"] != self.digest:
            raise self._refuse(f"digest {state['body']}")

    def _refuse(self, other: str) -> MmeqError:
        return MmeqError(
            f"these weights of backbone.encoders.{self.kind} were trained over another model "
            f"({other}; here digest {self.digest}): give the model of that run"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Lent:
        memo.update({id(one): one for one in self._lent().values()})
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__setstate__(copy.deepcopy(self.__dict__, memo))  # type: ignore[no-untyped-call]
        return made
