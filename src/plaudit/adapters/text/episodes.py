"""The smallest form of text that rewards can read: episodes of tokens, with what they mean beside them.

A row is one answer. Its steps are its tokens (`action`), or a single one where there are none; the texts themselves,
and whatever else a data set says of the row, are columns of Python objects by name. A reward of texts reads those
names and pays at the last token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput

DERIVED = ("prompt", "completion", "prompt_text", "completion_text")
"""Columns that `of_texts` makes itself."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TextEpisodes(Episodes):
    """Episodes with a column of B objects for each name, such as `prompt`, `completion` and those of a data set.

    Example:
        >>> e = of_texts(["2 + 2?", "3 + 3?"], ["4", "7"], answer=["4", "6"])
        >>> e.columns["answer"], e[1].columns["completion"]
        (['4', '6'], ['7'])
    """

    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in self.columns.items():
            if len(values) != self.B:
                raise BadInput(f"columns[{name!r}]", expected=f"one entry for each of {self.B} rows",
                               received=len(values))

    def __getitem__(self, rows: Any) -> TextEpisodes:
        plain = Episodes(**{f.name: getattr(self, f.name) for f in fields(Episodes)})[rows]
        kept = slice(rows, rows + 1 or None) if isinstance(rows, int) else rows
        index = torch.arange(self.B)[kept].flatten().tolist()
        return _with(plain, {name: [values[i] for i in index] for name, values in self.columns.items()})

    def _map(self, fn: Callable[[torch.Tensor], torch.Tensor], *, rows_too: bool = False) -> TextEpisodes:
        plain = Episodes(**{f.name: getattr(self, f.name) for f in fields(Episodes)})
        return _with(plain._map(fn, rows_too=rows_too), self.columns)


def of_texts(prompts: Sequence[Any], completions: Sequence[Any], ids: Sequence[Sequence[int]] | None = None,
             **columns: Sequence[Any]) -> TextEpisodes:
    """Answers as episodes: texts, or conversations as lists of messages; with their token ids, a step for each.

    Neighbours with one prompt share a `group`. Beside the columns there are `prompt_text` and `completion_text`, what
    the last message says where these are conversations.

    Raises:
        BadInput: when the columns differ in length.
    """
    B = len(prompts)
    tokens = [list(row) or [0] for row in ids] if ids is not None else [[0] for _ in range(B)]
    T = max((len(row) for row in tokens), default=1)
    lengths = torch.tensor([len(row) for row in tokens], dtype=torch.int64)
    mask = torch.arange(T) < lengths.unsqueeze(1)
    position = torch.arange(T).expand(len(tokens), T)
    new = [b > 0 and prompts[b] != prompts[b - 1] for b in range(B)]
    named = {"prompt": prompts, "completion": completions, "prompt_text": [plain_text(p) for p in prompts],
             "completion_text": [plain_text(c) for c in completions], **columns}
    if ids is not None:
        named["completion_ids"] = ids
    return TextEpisodes(
        obs=position * mask, action=torch.tensor([row + [0] * (T - len(row)) for row in tokens], dtype=torch.int64),
        next_obs=(position + 1) * mask, terminated=mask & (position == (lengths - 1).unsqueeze(1)),
        truncated=torch.zeros_like(mask), mask=mask, group=torch.tensor(new).long().cumsum(0), columns=named)


def plain_text(text: Any) -> str:
    """A text as it is; of a conversation, what its last message says.

    Example:
        >>> plain_text([{"role": "user", "content": "hm"}, {"role": "assistant", "content": "yes"}])
        'yes'
    """
    if isinstance(text, Sequence) and not isinstance(text, str):
        content = text[-1].get("content", "") if text and isinstance(text[-1], Mapping) else ""
        parts = content if isinstance(content, list) else [{"text": content}]
        return "".join(str(p.get("text", "") or "") for p in parts if isinstance(p, Mapping))
    return str(text)


def _with(plain: Episodes, columns: Mapping[str, Sequence[Any]]) -> TextEpisodes:
    return TextEpisodes(**{f.name: getattr(plain, f.name) for f in fields(Episodes)}, columns=columns)
