"""What is aligned: a policy that writes completions token by token, and says how likely each token was.

Whatever the network, sampling works the same: a row's n-th random number is a function of (seed, prompt, sample, n), so
the same seed gives the same numbers, and a row does not depend on the rows beside it or on how many samples were asked
for. Logits come once more from one pass over finished completions, with gradients.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds, counter_uniform
from plaudit.core.tokens import Tokens, of_texts

_SAMPLES, _LENGTH = 1 << 20, 1 << 20
"""How many samples of a prompt and tokens of a sample have random numbers of their own."""


class Policy(ABC):
    """A distribution over completions of a prompt. Subclasses say how a completion begins and goes on.

    Attributes:
        module: what learns.
        vocab: how many tokens there are.
        max_tokens: the most tokens that a completion may have.
        end: the token that ends one; None where all have `max_tokens`.
        temperature: by what the logits are divided, in sampling and in probabilities alike.
    """

    module: nn.Module
    vocab: int
    max_tokens: int
    end: int | None = None
    temperature: float = 1.0

    @abstractmethod
    def encode(self, prompt: Any) -> list[int]:
        """The tokens of a prompt."""

    @abstractmethod
    def decode(self, prompt: Any, ids: Sequence[int]) -> Any:
        """What a completion is called in the column `completion`: a text, or a list of messages."""

    @abstractmethod
    def begin(self, prompt_ids: Int[Tensor, "B P"], prompt_mask: Tensor) -> tuple[Float[Tensor, "B V"], Any]:
        """The raw logits of the first token, and what to remember."""

    @abstractmethod
    def step(self, token: Int[Tensor, "B"], state: Any) -> tuple[Float[Tensor, "B V"], Any]:
        """The raw logits after one more token."""

    @abstractmethod
    def raw_logits(self, tokens: Tokens) -> Float[Tensor, "B T V"]:
        """The logits out of which each token of finished completions was drawn, with gradients."""

    @abstractmethod
    def features(self, tokens: Tokens) -> Float[Tensor, "B T D"]:
        """What the policy knows before it chooses each token, for a value function to read; no gradients."""

    # --- what follows from these ------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def encode_completions(self, prompt: Any, completions: Sequence[Any], *,
                           tools: Sequence[Any] = ()) -> tuple[list[int], list[list[int]]]:
        """The tokens of a prompt and of answers to it in words, with the end where the policy has one; nothing is cut.

        Args:
            prompt: What `encode` reads.
            completions: What `decode` gives.
            tools: What the prompt describes; only chat templates can say them.
        """
        end = [] if self.end is None else [self.end]
        return self.encode(prompt), [[*self.encode(said), *end] for said in completions]

    def log_softmax(self, tokens: Tokens) -> Float[Tensor, "B T V"]:
        """The log-probabilities of all tokens at each step."""
        return torch.log_softmax(self.raw_logits(tokens).float() / self.temperature, -1)

    def log_probs(self, tokens: Tokens) -> Float[Tensor, "B T"]:
        """The log-probability of each token that was chosen; 0 behind the end."""
        chosen = self.log_softmax(tokens).gather(-1, tokens.action.unsqueeze(-1)).squeeze(-1)
        return torch.where(tokens.mask, chosen, 0.0)

    def reference(self) -> Policy:
        """The policy as it is now, which will never learn."""
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module).requires_grad_(False).eval()
        return other

    def state_dict(self) -> dict[str, Any]:
        """What has been learnt."""
        return dict(self.module.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.module.load_state_dict(dict(state))

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that learn."""
        return [p for p in self.module.parameters() if p.requires_grad]

    @torch.no_grad()
    def sample(self, prompts: Sequence[Any], *, n: int = 1, seed: int | Seeds = 0, max_tokens: int | None = None,
               prefixes: Sequence[Sequence[int]] | None = None, streams: Sequence[int] | None = None) -> Tokens:
        """n completions of each prompt: rows with one prompt stand together and share a `group`.

        Args:
            prompts: What `encode` reads.
            n: Completions of each; the first ones do not depend on n.
            seed: The same seed gives the same numbers.
            max_tokens: The most tokens of a completion; None is the policy's own number. What is cut off there is
                `truncated`, what has ended is `terminated`.
            prefixes: For each prompt the tokens that its completions begin with; what is sampled goes on from there.
                They are read token by token, and count as tokens of the completion.
            streams: For each prompt a number that says which random numbers are its own; by default its place.

        Returns:
            Tokens [B = prompts * n] with `info["log_prob"]`.

        Raises:
            BadInput: when there is no prompt, n or max_tokens is not positive, or a prefix has ended or leaves none.
        """
        longest = self.max_tokens if max_tokens is None else max_tokens
        if not len(prompts):
            raise BadInput("prompts", expected="at least one prompt", received="none")
        if not 1 <= n <= _SAMPLES:
            raise BadInput("n", expected=f"an integer in [1, {_SAMPLES}]", received=n)
        if not 1 <= longest <= self.max_tokens:
            raise BadInput("max_tokens", expected=f"an integer in [1, {self.max_tokens}]", received=longest)
        for name, given in (("prefixes", prefixes), ("streams", streams)):
            if given is not None and len(given) != len(prompts):
                raise BadInput(name, expected=f"one for each of {len(prompts)} prompts", received=len(given))
        asked = self.asked(prompts, n)
        root = seed if isinstance(seed, Seeds) else Seeds(seed)
        row = torch.arange(len(prompts)).repeat_interleave(n) * _SAMPLES + torch.arange(n).repeat(len(prompts))
        base = torch.full_like(row, root.integer())
        if streams is not None:
            row = row % _SAMPLES
            base = torch.tensor([root.child("stream", s).integer() for s in streams]).repeat_interleave(n)
        forced = None if prefixes is None else self._forced(prefixes, longest).repeat_interleave(n, 0)
        was_training = self.module.training
        self.module.eval()
        try:
            action, log_prob = self._draw(asked, base, row, longest, forced)
        finally:
            self.module.train(was_training)
        return self._finished(asked, action, log_prob, longest)

    def asked(self, prompts: Sequence[Any], n: int = 1) -> Tokens:
        """The prompts as `Tokens` with completions of one token that is still to be drawn."""
        ids = [self.encode(p) for p in prompts]
        repeated = [p for p in prompts for _ in range(n)]
        rows = of_texts(repeated, [""] * len(repeated), [[0]] * len(repeated),
                        prompt_ids=[row for row in ids for _ in range(n)])
        return rows.replace(group=torch.arange(len(prompts)).repeat_interleave(n)).to(self.device)

    def tokens_of(self, prompts: Sequence[Any], completions: Sequence[Sequence[int]], *,
                  group: Sequence[int] | None = None) -> Tokens:
        """Given completions (token ids, with the end where there is one) as `Tokens` of this policy.

        Raises:
            BadInput: for a completion that is empty or too long.
        """
        for i, row in enumerate(completions):
            if not 1 <= len(row) <= self.max_tokens:
                raise BadInput(f"completions[{i}]", expected=f"1 to {self.max_tokens} tokens", received=len(row))
        rows = of_texts(prompts, [self.decode(p, c) for p, c in zip(prompts, completions, strict=True)], completions,
                        prompt_ids=[self.encode(p) for p in prompts])
        rows = rows.replace(group=torch.tensor(list(group))) if group is not None else rows
        return rows.to(self.device)

    def _forced(self, prefixes: Sequence[Sequence[int]], longest: int) -> Int[Tensor, "X K"]:
        """The tokens of the prefixes, -1 where the policy is free."""
        for i, ids in enumerate(prefixes):
            if len(ids) >= longest or not all(0 <= t < self.vocab and t != self.end for t in ids):
                raise BadInput(f"prefixes[{i}]", expected=f"fewer than {longest} tokens, below {self.vocab} and "
                               f"without the end ({self.end})", received=list(ids))
        K = max(map(len, prefixes))
        return torch.tensor([[*ids, *[-1] * (K - len(ids))] for ids in prefixes], dtype=torch.int64,
                            device=self.device).reshape(len(prefixes), K)

    def _draw(self, asked: Tokens, seeds: Int[Tensor, "B"], row: Int[Tensor, "B"], longest: int,
              forced: Int[Tensor, "B K"] | None = None) -> tuple[Tensor, Tensor]:
        assert asked.prompt_ids is not None and asked.prompt_mask is not None
        logits, state = self.begin(asked.prompt_ids, asked.prompt_mask)
        going = torch.ones(asked.B, dtype=torch.bool, device=self.device)
        drawn, said = list[Tensor](), list[Tensor]()
        for t in range(longest):
            uniform = counter_uniform(seeds, row * _LENGTH + t, 1).to(self.device)
            share = torch.softmax(logits.double() / self.temperature, -1)
            total = share.cumsum(-1)
            token = (total <= uniform * total[:, -1:]).sum(-1).clamp(max=self.vocab - 1)
            if forced is not None and t < forced.shape[1]:
                token = torch.where(forced[:, t] >= 0, forced[:, t], token)
            log_p = share.gather(-1, token.unsqueeze(-1)).squeeze(-1).log().float()
            drawn.append(torch.where(going, token, -1))
            said.append(torch.where(going, log_p, 0.0))
            if self.end is not None:
                going = going & (token != self.end)
            if t + 1 == longest or not bool(going.any()):
                break
            logits, state = self.step(token, state)
        return torch.stack(drawn, 1), torch.stack(said, 1)

    def _finished(self, asked: Tokens, action: Tensor, log_prob: Tensor, longest: int) -> Tokens:
        prompts = list(asked.columns["prompt"])
        ids = [[a for a in line if a >= 0] for line in action.tolist()]
        rows = of_texts(prompts, [self.decode(p, i) for p, i in zip(prompts, ids, strict=True)], ids).to(self.device)
        if self.end is None:
            ended = rows.terminated
        else:
            ended = rows.terminated & (rows.action == self.end)
        return rows.replace(terminated=ended, truncated=rows.terminated & ~ended, group=asked.group,
                            prompt_ids=asked.prompt_ids, prompt_mask=asked.prompt_mask, info={"log_prob": log_prob})


def imitate(policy: Policy, tokens: Tokens, *, updates: int, batch: int = 64, lr: float = 3e-3,
            seed: int | Seeds = 0) -> list[float]:
    """Learns to write like given completions (cross-entropy); returns the loss in nats a token of each update."""
    generator = (seed if isinstance(seed, Seeds) else Seeds(seed)).torch()
    adam = torch.optim.Adam(policy.trainable(), lr=lr)
    losses: list[float] = []
    for _ in range(updates):
        rows = tokens[torch.randint(tokens.B, (batch,), generator=generator)]
        loss = -policy.log_probs(rows).sum() / rows.mask.sum()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.trainable(), 1.0)
        adam.step()
        losses.append(float(loss.detach()))
    return losses
