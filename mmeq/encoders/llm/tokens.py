"""Texts become a language model's tokens, in the data workers.

Shape suffixes: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.errors import MmeqError

SLOT = "{text}"
"""Where a text stands in a prompt."""
PROMPT = 'This sentence: "{text}" means in one word:"'
"""PromptEOL: the word that would follow is a summary, and so is the last token's state."""


class Tokens:
    """Texts → ``{"ids": int64 [B, T], "mask": bool [B, T]}``, padded on the right.

    An object apart from the network, which data workers can take with them.

    Args:
        tokenizer: of transformers.
        prompt: with ``{text}`` once.
        max_tokens: that a text is cut to, prompt included.
        path: how errors name the options.
    """

    def __init__(self, tokenizer: Any, prompt: str, max_tokens: int, path: str) -> None:  # noqa: ANN401
        if prompt.count(SLOT) != 1:
            raise MmeqError(f"{path}.prompt={prompt!r}: {SLOT} must stand in it, once")
        self.tokenizer = tokenizer
        self.before, after = prompt.split(SLOT)
        self.after = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
        self.room = max_tokens - len(self.after)
        least = len(tokenizer(self.before)["input_ids"]) + 1
        if self.room < least:
            raise MmeqError(
                f"{path}.max_tokens={max_tokens}: the prompt leaves no room for a text; give "
                f"{least + len(self.after)} or more"
            )
        known = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        self.blank = next((one for one in known if one is not None), 0)

    def __call__(
        self, raw: Sequence[str], training: bool, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Tokenize; a text without any token (absent, empty) becomes one."""
        rows = [self._ids(text) for text in raw]
        length = max(map(len, rows), default=1)
        ids_BT = torch.full((len(rows), length), self.blank, dtype=torch.int64)
        mask_BT = torch.zeros(len(rows), length, dtype=torch.bool)
        for row, ids in enumerate(rows):
            ids_BT[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            mask_BT[row, : len(ids)] = True
        return {"ids": ids_BT, "mask": mask_BT}

    def _ids(self, text: str) -> list[int]:
        cut = self.tokenizer(self.before + text, truncation=True, max_length=self.room)
        return [*cut["input_ids"], *self.after] or [self.blank]
