"""Evidence out of files: pairs and single verdicts as tokens of a policy, for DPO and KTO.

Pairs come in every form that `read_pairs` reads, such as the file that `Mined.write` writes; single verdicts are rows
of `prompt`, `completion` and `label`, and a `weight` where they have one. What the policy's chat format makes of them
is cut behind the end of the answer, as its own samples are. A file keeps words alone: a mined sample that had been cut
off gets an end there.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from plaudit.core.errors import BadInput
from plaudit.core.needs import Reads
from plaudit.core.tokens import Tokens, is_unicode, of_texts
from plaudit.feedback.records import Preference
from plaudit.feedback.text.checks import Kind, check_pairs, raise_faults
from plaudit.feedback.text.formats import Format, read_pairs
from plaudit.feedback.text.sources import rows_of
from plaudit.learn.text.evidence import pairs as pairs_in
from plaudit.optimize.align.dpo import Pairs
from plaudit.optimize.align.kto import Judged
from plaudit.optimize.align.policy import Policy
from plaudit.specify.text.columns import as_columns, check_reads, said_of

_HARMLESS: tuple[Kind, ...] = ("undecided", "all masked", "one class")
"""Faults of rows that give no pair, which is counted."""
_YES: Mapping[Any, bool] = {True: True, False: False, "true": True, "false": False}
"""What a label may be; 1 and 0 are equal to the first two."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Given:
    """What a file holds, as `align(..., pairs=given.evidence)` reads it."""

    evidence: Pairs | Judged
    prompts: Sequence[Any]
    """Each once, in the order of the file."""
    rows: int
    """Rows of the file."""
    cut: int
    """Completions that were longer than the policy writes, and lost their end."""
    left_out: Mapping[str, int]
    """Rows that gave nothing, by reason."""

    def said(self) -> str:
        """One line."""
        what = f"{len(self.evidence)} {'pairs' if isinstance(self.evidence, Pairs) else 'verdicts'}"
        more = [f"{n} left out ({why})" for why, n in self.left_out.items()]
        more += [f"{self.cut} completions cut"] if self.cut else []
        return f"{what} of {self.rows} rows and {len(self.prompts)} prompts" + "".join(f"; {m}" for m in more)


def read_given(policy: Policy, source: Any, *, format: Format = "auto", split: str | None = None,
               skip_faulty: bool = False) -> Given:
    """The pairs, or the single verdicts, of a file (or of rows) as tokens of a policy.

    Args:
        policy: Whose tokens they become.
        source: What `read_pairs` reads, or such a source with rows of `prompt`, `completion` and `label`.
        format: The form of pairs.
        split: Which split, where the source has several.
        skip_faulty: Leaves out rows with faults, and counts them, in place of stopping.

    Raises:
        BadInput: naming the row and its fault; or where nothing is left.

    Example:
        >>> from plaudit.optimize.align.small import SmallPolicy
        >>> rows = [{"prompt": "a", "chosen": "b", "rejected": "a"}, {"prompt": "b", "chosen": "aaa", "rejected": "b"}]
        >>> read_given(SmallPolicy("ab", hidden=4, max_tokens=3), rows).said()
        '2 pairs of 2 rows and 2 prompts; 1 completions cut'
    """
    rows = rows_of(source, split=split)
    first = next(rows, None)
    if first is None:
        raise BadInput("data", expected="at least one row", received="none")
    if format == "auto" and {"completion", "label"} <= set(first[1]):
        return _verdicts(policy, chain([first], rows), skip_faulty)
    return given_pairs(policy, read_pairs(source, format=format, split=split), skip_faulty=skip_faulty)


def given_pairs(policy: Policy, records: Sequence[Preference], *, skip_faulty: bool = False) -> Given:
    """Preferences over texts as pairs, the better one first; ties and undecided rows give none.

    A label between 0 and 1 stays as unsure as it is, and a weight counts as it does where a reward is learnt from the
    same file (all pairs of a record share it). The strength is what the record says: its margin, where it has one; of
    a mined one, the gap of the rewards that it keeps.

    Raises:
        BadInput: naming the row and its fault; or where nothing is left.
    """
    form = getattr(policy, "form", None)
    faults = check_pairs(records, format=form)
    if not skip_faulty:
        raise_faults(faults, allow=_HARMLESS)
    faulty = {f.row for f in faults if f.row is not None and f.kind not in _HARMLESS}
    kept, left = _Rows(policy, skip_faulty), Counter[str]({"faulty": len(faulty)} if faulty else {})
    sure, strength, weight = list[float](), list[float](), list[float]()
    for row, record in enumerate(records):
        if row in faulty:
            continue
        clear = [(i, j, label, m) for i, j, label, m in pairs_in(record) if label != 0.5]
        if not clear or not record.weight:
            left["weight 0" if clear else "tie or undecided"] += 1
            continue
        before = len(kept.said)
        for i, j, label, m in clear:
            better, worse = (i, j) if label > 0.5 else (j, i)
            if kept.add(f"row {row}", record.context, [record.options[better], record.options[worse]], record.tools):
                sure.append(max(label, 1 - label))
                strength.append(_gap(record, m))
                weight.append(record.weight)
        left["too long, or the same once cut"] += len(kept.said) == before
    tokens = kept.tokens()
    at = torch.arange(len(tokens))
    pairs = Pairs(tokens=tokens, first=at[0::2], second=at[1::2], label=torch.tensor(sure),
                  strength=torch.tensor(strength), weight=torch.tensor(weight))
    return Given(evidence=pairs, prompts=kept.prompts, rows=len(records), cut=kept.cut, left_out=+left)


def _gap(record: Preference, strength: float) -> float:
    rewards = record.provenance.get("rewards")
    if isinstance(rewards, list) and len(rewards) == 2 and all(isinstance(r, int | float) for r in rewards):
        return abs(float(rewards[0]) - float(rewards[1]))
    return record.margin or strength


def _verdicts(policy: Policy, rows: Iterable[tuple[str, Mapping[str, Any]]], skip_faulty: bool) -> Given:
    """Rows of prompt, completion, label and perhaps a weight."""
    kept, left = _Rows(policy, skip_faulty), Counter[str]()
    desirable, weight = list[bool](), list[float]()
    for place, row in rows:
        fault = next(_faults(row), None)
        if fault is not None:
            if not skip_faulty:
                raise BadInput(place, expected="prompt, completion, a label that is true or false, and a "
                               "weight >= 0 if any", received=fault,
                               fix="mend the row, or leave out faulty ones (--skip-faulty)")
            left["faulty"] += 1
        elif not _weight(row):
            left["weight 0"] += 1
        elif kept.add(place, row["prompt"], [row["completion"]], ()):
            desirable.append(_YES[row["label"]])
            weight.append(float(_weight(row)))
        else:
            left["too long"] += 1
    judged = Judged(tokens=kept.tokens(), desirable=torch.tensor(desirable, dtype=torch.bool),
                    weight=torch.tensor(weight))
    rows_ = len(desirable) + left.total()
    return Given(evidence=judged, prompts=kept.prompts, rows=rows_, cut=kept.cut, left_out=+left)


def _faults(row: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"no {name}" for name in ("prompt", "completion", "label") if name not in row)
    for name in ("prompt", "completion"):
        text: Any = row[name]
        words = text if isinstance(text, str) else "".join(str(m.get("content") or "") for m in text) \
            if isinstance(text, list) and all(isinstance(m, Mapping) for m in text) else None
        if not is_unicode(text):
            yield f"{name} with half a surrogate pair"
        if words is None or (name == "completion" and not words.strip()):
            yield f"{name} = {text!r:.60}"
    if isinstance(row["label"], list | dict) or row["label"] not in _YES:
        yield f"label = {row['label']!r:.60}"
    weight = _weight(row)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        yield f"weight = {weight!r:.60}"


def _weight(row: Mapping[str, Any]) -> Any:
    """What the row says; 1 where it is silent, as where tables fill up a column with null."""
    said = row.get("weight")
    return 1 if said is None else said


class _Rows:
    """Completions of a policy, gathered."""

    def __init__(self, policy: Policy, skip_faulty: bool) -> None:
        self.policy, self.skip_faulty = policy, skip_faulty
        self.asked, self.said = list[Any](), list[Any]()
        self.ids, self.prompt_ids = list[list[int]](), list[list[int]]()
        self.cut = 0

    def add(self, place: str, prompt: Any, completions: Sequence[Any], tools: Sequence[Any]) -> bool:
        """Takes completions of one prompt, or none of them and says False."""
        longest = self.policy.max_tokens
        try:
            self.policy.encode(prompt)
            prompt_ids, ids = self.policy.encode_completions(prompt, completions, tools=tools)
            short = [row[:longest] for row in ids]
            if len(ids) == 2 and short[0] == short[1]:
                raise BadInput("completion", expected=f"answers that differ within the {longest} tokens of the policy",
                               received="the same ones", fix="raise max_tokens")
        except BadInput as error:
            if self.skip_faulty:
                return False
            raise BadInput(place, expected="texts that the policy could write", received=str(error)) from error
        self.cut += sum(len(row) > longest for row in ids)
        self.asked += [prompt] * len(ids)
        self.said += list(completions)
        self.ids += short
        self.prompt_ids += [prompt_ids] * len(ids)
        return True

    @property
    def prompts(self) -> list[Any]:
        """Each once."""
        return list({repr(p): p for p in self.asked}.values())

    def tokens(self) -> Tokens:
        """All of them.

        Raises:
            BadInput: when there are none.
        """
        if not self.ids:
            raise BadInput("data", expected="at least one row to learn from", received="none that could be used")
        return of_texts(self.asked, self.said, self.ids, prompt_ids=self.prompt_ids).to(self.policy.device)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The prompts of a file, with what the file says of each."""

    prompts: Sequence[Any]
    columns: Mapping[str, Sequence[Any]]
    """An entry for each prompt under each name, as `align(..., columns=asked.columns)` reads it."""
    left_out: int
    """Rows that could not be used."""


def read_prompts(policy: Policy, source: Any, *, split: str | None = None,
                 skip_faulty: bool = False) -> tuple[list[Any], int]:
    """The different prompts of a file, and how many rows were left out; `read_asked` explains the arguments.

    Example:
        >>> from plaudit.optimize.align.small import SmallPolicy
        >>> rows = [{"prompt": "a"}, {"prompt": "b", "chosen": "a", "rejected": "b"}, {"prompt": "a"}]
        >>> read_prompts(SmallPolicy("ab", hidden=4), rows)
        (['a', 'b'], 0)
    """
    asked = read_asked(policy, source, split=split, skip_faulty=skip_faulty)
    return list(asked.prompts), asked.left_out


def read_asked(policy: Policy, source: Any, reads: Reads | None = None, *, split: str | None = None,
               skip_faulty: bool = False) -> Asked:
    """The different prompts of a file: its column `prompt` or `instruction`, else what pairs have in common.

    Rows with one prompt are one, unless they differ in what a reward reads.

    Args:
        policy: What is to answer them.
        source: Rows of any form, in whatever `read_pairs` reads.
        reads: The columns that the rewards read, `reward.reads`; none by default.
        split: Which split, where the source has several.
        skip_faulty: Leaves out rows without a prompt that the policy can read, or without a column that a reward
            needs, in place of stopping.

    Raises:
        BadInput: naming the row; or where nothing is left.

    Example:
        >>> from plaudit.optimize.align.small import SmallPolicy
        >>> rows = [{"prompt": "a", "answer": "b"}, {"prompt": "a", "answer": "a"}]
        >>> read_asked(SmallPolicy("ab", hidden=4), rows, Reads(required=frozenset({"answer"}))).columns
        {'answer': ['b', 'a']}
    """
    reads = reads or Reads()
    found, left = dict[str, tuple[Any, dict[str, Any]]](), 0
    for place, row in rows_of(source, split=split):
        prompt = row.get("prompt", row.get("instruction"))
        if prompt is None:
            with contextlib.suppress(BadInput):
                prompt = read_pairs([row])[0].context
        said = said_of(row, reads)
        if not skip_faulty:
            check_reads(reads, said, place=place, has=row)
        elif reads.required - set(said):
            left += 1
            continue
        try:
            if not isinstance(prompt, str | list) or not prompt:
                raise BadInput("prompt", expected="a text or a list of messages", received=f"{prompt!r:.60}")
            if not is_unicode(prompt):
                raise BadInput("prompt", expected="a text in Unicode", received="half a surrogate pair")
            key = repr((prompt, sorted(said.items())))
            if key not in found:
                policy.encode(prompt)
                found[key] = prompt, said
        except BadInput as error:
            if not skip_faulty:
                raise BadInput(place, expected="a prompt that the policy reads", received=str(error),
                               fix="mend the row, or leave out faulty ones (--skip-faulty)") from error
            left += 1
    if not found:
        lacks = f" of {left} rows with {', '.join(sorted(reads.required))}" if reads.required and left else ""
        raise BadInput("data", expected="at least one prompt", received=f"none{lacks}")
    return Asked(prompts=[p for p, _ in found.values()], columns=as_columns([said for _, said in found.values()]),
                 left_out=left)


__all__ = ["Asked", "Given", "given_pairs", "read_asked", "read_given", "read_prompts"]
