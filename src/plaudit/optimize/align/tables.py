"""A language model small enough that everything about it is known: a table of logits for every prefix.

Prompts are numbers, completions have exactly T tokens, so there are V^T of them, and expectations, gradients and the
best policy under a KL penalty are sums that can be written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs, Reads
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens
from plaudit.optimize.align.policy import Policy


class TablePolicy(Policy):
    """X prompts (0 to X - 1), V tokens, completions of T tokens: one logit for each prompt, prefix and token.

    Args:
        logits: [X, V] for T = 1, else [X, nodes, V], where node 0 is the empty prefix, and those of t tokens follow
            those of t - 1 in the order of their digits.
        length: T.

    Raises:
        BadInput: when the number of nodes is not that of the prefixes.

    Example:
        >>> policy = TablePolicy(torch.zeros(1, 3, 2), length=2)
        >>> policy.log_p().exp().tolist()
        [[0.25, 0.25, 0.25, 0.25]]
        >>> policy.sample([0], n=3, seed=0).action.shape
        torch.Size([3, 2])
    """

    def __init__(self, logits: Tensor, *, length: int = 1) -> None:
        logits = logits.unsqueeze(1) if logits.ndim == 2 else logits
        X, nodes, V = logits.shape
        needed = sum(V**t for t in range(length))
        if nodes != needed:
            raise BadInput("logits", expected=f"{needed} prefixes for {length} tokens out of {V}", received=nodes)
        self.module = nn.ParameterDict({"logits": nn.Parameter(logits.clone().float())})
        self.X, self.vocab, self.max_tokens = X, V, length
        self.offset = [sum(V**s for s in range(t)) for t in range(length)]

    @property
    def table(self) -> Float[Tensor, "X M V"]:
        """The logits."""
        return self.module["logits"]  # type: ignore[return-value]

    def encode(self, prompt: Any) -> list[int]:
        if not isinstance(prompt, int) or not 0 <= prompt < self.X:
            raise BadInput("prompt", expected=f"an integer in [0, {self.X})", received=prompt)
        return [prompt]

    def decode(self, prompt: Any, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def begin(self, prompt_ids: Int[Tensor, "B P"], prompt_mask: Tensor) -> tuple[Tensor, Any]:
        x = prompt_ids[:, -1]
        return self.table[x, 0], (x, torch.zeros_like(x), 0)

    def step(self, token: Int[Tensor, "B"], state: Any) -> tuple[Tensor, Any]:
        x, code, t = state
        code = code * self.vocab + token
        return self.table[x, self.offset[t + 1] + code], (x, code, t + 1)

    def raw_logits(self, tokens: Tokens) -> Tensor:
        x, node = self._nodes(tokens)
        return self.table[x.unsqueeze(1), node]

    def features(self, tokens: Tokens) -> Tensor:
        x, node = self._nodes(tokens)
        M = self.table.shape[1]
        return torch.nn.functional.one_hot(x.unsqueeze(1) * M + node, self.X * M).float()

    def _nodes(self, tokens: Tokens) -> tuple[Int[Tensor, "B"], Int[Tensor, "B T"]]:
        assert tokens.prompt_ids is not None
        code = torch.zeros_like(tokens.action[:, 0])
        nodes: list[Tensor] = []
        for t in range(tokens.T):
            nodes.append(self.offset[t] + code)
            code = code * self.vocab + tokens.action[:, t]
        return tokens.prompt_ids[:, -1], torch.stack(nodes, 1)

    # --- what can be written out ------------------------------------------------------------------------

    def every(self) -> Tokens:
        """All completions of all prompts, prompts first: B = X * V^T."""
        count = self.vocab**self.max_tokens
        codes = [[(c // self.vocab**(self.max_tokens - 1 - t)) % self.vocab for t in range(self.max_tokens)]
                 for c in range(count)]
        prompts = [x for x in range(self.X) for _ in range(count)]
        return self.tokens_of(prompts, codes * self.X, group=prompts)

    def log_p(self) -> Float[Tensor, "X Y"]:
        """The log-probability of every completion, with gradients."""
        return self.log_probs(self.every()).sum(-1).view(self.X, -1)


def tilted(log_p: Float[Tensor, "X Y"], reward: Float[Tensor, "X Y"], beta: float) -> Float[Tensor, "X Y"]:
    """The best policy under a KL penalty: log-softmax of log p + r / beta (Rafailov et al. 2023, eq. 4).

    Example:
        >>> best = tilted(torch.log(torch.tensor([[0.5, 0.5]])), torch.tensor([[0.0, 1.0]]), 1.0)
        >>> round(float(best[0, 1] - best[0, 0]), 6)
        1.0
    """
    return torch.log_softmax(log_p + reward / beta, -1)


def tilted_policy(policy: TablePolicy, reward: Float[Tensor, "X Y"], beta: float) -> TablePolicy:
    """`tilted` as a table of logits: at each prefix the log of what lies behind each token."""
    weight = tilted(policy.log_p().detach(), reward, beta)
    logits = torch.zeros_like(policy.table)
    V, T = policy.vocab, policy.max_tokens
    for t in range(T):
        behind = weight.view(policy.X, V**t, V, V**(T - 1 - t)).logsumexp(-1)
        logits[:, policy.offset[t]:policy.offset[t] + V**t] = behind
    return TablePolicy(logits.detach(), length=T)


class TableReward(Reward):
    """A number for each prompt and completion of a `TablePolicy`, paid at the last token.

    Args:
        values: [X, V^T], or [H, X, V^T]: then the members of an ensemble, whose mean is paid. NaN is unknown.
        vocab: V.

    Example:
        >>> reward = TableReward(torch.tensor([[0.0, 1.0]]), vocab=2)
        >>> reward(TablePolicy(torch.zeros(1, 2)).every()).tolist()
        [[0.0], [1.0]]
    """

    needs = Needs(time="episode")

    def __init__(self, values: Tensor, *, vocab: int, name: str = "table") -> None:
        self.values, self.vocab, self.name = values, vocab, name

    @property
    def reads(self) -> Reads:
        return Reads()

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens) or episodes.prompt_ids is None:
            raise BadInput("episodes", expected="Tokens with prompt_ids", received=type(episodes).__name__)
        code = torch.zeros_like(episodes.action[:, 0])
        for t in range(episodes.T):
            code = code * self.vocab + episodes.action[:, t]
        said = self.values[..., episodes.prompt_ids[:, -1], code]
        at_end = torch.nn.functional.one_hot(episodes.last, episodes.T).bool()
        paid = torch.where(at_end, said.unsqueeze(-1), 0.0)
        members = paid if self.values.ndim == 3 else None
        return Score.of(paid if members is None else paid.mean(0), mask=episodes.mask, members=members)
