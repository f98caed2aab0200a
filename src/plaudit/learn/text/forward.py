"""The forward pass of a text reward: hidden states where sequences end, and the head's numbers for them.

A backbone is a causal transformers model without its language head. `prepare` switches it to the attention that reads
packed rows where that gives the same numbers as plain rows, found out by trying; `hidden`, `scores` and `token_scores`
read both kinds of batches.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plaudit.learn.text import attention, pruning
from plaudit.learn.text.packing import Batch, Packed, Padded, pack, pad

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_LOW_PRECISION = 5e-2
_LONGEST_PROBE = 512

Encoder = Callable[[Sequence[Sequence[int]], Sequence[Hashable] | None], Batch]
"""Sequences and their families in, a batch out."""


def hidden(model: nn.Module, batch: Batch) -> Float[Tensor, "M D"]:
    """The last layer's states at the last token of each sequence."""
    if isinstance(batch, Packed):
        with pruning.only(model, batch.last_M, batch.tokens):
            return _states(model, batch)[0, batch.last_M]
    states = _states(model, batch)
    return states[torch.arange(len(batch), device=states.device), batch.last_M]


def token_hidden(model: nn.Module, batch: Batch) -> list[Float[Tensor, "L D"]]:
    """The last layer's states at every token of each sequence, a shared beginning included."""
    states = _states(model, batch)
    if isinstance(batch, Packed):
        return [states[0, batch.tokens_of(i).to(states.device)] for i in range(len(batch))]
    return [row[:last + 1] for row, last in zip(states, batch.last_M.tolist(), strict=True)]


def states_at(model: nn.Module, batch: Batch, places: Sequence[Sequence[int]]) -> list[Float[Tensor, "K D"]]:
    """The last layer's states at some tokens of each sequence, counted from its own beginning."""
    at = [torch.as_tensor(list(some), dtype=torch.long) for some in places]
    if isinstance(batch, Packed):
        rows = [batch.tokens_of(i)[some].to(batch.ids_1N.device) for i, some in enumerate(at)]
        with pruning.only(model, torch.cat(rows), batch.tokens):
            states = _states(model, batch)[0]
        return [states[row] for row in rows]
    return [row[some.to(row.device)] for row, some in zip(_states(model, batch), at, strict=True)]


def scores(model: nn.Module, head: Any, batch: Batch) -> Float[Tensor, "M H"]:
    """The reward of each sequence by each member of the head."""
    return head.members(head(hidden(model, batch)))


def token_scores(model: nn.Module, head: Any, batch: Batch) -> list[Float[Tensor, "L H"]]:
    """The reward that the head would give after each token."""
    return [head.members(head(states)) for states in token_hidden(model, batch)]


def _states(model: nn.Module, batch: Batch) -> Tensor:
    if isinstance(batch, Padded):
        return model(input_ids=batch.ids_ML, attention_mask=batch.mask_ML, use_cache=False).last_hidden_state
    layout = batch.layout
    if layout.kernel == "dense":
        mask = layout.mask().to(batch.ids_1N.device)[None, None]
        options: dict[str, Any] = {}
    else:  # a mask in four dimensions is taken as it is; the layout says the rest
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=batch.ids_1N.device)
        options = {attention.LAYOUT: layout}
    return model(input_ids=batch.ids_1N, position_ids=batch.position_1N, attention_mask=mask, use_cache=False,
                 **options).last_hidden_state


# --- which kind of batch a model can read -------------------------------------------------------------


def prepare(model: Any, *, max_length: int | None = None, pad_id: int = 0, packing: bool = True,
            dtype: torch.dtype | None = None) -> Encoder:
    """How batches are made for this model: packed where it can read them, padded otherwise, with a warning.

    Args:
        model: A backbone; it is set to the attention that reads packed rows.
        max_length: The longest sequence that will come; a sliding window that is shorter, and too long to be tried,
            makes it fall back.
        pad_id: What rows are filled up with.
        packing: False pads without a word.
        dtype: In which precision attention will be computed, where that is not the model's (under autocast).

    Returns:
        A function of sequences and their families.
    """
    why = can_pack(model, max_length=max_length) if packing else "packing is off"
    if why is None:
        where = next(model.parameters())
        kernel = attention.best_kernel(where.device, dtype or where.dtype)
        multiple = 128 if kernel == "flex" else 1
        return lambda sequences, family=None: pack(sequences, family, pad_id=pad_id, multiple=multiple, kernel=kernel)
    if packing:
        warnings.warn(f"{type(model).__name__} reads no packed rows ({why}); shared prompts are computed once for each "
                      "completion, and rows are padded", UserWarning, stacklevel=2)
    return lambda sequences, family=None: pad(sequences, pad_id)


@torch.no_grad()
def can_pack(model: Any, *, max_length: int | None = None) -> str | None:
    """None where packed rows give this model's numbers for plain rows, and it is left set to them; or why not.

    Sixty tokens or so in three layouts are computed both ways. The model goes back to how it was where they differ.
    """
    before = getattr(model.config, "_attn_implementation", None)
    training = model.training
    logger = logging.getLogger("transformers")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        why = _by_config(model.config, max_length)
        if why is None:
            sequences, family = probe_sequences(model.config)
            plain = _alone(model.eval(), sequences)
            attention.register()
            model.set_attn_implementation(attention.NAME)
            why = _by_trying(model, sequences, family, plain) if pruning.put_on(model) else "nothing to prune"
            if why is not None:
                pruning.take_off(model)
                why = _by_trying(model, sequences, family, plain)
    except Exception as error:  # whatever a model does with a keyword it does not know
        why = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    finally:
        logger.setLevel(level)
        model.train(training)
    if why is not None and before is not None:
        model.set_attn_implementation(before)
    return why


def _by_config(config: Any, max_length: int | None) -> str | None:
    """What is known not to work and too long to try."""
    window = getattr(config, "sliding_window", None)
    longest = max_length or getattr(config, "max_position_embeddings", 0) or 0
    if window is not None and _LONGEST_PROBE < window < longest:
        return f"a sliding window of {window} tokens is too long to be tried"
    if getattr(config, "attention_chunk_size", None):
        return "attention in chunks"
    return None


def _alone(model: Any, sequences: Sequence[Sequence[int]]) -> Float[Tensor, "M D"]:
    where = next(model.parameters())
    return torch.cat([hidden(model, pad([s], 0).to(where.device)) for s in sequences]).double()


def _by_trying(model: Any, sequences: Sequence[Sequence[int]], family: Sequence[Hashable],
               plain: Float[Tensor, "M D"]) -> str | None:
    where = next(model.parameters())
    kernel = attention.best_kernel(where.device, where.dtype)
    packed = pack(sequences, family, multiple=128 if kernel == "flex" else 1, kernel=kernel).to(where.device)
    allowed = _TOLERANCE.get(where.dtype, _LOW_PRECISION) * float(plain.abs().mean())
    try:
        for found in (hidden(model, packed).double(), _alone(model, sequences)):  # packed rows, and plain ones
            off = float((plain - found).abs().max())
            if not off <= allowed:  # NaN is not <=
                return f"its states differ by {off:.2g}"
    except Exception as error:  # whatever a model does with a keyword it does not know
        return f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return None


def probe_sequences(config: Any) -> tuple[list[list[int]], list[int]]:
    """Three families of sequences that any mistake in masks or positions would show on."""
    generator = torch.Generator().manual_seed(0)
    window = getattr(config, "sliding_window", None)
    long = min(window + 5, _LONGEST_PROBE) if window else 12

    def some(n: int) -> list[int]:
        return torch.randint(3, max(4, min(config.vocab_size, 30_000)), (n,), generator=generator).tolist()

    first, second = some(max(long, 12)), some(9)
    return ([first + some(5), first + some(5), second + some(3), second + some(6), some(7)], [0, 0, 1, 1, 2])
