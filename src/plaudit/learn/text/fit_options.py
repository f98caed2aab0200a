"""`FitText`: how a reward model of texts is fitted, checked before any work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from plaudit.core.chat import ChatFormat
from plaudit.core.errors import BadInput
from plaudit.learn.text import saving
from plaudit.learn.text.denoising import Denoise
from plaudit.learn.text.language import check_language
from plaudit.learn.text.loading import check_folder
from plaudit.learn.text.modelling import Lora
from plaudit.learn.text.objectives import stages
from plaudit.learn.text.sharding import check_sharding
from plaudit.learn.text.strengths import CrossFit
from plaudit.learn.text.trainer import LoopOptions

RATES = {"full": 1e-5, "lora": 2e-4, "frozen": 1e-3}
"""The learning rate, by what is trained."""


@dataclass(frozen=True, kw_only=True)
class FitText:
    """How a reward model is fitted; see `fit_text`."""

    model: Path | str
    """A folder, or a name on the hub: a language model, a classifier, or a reward model that plaudit saved."""
    loss: str = "bradley-terry"
    """A loss, a sum such as `scaled + 0.1 * contrastive`, stages such as `regression > scaled` (`two-stage`), or
    `gaussian` (Gaussian members that copy a first stage)."""
    lm_coefficient: float = 0.0
    """How much the language head's loss (nats a token of the chosen completions) counts beside it; 0 leaves it out."""
    lora: Lora | None = None
    """Train adapters and the head in place of all weights."""
    frozen: bool = False
    """Train the head alone, on states that are computed once."""
    ensemble: int = 1
    """H members on one backbone, each on a bootstrap sample of the prompts."""
    weights: Mapping[str, float] | None = None
    """How rated attributes add up to the reward; helpfulness, an overall score or the first one alone by default."""
    validation: float = 0.1
    """Which share of the records, by prompt, is held out; 0 for none."""
    max_length: int | None = None
    """The most tokens of a text; the model's limit by default."""
    truncation: Literal["left", "right", "refuse"] = "left"
    """Where a longer text is cut."""
    as_chat: bool | None = None
    """Whether plain texts are said by a user and an assistant; where the tokenizer has a template by default."""
    packing: bool = True
    """Whether shared prompts are computed once, where the model can."""
    dropout: float | None = None
    """Dropout of the backbone; none by default."""
    expo: bool = False
    """After the last stage go on beyond it, as far as the held-out records like it (weight extrapolation)."""
    denoise: Denoise | None = None
    """Clean the labels first by cross-fitted strength; `strengths.jsonl` in the folder says what was done."""
    cross_fit: CrossFit = CrossFit()
    """How strengths are measured."""
    meta: Sequence[tuple[Any, Sequence[Any]]] | None = None
    """(prompt, samples) of the present policy: MetaRM."""
    meta_step: float = 1e-5
    """eta: how far MetaRM moves before each step."""
    meta_batch: int = 4
    """Prompts that it draws for each step."""
    loop: LoopOptions = LoopOptions()
    """Epochs, learning rate, batch and the rest."""


def options_of(**options: Any) -> FitText:
    """Sorts options into those of the fit and those of its loop.

    Raises:
        BadInput: for an option that neither has.

    Example:
        >>> options_of(model="m", lr=1e-4, lora=True).loop.lr
        0.0001
    """
    ours, loops = set(FitText.__dataclass_fields__), set(LoopOptions.__dataclass_fields__)
    strange = sorted(set(options) - ours - loops)
    if strange:
        raise BadInput("options", expected=f"{', '.join(sorted(ours | loops))}", received=", ".join(strange))
    if isinstance(options.get("lora"), bool):
        options["lora"] = Lora() if options["lora"] else None
    loop = options.pop("loop", LoopOptions())
    chosen = {k: tuple(v) if k == "report_to" else v for k, v in options.items() if k in loops}
    how = FitText(**{k: v for k, v in options.items() if k in ours}, loop=replace(loop, **chosen))
    _check(how)
    rate = RATES["frozen" if how.frozen else "lora" if how.lora else "full"]
    return replace(how, loop=replace(how.loop, lr=how.loop.lr or rate))


def _check(how: FitText) -> None:
    loop = how.loop
    for name, value in (("epochs", loop.epochs), ("batch", loop.batch), ("accumulate", loop.accumulate),
                        ("ensemble", how.ensemble), ("lr", 1.0 if loop.lr is None else loop.lr)):
        if not value > 0:
            raise BadInput(name, expected="a number above 0", received=value)
    if how.frozen and how.lora is not None:
        raise BadInput("frozen", expected="a frozen backbone or LoRA, not both", received="both")
    if how.expo and (how.lora is not None or not how.validation):
        raise BadInput("expo", expected="all weights trained (adapters do not add up), and held-out records",
                       received="LoRA" if how.lora is not None else "validation=0")
    plan = stages(how.loss, lm_coefficient=how.lm_coefficient)
    check_language(how.lm_coefficient, plan, frozen=how.frozen)
    if any("target" in s.needs for s in plan) and (len(plan) != 2 or "target" in plan[0].needs):
        raise BadInput("loss", expected="Gaussian members after a stage whose reward they copy", received=how.loss,
                       fix="'gaussian', or 'scaled > gaussian-nll'")
    check_sharding(loop.arguments, {
        "frozen": how.frozen, "expo": how.expo, "meta": how.meta,
        f"the loss {' > '.join(s.name for s in plan)!r}": len(plan) > 1 or any(
            {"prototypes", "target", "language"} & set(s.needs) for s in plan),
    }, accelerators=torch.cuda.is_available())


def said(how: FitText) -> dict[str, Any]:
    """The options as JSON, without what changes nothing."""
    kept = {k: v for k, v in vars(how).items() if k not in ("loop", "meta", "model")}
    kept |= {k: v for k, v in vars(how.loop).items() if k not in ("report_to", "arguments")}
    kept["arguments"] = {k: str(v) for k, v in how.loop.arguments.items()}
    for name in ("lora", "denoise", "cross_fit"):
        kept[name] = None if kept[name] is None else dict(vars(kept[name]))
    if not how.lm_coefficient:
        del kept["lm_coefficient"]  # as it was before there was one
    kept["meta"] = None if how.meta is None else len(how.meta)
    return json.loads(json.dumps(kept, default=str))


def format_of(how: FitText) -> ChatFormat:
    """The tokenizer with its limits; the one that was saved where the model is one of ours."""
    check_folder(how.model)
    kept: dict[str, Any] = dict(saving.read_meta(how.model)["format"]) if saving.is_saved(how.model) else {}
    kept.pop("max_length", None)
    format = ChatFormat.load(how.model, **{**kept, "truncation": how.truncation})
    chat = bool(getattr(format.tokenizer, "chat_template", None)) if how.as_chat is None else how.as_chat
    return replace(format, max_length=how.max_length or _limit(how.model), as_chat=chat)


def _limit(model: str | Path) -> int | None:
    from plaudit.core.extras import require
    from plaudit.learn.text.loading import complaints

    with complaints(model):
        config = require("transformers", extra="text").AutoConfig.from_pretrained(str(model), trust_remote_code=False)
    return getattr(config.get_text_config(), "max_position_embeddings", None)
