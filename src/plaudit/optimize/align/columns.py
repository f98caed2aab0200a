"""What the data say of each prompt beside its text, for rewards that read an answer or the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.tokens import Tokens
from plaudit.specify.text.columns import TEXTS, check_reads

Columns = Mapping[str, Sequence[Any]]


def checked(columns: Columns | None, prompts: int, rewards: Sequence[Reward]) -> Columns:
    """Columns with an entry for each prompt, and all that the rewards need.

    Raises:
        BadInput: naming the column that has another length or the name of a text, or those that are missing.
    """
    columns = columns or {}
    for name, values in columns.items():
        if name in TEXTS:
            raise BadInput(f"columns[{name!r}]", expected="a name that no text of the policy has", received=name)
        if len(values) != prompts:
            raise BadInput(f"columns[{name!r}]", expected=f"one entry for each of {prompts} prompts",
                           received=len(values))
    for reward in rewards:
        check_reads(reward.reads, columns, place=f"columns, for {reward.name}")
    return dict(columns)


def told(tokens: Tokens, columns: Columns, places: Sequence[int]) -> Tokens:
    """Samples with what the data say of their prompts: n rows for each of `places` in turn."""
    n = tokens.B // max(1, len(places))
    return tokens.replace(columns={**tokens.columns, **{
        name: [values[i] for i in places for _ in range(n)] for name, values in columns.items()}})
