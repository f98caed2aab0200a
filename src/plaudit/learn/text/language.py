"""A language model's own loss beside the reward's: how likely the chosen completions are under its output layer.

Secrets of RLHF II (arXiv 2401.06080) trains reward models with it at a factor that is 0 by default: the backbone goes
on speaking like the answers that people chose. Its states are those of the reward's own pass, shared prompts included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.learn.text.evidence import Evidence
from plaudit.learn.text.forward import states_at
from plaudit.learn.text.likelihood import LanguageModel
from plaudit.learn.text.loading import complaints
from plaudit.learn.text.objectives import Sum
from plaudit.learn.text.packing import Batch


@dataclass(frozen=True)
class Spoken:
    """The sequences of a batch as tokens, and where in them completions begin."""

    ids_M: tuple[tuple[int, ...], ...]
    start_M: tuple[int, ...]

    def places(self, i: int) -> list[int]:
        """The tokens out of whose states those of completion i are foretold; a first token has none before it."""
        return list(range(max(self.start_M[i] - 1, 0), len(self.ids_M[i]) - 1))

    def targets(self, i: int) -> list[int]:
        """The tokens of completion i that are foretold."""
        return list(self.ids_M[i][max(self.start_M[i], 1):])


class LanguageHead(nn.Module):
    """The output layer; where it is the input embedding, that one is read and no second copy kept.

    Args:
        layer: A linear layer without bias, from states to logits.
        tied: Whether it is the backbone's input embedding.
        frozen: Whether a layer of its own stays as it is, as everything but adapters does with LoRA.
    """

    def __init__(self, layer: nn.Linear, *, tied: bool, frozen: bool) -> None:
        super().__init__()
        self.layer = None if tied else layer
        if self.layer is not None:
            self.layer.requires_grad_(not frozen)

    def forward(self, states_KD: Float[Tensor, "K D"], backbone: Any) -> Float[Tensor, "K V"]:
        """Logits over the vocabulary."""
        if self.layer is not None:
            return self.layer(states_KD)
        return nn.functional.linear(states_KD, backbone.get_input_embeddings().weight)


def load_language(model: str | Path, *, frozen: bool = False) -> tuple[Any, LanguageHead]:
    """The backbone of a causal language model, and its output layer.

    Raises:
        BadInput: for a model without a language head (a classifier, a reward model), or one whose logits are more than
            a linear function of its states.
    """
    language = LanguageModel.load(model, share=False)
    head: Any = language.head
    if not language.apart or not isinstance(head, nn.Linear) or head.bias is not None:
        raise BadInput("lm_coefficient", expected="0, or a backbone with a linear output layer on its states",
                       received=f"{model} ({type(language.model).__name__})")
    tied = head.weight is language.backbone.get_input_embeddings().weight
    return language.backbone, LanguageHead(head, tied=tied, frozen=frozen)


def chosen_of(said: Evidence) -> Bool[Tensor, "N O"]:
    """The options that won a comparison and lost none.

    Example:
        >>> from plaudit.feedback.records import Preference
        >>> from plaudit.learn.text.evidence import evidence
        >>> chosen_of(evidence([Preference(options=("a", "b"), label=0.2), Preference(options=("a", "b"), label=0.5)]))
        tensor([[False,  True],
                [False, False]])
    """
    first, second = said.label_NOO > 0.5, said.label_NOO < 0.5  # NaN is neither
    won, lost = first.any(2) | second.any(1), second.any(2) | first.any(1)
    return won & ~lost


def spoken_states(backbone: nn.Module, batch: Batch, spoken: Spoken, chosen_M: Sequence[bool]
                  ) -> tuple[Float[Tensor, "M D"], list[Float[Tensor, "_ D"]]]:
    """One pass: the last state of each sequence, and of the chosen ones the states that foretell their completions."""
    before = [spoken.places(i) if chosen else [] for i, chosen in enumerate(chosen_M)]
    found = states_at(backbone, batch, [[*at, len(ids) - 1] for at, ids in zip(before, spoken.ids_M, strict=True)])
    return torch.stack([states[-1] for states in found]), [states[:-1] for states in found]


def mean_nll(head: LanguageHead, backbone: Any, states: Sequence[Float[Tensor, "_ D"]], spoken: Spoken,
             chosen_M: Sequence[bool]) -> Float[Tensor, "M"]:
    """Nats a token of each chosen completion; NaN for the others, and where no token is foretold."""
    some = [i for i, chosen in enumerate(chosen_M) if chosen and spoken.targets(i)]
    out = torch.full((len(chosen_M),), torch.nan, device=states[0].device)
    if not some:
        return out
    target = torch.tensor([t for i in some for t in spoken.targets(i)], device=out.device)
    logits = head(torch.cat([states[i] for i in some]), backbone).float()
    each = nn.functional.cross_entropy(logits, target, reduction="none")
    counts = [len(spoken.targets(i)) for i in some]
    return out.index_put((torch.tensor(some, device=out.device),), torch.stack([p.mean() for p in each.split(counts)]))


def check_language(coefficient: float, plan: Sequence[Sum], *, frozen: bool = False,
                   model: str | Path | None = None) -> None:
    """What can be said of the language head's loss before any work, from options and a model's configuration alone.

    Raises:
        BadInput: for a coefficient below 0, a frozen backbone, or a model without a language head.
    """
    if not 0 <= coefficient < math.inf:
        raise BadInput("lm_coefficient", expected="a number >= 0", received=coefficient)
    if not any("language" in s.needs for s in plan):
        return
    if frozen:
        raise BadInput("frozen", expected="a backbone that is trained, as the loss of the language head asks",
                       received="a frozen one", fix="leave lm_coefficient at 0")
    if model is None:
        return
    transformers = require("transformers", extra="text")
    with complaints(model):
        config = transformers.AutoConfig.from_pretrained(str(model), trust_remote_code=False)
    kinds = list(config.architectures or ())
    if kinds and not any(k.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for k in kinds):
        raise BadInput("lm_coefficient", expected="0, as this model has no language head", received=f"{model}, "
                       f"a {', '.join(kinds)}", fix="begin with the language model that it came from")
