"""How good a reward of texts is on labelled records: by category, with intervals over prompts, and how sure that is.

Every number is over the records whose scores are all known; how many are not stands beside it. Intervals resample
prompts, not pairs: pairs of one prompt are no independent evidence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.comparisons import proportion_interval
from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import bootstrap, mean_interval
from plaudit.feedback.records import Fragment, Preference
from plaudit.learn.calibration import Bin, _bins, best_temperature
from plaudit.learn.cross_fitting import FOLDS
from plaudit.learn.text.ranking import (
    SECTIONS,
    Ties,
    TiesScore,
    all_above,
    best_of,
    reciprocal_rank,
    sections,
    ties_score,
    wins,
)
from plaudit.learn.text.scorers import Scorer, as_scorer, reads_of, score_rows
from plaudit.specify.text.columns import as_columns, check_reads, said_of

CATEGORY = ("subset", "category", "section", "domain", "source")
"""Columns that name a record's category, the first that is there."""
REWARDBENCH2 = {"Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties"}
ORDER_ROWS = 256


@dataclass(frozen=True)
class Item:
    """A record with its scores."""

    record: Preference
    scores: tuple[float | None, ...]
    why: str = ""

    @property
    def known(self) -> bool:
        return None not in self.scores

    @property
    def values(self) -> list[float]:
        """The scores of a known item."""
        return [float(s) for s in self.scores if s is not None]

    @property
    def prompt(self) -> str:
        """What its cluster is called."""
        return json.dumps(self.record.context, sort_keys=True, default=str)

    @property
    def category(self) -> str:
        return str(next((self.record.provenance[k] for k in CATEGORY if k in self.record.provenance), "all"))

    @property
    def correct(self) -> tuple[bool, ...] | None:
        """Which options are right; of a decided pair the better one."""
        marks = self.record.correct
        if marks is None and self.record.label is not None and self.record.label != 0.5:
            marks = (self.record.label > 0.5, self.record.label < 0.5)
        return marks if marks is not None and any(marks) and not all(marks) else None


@dataclass(frozen=True)
class Margins:
    """By how much right answers win, worst right less best wrong."""

    mean: Interval
    median: float
    in_spreads: float
    """The median in units of the standard deviation of all scores."""
    negative: float
    """The share below zero."""


@dataclass(frozen=True)
class CalibrationOfPairs:
    """What sigmoid(score of the first - score of the second) is worth as a probability."""

    log_loss: Interval
    brier: float
    error: float
    """Expected calibration error."""
    temperature: float
    """What the difference should be divided by."""
    error_after: float
    """The calibration error where the pairs of a tenth of the prompts are divided by the temperature that the others
    chose; NaN for a single prompt."""
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Orders:
    """What the order of rows and the company in a batch change; a reward that reads rows alone gives nothing."""

    orders: int
    rows: int
    accuracy: tuple[float, float]
    """The smallest and the largest over the orders."""
    largest: float
    """The largest difference of the score of one text."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    records: int
    unknown: int
    reasons: Mapping[str, int]
    ties: Ties
    accuracy: Interval
    """Every right answer above every wrong one."""
    mrr: Interval
    by_category: Mapping[str, Interval]
    tied: int
    """Records where a right and a wrong answer that decide have the same score."""
    margins: Margins
    calibration: CalibrationOfPairs | None
    orders: Orders | None
    rewardbench: Mapping[str, float] = field(default_factory=dict[str, float])
    """RewardBench 1's sections, or RewardBench 2's subsets, and their mean as `score`, where the records are such."""
    rewardbench_ties: TiesScore | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {k: _jsonable(v) for k, v in self.__dict__.items()}


def evaluate(model: Any, records: Sequence[Preference], *, ties: Ties = "against", orders: int = 2, seed: int = 0,
             progress: Callable[[int], None] | None = None) -> Evaluation:
    """Scores the options of records and says how often the right ones win.

    Args:
        model: A TextReward, or any other Reward of texts.
        records: Pairs with a label, or options of which some are `correct`. Undecided ones are left out.
        ties: What equal scores of a right and a wrong answer count.
        orders: In how many orders up to 256 records are scored to see whether that matters; 1 for none but the given.
        seed: Of the orders, of the resampling and of the folds.
        progress: Called with the number of records that are done.

    Raises:
        BadInput: when no record is decided, or one holds no texts.

    Example:
        >>> from plaudit.specify.text.functions import text_reward
        >>> long = text_reward(lambda completion_text: float(len(completion_text)))
        >>> pairs = [Preference(options=("four", "5"), context=str(i), label=1.0) for i in range(3)]
        >>> evaluate(long, pairs).accuracy.mean
        1.0
    """
    decided = [r for r in records if Item(r, ()).correct is not None]
    if not decided:
        raise BadInput("records", expected="at least one record with a decided label or with right and wrong options",
                       received=f"{len(records)} without")
    scorer = as_scorer(model)
    items = score_records(scorer, decided, progress=progress)
    return summarise(items, ties=ties, seed=seed, orders=_orders(scorer, items, ties, orders, seed))


def score_records(scorer: Scorer, records: Sequence[Preference], *, window: int = 512,
                  progress: Callable[[int], None] | None = None) -> list[Item]:
    """The records with the scores of their options; their provenance holds the columns that a reward reads.

    Raises:
        BadInput: when no record has a column that the reward needs.
    """
    out: list[Item] = []
    reads = reads_of(scorer)
    check_reads(reads, {name for r in records for name in said_of(r.provenance, reads)},
                has=dict.fromkeys(name for r in records for name in r.provenance))
    for start in range(0, len(records), window):
        part = records[start:start + window]
        if any(isinstance(o, Fragment) for r in part for o in r.options):
            raise BadInput("records", expected="options that are texts", received="fragments of episodes")
        said = [said_of(r.provenance, reads) for r in part for _ in r.options]
        rows = iter(score_rows(scorer, [r.context for r in part for _ in r.options],
                               [o for r in part for o in r.options], columns=as_columns(said)))
        for record in part:
            mine = [next(rows) for _ in record.options]
            out.append(Item(record, tuple(s.value for s in mine), next((s.why for s in mine if s.why), "")))
        if progress is not None:
            progress(len(part))
    return out


def summarise(items: Sequence[Item], *, ties: Ties = "against", seed: int = 0,
              orders: Orders | None = None) -> Evaluation:
    """The numbers of scored records.

    Raises:
        BadInput: when no record has all its scores.
    """
    judged = [(i, c) for i in items if i.known and (c := i.correct) is not None]
    reasons: dict[str, int] = {}
    for item in items:
        if not item.known:
            reasons[item.why] = reasons.get(item.why, 0) + 1
    if not judged:
        raise BadInput("scores", expected="at least one record with all its scores known", received=str(reasons)[:300])
    clusters = [i.prompt for i, _ in judged]
    right = [all_above(i.values, c, ties=ties) for i, c in judged]
    categories: dict[str, list[int]] = {}
    for n, (item, _) in enumerate(judged):
        categories.setdefault(item.category, []).append(n)
    bench, tie_score = _rewardbench([i for i, _ in judged])
    return Evaluation(
        records=len(items), unknown=sum(reasons.values()), reasons=reasons, ties=ties,
        accuracy=clustered(right, clusters, seed=seed),
        mrr=clustered([reciprocal_rank(i.values, c, ties=ties) for i, c in judged], clusters, seed=seed),
        by_category={name: clustered([right[n] for n in rows], [clusters[n] for n in rows], seed=seed)
                     for name, rows in sorted(categories.items())} if set(categories) != {"all"} else {},
        tied=sum(_gap(i.values, c) == 0 for i, c in judged), margins=_margins(judged, clusters, seed),
        calibration=_calibration(items, seed), orders=orders, rewardbench=bench, rewardbench_ties=tie_score)


def clustered(values: Sequence[float], clusters: Sequence[str], *, seed: int = 0) -> Interval:
    """The mean of values with an interval that resamples whole clusters; values in [0, 1] have theirs there.

    Example:
        >>> clustered([1.0, 1.0, 0.0], ["a", "a", "b"]).n
        2
    """
    sums: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        entry = sums.setdefault(cluster, [0.0, 0.0])
        entry[0] += value
        entry[1] += 1
    if set(values) in ({0.0}, {1.0}):  # no resampling shows what was never seen
        return proportion_interval(len(sums) if 1.0 in set(values) else 0, len(sums))
    found = bootstrap(lambda x: x[..., 0].sum(-1) / x[..., 1].sum(-1), list(sums.values()), seed=seed, vectorised=True)
    share = 0 <= min(values) and max(values) <= 1
    return Interval(found.mean, max(found.low, 0.0), min(found.high, 1.0), found.n) if share else found


# --- parts -----------------------------------------------------------------------------------------------


def _gap(values: Sequence[float], correct: Sequence[bool]) -> float:
    """Worst right less best wrong."""
    return min(v for v, c in zip(values, correct, strict=True) if c) - max(
        v for v, c in zip(values, correct, strict=True) if not c)


def _margins(judged: Sequence[tuple[Item, Sequence[bool]]], clusters: Sequence[str], seed: int) -> Margins:
    gaps = np.array([_gap(i.values, c) for i, c in judged])
    spread = float(np.std([v for i, _ in judged for v in i.values]))
    median = float(np.median(gaps))
    return Margins(clustered(gaps.tolist(), clusters, seed=seed), median, median / spread if spread else 0.0,
                   float((gaps < 0).mean()))


def _calibration(items: Sequence[Item], seed: int) -> CalibrationOfPairs | None:
    """Over pairs with a label; ties of the label count for the loss, and for nothing else."""
    pairs = [i for i in items if i.known and i.record.label is not None and len(i.scores) == 2]
    if not pairs:
        return None
    gap = torch.tensor([i.values[0] - i.values[1] for i in pairs], dtype=torch.float64)
    y = torch.tensor([float(i.record.label or 0.0) for i in pairs], dtype=torch.float64)
    loss = torch.nn.functional.softplus(gap) - y * gap
    p, strict = torch.sigmoid(gap), y != 0.5
    bins, error = _bins(p[strict], y[strict], 10)
    temperature = best_temperature(gap.float(), y.float(), torch.ones(len(gap)).bool())
    after = _error_after(gap, y, [i.prompt for i in pairs], seed)
    return CalibrationOfPairs(mean_interval(loss), float((p - y).square().mean()), error, temperature, after, bins)


def _error_after(gap: Float[Tensor, "N"], y: Float[Tensor, "N"], prompts: Sequence[str], seed: int) -> float:
    """The calibration error at a temperature, chosen for each fold of prompts by the others."""
    known = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    if len(known) < 2:
        return math.nan
    fold_of = torch.randperm(len(known), generator=Seeds(seed).child("folds").torch()) % FOLDS
    fold = fold_of[[known[prompt] for prompt in prompts]]
    divided = torch.empty_like(gap)
    for f in fold.unique():
        divided[fold == f] = gap[fold == f] / best_temperature(gap.float(), y.float(), fold != f)
    strict = y != 0.5
    return _bins(torch.sigmoid(divided)[strict], y[strict], 10)[1]


def _orders(scorer: Scorer, items: Sequence[Item], ties: Ties, orders: int, seed: int) -> Orders | None:
    """The same records again, options swapped and rows shuffled."""
    if orders < 1:
        raise BadInput("orders", expected="at least 1", received=orders)
    known = [i for i in items if i.known]
    if orders == 1 or not known:
        return None
    rng = Seeds(seed).child("orders").numpy()
    some = [known[i] for i in sorted(rng.permutation(len(known))[:ORDER_ROWS])]
    accuracies = [_accuracy([i.values for i in some], some, ties)]
    largest = 0.0
    for _ in range(orders - 1):
        texts = [(n, k) for n, i in enumerate(some) for k in range(len(i.scores))]
        shuffled = [texts[j] for j in rng.permutation(len(texts))]
        said = [said_of(some[n].record.provenance, reads_of(scorer)) for n, _ in shuffled]
        rows = score_rows(scorer, [some[n].record.context for n, _ in shuffled],
                          [some[n].record.options[k] for n, k in shuffled], columns=as_columns(said))
        again = {at: row.value for at, row in zip(shuffled, rows, strict=True)}
        values = [[again[n, k] for k in range(len(i.scores))] for n, i in enumerate(some)]
        differences = [math.inf if v is None else abs(v - old) for i, new in zip(some, values, strict=True)
                       for old, v in zip(i.values, new, strict=True)]
        largest = max(largest, *differences)
        if None not in [v for new in values for v in new]:
            accuracies.append(_accuracy(values, some, ties))  # type: ignore[arg-type]
    return Orders(orders, len(some), (min(accuracies), max(accuracies)), largest)


def _accuracy(values: Sequence[Sequence[float]], items: Sequence[Item], ties: Ties) -> float:
    return float(np.mean([all_above(v, i.correct or (), ties=ties) for v, i in zip(values, items, strict=True)]))


def _rewardbench(items: Sequence[Item]) -> tuple[dict[str, float], TiesScore | None]:
    """The scores of the benchmark whose subsets these are, as its own code computes them."""
    subsets: dict[str, list[Item]] = {}
    for item in items:
        subsets.setdefault(item.category, []).append(item)
    known1 = {s for weights in SECTIONS.values() for s in weights}
    if subsets.keys() <= known1:
        accuracy = {name: float(np.mean([wins(*_pair(i)) for i in some])) for name, some in subsets.items()}
        by_section = sections(accuracy)
        return {**by_section, "score": float(np.mean(list(by_section.values())))}, None
    theirs = {s.lower() for s in subsets} <= {s.lower() for s in REWARDBENCH2}
    if not theirs or not any(i.record.correct for i in items):
        return {}, None
    out: dict[str, float] = {}
    tied: TiesScore | None = None
    for name, some in sorted(subsets.items()):
        if name.lower() == "ties":
            tied = ties_score([(str(i.record.provenance.get("id", "")), i.values, i.correct or ()) for i in some])
            out[name] = tied.overall
        else:
            out[name] = float(np.mean([best_of(i.values, i.correct or ()) for i in some]))
    return {**out, "score": float(np.mean(list(out.values())))}, tied


def _pair(item: Item) -> tuple[float, float]:
    correct = item.correct or ()
    return (next(v for v, c in zip(item.values, correct, strict=True) if c),
            next(v for v, c in zip(item.values, correct, strict=True) if not c))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Interval):
        return value.to_json()
    if hasattr(value, "__dataclass_fields__"):
        return {k: _jsonable(getattr(value, k)) for k in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
