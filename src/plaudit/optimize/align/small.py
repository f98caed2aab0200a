"""A small language model over an alphabet of characters: trains in seconds, and its texts can be judged by a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.core.tokens import Tokens
from plaudit.optimize.align.policy import Policy


class SmallPolicy(Policy):
    """A recurrent model (GRU) of the characters of an alphabet; token `len(alphabet)` ends a completion.

    Args:
        alphabet: The characters of prompts and completions, each once.
        hidden: Units of the recurrent layer.
        max_tokens: The longest completion, the end included.
        seed: Of the first parameters.
        temperature: As for `Policy`.
        device: Where it lives.

    Raises:
        BadInput: for an alphabet with a character twice.

    Example:
        >>> policy = SmallPolicy("ab", hidden=8, max_tokens=3)
        >>> policy.sample(["a"], n=2, seed=1).columns["completion"] == policy.sample(["a"], n=2, seed=1).columns[
        ...     "completion"]
        True
    """

    module: nn.ModuleDict

    def __init__(self, alphabet: str, *, hidden: int = 64, max_tokens: int = 16, seed: int | Seeds = 0,
                 temperature: float = 1.0, device: str | torch.device = "cpu") -> None:
        if not alphabet or len(set(alphabet)) != len(alphabet):
            raise BadInput("alphabet", expected="characters, each once", received=repr(alphabet))
        self.alphabet, self.hidden, self.max_tokens, self.temperature = alphabet, hidden, max_tokens, temperature
        self.end, self.vocab = len(alphabet), len(alphabet) + 1
        self._number = {c: i for i, c in enumerate(alphabet)}
        generator = (seed if isinstance(seed, Seeds) else Seeds(seed)).torch()
        self.module = nn.ModuleDict({"embed": nn.Embedding(self.vocab, hidden), "cell": nn.GRUCell(hidden, hidden),
                                     "out": nn.Linear(hidden, self.vocab)})
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                bound = hidden**-0.5
                parameter.uniform_(-bound, bound, generator=generator)
                if name.startswith("embed"):
                    parameter.mul_(hidden**0.5)
        self.module.to(device)

    def encode(self, prompt: Any) -> list[int]:
        foreign = [c for c in prompt if c not in self._number] if isinstance(prompt, str) else [prompt]
        if foreign:
            raise BadInput("prompt", expected=f"text of the characters {self.alphabet!r}", received=prompt)
        return [self._number[c] for c in prompt]

    def decode(self, prompt: Any, ids: Sequence[int]) -> str:
        return "".join(self.alphabet[i] for i in ids if i != self.end)

    def ids_of(self, completion: str) -> list[int]:
        """The tokens of a completion, the end included."""
        return [*self.encode(completion), self.vocab - 1]

    def begin(self, prompt_ids: Int[Tensor, "B P"], prompt_mask: Tensor) -> tuple[Tensor, Any]:
        h = torch.zeros(len(prompt_ids), self.hidden, device=self.device)
        for p in range(prompt_ids.shape[1]):
            h = torch.where(prompt_mask[:, p:p + 1], self._cell(prompt_ids[:, p], h), h)
        h = self._cell(torch.full_like(prompt_ids[:, -1], self.vocab - 1), h)
        return self.module["out"](h), h

    def step(self, token: Int[Tensor, "B"], state: Any) -> tuple[Tensor, Any]:
        h = self._cell(token, state)
        return self.module["out"](h), h

    def raw_logits(self, tokens: Tokens) -> Tensor:
        return self.module["out"](self._states(tokens))

    @torch.no_grad()
    def features(self, tokens: Tokens) -> Tensor:
        return self._states(tokens)

    def _states(self, tokens: Tokens) -> Tensor:
        assert tokens.prompt_ids is not None and tokens.prompt_mask is not None
        h = self.begin(tokens.prompt_ids, tokens.prompt_mask)[1]
        states = [h]
        for t in range(tokens.T - 1):
            h = self._cell(tokens.action[:, t], h)
            states.append(h)
        return torch.stack(states, 1)

    def _cell(self, token: Tensor, h: Tensor) -> Tensor:
        return self.module["cell"](self.module["embed"](token), h)
