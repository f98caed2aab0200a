"""`plaudit learn features`: a reward model of features that somebody can name, from a few hundred preferences."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from plaudit.cli.given import records_of
from plaudit.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class LearnFeaturesArgs:
    """Fits a reward model of named features of texts.

    A feature is a function of prompt and completion with a name and a direction; the file that defines them is run.
    The model says what each feature paid, and is scored, evaluated, audited and served like any other.

    Example: plaudit learn features my_features.py:FEATURES --data pairs.jsonl --out my-reward
    """

    features: tyro.conf.Positional[str]
    """Your FeatureSet: file.py:NAME or module:NAME."""
    data: Path
    """Preferences or ratings: JSONL, Parquet or a folder of datasets, in any form that `plaudit learn text` reads."""
    out: Path
    """The folder of the model: new, empty, or that of an older feature model."""
    model: Literal["mlp", "linear", "mean"] = "mlp"
    """Which model pays: a regularised perceptron, a linear model, or the mean of the features with their signs. All
    three are fitted and reported."""
    format: Literal["auto", "trl", "rewardbench", "rewardbench2", "ultrafeedback", "helpsteer2", "plaudit"] = "auto"
    """The form of the data."""
    length_control: tyro.conf.FlagCreatePairsOff[bool] = False
    """What people like for being long is not put down to a feature that goes with length."""
    on_missing: Literal["impute", "unknown"] = "impute"
    """What a completion is worth that lacks a feature: its mean and what its flag has earned, or nothing is known."""
    hidden: list[int] = field(default_factory=lambda: [16])
    """Widths of the perceptron's hidden layers."""
    steps: int = 300
    """Updates of each model."""
    ties: Literal["soft", "rao-kupper", "drop"] = "soft"
    """What a tie says: the label 0.5, an outcome of its own, or nothing."""
    validation: float = 0.1
    """Which share is held out, by prompt; 0 measures on folds alone."""
    workers: int = 2
    """Processes in which the functions run; 0 runs them in this one."""
    time_limit: float = 10.0
    """Seconds that a call may take; then its feature is unknown."""
    skip_faulty: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out rows with faults, and count them, in place of stopping."""
    seed: int = 0
    """The root of all randomness."""
    threads: int = 1
    """CPU threads of torch."""


def learn_features(args: LearnFeaturesArgs) -> int:
    """Runs the command; returns the exit code."""
    import torch

    from plaudit.learn.text.feature_fitting import FitFeatures, fit_features
    from plaudit.learn.text.feature_heads import HeadOptions
    from plaudit.learn.text.feature_reward import Running
    from plaudit.learn.text.features import FeatureSet

    if args.threads < 1:
        raise BadInput("--threads", expected="at least 1", received=args.threads)
    if not args.data.exists():
        raise BadInput("--data", expected="a file or folder that exists", received=str(args.data))
    config = FitFeatures(
        kind=args.model, length_control=args.length_control, on_missing=args.on_missing, validation=args.validation,
        heads=HeadOptions(hidden=tuple(args.hidden), steps=args.steps, ties=args.ties), seed=args.seed,
        running=Running(workers=args.workers, time_limit_s=args.time_limit))
    features = FeatureSet.load(args.features)
    torch.set_num_threads(args.threads)
    records = records_of(args.data, args.format)
    if args.skip_faulty:
        from plaudit.cli.learn import without_faulty

        records = without_faulty(records)
    with _Bar() as bar:
        fitted = fit_features(records, features, config=config, out=args.out, progress=bar)
    for line in lines(fitted.report, args.out):
        print(line)
    return 0


def lines(report: Mapping[str, Any], out: Path) -> list[str]:
    """What was fitted, how good it is, and what is not as its author thinks."""
    said = [f"fitted {len(report['responses'])} features to {report['pairs']} pairs of {report['prompts']} prompts; "
            f"saved in {out}", f"pair accuracy on {report['measured_on']}:"]
    for kind, found in report["measures"].items():
        if found["accuracy"] is not None:
            low, high = found["accuracy_interval"]
            pays = ", which pays" if kind == report["kind"] else ""
            said.append(f"  {kind:<7} {found['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {found['pairs']} pairs{pays}")
    said.append("accuracy lost without a feature:")
    for name, (mean, low, high) in report["importance"].items():
        curve = report["responses"].get(name)
        does = "" if curve is None or curve["agrees"] is not False else \
            f"; declared that {curve['better']} is better, but the reward goes {_WORDS[curve['moves']]}"
        said.append(f"  {name:<{max(map(len, report['importance']))}}  {mean:.3f} [{low:.3f}, {high:.3f}]{does}")
    said += [f"not used: {name}, for {reason}" for name, reason in report["dropped"].items()]
    said += [f"missing in {share:.1%} of the completions: {name} ({next(iter(report['reasons'].get(name, ['?'])))})"
             for name, share in report["missing"].items() if name not in report["dropped"]]
    if report["length_correlation"] is not None:
        said.append(f"correlation of reward and length within prompts: {report['length_correlation']:+.2f}")
    said.append("no standard form: a feature model is no sequence classifier; plaudit scores, audits and serves it")
    return said


_WORDS = {"up": "up", "down": "down", "turns": "up and down", "flat": "nowhere"}


class _Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self.bar = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                            console=Console(stderr=True), disable=not sys.stderr.isatty())
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, what: str, done: int, whole: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=whole)
        self.bar.update(self.tasks[what], completed=done)
