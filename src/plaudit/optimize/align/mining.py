"""Preferences mined from a policy's own samples: the best of each prompt against the worst, by a reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.tokens import Tokens
from plaudit.feedback.records import Preference
from plaudit.feedback.text.formats import write_pairs
from plaudit.optimize.align.columns import Columns, checked, told
from plaudit.optimize.align.dpo import Pairs, pairs_of_rewards
from plaudit.optimize.align.policy import Policy


@dataclass(frozen=True, eq=False, kw_only=True)
class Mined:
    """What was mined."""

    pairs: Pairs
    """For `align(..., algo="dpo", pairs=...)`; the strength is the gap of the rewards."""
    records: Sequence[Preference]
    """The same as preference records, the better one first."""
    ties: int
    """Prompts whose samples all had one reward: no pair."""
    narrow: int
    """Prompts whose best and worst were no further apart than the margin: no pair."""
    unknown: int
    """Samples whose reward is unknown: they are in no pair."""

    def write(self, path: str | Path) -> Path:
        """Writes the records as JSONL in plaudit's form, which `read_pairs` and `plaudit learn text` read."""
        write_pairs(list(self.records), Path(path), format="plaudit")
        return Path(path)


def mine_pairs(policy: Policy, reward: Reward, prompts: Sequence[Any], *, samples: int = 8, margin: float = 0.0,
               columns: Columns | None = None, seed: int | Seeds = 0,
               provenance: Mapping[str, Any] | None = None) -> Mined:
    """Samples completions of each prompt and keeps the best and the worst by a reward.

    Args:
        policy: What samples.
        reward: What judges. Do not judge what is aligned on the pairs with it again.
        prompts: What the policy's `encode` reads.
        samples: Completions of each.
        margin: By more than how much the best has to beat the worst.
        columns: What the reward reads of each prompt, such as its `answer`: one entry for each prompt under each name.
        seed: The same seed gives the same pairs.
        provenance: JSON that each record keeps.

    Raises:
        BadInput: when there are fewer than 2 samples, the margin is negative, a column is missing or has another
            length, or no prompt gives a pair.

    Source:
        Zhang et al. (2024), arXiv 2409.13948, section 3.4 (k = 8; the margin is an addition).

    Example:
        >>> from plaudit.optimize.align.tables import TablePolicy, TableReward
        >>> mined = mine_pairs(TablePolicy(torch.zeros(1, 4)), TableReward(torch.arange(4.0)[None], vocab=4), [0])
        >>> len(mined.pairs), float(mined.pairs.strength)
        (1, 3.0)
    """
    if samples < 2:
        raise BadInput("samples", expected="an integer >= 2", received=samples)
    if not 0 <= margin < math.inf:
        raise BadInput("margin", expected="a number >= 0, in the units of the reward", received=margin)
    columns = checked(columns, len(prompts))
    tokens = told(policy.sample(prompts, n=samples, seed=seed), columns, range(len(prompts)), [reward])
    return mined_from(tokens, reward, margin=margin, provenance=provenance)


def mined_from(tokens: Tokens, reward: Reward, *, margin: float = 0.0,
               provenance: Mapping[str, Any] | None = None) -> Mined:
    """The same from samples that are there: rows of one `group` are samples of one prompt.

    Raises:
        BadInput: when no group gives a pair.
    """
    value, known = reward.score(tokens).returns()
    every, without = pairs_of_rewards(tokens, value, known)
    wide = torch.nonzero(every.strength > margin).flatten()
    if not len(wide):
        raise BadInput("reward", expected=f"samples of one prompt whose rewards differ by more than {margin:g}",
                       received=f"{without} prompts with ties or unknown rewards, {len(every)} within the margin",
                       fix="draw more samples, or lower the margin")
    pairs = replace(every, first=every.first[wide], second=every.second[wide], label=every.label[wide],
                    strength=every.strength[wide])
    texts, asked = tokens.columns["completion"], tokens.columns["prompt"]
    plain = texts if all(isinstance(t, str | list) for t in texts) else [str(t) for t in texts]
    records = [Preference(options=(plain[a], plain[b]), label=1.0, annotator=reward.name,
                          context=asked[a] if isinstance(asked[a], str | list) else str(asked[a]),
                          provenance={**(provenance or {}), "rewards": [float(value[a]), float(value[b])]})
               for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]
    return Mined(pairs=pairs, records=records, ties=without, narrow=len(every) - len(wide), unknown=int((~known).sum()))
