"""`plaudit evaluate`: how often a reward model prefers what it should, by category, with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plaudit.cli.models import ModelOptions, load_model, progress_bar

if TYPE_CHECKING:
    from plaudit.feedback.records import Preference
    from plaudit.learn.text.evaluation import Evaluation

TIE_SAYS = {"against": "a tie counts as a loss", "half": "a tie counts half", "for": "a tie counts as a win"}


@dataclass(frozen=True, kw_only=True)
class EvaluateArgs(ModelOptions):
    """How often a reward model prefers what it should.

    Accuracy by category and reciprocal rank with intervals over prompts, margins, calibration, the scores of
    RewardBench 1 and 2 where the data are such, and what the order of the rows changes.

    Example: plaudit evaluate --model runs/rm --data test.jsonl
    """

    model: str
    """A folder, a name on the hub, a URL, or file.py:name of a reward of texts."""
    data: Path | None = None
    """Preferences in any form that plaudit reads, RewardBench 1 and 2 among them."""
    suite: str | None = None
    """A generator of right and wrong answers instead of data, such as sums, choices, dialogues or mixed."""
    suite_size: int = 200
    """About how many prompts the suite makes."""
    format: Literal["auto", "trl", "rewardbench", "rewardbench2", "ultrafeedback", "helpsteer2", "plaudit"] = "auto"
    """The form of the rows; found out by default."""
    split: str | None = None
    """Which split, where the data have several."""
    ties: Literal["against", "half", "for"] = "against"
    """What equal scores of a right and a wrong answer count."""
    orders: int = 2
    """In how many orders of the rows to score some of them, to see whether that matters; 1 for none."""
    seed: int = 0
    """Of the resampling and the orders."""
    out: Path | None = None
    """Write the numbers here too, as JSON."""


def evaluate(args: EvaluateArgs) -> int:
    """Runs the command; returns the exit code."""
    from plaudit.core.checkpoint import write_json
    from plaudit.learn.text import evaluation

    records = _records(args)
    model = load_model(args.model, args)
    with progress_bar("scoring") as progress:
        found = evaluation.evaluate(model, records, ties=args.ties, orders=args.orders, seed=args.seed,
                                    progress=progress)
    for line in lines(found, left_out=len(records) - found.records):
        print(line)
    if args.out is not None:
        about = {"model": args.model, "data": str(args.data or f"suite:{args.suite}"), "seed": args.seed}
        write_json(args.out, {**about, **found.to_json()})
        print(f"written: {args.out}")
    return 0


def _records(args: EvaluateArgs) -> list[Preference]:
    """The records of a file, or those of a suite: each prompt with its right and its wrong answers."""
    from plaudit.core.errors import BadInput
    from plaudit.feedback.records import Preference
    from plaudit.feedback.text.formats import read_pairs

    if (args.data is None) == (args.suite is None):
        raise BadInput("--data, --suite", expected="one of them", received="both" if args.data else "none")
    if args.data is not None:
        if not args.data.exists():
            raise BadInput("--data", expected="a file or folder that exists", received=str(args.data))
        return read_pairs(args.data, format=args.format, split=args.split)
    from plaudit.auditing.text.suites import make_suite

    items = make_suite(str(args.suite), seed=args.seed, n=args.suite_size).items
    return [Preference(options=(*i.good, *i.bad), correct=(True,) * len(i.good) + (False,) * len(i.bad),
                       context=i.prompt, provenance={**_told(i), "category": i.category})
            for i in items if i.good and i.bad]


def _told(item: Any) -> dict[str, Any]:
    """What a suite says of a prompt; its category is the one of the suite."""
    from plaudit.learn.text.evaluation import CATEGORY

    return {name: value for name, value in item.columns.items() if name not in CATEGORY}


def lines(found: Evaluation, *, left_out: int = 0) -> list[str]:
    """The evaluation as lines of text."""
    out = [f"{found.records:,} records of {found.accuracy.n:,} prompts; {TIE_SAYS[found.ties]} ({found.tied:,} ties); "
           "intervals are 95%, over prompts"]
    if left_out:
        out.append(f"{left_out:,} undecided records are left out")
    if found.unknown:
        out += [f"{found.unknown:,} records are left out, as a score is unknown:",
                *(f"  {n:,}: {why}" for why, n in sorted(found.reasons.items(), key=lambda r: -r[1])[:5])]
    width = max([10, *map(len, found.by_category), *map(len, found.rewardbench)])
    rows: list[tuple[str, Any]] = [("accuracy", found.accuracy), ("MRR", found.mrr)]
    out += ["", *(f"{name:<{width}}  {value}" for name, value in rows)]
    if found.by_category:
        out += ["", "accuracy by category",
                *(f"  {name:<{width}}  {value}  ({value.n:,} prompts)" for name, value in found.by_category.items())]
    if found.rewardbench:
        which = "RewardBench 2" if found.rewardbench_ties or "Chat" not in found.rewardbench else "RewardBench"
        out += ["", f"{which}, as its own code scores it",
                *(f"  {name:<{width}}  {value:.4f}" for name, value in found.rewardbench.items())]
    m = found.margins
    out += ["", f"margin: mean {m.mean}, median {m.median:.3g} ({m.in_spreads:.2g} standard deviations of the scores), "
                f"{m.negative:.1%} below zero"]
    if found.calibration is not None:
        c = found.calibration
        left = "" if math.isnan(c.error_after) else f" and leaves {c.error_after:.3f} where other prompts choose it"
        out.append(f"calibration: log loss {c.log_loss}, Brier {c.brier:.3f}, error {c.error:.3f}; a temperature of "
                   f"{c.temperature:.3g} fits best{left}")
    if found.orders is not None:
        o = found.orders
        out.append(f"order: over {o.orders} orders of {o.rows:,} records, accuracy {o.accuracy[0]:.4f} to "
                   f"{o.accuracy[1]:.4f}; a score changes by at most {o.largest:.2g}")
    return out
