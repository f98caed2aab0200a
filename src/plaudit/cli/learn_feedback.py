"""`plaudit learn text --loss follow-up`: a language model that learns to say feedback, as a follow-up reward."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.cli.learn import LearnArgs

FOLLOW_UP = "follow-up"
_USED = ("epochs", "lr", "batch", "accumulate", "patience", "evaluations", "seed", "bf16", "gradient_checkpointing",
         "report_to", "arguments", "validation", "max_length", "lora")
_READ = ("what", "model", "data", "out", "loss", "rank", "threads")


def learn_feedback(args: LearnArgs, model: str | Path, options: Mapping[str, Any], progress: Any) -> list[str]:
    """Trains; returns what there is to say.

    Raises:
        BadInput: for options of reward models with a head, and for data that are no feedback.
    """
    from plaudit.feedback.text.spoken import read_feedback
    from plaudit.learn.text.feedback_training import fit_follow_up
    from plaudit.learn.text.loading import NOT_A_CLASSIFIER

    strange = [name for name, option in type(args).__dataclass_fields__.items()
               if name not in (*_USED, *_READ) and getattr(args, name) != _default(option)]
    if strange:
        raise BadInput(f"--{strange[0].replace('_', '-')}", expected="its default, as there is no head and no pair",
                       received=getattr(args, strange[0]), fix=f"leave it out with --loss {FOLLOW_UP}")
    records = read_feedback(args.data)
    fitted = fit_follow_up(records, model=model, out=args.out, progress=progress,
                           **_loop(options))
    said = [f"tuned on {len(records)} rows of feedback; saved in {args.out}", NOT_A_CLASSIFIER,
            f"plaudit score, evaluate, audit and serve read it: --model {args.out}"]
    if fitted.held_out_nats is not None:
        said.insert(1, f"held out: {fitted.held_out_nats:.3f} nats a token of feedback")
    return said


def _loop(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options in the types of `LoopOptions`."""
    return {name: tuple(options[name]) if name == "report_to" else options[name] for name in _USED if name in options}


def _default(option: Any) -> Any:
    import dataclasses

    return option.default if option.default is not dataclasses.MISSING else option.default_factory()
