"""The text form of episodes: completions whose steps are tokens, with the strings that they came from beside them.

A row is one completion. Its steps are its tokens (`action`), or a single one where there are none; its prompt's tokens
stand in `prompt_ids`, and the texts themselves, with whatever else a data set says of the row, are columns of Python
objects by name. A reward of texts reads those names and pays at the last token; a reward of tokens pays at each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plaudit.core.checkpoint import read_tensors, write_tensors
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput

DERIVED = ("prompt", "completion", "prompt_text", "completion_text")
"""Columns that `of_texts` makes itself."""
_FORMAT = "plaudit.tokens.1"


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokens(Episodes):
    """B completions: `action` [B, T] are their token ids; rows with a common prompt are a `group`.

    Example:
        >>> t = of_texts(["2 + 2?", "3 + 3?"], ["4", "7"], answer=["4", "6"])
        >>> t.columns["answer"], t[1].columns["completion"]
        (['4', '6'], ['7'])
    """

    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    """B objects for each name, such as `prompt`, `completion` (texts or lists of messages) and those of a data set."""
    prompt_ids: Int[Tensor, "B P"] | None = None
    """Tokens of the prompts, padded on the left: the last one stands before the first of the completion."""
    prompt_mask: Bool[Tensor, "B P"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in self.columns.items():
            if len(values) != self.B:
                raise BadInput(f"columns[{name!r}]", expected=f"one entry for each of {self.B} rows",
                               received=len(values))
        shapes = [None if x is None else tuple(x.shape) for x in (self.prompt_ids, self.prompt_mask)]
        if shapes[0] != shapes[1] or (shapes[0] is not None and (len(shapes[0]) != 2 or shapes[0][0] != self.B)):
            raise BadInput("prompt_ids", expected=f"ids and mask of one shape [B, P] with B = {self.B}, or neither",
                           received=shapes)

    if TYPE_CHECKING:  # what Episodes does keeps the type

        def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Tokens: ...
        def to(self, device: str | torch.device) -> Tokens: ...
        def replace(self, **changes: Any) -> Tokens: ...

    @property
    def sequence_ids(self) -> Int[Tensor, "B N"]:
        """Prompt and completion behind one another, what a model reads; padding on both sides (`sequence_mask`)."""
        return self.action if self.prompt_ids is None else torch.cat([self.prompt_ids, self.action], 1)

    @property
    def sequence_mask(self) -> Bool[Tensor, "B N"]:
        return self.mask if self.prompt_mask is None else torch.cat([self.prompt_mask, self.mask], 1)

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file, atomically, with the columns as JSON in it.

        Raises:
            BadInput: naming a column that JSON cannot hold.
        """
        columns: dict[str, Any] = {}
        for name, values in self.columns.items():
            try:
                columns[name] = json.loads(json.dumps(list(values), allow_nan=False))
            except (TypeError, ValueError) as error:
                raise BadInput(f"columns[{name!r}]", expected="JSON values", received=str(error),
                               fix="leave the column out before saving") from error
        prompts = {n: x for n in ("prompt_ids", "prompt_mask") if (x := getattr(self, n)) is not None}
        write_tensors(Path(path), {**dict(self.tensors()), **prompts},
                      {"format": _FORMAT, "columns": json.dumps(columns)})

    @staticmethod
    def load(path: str | Path) -> Tokens:
        """Reads what `save` wrote.

        Raises:
            BadInput: when the file is missing or is no file of tokens.
        """
        tensors, meta = read_tensors(Path(path))
        if meta.get("format") != _FORMAT:
            raise BadInput("path", expected="a file that Tokens.save wrote", received=str(path))
        ids, mask = (tensors.pop(name, None) for name in ("prompt_ids", "prompt_mask"))
        episodes = Episodes.of_tensors(tensors)
        plain: dict[str, Any] = {f.name: getattr(episodes, f.name) for f in fields(Episodes)}
        return Tokens(**plain, columns=json.loads(meta["columns"]), prompt_ids=ids, prompt_mask=mask)

    @property
    def _row_tensors(self) -> tuple[str, ...]:
        return (*super()._row_tensors, "prompt_ids", "prompt_mask")

    def _rows_at(self, index: slice | Tensor) -> dict[str, Any]:
        chosen = [int(i) for i in torch.arange(self.B)[index.cpu() if isinstance(index, Tensor) else index]]
        columns = {name: [values[i] for i in chosen] for name, values in self.columns.items()}
        return {**super()._rows_at(index), "columns": columns}

    def _joined(self, joined: Episodes, batches: Sequence[Episodes]) -> Episodes:
        """Columns that all batches have; `group` is kept as it is, so number the groups apart where they are."""
        tokens = [b for b in batches if isinstance(b, Tokens)]
        if len(tokens) != len(batches) or len({b.prompt_ids is None for b in tokens}) > 1:
            raise BadInput("batches", expected="tokens everywhere, all with the ids of their prompts or all without",
                           received=[type(b).__name__ for b in batches])
        common = [n for n in tokens[0].columns if all(n in b.columns for b in tokens)]
        plain: dict[str, Any] = {f.name: getattr(joined, f.name) for f in fields(Episodes)}
        return Tokens(**plain, columns={n: [v for b in tokens for v in b.columns[n]] for n in common},
                      prompt_ids=_stacked([b.prompt_ids for b in tokens]),
                      prompt_mask=_stacked([b.prompt_mask for b in tokens]))


def of_texts(prompts: Sequence[Any], completions: Sequence[Any], ids: Sequence[Sequence[int]] | None = None, *,
             prompt_ids: Sequence[Sequence[int]] | None = None, **columns: Sequence[Any]) -> Tokens:
    """Completions as episodes: texts, or conversations as lists of messages; with their token ids, a step for each.

    Neighbours with one prompt share a `group`. Beside the columns there are `prompt_text` and `completion_text`, what
    the last message says where these are conversations.

    Raises:
        BadInput: when the columns differ in length, one is a text and no list, or a prompt or completion is None.

    Example:
        >>> t = of_texts(["hm"] * 2, ["yes", "no"], [[5, 6, 2], [7, 2]], prompt_ids=[[3], [3, 4]])
        >>> t.lengths.tolist(), t.group.tolist(), t.sequence_ids.tolist()
        ([3, 2], [0, 0], [[0, 3, 5, 6, 2], [3, 4, 7, 2, 0]])
    """
    for name, column in (("prompts", prompts), ("completions", completions), *columns.items()):
        if isinstance(column, str | bytes):
            raise BadInput(name, expected="a list with an entry for each row", received=f"{column!r:.60}, one text",
                           fix=f"pass a list; the same for all rows is [{name}] * {len(completions)}")
    for name, column in (("prompts", prompts), ("completions", completions)):
        missing = next((b for b, text in enumerate(column) if text is None), None)
        if missing is not None:
            raise BadInput(f"{name}[{missing}]", expected="a text or a list of messages", received=None,
                           fix="leave the row out, or pass '' for an empty text")
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
    asked, asked_mask = (None, None) if prompt_ids is None else _padded_prompts(prompt_ids)
    return Tokens(
        obs=position * mask, action=torch.tensor([row + [0] * (T - len(row)) for row in tokens], dtype=torch.int64),
        next_obs=(position + 1) * mask, terminated=mask & (position == (lengths - 1).unsqueeze(1)),
        truncated=torch.zeros_like(mask), mask=mask, group=torch.tensor(new).long().cumsum(0), columns=named,
        prompt_ids=asked, prompt_mask=asked_mask)


def plain_text(text: Any) -> str:
    """A text as it is; of a conversation, what its last message says.

    Example:
        >>> plain_text([{"role": "user", "content": "hm"}, {"role": "assistant", "content": "yes"}])
        'yes'
    """
    if not isinstance(text, Sequence) or isinstance(text, str):
        return str(text)
    last = cast("Sequence[Any]", text)[-1] if text else None
    content: Any = cast("Any", last).get("content", "") if isinstance(last, Mapping) else ""
    parts = cast("list[Any]", content) if isinstance(content, list) else [{"text": content}]
    return "".join(str(cast("Any", p).get("text", "") or "") for p in parts if isinstance(p, Mapping))


def _padded_prompts(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    P = max((len(row) for row in rows), default=0)
    ids = torch.tensor([[0] * (P - len(row)) + list(row) for row in rows], dtype=torch.int64).reshape(len(rows), P)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return ids, torch.arange(P) >= P - lengths.unsqueeze(1)


def _stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Rows of several batches [b, p] as one [B, P], padded on the left."""
    given = [x for x in parts if x is not None]
    P = max((x.shape[1] for x in given), default=0)
    return torch.cat([torch.cat([x.new_zeros((x.shape[0], P - x.shape[1])), x], 1) for x in given]) if given else None
