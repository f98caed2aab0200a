"""How likely a causal language model finds tokens that stand behind a shared beginning; the beginning is read once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plaudit.core.devices import check_device
from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.learn.text import attention, forward
from plaudit.learn.text.loading import check_folder, complaints, quiet
from plaudit.learn.text.packing import pad

_ROWS = 256
"""Tokens whose logits over the whole vocabulary are held at once."""


class LanguageModel:
    """A causal language model of transformers, read for log-probabilities.

    Sequences of one family are computed behind one copy of their common beginning, and logits are made at the tokens
    that are asked for alone. A model that cannot be taken apart, or cannot read packed rows, is run as it is.

    Args:
        model: `AutoModelForCausalLM`.
        tokenizer: Its tokenizer, with a pad token.
        share: Whether beginnings are shared.
        max_length: The longest sequence that will come.
        name: How it is called.
    """

    def __init__(self, model: Any, tokenizer: Any, *, share: bool = True, max_length: int | None = None,
                 name: str = "language model") -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.backbone: Any = getattr(model, getattr(model, "base_model_prefix", "") or "model", None)
        self.head: Any = model.get_output_embeddings()
        self.apart = self.backbone is not None and self.head is not None and _same(model, self.backbone, self.head)
        self._encoder = forward.prepare(self.backbone, max_length=max_length, pad_id=int(tokenizer.pad_token_id),
                                        packing=share) if self.apart else None

    @staticmethod
    def load(model: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None,
             share: bool = True, max_length: int | None = None) -> LanguageModel:
        """A checkpoint folder, or a name on the hub: safetensors only, and none of its code is run.

        Raises:
            BadInput: for a folder that is missing, pickled or damaged, or holds no causal language model.
        """
        transformers = require("transformers", extra="text")
        where = torch.device(check_device(device or "cpu"))
        check_folder(model)
        dtype = dtype or (torch.float32 if where.type == "cpu" else None)
        with complaints(model, "a whole checkpoint of a causal language model"), quiet():
            loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
                str(model), use_safetensors=True, trust_remote_code=False, output_loading_info=True,
                dtype="auto" if dtype is None else dtype)
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(model), trust_remote_code=False)
        lost = sorted(k for k in info["missing_keys"] if not k.endswith("position_ids"))
        headed = [a for a in loaded.config.architectures or () if "Classification" in a]
        if lost or headed or "score.weight" in info["unexpected_keys"]:
            raise BadInput("model", expected="a causal language model with its output layer",
                           received=f"{model}, " + (f"which lacks {lost[0]}" if lost else "a classifier"),
                           fix="a reward model says nothing of tokens; name the language model that it came from")
        return LanguageModel(loaded.to(where), tokenizer, share=share, max_length=max_length,
                             name=Path(str(model)).name or str(model))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device

    @property
    def packs(self) -> bool:
        """Whether common beginnings are computed once."""
        return self.apart and getattr(self.backbone.config, "_attn_implementation", "") == attention.NAME

    @torch.inference_mode()
    def log_probs(self, sequences: Sequence[Sequence[int]], places: Sequence[Sequence[int]],
                  family: Sequence[Hashable] | None = None) -> list[Float[Tensor, "K"]]:
        """log p(token | all before it) of some tokens of each sequence; -inf where the model rules one out.

        Args:
            sequences: Token ids.
            places: Which tokens of each, counted from 0; the first one has no probability.
            family: Which sequences share their beginning.

        Raises:
            BadInput: for a place that is not in 1..length - 1.
        """
        for i, (ids, at) in enumerate(zip(sequences, places, strict=True)):
            wrong = next((p for p in at if not 1 <= p < len(ids)), None)
            if wrong is not None:
                raise BadInput(f"places[{i}]", expected=f"tokens in [1, {len(ids) - 1}]", received=wrong)
        before = [[p - 1 for p in at] for at in places]
        target = torch.tensor([ids[p] for ids, at in zip(sequences, places, strict=True) for p in at]).to(self.device)
        counts = [len(at) for at in places]
        if self._encoder is None:
            batch = pad(sequences, int(self.tokenizer.pad_token_id)).to(self.device)
            logits = self.model(input_ids=batch.ids_ML, attention_mask=batch.mask_ML, use_cache=False).logits
            found = _chosen(torch.cat([row[at] for row, at in zip(logits, before, strict=True)]), target)
        else:
            batch = self._encoder(sequences, family).to(self.device)
            states = torch.cat(forward.states_at(self.backbone, batch, before))
            found = torch.cat([_chosen(self.head(part), said) for part, said in zip(
                states.split(_ROWS), target.split(_ROWS), strict=True)]) if len(target) else states.new_zeros(0)
        return list(found.cpu().split(counts))


def _chosen(logits: Float[Tensor, "K V"], target: Tensor) -> Float[Tensor, "K"]:
    logits = logits.float()
    return logits.gather(-1, target.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


@torch.no_grad()
def _same(model: Any, backbone: Any, head: nn.Module) -> bool:
    """Whether the output layer on the backbone's states gives the model's logits (some models scale or cap them)."""
    size = int(model.config.get_text_config().vocab_size)
    ids = torch.arange(1, min(size, 12), device=next(model.parameters()).device)[None]
    try:
        whole = model(input_ids=ids, use_cache=False).logits.float()
        parts = head(backbone(input_ids=ids, use_cache=False).last_hidden_state).float()
    except Exception:  # an architecture whose parts are not called so
        return False
    return whole.shape == parts.shape and bool(torch.allclose(whole, parts, rtol=1e-3, atol=1e-3))
