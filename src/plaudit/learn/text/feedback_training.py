"""A language model that learns to give feedback in words, for follow-up likelihoods: the fine-tuned form of the card.

The writer of the feedback is the assistant: an opening turn asks it for a question, the prompt is its question, the
response the user's answer, and the feedback its next turn, on whose tokens alone it is trained (Zhang et al. 2024,
arXiv 2409.13948, section 3.3). `swapped=False` trains the user's next turn instead. Everything else (checkpoints, going
on after a kill, the guard against NaN) is the loop of the reward models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plaudit.core.devices import best_device
from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.core.seeds import Seeds
from plaudit.feedback.text.spoken import SpokenFeedback, feedback_hash
from plaudit.learn.text.follow_ups import FollowUps
from plaudit.learn.text.followup import FILE, FollowUpReward, is_follow_up
from plaudit.learn.text.likelihood import LanguageModel
from plaudit.learn.text.modelling import Lora
from plaudit.learn.text.packing import Padded, pad
from plaudit.learn.text.processes import by_one, join
from plaudit.learn.text.sharding import check_sharding
from plaudit.learn.text.trainer import CHECKPOINTS, Loop, LoopOptions, Progress, isolated_randomness
from plaudit.learn.text.turns import OPENING, NextTurn

_RATES = {False: 1e-5, True: 2e-4}
_TIMED = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos")


@dataclass(frozen=True)
class FittedFollowUp:
    """A training that ended."""

    folder: Path
    """The saved language model; `plaudit score --model` reads it."""
    history: tuple[dict[str, Any], ...]
    """What was logged."""
    held_out_nats: float | None
    """Nats a token of held-out feedback."""

    def reward(self, **options: Any) -> FollowUpReward:
        """The model as a Reward; options of `FollowUpReward.load`."""
        return FollowUpReward.load(self.folder, **options)


def fit_follow_up(records: Sequence[SpokenFeedback], *, model: str | Path, out: str | Path, swapped: bool = True,
                  opening: str = OPENING, lora: Lora | bool | None = None, follow_ups: FollowUps | None = None,
                  validation: float = 0.1, max_length: int | None = None, progress: Progress | None = None,
                  **loop: Any) -> FittedFollowUp:
    """Fine-tunes a language model to say feedback; what comes out is a follow-up reward.

    Args:
        records: Prompts, responses, and what was said of them.
        model: A folder, or a name on the hub, of a causal language model.
        out: The folder of the model. A run that was killed goes on when it is started again.
        swapped: Whether the assistant says the feedback, with roles exchanged; False trains the user's next turn.
        opening: The first turn where roles are exchanged.
        lora: Train adapters on all linear layers in place of all weights; merged at last.
        follow_ups: The follow-ups that are saved with the model; the packaged ones by default.
        validation: Which share of the prompts is held out; 0 for none.
        max_length: The most tokens of a text.
        progress: Called after each step with the step, the number of steps, and what was logged last.
        loop: Fields of `LoopOptions` (`epochs`, `lr`, `batch`, `seed`, ...).

    Raises:
        BadInput: before any work: for records, options or a model that cannot be.
        NotANumber: when the loss is no longer finite.

    Example:
        >>> fit_follow_up([], model="tiny", out="tuned")
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: records: expected at least one record of feedback, received none
    """
    if not records:
        raise BadInput("records", expected="at least one record of feedback", received="none")
    if not 0 <= validation < 1:
        raise BadInput("validation", expected="a share in [0, 1)", received=validation)
    strange = sorted(set(loop) - set(LoopOptions.__dataclass_fields__))
    if strange:
        raise BadInput("options", expected=", ".join(LoopOptions.__dataclass_fields__), received=", ".join(strange))
    adapters = (Lora() if lora else None) if isinstance(lora, bool) else lora
    options = LoopOptions(**{**loop, "lr": loop.get("lr") or _RATES[adapters is not None]})
    _check(options)
    identity = {"data": feedback_hash(records), "swapped": swapped, "opening": opening, "validation": validation,
                "model": str(model), "max_length": max_length,
                "lora": None if adapters is None else dict(vars(adapters)),
                "options": json.loads(json.dumps(vars(options), default=str))}
    done = _finished(Path(out), identity)
    if done is not None:
        return done
    with isolated_randomness():
        join()
        return _fit(list(records), FollowUpReward.load(
            model, follow_ups=follow_ups, swapped=swapped, opening=opening, max_length=max_length, share=False,
            name=Path(out).name), Path(out), adapters, options, identity, validation, progress)


def _fit(records: list[SpokenFeedback], reward: FollowUpReward, out: Path, adapters: Lora | None,
         options: LoopOptions, identity: Mapping[str, Any], validation: float,
         progress: Progress | None) -> FittedFollowUp:
    rows = [encoded(reward.turn, record, row) for row, record in enumerate(records)]
    train, held = _sides(rows, records, validation, options.seed)
    speaker = Speaker(reward.model, adapters, seed=Seeds(options.seed).child("lora").integer() % 2**31)
    speaker.to("cpu" if options.arguments.get("use_cpu") else best_device())
    pad_id = int(reward.model.tokenizer.pad_token_id)
    collator = lambda some: FeedbackBatch.of(some, pad_id)  # noqa: E731
    quality = lambda some: Heard(nats(speaker, some, collator, batch=max(8, options.batch)))  # noqa: E731
    loop = Loop(speaker, TokenLoss(), collator, options, out / CHECKPOINTS, progress=progress, measure=quality)
    history = [{k: v for k, v in line.items() if k not in _TIMED} for line in loop.run(train, held)]
    speaker.eval()
    found = nats(speaker, held, collator, batch=max(8, options.batch)) if held else None
    speaker.merge()
    speaker.causal.to("cpu")

    def written() -> None:
        reward.save(out, about={"identity": dict(identity), "history": history, "held_out_nats": found,
                                "records": len(train)})
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)

    by_one(written)
    return FittedFollowUp(out, tuple(history), found)


def _check(options: LoopOptions) -> None:
    for name in ("epochs", "batch", "accumulate", "lr"):
        value = getattr(options, name)
        if not value > 0:
            raise BadInput(name, expected="a number above 0", received=value)
    check_sharding(options.arguments, {"the loss 'follow-up'": True}, accelerators=torch.cuda.is_available())


def _finished(out: Path, identity: Mapping[str, Any]) -> FittedFollowUp | None:
    if not is_follow_up(out):
        return None
    training = json.loads((out / FILE).read_text(encoding="utf-8")).get("training") or {}
    if training.get("identity") != identity:
        raise BadInput("out", expected="a new folder, or that of the same training", received=str(out),
                       fix="pass another folder, or remove this one")
    return FittedFollowUp(out, tuple(training["history"]), training["held_out_nats"])


# --- rows and batches -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeedbackRow:
    """One record as tokens; `row` and `ids` are what the loop asks for."""

    row: int
    ids: tuple[tuple[int, ...], ...]
    """The whole conversation with the feedback, and the end of its turn."""
    start: int
    """Where the feedback begins."""


def encoded(turn: NextTurn, record: SpokenFeedback, row: int = 0) -> FeedbackRow:
    """The tokens of a record; the end token follows the feedback, where there is one.

    Raises:
        BadInput: naming the row, when the template refuses it or it does not fit.
    """
    try:
        made = turn.encode(record.prompt, record.response, [record.feedback])
    except BadInput as error:
        raise BadInput(f"records[{row}]", expected="a conversation that the model's format can say",
                       received=str(error)) from error
    end = turn.format.tokenizer.eos_token_id
    ids = (*made.ids[0], end) if end is not None else made.ids[0]
    limit = turn.format.max_length
    cut = 0 if limit is None else max(0, len(ids) - limit)
    return FeedbackRow(row, (ids[cut:],), made.start[0] - cut)


@dataclass(frozen=True)
class Told:
    """What the loop knows a row by: it has one entry."""

    present_NO: Tensor


@dataclass(frozen=True)
class FeedbackBatch:
    """Conversations in rows, and which of their tokens are feedback."""

    batch: Padded
    at_K2: Int[Tensor, "K 2"]
    """Row and place of each token of feedback."""
    evidence: Told
    row_N: Int[Tensor, "N"]

    @staticmethod
    def of(rows: Sequence[FeedbackRow], pad_id: int) -> FeedbackBatch:
        """Rows padded on the right."""
        at = [(n, p) for n, row in enumerate(rows) for p in range(row.start, len(row.ids[0]))]
        return FeedbackBatch(pad([row.ids[0] for row in rows], pad_id), torch.tensor(at),
                             Told(torch.ones(len(rows), 1, dtype=torch.bool)), torch.tensor([row.row for row in rows]))

    def __len__(self) -> int:
        return len(self.row_N)

    def to(self, device: Any, **_: Any) -> FeedbackBatch:
        """The same on another device."""
        return FeedbackBatch(self.batch.to(device), self.at_K2.to(device), Told(self.evidence.present_NO.to(device)),
                             self.row_N.to(device))


# --- model and loss ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """Log-probabilities of the tokens of feedback, and of which row each is."""

    log_prob_K: Float[Tensor, "K"]
    row_K: Int[Tensor, "K"]
    rows: int

    @property
    def mean_N(self) -> Float[Tensor, "N"]:
        """The mean of each row."""
        total = self.log_prob_K.new_zeros(self.rows).index_add(0, self.row_K, self.log_prob_K)
        return total / torch.bincount(self.row_K, minlength=self.rows).clamp(min=1)

    @property
    def reward_NOH(self) -> Float[Tensor, "N 1 1"]:
        """In the form in which the loop looks for what is not a number."""
        return self.mean_N[:, None, None]


class TokenLoss:
    """Minus the mean log-probability of the tokens of feedback in a batch, of each process where there are several."""

    name = "follow-up"

    def __call__(self, said: Said, evidence: Told) -> tuple[Tensor, Float[Tensor, "N"]]:
        return -said.log_prob_K.mean(), -said.mean_N


class Speaker(nn.Module):
    """A language model in training: logits are made at tokens of feedback alone.

    The output layer is a parameter of its own only where it is not the input embedding.
    """

    def __init__(self, language: LanguageModel, adapters: Lora | None, *, seed: int = 0) -> None:
        super().__init__()
        if not language.apart:
            raise BadInput("model", expected="a language model that is a backbone with a linear output layer",
                           received=type(language.model).__name__)
        object.__setattr__(self, "causal", language.model)
        self.causal: Any
        self.backbone: Any = language.backbone
        tied = language.head.weight is language.backbone.get_input_embeddings().weight
        if not tied:
            self.head = language.head
        object.__setattr__(self, "output", language.head)
        self.output: Any
        if adapters is not None:
            self.requires_grad_(False)
            peft = require("peft", extra="text")
            torch.manual_seed(seed)
            targets = sorted({name.split(".")[-1] for name, m in self.backbone.named_modules()
                              if isinstance(m, nn.Linear)})
            self.backbone = peft.get_peft_model(self.backbone, peft.LoraConfig(
                r=adapters.rank, lora_alpha=adapters.alpha, lora_dropout=adapters.dropout, target_modules=targets))

    def forward(self, collated: FeedbackBatch) -> Said:
        batch = collated.batch
        states = self.backbone(input_ids=batch.ids_ML, attention_mask=batch.mask_ML, use_cache=False).last_hidden_state
        row, place = collated.at_K2.unbind(-1)
        logits = self.output(states[row, place - 1]).float()
        chosen = logits.gather(-1, batch.ids_ML[row, place].unsqueeze(-1)).squeeze(-1)
        return Said(chosen - logits.logsumexp(-1), row, len(collated))

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """States of layers are computed again in the backward pass."""
        self.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs=gradient_checkpointing_kwargs)

    def activation_checkpointing_enable(self, *args: Any, **options: Any) -> None:
        """As newer releases of transformers call it."""
        self.backbone.activation_checkpointing_enable(*args, **options)

    def merge(self) -> None:
        """Puts adapters into the weights of the language model."""
        if hasattr(self.backbone, "merge_and_unload"):
            self.backbone = self.backbone.merge_and_unload()


@dataclass(frozen=True)
class Heard:
    """Held-out feedback."""

    nats: float
    """A token."""

    @property
    def quality(self) -> float:
        """What the best checkpoint has most of."""
        return -self.nats


@torch.no_grad()
def nats(speaker: Speaker, rows: Sequence[FeedbackRow], collator: Callable[[Sequence[FeedbackRow]], FeedbackBatch], *,
         batch: int = 8) -> float:
    """Nats a token of feedback, over all tokens."""
    training = speaker.training
    speaker.eval()
    device = next(speaker.parameters()).device
    found = [speaker(collator(rows[i:i + batch]).to(device)).log_prob_K for i in range(0, len(rows), batch)]
    speaker.train(training)
    return -float(torch.cat(found).double().mean())


def _sides(rows: Sequence[FeedbackRow], records: Sequence[SpokenFeedback], validation: float,
           seed: int) -> tuple[list[FeedbackRow], list[FeedbackRow]]:
    """Prompts are held out whole."""
    prompts = [json.dumps(r.prompt, sort_keys=True, default=str) for r in records]
    different = sorted(set(prompts))
    count = min(int(np.ceil(validation * len(different))), len(different) - 1)
    order = Seeds(seed).child("held out").numpy().permutation(len(different))
    held = {different[int(i)] for i in order[:count]}
    return ([row for row, p in zip(rows, prompts, strict=True) if p not in held],
            [row for row, p in zip(rows, prompts, strict=True) if p in held])


__all__ = ["FittedFollowUp", "Lora", "LoopOptions", "fit_follow_up"]
