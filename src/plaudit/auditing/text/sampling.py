"""Texts from a language model: what a policy would write, for the over-optimisation curve, and which are right."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plaudit.auditing.text.answers import same
from plaudit.auditing.text.formats import Format
from plaudit.auditing.text.items import Item
from plaudit.auditing.text.scoring import Numbers
from plaudit.core.errors import BadInput

LONGEST = 64
"""New tokens of a sampled text."""
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
Sampler = Callable[[Any, int, int], list[str]]


def sampler(folder: str | Path, *, device: str = "cpu") -> Sampler:
    """A function (prompt, n, seed) -> n texts of the causal language model in a folder, which writes on a device.

    Raises:
        BadInput: when there is none.
    """
    if not (Path(folder) / "config.json").is_file():
        raise BadInput("generator", expected="the folder of a causal language model", received=str(folder))
    from plaudit.learn.text.loading import check_folder, quiet
    from plaudit.optimize.align.causal import CausalPolicy

    check_folder(folder)
    try:
        with quiet():
            policy = CausalPolicy.load(folder, max_tokens=LONGEST, device=device)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        said = " ".join(str(error).split())[:200]
        raise BadInput("generator", expected="the folder of a causal language model",
                       received=f"{folder} ({type(error).__name__}: {said})") from None

    def sample(prompt: Any, n: int, seed: int) -> list[str]:
        return list(policy.sample([prompt], n=n, seed=seed).columns["completion_text"])

    return sample


def right_of(format: Format) -> Callable[[Sequence[Item], Sequence[str]], Numbers]:
    """Gold where nothing better is known: 1 for a text that ends in the right answer, NaN where none is known.

    The answer is what stands in the format's place, else the last number, else the last line.

    Example:
        >>> gold = right_of(Format.parse("<answer>...</answer>"))
        >>> item = Item(prompt="2 + 2?", gold="4")
        >>> gold([item] * 3, ["<answer>4</answer>", "It is 4.", "4 or 5"]).tolist()
        [1.0, 1.0, 0.0]
    """
    def gold(items: Sequence[Item], texts: Sequence[str]) -> Numbers:
        return np.array([np.nan if i.gold is None or i.is_code else float(same(_said(format, t), i.gold))
                         for i, t in zip(items, texts, strict=True)])

    return gold


def _said(format: Format, text: str) -> str:
    placed = format.read(text) if format.declared or format.before.strip() else None
    if placed is not None:
        return placed
    numbers = _NUMBER.findall(text)
    return numbers[-1].replace(",", "") if numbers else text.strip().rpartition("\n")[2]
