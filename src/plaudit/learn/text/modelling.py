"""Backbone and head as one module, made from a language model, a classifier or a saved reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.core.seeds import Seeds
from plaudit.learn.text import saving
from plaudit.learn.text.examples import Cached, Collated
from plaudit.learn.text.forward import hidden
from plaudit.learn.text.heads import Head, HeadSpec
from plaudit.learn.text.language import LanguageHead, chosen_of, load_language, mean_nll, spoken_states
from plaudit.learn.text.loading import check_folder, complaints, quiet
from plaudit.learn.text.objectives import Outputs

PROTOTYPES = 64


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters on all linear layers of the backbone; the head is trained in full, and all are merged at last.

    Example:
        >>> Lora(rank=8).alpha
        32
    """

    rank: int = 16
    """The rank of the update."""
    alpha: int = 32
    """Its scale, divided by the rank."""
    dropout: float = 0.0
    """Dropout before the adapters."""


class RewardModel(nn.Module):
    """What the trainer moves, wraps, saves and loads.

    Args:
        backbone: A transformers model without head; None where its states are cached.
        head: The head.
        prototypes: How many prototypes contrast by assignments learns; 0 for none.
        seed: Where the prototypes come from.
        twice: Whether training reads each batch a second time, with other dropout, for contrast.
        language: The language head, where training also asks how likely the chosen completions are.
    """

    def __init__(self, backbone: Any, head: Head, *, prototypes: int = 0, seed: int = 0, twice: bool = False,
                 language: LanguageHead | None = None) -> None:
        super().__init__()
        self.backbone, self.head, self.twice, self.language = backbone, head, twice, language
        self.prototype_ZD: nn.Parameter | None = None
        if prototypes:
            drawn = torch.randn(prototypes, head.layer.in_features, generator=Seeds(seed).child("prototypes").torch())
            self.prototype_ZD = nn.Parameter(drawn)

    @property
    def _no_split_modules(self) -> list[str]:  # what FSDP wraps, unless it is told otherwise
        return [] if self.backbone is None else list(getattr(self.backbone, "_no_split_modules", None) or [])

    def forward(self, collated: Collated) -> Outputs:
        """The outputs of a batch."""
        batch, slot = collated.batch, collated.slot_NO
        states, nll_NO = self._read(collated)
        raw = self.head(states.to(self.head.layer.weight.dtype)).float()
        std = self.head.std(raw)
        again = hidden(self.backbone, batch) if self.twice and self.training and not isinstance(batch, Cached) else None
        return Outputs(self.head.members(raw)[slot], raw[slot], states[slot], None if std is None else std[slot],
                       None if again is None else again[slot], self.prototype_ZD, nll_NO)

    def _read(self, collated: Collated) -> tuple[Float[Tensor, "M D"], Float[Tensor, "N O"] | None]:
        """The states, and in training what the language head says of the chosen options."""
        batch, slot, spoken = collated.batch, collated.slot_NO, collated.spoken
        if isinstance(batch, Cached):
            return batch.states_MD, None
        if self.language is None or spoken is None or not self.training:
            return hidden(self.backbone, batch), None
        chosen_NO = chosen_of(collated.evidence) & collated.evidence.present_NO
        chosen_M = [False] * len(spoken.ids_M)
        for place in slot[chosen_NO].tolist():
            chosen_M[place] = True
        states, before = spoken_states(self.backbone, batch, spoken, chosen_M)
        nll_M = mean_nll(self.language, self.backbone, before, spoken, chosen_M)
        return states, torch.where(chosen_NO, nll_M[slot], torch.nan)

    @torch.no_grad()
    def say(self, collated: Collated) -> Outputs:
        """The outputs, without gradients or dropout."""
        training = self.training
        self.eval()
        found = self(collated.to(self.head.layer.weight.device))
        self.train(training)
        return found

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """States of layers are computed again in the backward pass."""
        if self.backbone is not None:
            self.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs=gradient_checkpointing_kwargs)

    def activation_checkpointing_enable(self, *args: Any, **options: Any) -> None:
        """As newer releases of transformers call it."""
        if self.backbone is not None:
            self.backbone.activation_checkpointing_enable(*args, **options)


def load_backbone(model: str | Path, *, dtype: torch.dtype = torch.float32) -> tuple[Any, Float[Tensor, "1 D"] | None]:
    """The causal backbone of a checkpoint, and the row of its head if it is a classifier with one label.

    Raises:
        BadInput: for a folder that is missing, pickled or damaged, or a model that reads in both directions.
    """
    transformers = require("transformers", extra="text")
    check_folder(model)
    with complaints(model), quiet():
        config = transformers.AutoConfig.from_pretrained(str(model), trust_remote_code=False)
        classifier = any("SequenceClassification" in a for a in config.architectures or ())
        kind = transformers.AutoModelForSequenceClassification if classifier else transformers.AutoModel
        whole = kind.from_pretrained(str(model), use_safetensors=True, trust_remote_code=False, dtype=dtype)
    backbone = getattr(whole, whole.base_model_prefix) if classifier else whole
    _check_causal(backbone, model)
    score = getattr(whole, "score", None) if classifier else None
    row = score.weight.detach().clone() if isinstance(score, nn.Linear) and score.out_features == 1 else None
    return backbone, row


def _check_causal(backbone: Any, model: str | Path) -> None:
    """Encoders attend to what follows, so that the last token means nothing and nothing can be shared."""
    from plaudit.learn.text.forward import token_hidden
    from plaudit.learn.text.packing import pad

    limit = min(int(backbone.config.get_text_config().vocab_size), 60)
    one = [3 + i % (limit - 3) for i in range(12)]
    other = one[:6] + [3 + (7 * i + 2) % (limit - 3) for i in range(6)]
    with torch.no_grad():
        backbone.eval()
        first, second = (token_hidden(backbone, pad([ids], 0))[0].float() for ids in (one, other))
    moved = (first - second).abs()
    if float(moved[:6].max()) > 1e-4 * float(moved[6:].max()):  # of one length, so that rounding hardly differs
        raise BadInput("model", expected="a causal language model", received=f"{model} ({type(backbone).__name__}), "
                       "whose tokens see what follows them", fix="take a decoder such as a Llama or a Qwen")


def make(model: str | Path, spec: HeadSpec, *, seed: int, lora: Lora | None = None, prototypes: bool = False,
         dropout: float | None = None, twice: bool = False, language: bool = False) -> RewardModel:
    """A reward model to train.

    A folder that plaudit saved keeps its head where it has the same outputs; a classifier of another tool keeps its
    row, for each member. Otherwise the head is new.
    """
    spoken: LanguageHead | None = None
    if language:
        (backbone, spoken), old, row = load_language(model, frozen=lora is not None), None, None
        _check_causal(backbone, model)
    elif saving.is_saved(model):
        backbone, old, *_ = saving.load(model, dtype=torch.float32)
        row = None
    else:
        backbone, row = load_backbone(model)
        old = None
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0 if dropout is None else dropout
    head = Head(backbone.config.get_text_config().hidden_size, spec, seed=seed)
    if old is not None and old.spec == spec:
        head.load_state_dict(old.state_dict())
    elif row is not None and spec.kind == "scalar":
        with torch.no_grad():
            head.layer.weight.copy_(row.expand_as(head.layer.weight))
    if lora is not None:
        peft = require("peft", extra="text")
        targets = sorted({name.split(".")[-1] for name, m in backbone.named_modules() if isinstance(m, nn.Linear)})
        backbone = peft.get_peft_model(backbone, peft.LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets))
    twice = twice and any(isinstance(m, nn.Dropout) and m.p > 0 for m in backbone.modules())
    return RewardModel(backbone, head, prototypes=PROTOTYPES if prototypes else 0, seed=seed, twice=twice,
                       language=spoken)


def merged(model: RewardModel) -> Any:
    """The backbone with its adapters merged."""
    backbone = model.backbone
    return backbone.merge_and_unload() if hasattr(backbone, "merge_and_unload") else backbone


def states_of(model: Any, encoder: Any, sequences: Sequence[Sequence[int]], family: Sequence[Any], *,
              tokens: int = 8192, progress: Any = None) -> Float[Tensor, "M D"]:
    """The states of many sequences under a frozen backbone, families together, some thousand tokens at a time."""
    order = sorted(range(len(sequences)), key=lambda i: (str(family[i]), i))
    device = next(model.parameters()).device
    out: dict[int, Tensor] = {}
    part: list[int] = []
    size = 0

    def flush() -> None:
        with torch.no_grad():
            found = hidden(model, encoder([sequences[i] for i in part], [family[i] for i in part]).to(device))
        out.update(zip(part, found.float().cpu(), strict=True))
        if progress is not None:
            progress(len(part))

    model.eval()
    for place, i in enumerate(order):
        part.append(i)
        size += len(sequences[i])
        last = place + 1 == len(order)
        if last or (size >= tokens and family[order[place + 1]] != family[i]):
            flush()
            part, size = [], 0
    return torch.stack([out[i] for i in range(len(sequences))])
