"""HERON's language toy: tiny models write sums that have to come to a number.

A model (Bengio et al. 2003: a perceptron that reads all tokens so far) writes up to seven tokens. What matters, in
this order: the text evaluates to the target; it parses, with at least one operator; it is short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.functions import reward
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.core.stacked_adam import MemberNoise, PopulationAdam
from plaudit.feedback.hierarchy import Factor, Hierarchy
from plaudit.feedback.preferences import Preferences
from plaudit.learn.bradley_terry import BradleyTerry, BradleyTerryConfig
from plaudit.learn.comparing import pair_data
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward

if TYPE_CHECKING:
    from plaudit.zoo.heron import HeronConfig

TOKENS = "0123456789+-*"
END, LENGTH = len(TOKENS), 7
"""The token that ends a text, and the most tokens it may have."""
OPERATORS = {10: 1, 11: 1, 12: 2}
"""How tightly the tokens of operators bind."""


def value_of(tokens: Sequence[int]) -> int | None:
    """What an expression comes to; None where it does not parse or has no operator.

    Example:
        >>> [value_of([TOKENS.index(c) for c in text]) for text in ("2+3*4", "10-9-1", "7", "3+*2")]
        [14, 0, None, None]
    """
    numbers: list[int] = []
    operators: list[int] = []
    digits = ""
    for token in [*tokens, -1]:
        if 0 <= token < 10:
            digits += TOKENS[token]
            continue
        if not digits:
            return None
        numbers.append(int(digits))
        digits = ""
        while operators and OPERATORS[operators[-1]] >= OPERATORS.get(token, 0):
            _apply(numbers, operators.pop())
        if token >= 0:
            operators.append(token)
    return numbers[0] if len(tokens) and any(t in OPERATORS for t in tokens) else None


def _apply(numbers: list[int], operator: int) -> None:
    b, a = numbers.pop(), numbers.pop()
    numbers.append(a + b if operator == 10 else a - b if operator == 11 else a * b)


def read(tokens_NK: Int[Tensor, "N K"], target: int) -> Float[Tensor, "N 3"]:
    """The factors of texts: evaluates to the target, parses, number of tokens."""
    known: dict[tuple[int, ...], tuple[float, float, float]] = {}
    rows: list[tuple[float, float, float]] = []
    for line in tokens_NK.tolist():
        text = tuple(line[: line.index(END)] if END in line else line)
        if text not in known:
            value = value_of(text)
            known[text] = (float(value == target), float(value is not None), float(len(text)))
        rows.append(known[text])
    return torch.tensor(rows)


def corpus(size: int, seeds: Seeds, *, faults: float = 0.15) -> Int[Tensor, "C K"]:
    """Sums of two or three numbers below 20, as a beginner writes them: some tokens are wrong."""
    rng = seeds.numpy()
    lines: list[list[int]] = []
    while len(lines) < size:
        text = str(rng.integers(20))
        for _ in range(rng.integers(1, 3)):
            text += TOKENS[rng.integers(10, 13)] + str(rng.integers(20))
        tokens = [int(rng.integers(END)) if rng.random() < faults else TOKENS.index(c) for c in text]
        if len(tokens) <= LENGTH:
            lines.append(tokens + [END] * (LENGTH - len(tokens)))
    return torch.tensor(lines)


class Writers:
    """P models that write, each from random numbers of its own."""

    def __init__(self, seeds: Sequence[Seeds], *, hidden: int, device: str = "cpu") -> None:
        self.net = PopulationMLP((LENGTH * (END + 1), hidden, END + 1), activation="tanh", output_gain=0.5,
                                 generators=[s.child("init").torch() for s in seeds], device=device)
        self.noise = MemberNoise([s.child("text") for s in seeds], device=device)
        self.adam = PopulationAdam([self.net.flat], eps=1e-8)
        self.device = device

    @torch.no_grad()
    def write(self, n: int) -> Int[Tensor, "P n K"]:
        """n texts of each model; what follows the end is the end again."""
        P = self.net.P
        seen = torch.zeros(P, n, LENGTH, END + 1, device=self.device)
        out = torch.full((P, n, LENGTH), END, device=self.device)
        going = torch.ones(P, n, dtype=torch.bool, device=self.device)
        uniform = self.noise.uniform(n, LENGTH)
        for k in range(LENGTH):
            share = torch.softmax(self.net(seen.flatten(2)), -1).cumsum(-1)
            token = (share < uniform[..., k:k + 1]).sum(-1).clamp(max=END)
            out[..., k] = torch.where(going, token, END)
            going &= out[..., k] != END
            seen[..., k, :] = torch.nn.functional.one_hot(out[..., k], END + 1).float()
        return out

    def imitate(self, corpus: Int[Tensor, "C K"], *, updates: int, lr: float) -> None:
        """Learns to write like a corpus: each model reads its own texts of it."""
        corpus = corpus.to(self.device)
        for _ in range(updates):
            tokens = corpus[self.noise.below(len(corpus), 64)]
            (-self._log_p(tokens)[0] * _alive(tokens)).sum((1, 2)).div(64).sum().backward()
            self._descend(lr)

    def _log_p(self, tokens: Int[Tensor, "P n K"]) -> tuple[Float[Tensor, "P n K"], Float[Tensor, "P n K"]]:
        """The log-probability of each token after those before it, and the entropy there."""
        P, n, K = tokens.shape
        one_hot = torch.nn.functional.one_hot(tokens, END + 1).float()
        before = torch.tril(torch.ones(K, K, device=self.device), -1)
        seen = one_hot.unsqueeze(2) * before[:, :, None]
        log_p = torch.log_softmax(self.net(seen.reshape(P, n * K, -1)), -1).view(P, n, K, -1)
        return log_p.gather(-1, tokens.unsqueeze(-1))[..., 0], -(log_p.exp() * log_p).sum(-1)

    def improve(self, tokens: Int[Tensor, "P n K"], paid: Float[Tensor, "P n"], *, lr: float,
                entropy: float) -> None:
        """One step of REINFORCE with the mean of the other texts as the baseline (Kool et al. 2019)."""
        n, alive = tokens.shape[1], _alive(tokens)
        chosen, spread = self._log_p(tokens)
        advantage = (paid - (paid.sum(1, keepdim=True) - paid) / (n - 1))
        advantage = advantage / advantage.std(1, correction=0, keepdim=True).clamp(min=1e-6)
        loss = -(advantage.unsqueeze(-1) * chosen + entropy * spread) * alive
        (loss.sum((1, 2)) / n).sum().backward()
        self._descend(lr)

    def _descend(self, lr: float) -> None:
        one = torch.ones(self.net.P, device=self.device)
        self.adam.step(lr=lr * one, max_norm=one)


def _alive(tokens: Int[Tensor, "P n K"]) -> Bool[Tensor, "P n K"]:
    """The tokens that were chosen: all up to and with the first end."""
    ended = (tokens == END).long()
    return ended.cumsum(-1) - ended == 0


def texts(tokens: Int[Tensor, "P n K"], z: Float[Tensor, "P n 3"]) -> Episodes:
    """Each text as an episode of one step: the factors, and how often each token was used."""
    P, n, _ = tokens.shape
    used = torch.nn.functional.one_hot(tokens, END + 1)[..., :END].sum(2).float()
    obs = torch.cat([z, used], -1).reshape(P * n, -1)
    return Episodes.of_transitions(obs=obs, action=torch.zeros(P * n, device=obs.device), next_obs=obs).replace(
        member=torch.arange(P, device=obs.device).repeat_interleave(n))


def write(config: HeronConfig, seeds: Seeds, *, arm: str, weights: Sequence[Sequence[float]] = (),
          device: str = "cpu") -> dict[str, Any]:
    """Trains the writers of one arm side by side, and says what they write; writers and judge live on the device.

    Returns:
        By metric, the numbers [variants][seeds].
    """
    variants = max(1, len(weights))
    P, n = variants * config.seeds, config.text_batch
    writers = Writers([seeds.child("writer", arm, p) for p in range(P)], hidden=config.text_hidden, device=device)
    writers.imitate(corpus(4096, seeds.child("corpus")), updates=config.text_pretrain, lr=config.text_lr)
    table = torch.tensor([list(w) for w in weights], device=device).repeat_interleave(config.seeds, 0) \
        if weights else None
    units = torch.tensor([1.0, 1.0, -1.0 / LENGTH], device=device)
    judge = None if weights else _Judge(config, seeds, arm, P, device)
    for step in range(config.text_updates):
        tokens = writers.write(n)
        z = read(tokens.flatten(0, 1), config.text_target).to(device).view(P, n, 3)
        if table is not None:
            used = z[..., :table.shape[-1]] * units[:table.shape[-1]]
            paid = (used * table.unsqueeze(1)).sum(-1)
        else:
            assert judge is not None
            paid = judge(texts(tokens, z), n, step)
        writers.improve(tokens, paid, lr=config.text_lr, entropy=config.text_entropy)
    tokens = writers.write(256)
    z = read(tokens.flatten(0, 1), config.text_target).view(variants, config.seeds, 256, 3)
    hits = z[..., 0].sum(-1)
    length = (z[..., 2] * z[..., 0]).sum(-1) / hits.clamp(min=1)
    return {"hits": z[..., 0].mean(-1).tolist(), "parses": z[..., 1].mean(-1).tolist(),
            "length of hits": torch.where(hits > 0, length, float(LENGTH)).tolist()}


class _Judge:
    """A hierarchy, and the reward models that follow it while the texts change."""

    def __init__(self, config: HeronConfig, seeds: Seeds, arm: str, P: int, device: str) -> None:
        def column(i: int) -> Reward:
            return reward(lambda obs: obs[..., i], vectorised=True, backend="torch")

        names = (("hits", 1), ("parses", 1), ("tokens", -1))
        factors = [Factor(name=name, of=column(i), sign=sign, margin=config.margins[-1][i])
                   for i, (name, sign) in enumerate(names[:config.factors[-1]])]
        self.annotator = Hierarchy(factors[::-1] if arm.endswith("reversed") else factors)
        self.model = LearnedReward(StepFeatures(("obs",), (3 + END,)), hidden=(32,), groups=range(P), learning=True,
                                   seed=seeds.child("judge", arm).integer(), device=device)
        self.trainer = BradleyTerry(self.model, BradleyTerryConfig(
            lr=config.reward_lr, batch=120, over="sum", standardise=config.standardise[-1]))
        self.every = config.text_every

    def __call__(self, store: Episodes, n: int, step: int) -> Float[Tensor, "P n"]:
        if step % self.every == 0:
            P, batches = self.model.G, n // 16
            inside = torch.triu_indices(16, 16, offset=1).T
            row = (inside + torch.arange(P * batches)[:, None, None] * 16).reshape(-1, 2)
            said = self.annotator(Preferences.of_pairs(store, row=row, length=1, group=torch.arange(P)
                                                       .repeat_interleave(batches * len(inside))))
            if bool(said.known.any()):
                data = pair_data(self.model, said, over="sum")
                self.trainer.updates(data, 16)
                self.trainer.standardise(data)
        return self.model(store)[:, 0].view(self.model.G, n)
