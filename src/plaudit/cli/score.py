"""`plaudit score`: scores every completion of a file with a reward model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from plaudit.cli.models import ModelOptions, load_model, progress_bar

INTERRUPTED, NOTHING_KNOWN = 130, 1


@dataclass(frozen=True, kw_only=True)
class ScoreArgs(ModelOptions):
    """Scores every completion of a file; a run that was killed goes on to the same bytes.

    Rows have a prompt with a completion, response or completions, messages, or the form of any preference data set.
    Each is written as it came, with a list of scores; null is unknown, and says why.

    Example: plaudit score --model runs/rm --data rows.jsonl --out scored.jsonl
    """

    model: str
    """A folder, a name on the hub, a URL, or file.py:name of a reward of texts."""
    data: Path
    """JSONL, JSON, Parquet, or a folder of datasets."""
    out: Path
    """The new file, *.jsonl; OUT.part is what there is until it is whole."""
    column: str = "scores"
    """What the scores are called."""
    members: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write what each member of an ensemble said."""
    per_token: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write a number for each token."""
    split: str | None = None
    """Which split, where the data have several."""
    window: int = 1024
    """How many rows are held at once."""
    fresh: tyro.conf.FlagCreatePairsOff[bool] = False
    """Begin again, even where a part is there."""


def score(args: ScoreArgs) -> int:
    """Runs the command; returns the exit code."""
    from plaudit.core.errors import BadInput
    from plaudit.learn.text.scoring import score_file

    if not args.data.exists():
        raise BadInput("--data", expected="a file or folder that exists", received=str(args.data))
    model = load_model(args.model, args)
    try:
        with progress_bar("scoring") as progress:
            done = score_file(model, args.data, args.out, column=args.column, members=args.members,
                              per_token=args.per_token, split=args.split, window=args.window, fresh=args.fresh,
                              progress=progress)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(f"scored {done.texts:,} completions in {done.rows:,} rows: {done.path}")
    if done.before:
        print(f"  {done.before:,} of the rows were there from an earlier run")
    if done.cut:
        print(f"  {done.cut:,} were longer than the model reads and were cut")
    if done.unknown:
        print(f"  {done.unknown:,} are unknown (null), each with its reason in {args.column}_why")
    if done.texts and done.unknown == done.texts:
        why, n = max(done.reasons.items(), key=lambda one: one[1])
        print(f"error: not one score is known; the most frequent reason ({n:,} times): {why}", file=sys.stderr)
        return NOTHING_KNOWN
    return 0
