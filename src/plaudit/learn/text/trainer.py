"""The loop: transformers' Trainer with our collator, loss and validation; checkpoints that are whole; a stop at NaN."""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.core.checkpoint import write_json
from plaudit.core.devices import best_device
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.extras import require
from plaudit.core.misspelt import Options
from plaudit.learn.text.examples import Example
from plaudit.learn.text.loading import quiet
from plaudit.learn.text.metrics import held_out
from plaudit.learn.text.processes import by_one, processes, wait

CHECKPOINTS, RUNS = "checkpoints", "runs"
WHOLE = "whole.json"
_SHOWN = 8
Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called with the step, the number of steps and what was logged last."""


class NotANumber(PlauditError):
    """The loss or a gradient is no longer a number; the message says at which rows, and where the last state is."""


@dataclass(frozen=True, kw_only=True)
class LoopOptions(Options):
    """How the loop runs."""

    epochs: float = 1.0
    """How often the data are seen."""
    lr: float | None = None
    """The learning rate after the warm-up, from which it falls linearly to 0: 1e-5, with LoRA 2e-4, for a head 1e-3."""
    batch: int = 8
    """Records in a step on each device."""
    accumulate: int = 1
    """Batches in a step."""
    warmup: float = 0.05
    """The share of steps in which the learning rate rises."""
    weight_decay: float = 0.0
    """AdamW's."""
    seed: int = 0
    """Of the order and of dropout."""
    evaluations: int = 4
    """How often the held-out records are measured, and a checkpoint is written, in the course of training."""
    patience: int | None = None
    """Stop after so many evaluations without a better one; None goes on to the end. The best one is kept either way."""
    bf16: bool = False
    """Half precision on a GPU that has it."""
    gradient_checkpointing: bool = False
    """Less memory for more time."""
    report_to: tuple[str, ...] = ()
    """tensorboard, wandb."""
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Any further TrainingArguments, such as fsdp, fsdp_config, optim or lr_scheduler_type."""


@dataclass(frozen=True)
class Meta:
    """MetaRM: before each step the model is moved to where it tells samples of the present policy further apart.

    Source:
        Secrets of RLHF II (arXiv 2401.06080), algorithm 1, first order.
    """

    groups: Sequence[Example]
    """Samples of one prompt each, as options; no labels."""
    step_size: float = 1e-5
    """eta. A large one inflates the scale of the reward."""
    batch: int = 4
    """Prompts in a step."""


@dataclass
class Loop:
    """One stage of training.

    Attributes:
        model: What is trained, in place.
        loss: What is minimised.
        collator: How examples become a batch.
        options: How the loop runs.
        folder: Where checkpoints go.
        attributes: What a head of attributes predicts.
        meta: Samples of the present policy.
        progress: What is called after each step.
        measure: How held-out rows are measured, in place of the measures of a reward model; has a `quality`.

    A reward model with its losses and records, or anything of their form: a module that reads what the collator makes
    of rows (which have a number `row` and tokens `ids`), and a named loss of its outputs and of what was said.
    """

    model: Any
    loss: Any
    collator: Callable[[Sequence[Any]], Any]
    options: LoopOptions
    folder: Path
    attributes: tuple[str, ...] = ()
    meta: Meta | None = None
    progress: Progress | None = None
    measure: Callable[[Sequence[Any]], Any] | None = None
    rows: Sequence[int] = ()
    """The rows of the last batch."""

    def run(self, train: Sequence[Any], validation: Sequence[Any]) -> list[dict[str, Any]]:
        """Trains, from the last whole checkpoint in the folder if there is one; returns what was logged.

        Raises:
            NotANumber: when the loss or a gradient is not finite.
        """
        with isolated_randomness(), quiet():
            trainer = self.trainer(train, validation)
            last = last_whole(self.folder)
            by_one(lambda: _forget_torn(self.folder, last))
            if last is not None:
                _check_same(last, self._identity(train))
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
            return list(trainer.state.log_history)

    def _identity(self, train: Sequence[Any]) -> dict[str, Any]:
        """What has to be the same for a checkpoint to be gone on with."""
        given = {k: v for k, v in vars(self.options).items() if k not in ("report_to", "arguments")}
        rows = [(e.row, len(e.ids), sum(map(len, e.ids))) for e in train]
        import hashlib

        several = {"number of processes": processes()} if processes() > 1 else {}
        return {"loss": self.loss.name, "options": json.loads(json.dumps(given)), **several,
                "rows": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]}

    def trainer(self, train: Sequence[Any], validation: Sequence[Any]) -> Any:
        """The Trainer, ready to start."""
        transformers = require("transformers", extra="text")
        require("accelerate", extra="text")
        arguments = _arguments(self.options, self.folder, n=len(train), validate=bool(validation))
        trainer = _class()(model=self.model, args=arguments, train_dataset=_Rows(train),
                           eval_dataset=_Rows(validation) if validation else None,
                           data_collator=lambda some: {"collated": self.collator(some)},
                           callbacks=[_callback()(self, self._identity(train))])
        trainer.loop = self
        for unwanted in (transformers.PrinterCallback, transformers.trainer_callback.ProgressCallback):
            trainer.remove_callback(unwanted)
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, transformers.integrations.TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(runs(self.folder))
        return trainer


class _Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i]


def steps_of(options: LoopOptions, n: int) -> tuple[int, int]:
    """The number of steps, and after how many a checkpoint is due."""
    per_epoch = max(1, math.ceil(math.ceil(n / (options.batch * processes())) / options.accumulate))
    steps = max(1, math.ceil(per_epoch * options.epochs))
    return steps, max(1, steps // max(1, options.evaluations))


def _arguments(options: LoopOptions, folder: Path, *, n: int, validate: bool) -> Any:
    transformers = require("transformers", extra="text")
    steps, every = steps_of(options, n)
    usual: dict[str, Any] = {
        "output_dir": str(folder), "num_train_epochs": options.epochs, "per_device_train_batch_size": options.batch,
        "gradient_accumulation_steps": options.accumulate, "learning_rate": options.lr,
        "warmup_steps": math.ceil(options.warmup * steps), "weight_decay": options.weight_decay, "seed": options.seed,
        "data_seed": options.seed, "logging_steps": max(1, min(10, steps // 10)), "save_strategy": "steps",
        "save_steps": every, "eval_strategy": "steps" if validate else "no", "eval_steps": every,
        "save_total_limit": 2, "load_best_model_at_end": validate, "metric_for_best_model": "eval_quality",
        "greater_is_better": True, "bf16": options.bf16,
        "report_to": list(options.report_to) or "none", "remove_unused_columns": False, "disable_tqdm": True,
        "use_cpu": best_device() == "cpu", "dataloader_pin_memory": False,
        "logging_nan_inf_filter": False, "label_names": [],
    }
    if options.gradient_checkpointing:  # renamed in transformers 5.2x
        known = transformers.TrainingArguments.__dataclass_fields__
        usual["activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"] = True
    try:
        return transformers.TrainingArguments(**{**usual, **options.arguments})
    except (TypeError, ValueError) as error:
        raise BadInput("arguments", expected="fields of transformers.TrainingArguments",
                       received=f"{dict(options.arguments)} ({error})") from None


def _class() -> Any:
    """The Trainer with our loss; made here, for its base is imported only when something is trained."""
    transformers = require("transformers", extra="text")

    class TextTrainer(transformers.Trainer):
        loop: Loop

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False,
                         num_items_in_batch: Any = None) -> Any:
            collated: Any = inputs["collated"].to(self.args.device)
            self.loop.rows = collated.row_N.tolist()
            outputs = model(collated)
            loss, each_N = self.loop.loss(outputs, collated.evidence)
            if not bool(torch.isfinite(each_N).all() & torch.isfinite(loss)):
                raise NotANumber(self.where(collated, each_N, outputs.reward_NOH))
            return (loss, outputs) if return_outputs else loss

        def where(self, collated: Any, each_N: Tensor, reward_NOH: Tensor) -> str:
            """At which rows it went wrong, and what is left."""
            bad = collated.row_N[~torch.isfinite(each_N)].tolist() or collated.row_N.tolist()
            sane = bool(torch.isfinite(reward_NOH[collated.evidence.present_NO]).all())
            what = "the loss" if sane else "the reward"
            return (f"{what} is not a number at step {self.state.global_step + 1}, in {named(bad)}; "
                    f"{left_over(self.loop.folder)}; look at these rows, lower the learning rate, or train in float32")

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            if self.loop.meta is None:
                return super().training_step(model, inputs, num_items_in_batch)
            from plaudit.learn.text.procedures import ascended

            with ascended(self.loop.model, self.loop.meta, self.loop.collator, step=self.state.global_step,
                          seed=self.args.seed):
                return super().training_step(model, inputs, num_items_in_batch)

        def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
            found = self.loop_measure()
            metrics = {f"eval_{k}": float(v) for k, v in vars(found).items() if isinstance(v, int | float)}
            metrics["eval_quality"] = found.quality
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

        def loop_measure(self) -> Any:
            """The measures of the held-out records."""
            if self.loop.measure is not None:
                return self.loop.measure(self.eval_dataset.rows)
            return held_out(self.loop.model.say, self.eval_dataset.rows, self.loop.collator,
                            batch=max(8, self.args.per_device_train_batch_size), attributes=self.loop.attributes)

    return TextTrainer


def _callback() -> Any:
    transformers = require("transformers", extra="text")

    class Watch(transformers.TrainerCallback):
        """Progress, early stopping, whole checkpoints, and a stop before a step that would spoil the weights."""

        def __init__(self, loop: Loop, identity: dict[str, Any]) -> None:
            self.loop, self.identity = loop, identity
            self.last: dict[str, float] = {}

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            grads = [p.grad for p in self.loop.model.parameters() if p.grad is not None]
            if grads and not bool(torch.isfinite(torch.stack([g.float().sum() for g in grads]).sum())):
                raise NotANumber(f"a gradient is not a number at step {state.global_step + 1}, after "
                                 f"{named(self.loop.rows)}; {left_over(self.loop.folder)}; lower the learning rate, "
                                 "or train in float32")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.last.update({k: v for k, v in (logs or {}).items() if isinstance(v, int | float)})

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.loop.progress is not None and state.is_world_process_zero:
                self.loop.progress(state.global_step, state.max_steps, self.last)

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> Any:
            found = [line["eval_quality"] for line in state.log_history if "eval_quality" in line]
            patience = self.loop.options.patience
            if patience is not None and len(found) - 1 - found.index(max(found)) >= patience:
                control.should_training_stop = True
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = self.loop.folder / f"checkpoint-{state.global_step}"
            wait()  # until each process has written its part
            if state.is_world_process_zero and folder.is_dir():
                sizes = {f.name: f.stat().st_size for f in folder.iterdir() if f.is_file()}
                write_json(folder / WHOLE, {"files": sizes, **self.identity})

    return Watch


def runs(folder: Path) -> Path:
    """Where TensorBoard's files go: a stage's checkpoints are removed at the end, its curves are not.

    Example:
        >>> runs(Path("out/checkpoints/stage-1")).as_posix()
        'out/runs/stage-1'
    """
    last = max((i for i, part in enumerate(folder.parts) if part == CHECKPOINTS), default=None)
    return folder if last is None else Path(*folder.parts[:last], RUNS, *folder.parts[last + 1:])


# --- checkpoints ----------------------------------------------------------------------------------------


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint whose writing ended; one that a kill cut off does not count."""
    found = sorted((c for c in folder.glob("checkpoint-*") if c.name.rpartition("-")[2].isdigit()),
                   key=lambda c: int(c.name.rpartition("-")[2]), reverse=True)
    return next((c for c in found if _is_whole(c)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _forget_torn(folder: Path, last: Path | None) -> None:
    """Removes checkpoints that were cut off: the trainer would count them."""
    import shutil

    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint != last and not _is_whole(checkpoint):
            shutil.rmtree(checkpoint, ignore_errors=True)


def _check_same(checkpoint: Path, identity: dict[str, Any]) -> None:
    kept = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
    alone = {"number of processes": 1}
    other = [name for name, value in (alone | identity).items() if (alone | kept).get(name) != value]
    if other:
        raise BadInput("out", expected="a new folder, or that of the same training",
                       received=f"{checkpoint.parent.parent}, where the {', '.join(other)} differ",
                       fix="pass another folder, or remove this one")


def named(rows: Sequence[int]) -> str:
    """Rows as a message names them.

    Example:
        >>> named([3]), named(range(20))
        ('row 3', 'rows 0, 1, 2, 3, 4, 5, 6, 7 and 12 more')
    """
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:_SHOWN]))}{more}"


def left_over(folder: Path) -> str:
    """Where the last good state is."""
    last = last_whole(folder)
    return "no checkpoint had been written yet" if last is None else f"the last good checkpoint is {last}"


@contextlib.contextmanager
def isolated_randomness() -> Generator[None]:
    """Gives Python, NumPy and torch their random states back: the trainer seeds all of them."""
    python, numpy_ = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_)
