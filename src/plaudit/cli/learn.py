"""`plaudit learn text`: a reward model from a file of preferences or ratings."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from plaudit.cli.given import json_object, records_of
from plaudit.cli.interrupts import leaving
from plaudit.cli.learn_feedback import FOLLOW_UP, learn_feedback
from plaudit.cli.models import checkpoint
from plaudit.core.errors import BadInput
from plaudit.learn.text.denoising import Denoise
from plaudit.learn.text.strengths import CrossFit


@dataclass(frozen=True, kw_only=True)
class LearnArgs:
    """Fits a reward model of texts.

    Example: plaudit learn text --model smollm2 --data pairs.jsonl --loss scaled --out my-reward
    """

    what: tyro.conf.Positional[Literal["text"]]
    """What is rewarded."""
    model: str
    """A checkpoint folder or a name on the hub (a language model, a classifier, or one that plaudit saved); smollm2 is
    the packaged SmolLM2-135M."""
    data: Path
    """Preferences or ratings: JSONL, Parquet or a folder of datasets, in the form of TRL, RewardBench, UltraFeedback,
    HelpSteer2 or plaudit."""
    out: Path
    """The folder of the model. A run that was killed goes on when it is started again."""
    loss: str = "bradley-terry"
    """A loss (bradley-terry, margin, scaled, smooth, ties, flip, adaptive-margin, denoised, regression, ...), a sum
    such as 'scaled + 0.1 * contrastive', stages such as 'regression > scaled', two-stage, or gaussian. follow-up trains
    no head: the model learns to say feedback (rows of prompt, response and feedback), as a follow-up reward."""
    denoise: Denoise = Denoise()
    """What is done with pairs by their strength before training; by default nothing."""
    cross_fit: CrossFit = CrossFit()
    """How strengths are measured."""
    lm_coefficient: float = 0.0
    """How much the language head's loss counts beside it: nats a token of the chosen completions. 0 leaves it out."""
    meta: Path | None = None
    """Samples of the present policy for MetaRM: JSONL with prompt and samples (a list), or prompt and completion."""
    meta_step: float = 1e-5
    """How far MetaRM moves before each step."""
    meta_batch: int = 4
    """Prompts that it draws for each step."""
    format: Literal["auto", "trl", "rewardbench", "rewardbench2", "ultrafeedback", "helpsteer2", "plaudit"] = "auto"
    """The form of the data."""
    lora: tyro.conf.FlagCreatePairsOff[bool] = False
    """Train adapters (merged when saving) and the head in place of all weights."""
    rank: int = 16
    """The rank of the adapters."""
    dropout: float | None = None
    """Dropout of the backbone (with --lora that of the adapters); none by default."""
    frozen: tyro.conf.FlagCreatePairsOff[bool] = False
    """Train the head alone, on states that are computed once."""
    ensemble: int = 1
    """Members on one backbone, each on a bootstrap sample."""
    weights: str | None = None
    """How rated attributes add up, as JSON: '{"helpfulness": 1, "verbosity": -0.2}'."""
    validation: float = 0.1
    """Which share is held out, by prompt."""
    epochs: float = 1.0
    """How often the data are seen."""
    lr: float | None = None
    """The learning rate: 1e-5, with --lora 2e-4, with --frozen 1e-3."""
    batch: int = 8
    """Records in a step on each device."""
    accumulate: int = 1
    """Batches in a step."""
    max_length: int | None = None
    """The most tokens of a text; the model's limit by default."""
    truncation: Literal["left", "right", "refuse"] = "left"
    """Where a longer text is cut."""
    expo: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on beyond the last stage as far as the held-out records like it."""
    patience: int | None = None
    """Stop after so many evaluations without a better one."""
    evaluations: int = 4
    """How often the held-out records are measured, and a checkpoint is written."""
    skip_faulty: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out rows with faults, and count them, in place of stopping."""
    seed: int = 0
    """The root of all randomness."""
    bf16: tyro.conf.FlagCreatePairsOff[bool] = False
    """Half precision, on a GPU that has it."""
    gradient_checkpointing: tyro.conf.FlagCreatePairsOff[bool] = False
    """Less memory for more time."""
    report_to: list[Literal["tensorboard", "wandb"]] = field(default_factory=list)
    """Where curves go."""
    arguments: str = "{}"
    """Further TrainingArguments of transformers as JSON, such as '{"fsdp": "full_shard"}'."""
    threads: int = 1
    """CPU threads of torch."""


_PASSED = ("loss", "lm_coefficient", "frozen", "ensemble", "validation", "epochs", "lr", "batch", "accumulate",
           "max_length", "truncation", "expo", "meta_step", "meta_batch", "dropout", "cross_fit", "patience",
           "evaluations", "seed", "bf16", "gradient_checkpointing", "report_to")


def learn(args: LearnArgs) -> int:
    """Runs the command; returns the exit code."""
    with leaving(lambda: _left(args.out)):
        return _learn(args)


def _learn(args: LearnArgs) -> int:
    if "PLAUDIT_LOG" not in os.environ:
        logging.getLogger("plaudit").setLevel(logging.WARNING)
    options = _options(args)
    import torch

    from plaudit.learn.text.processes import is_first
    from plaudit.learn.text.training import STRENGTHS, fit_text, format_of, options_of

    model = checkpoint(args.model)
    if args.loss == FOLLOW_UP:
        torch.set_num_threads(args.threads)
        with _Bar() as bar:
            said = learn_feedback(args, model, options, bar)
        if is_first():
            print("\n".join(said))
        return 0
    how = options_of(model=model, **options)  # what is wrong with them is said before any file is read
    torch.set_num_threads(args.threads)
    records = records_of(args.data, args.format)
    if args.skip_faulty:
        records = without_faulty(records, format_of(how))
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    with _Bar() as bar:
        fitted = fit_text(records, model=model, out=args.out, progress=bar, **options)
    if not is_first():
        return 0
    print(f"fitted {args.loss} on {fitted.meta['training']['records']} records; saved in {args.out}")
    if (args.out / STRENGTHS).is_file():
        print(f"the strength of each pair, the weakest first: {args.out / STRENGTHS}")
    for line in _measures(fitted.meta):
        print(line)
    return 0


def _left(out: Path) -> str:
    """What an interrupted run leaves in its folder."""
    stages = {checkpoint.parent for checkpoint in out.rglob("checkpoint-*")}
    if stages:
        from plaudit.learn.text.trainer import last_whole

        if any(map(last_whole, stages)):
            return f"the same command goes on from the last checkpoint in {out}"
    return "no checkpoint was written" if out.exists() else "nothing was written"


def _options(args: LearnArgs) -> dict[str, Any]:
    out: dict[str, Any] = {name: getattr(args, name) for name in _PASSED}
    out["arguments"] = json_object("--arguments", args.arguments)
    out["denoise"] = None if args.denoise.idle else args.denoise
    out["meta"] = None if args.meta is None else _samples(args.meta)
    out["weights"] = None if args.weights is None else json_object("--weights", args.weights)
    if args.threads < 1:
        raise BadInput("--threads", expected="at least 1", received=args.threads)
    if args.lora:
        from plaudit.learn.text.modelling import Lora

        if args.rank < 1:
            raise BadInput("--rank", expected="at least 1", received=args.rank)
        out["lora"] = Lora(rank=args.rank, alpha=2 * args.rank, dropout=args.dropout or 0.0)
    return out


def _samples(path: Path) -> list[tuple[Any, list[Any]]]:
    """(prompt, samples) of each prompt of a file."""
    from plaudit.feedback.text.sources import rows_of

    found: dict[str, tuple[Any, list[Any]]] = {}
    for row, (_, line) in enumerate(rows_of(path)):
        if "prompt" not in line or not ("samples" in line or "completion" in line):
            raise BadInput("--meta", expected="rows with prompt and samples, or prompt and completion",
                           received=f"row {row} with {', '.join(line)}")
        more = line["samples"] if "samples" in line else [line["completion"]]
        found.setdefault(json.dumps(line["prompt"]), (line["prompt"], []))[1].extend(more)
    return list(found.values())


def without_faulty(records: list[Any], format: Any = None) -> list[Any]:
    """The records without faults; what is left out is said. A chat format also asks whether they fit its context."""
    from plaudit.feedback.text.checks import check_pairs, without_faults

    faults = [f for f in check_pairs(records, format=format) if f.row is not None]
    for fault in faults[:5]:
        print(f"left out: {fault}", file=sys.stderr)
    if faults:
        print(f"left out {len({f.row for f in faults})} of {len(records)} rows", file=sys.stderr)
    return without_faults(records, faults)


def _measures(meta: Mapping[str, Any]) -> list[str]:
    held = meta["training"].get("held_out") or {}
    out: list[str] = []
    if held.get("accuracy") is not None:
        low, high = held["accuracy_interval"]
        out.append(f"held out: accuracy {held['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {held['pairs']} pairs, "
                   f"log loss {held['nll']:.3f}, calibration error {held['ece']:.3f}")
    if held.get("rating_error") is not None:
        out.append(f"held out: rating error {held['rating_error']:.3f}")
    if held.get("length_correlation") is not None:
        out.append(f"correlation of reward and length within records: {held['length_correlation']:+.2f}")
    cut = meta["training"].get("cut") or {}
    if cut.get("texts"):
        out.append(f"{cut['texts']:,} texts were longer than {cut['max_length']:,} tokens and were cut on the "
                   f"{cut['side']} ({cut['tokens']:,} tokens)")
    if not meta["standard"]:
        out.append(f"no standard form: {meta['why_not_standard']}")
    return out


class _Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self.bar = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                            TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
                            console=Console(stderr=True), disable=not sys.stderr.isatty())
        self.task: Any = None

    def __enter__(self) -> _Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, step: int, steps: int, logged: Mapping[str, float]) -> None:
        if self.task is None or step == 1:
            self.task = self.bar.add_task("training", total=steps, note="")
        shown = [f"{name} {logged[key]:.3f}" for name, key in (("loss", "loss"), ("accuracy", "eval_accuracy"))
                 if key in logged]
        self.bar.update(self.task, completed=step, note=" ".join(shown))
