"""The strengths of preferences over texts, from records alone: which labels are doubtful, before any training."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.devices import best_device
from plaudit.core.errors import BadInput
from plaudit.core.tokens import plain_text
from plaudit.feedback.records import Fragment, Preference
from plaudit.feedback.text.splitting import prompt_key
from plaudit.learn.text.strengths import CrossFit, Strengths, cross_fit

Encode = Callable[[Sequence[str]], Tensor]


def measure_strengths(records: Sequence[Preference], *, by: Path | str | Encode, how: CrossFit | None = None,
                      seed: int = 0, max_length: int | None = None,
                      progress: Callable[[int], None] | None = None) -> Strengths:
    """How much models that did not see a prompt prefer the option that was called better, for each pair.

    Args:
        records: Labelled pairs of texts.
        by: What makes numbers of texts: the folder of a language model (or its name on the hub), whose states at the
            last token are read; or an encoder of sentences, such as `plaudit.learn.text.embedding.SentenceEncoder()`.
        how: Folds, members and heads.
        seed: Of folds, samples and first weights.
        max_length: The most tokens of a text, for a language model.
        progress: Told how many more texts were read, by a language model.

    Raises:
        BadInput: naming the record, where one is no labelled pair of two different texts.

    Example:
        >>> from plaudit.learn.text.embedding import HashedEncoder
        >>> records = [Preference(context=f"{n} + 1?", options=(f"It is {n + 1}.", "No idea."), label=1.0)
        ...            for n in range(30)]
        >>> records[7] = Preference(context="7 + 1?", options=("It is 8.", "No idea."), label=0.0)
        >>> found = measure_strengths(records, by=HashedEncoder())
        >>> int(found.order[0]), bool(found.mu[7] < 0)
        (7, True)
    """
    texts = [i for i, r in enumerate(records) if any(isinstance(o, Fragment) for o in r.options)]
    if texts:
        raise BadInput(f"records[{texts[0]}]", expected="texts", received="steps of episodes")
    odd = next((i for i, r in enumerate(records) if len(r.options) != 2 or r.label is None), None)
    if odd is not None:
        raise BadInput(f"records[{odd}]", expected="a labelled pair", received=records[odd].options,
                       fix="as_comparisons makes pairs of larger records")
    states = _encoded(records, by) if callable(by) else _states(records, by, max_length, progress)
    return cross_fit(list(states), records, [prompt_key(r) for r in records], seed=seed, how=how)


def _encoded(records: Sequence[Preference], encode: Encode) -> Float[Tensor, "N 2 D"]:
    said = [f"{plain_text(r.context)}\n\n{plain_text(o)}" for r in records for o in r.options]  # type: ignore[arg-type]
    return encode(said).float().unflatten(0, (-1, 2))


def _states(records: Sequence[Preference], model: Path | str, max_length: int | None,
            progress: Callable[[int], None] | None) -> Float[Tensor, "N 2 D"]:
    from plaudit.core.chat import ChatFormat
    from plaudit.learn.text.examples import tokenised
    from plaudit.learn.text.forward import prepare
    from plaudit.learn.text.modelling import load_backbone, states_of

    backbone, _ = load_backbone(model)
    format = ChatFormat.load(model, max_length=max_length)
    encoder = prepare(backbone, max_length=max_length, pad_id=int(format.tokenizer.pad_token_id))
    examples = tokenised(records, format)
    placed: Any = backbone.to(best_device())  # type: ignore[arg-type]
    states = states_of(placed, encoder, [ids for e in examples for ids in e.ids],
                       [e.family for e in examples for _ in e.ids], progress=progress)
    return states.unflatten(0, (-1, 2))


def spot_check(strengths: Strengths, *, groups: int = 10, each: int = 5, seed: int = 0) -> list[list[int]]:
    """Rows to read with one's own eyes: some of each strength group, the weakest first.

    How often their labels are wrong says how large a share to flip or to drop: as far as most are.

    Example:
        >>> rows = spot_check(Strengths(torch.arange(40.0), torch.ones(40)), groups=4, each=2)
        >>> [len(g) for g in rows], all(r < 10 for r in rows[0])
        ([2, 2, 2, 2], True)
    """
    where = strengths.groups(groups)
    rng = random.Random(seed)
    members = [torch.nonzero(where == g)[:, 0].tolist() for g in range(groups)]
    return [sorted(rng.sample(rows, min(each, len(rows)))) for rows in members]
