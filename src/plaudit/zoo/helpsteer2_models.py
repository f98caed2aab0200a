"""HelpSteer2-Preference's reward models: ratings, graded preferences and their losses, for all seeds side by side.

The data are replies of the world of `letters`: two to a prompt, each rated 0 to 4 by one biased rater, each pair graded
-3 to 3 by five graders of whom the three nearest count. The networks are perceptrons that read features of a reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.core.stacked_adam import MemberNoise, PopulationAdam
from plaudit.learn.text.losses import bradley_terry, margin, masked_square, scaled
from plaudit.zoo.letters import ALPHABET, FEATURES, PROMPTS, features, helpfulness, replies

if TYPE_CHECKING:
    from plaudit.zoo.helpsteer2_preference import HelpsteerConfig

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
UNSEEN = "f"
"""Prompts with this letter are never trained on."""
SEEN = [p for p in PROMPTS if UNSEEN not in p]
WIDTH = len(FEATURES) + 2 * len(ALPHABET)
SCRATCH = ("regression", "regression, all attributes", "regular", "margin", "scaled", "regular, rating differences")
SECOND = ("regular", "margin", "scaled")


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairs:
    """n pairs of replies of each of S seeds."""

    x: Float[Tensor, "S n 2 D"]
    """What the networks read."""
    truth: Float[Tensor, "S n 2"]
    rating: Float[Tensor, "S n 2 A"]
    grade: Float[Tensor, "S n"]
    """-3 to 3, negative where the first is better; NaN where the graders did not agree, or on neither."""

    def to(self, device: str) -> Pairs:
        """The same on another device."""
        return Pairs(**{name: value.to(device) for name, value in vars(self).items()})

    def agreement(self) -> tuple[float, float]:
        """How often ratings and grades point the right way, where they point: which of them is noisier."""
        right = torch.sign(self.truth[..., 1] - self.truth[..., 0])
        gap = self.rating[..., 1, 0] - self.rating[..., 0, 0]
        said = [gap[gap != 0].sign() == right[gap != 0], (self.grade.sign() == right)[~self.grade.isnan()]]
        return float(said[0].double().mean()), float(said[1].double().mean())


def inputs(prompts: Sequence[str], said: Sequence[str]) -> Float[Tensor, "B D"]:
    """Features of a reply, and which letters its prompt has."""
    asked = torch.zeros(len(prompts), 2, len(ALPHABET))
    for b, prompt in enumerate(prompts):
        for i, c in enumerate(prompt):
            asked[b, i, ALPHABET.index(c)] = 1.0
    return torch.cat([features(prompts, said), asked.flatten(1)], 1)


def cleaned(grades: Sequence[int]) -> float:
    """The mean of the three grades that are nearest to one another; NaN where they spread over 2, or mean nothing.

    Example:
        >>> cleaned([1, 2, 2, -3, 3]), cleaned([-3, 0, 3]), cleaned([-1, 0, 1])
        (2.0, nan, nan)
    """
    nearest = min(combinations(sorted(grades), 3), key=lambda three: three[2] - three[0])
    mean = round(sum(nearest) / 3)
    return float(mean) if nearest[2] - nearest[0] <= 2 and mean != 0 else float("nan")


def graded(gap: float, rng: np.random.Generator, noise: float, steps: tuple[float, ...]) -> int:
    """One grader: the difference with an error of his own, in steps."""
    said = gap + rng.normal(0, noise)
    return int(np.sign(said) * sum(abs(said) > s for s in steps))


def pairs_of(config: HelpsteerConfig, seeds: Seeds, n: int, *, noise: tuple[float, float],
             prompts: Sequence[str] = SEEN) -> Pairs:
    """Draws replies, ratings and grades of every seed."""
    parts = [_pairs(config, seeds.child("seed", s), n, noise, prompts) for s in range(config.seeds)]
    return Pairs(**{k: torch.stack([p[k] for p in parts]) for k in parts[0]})


def _pairs(config: HelpsteerConfig, seeds: Seeds, n: int, noise: tuple[float, float],
           prompts: Sequence[str]) -> dict[str, Tensor]:
    rng = seeds.numpy()
    asked = [prompts[int(i)] for i in rng.integers(len(prompts), size=n).repeat(2)]
    x = inputs(asked, replies(asked, seeds.child("replies")))
    z = x[:, :len(FEATURES)]
    h = helpfulness(z)
    hidden = torch.stack([h, 4 - 2 * ((z[:, 0] - 1).abs() + (z[:, 1] - 1).abs()), 4 - 2 * (z[:, 5] - 0.7).abs(),
                          4 * z[:, 7] - 1, 3 * z[:, 6]], -1)
    raters = torch.from_numpy(rng.normal(0, config.bias, size=(20, len(ATTRIBUTES)))).float()
    error = torch.from_numpy(rng.normal(0, noise[0], size=hidden.shape)).float()
    rating = (hidden + raters[rng.integers(20, size=2 * n)] + error).clamp(0, 4).round()
    h = h.view(n, 2)
    gaps = (h[:, 1] - h[:, 0]).tolist()
    grade = [cleaned([graded(g, rng, noise[1], config.grade_steps) for _ in range(config.graders)]) for g in gaps]
    return {"x": x.view(n, 2, -1), "truth": h, "rating": rating.view(n, 2, -1), "grade": torch.tensor(grade)}


# --- training -------------------------------------------------------------------------------------------


class Trainer:
    """Networks of S seeds times L step sizes on one data set, where it lives; the best step size of each counts."""

    def __init__(self, config: HelpsteerConfig, data: Pairs, seeds: Seeds) -> None:
        self.config, self.data, self.seeds = config, data, seeds
        self.device = data.grade.device
        S, n = data.grade.shape
        known = ~data.grade.isnan()
        held = torch.arange(n, device=self.device) < max(1, round(config.validation * n))
        self.train_rows = [torch.nonzero(~held).flatten()] * S
        self.train_pairs = [torch.nonzero(known[s] & ~held).flatten() for s in range(S)]
        self.valid = known & held

    def net(self, P: int) -> PopulationMLP:
        """Networks whose first weights depend on the seed alone."""
        S = self.config.seeds
        return PopulationMLP((WIDTH, *self.config.hidden, len(ATTRIBUTES)), activation="tanh", device=self.device,
                             generators=[self.seeds.child("init", p % S).torch() for p in range(P)])

    def fit(self, loss: str, *, steps: int, rates: Sequence[float], start: Tensor | None = None) -> Tensor:
        """The weights [S, W] of each seed at its best step size on the validation pairs."""
        S, P = self.config.seeds, self.config.seeds * len(rates)
        net = self.net(P)
        if start is not None:
            with torch.no_grad():
                net.flat.copy_(start.repeat(len(rates), 1))
        adam = PopulationAdam([net.flat], eps=1e-8)
        lr = torch.tensor(rates, device=self.device).repeat_interleave(S)
        noise = MemberNoise([self.seeds.child("batch", p % S) for p in range(P)], device=self.device)
        pools = self.train_rows if loss.startswith("regression") or "differences" in loss else self.train_pairs
        for step in range(steps):
            uniform = noise.uniform(self.config.batch)
            rows = torch.stack([pools[p % S][(u * len(pools[p % S])).long()] for p, u in enumerate(uniform)])
            self._loss(net, loss, rows).sum().backward()
            decay = 0.5 * (1 + np.cos(np.pi * step / steps))
            adam.step(lr=lr * decay, max_norm=torch.ones_like(lr))
        accuracy = self.accuracy(net, net.flat.detach())
        best = accuracy.view(len(rates), S).argmax(0)
        return net.flat.detach().view(len(rates), S, -1)[best, torch.arange(S, device=self.device)]

    def _loss(self, net: PopulationMLP, loss: str, rows: Int[Tensor, "P b"]) -> Float[Tensor, "P"]:
        P, b = rows.shape
        seed = self._seed(P).unsqueeze(1)
        out = net(self.data.x[seed, rows].reshape(P, 2 * b, -1)).view(P, b, 2, -1)
        rating = self.data.rating[seed, rows]
        if loss.startswith("regression"):
            counts = torch.arange(len(ATTRIBUTES), device=self.device) == 0
            target = rating if "all" in loss else torch.where(counts, rating, torch.nan)
            return masked_square(out, target).sum((1, 2, 3)) / (~target.isnan()).sum((1, 2, 3))
        grade = self.data.grade[seed, rows]
        if "differences" in loss:
            grade = rating[..., 1, 0] - rating[..., 0, 0]
        gap, strength = out[..., 1, 0] - out[..., 0, 0], grade.abs()
        label = (grade.sign() + 1) / 2
        if loss.startswith("margin"):
            return margin(gap, label, strength).mean(1)
        if loss.startswith("scaled"):
            mean = strength.mean(1, keepdim=True) if self.config.normalise else torch.ones_like(strength[:, :1])
            return scaled(gap, label, strength / mean.clamp(min=1e-6)).mean(1)
        return (bradley_terry(gap, label) * (grade != 0)).mean(1)

    @torch.no_grad()
    def accuracy(self, net: PopulationMLP, flat: Float[Tensor, "P W"]) -> Float[Tensor, "P"]:
        """On the validation pairs, as the graders have them."""
        seed = self._seed(len(flat))
        gap = gaps(net, flat, self.data.x)
        right = (gap * self.data.grade[seed].nan_to_num() > 0).double()
        valid = self.valid[seed].double()
        return (right * valid).sum(1) / valid.sum(1)

    def _seed(self, P: int) -> Int[Tensor, "P"]:
        return torch.arange(P, device=self.device) % self.config.seeds


@torch.no_grad()
def gaps(net: PopulationMLP, flat: Float[Tensor, "P W"], x: Float[Tensor, "S n 2 D"]) -> Float[Tensor, "P n"]:
    """By how much each network prefers the second reply of each pair of its seed."""
    P, (S, n, _, D) = len(flat), x.shape
    value = net(x[torch.arange(P, device=x.device) % S].reshape(P, 2 * n, D), flat)[..., 0].view(P, n, 2)
    return value[..., 1] - value[..., 0]


def train_all(config: HelpsteerConfig, data: Pairs, seeds: Seeds, *,
              losses: Sequence[str] = SCRATCH) -> dict[str, Float[Tensor, "S W"]]:
    """Every recipe at the same number of updates and the same number of step sizes tried."""
    trainer = Trainer(config, data, seeds)
    scratch, first, second = config.rates, config.first_rates, config.second_rates
    out = {loss: trainer.fit(loss, steps=config.steps, rates=scratch) for loss in losses}
    half = config.steps // 2
    start = trainer.fit("regression", steps=half, rates=first)
    for loss in SECOND:
        out[f"regression, then {loss}"] = trainer.fit(loss, steps=config.steps - half, rates=second, start=start)
    ends = out["regression, then scaled"]
    net = trainer.net(config.seeds)
    tries = torch.stack([start + a * (ends - start) for a in config.alphas])
    score = torch.stack([trainer.accuracy(net, t) for t in tries])
    best = score.argmax(0)  # the smallest alpha among equals: it moves least
    out["regression, then scaled, ExPO"] = tries[best, torch.arange(config.seeds, device=best.device)]
    out["regression, then scaled, alpha 1.5"] = start + 1.5 * (ends - start)
    return out


def compare(config: HelpsteerConfig, seeds: Seeds, *, n: int, noise: Sequence[float],
            device: str = "cpu") -> dict[str, Any]:
    """Trains every recipe and says how often it is right about the truth, by seed.

    Returns:
        `accuracy` {recipe: {"all" | "hard" | "unseen topics": [S]}}, and how often ratings and grades are right.
    """
    data = pairs_of(config, seeds.child("data", n), n, noise=(noise[0], noise[1])).to(device)
    weights = train_all(config, data, seeds.child("train"))
    net = Trainer(config, data, seeds.child("train")).net(config.seeds)
    tests = {"all": pairs_of(config, seeds.child("test"), config.test, noise=(0.0, 0.0)).to(device),
             "unseen topics": pairs_of(config, seeds.child("unseen"), config.test, noise=(0.0, 0.0),
                                       prompts=[p for p in PROMPTS if UNSEEN in p]).to(device)}
    found: dict[str, dict[str, list[float]]] = {}
    for recipe, flat in weights.items():
        found[recipe] = {}
        for name, test in tests.items():
            true = test.truth[..., 1] - test.truth[..., 0]
            right = (gaps(net, flat, test.x).sign() == true.sign()).double()
            found[recipe][name] = right.mean(1).tolist()
            if name == "all":
                hard = (true.abs() < true.abs().quantile(0.25, dim=1, keepdim=True)).double()
                found[recipe]["hard"] = ((right * hard).sum(1) / hard.sum(1)).tolist()
    ratings, grades = data.agreement()
    return {"accuracy": found, "ratings right": ratings, "grades right": grades,
            "kept": float((~data.grade.isnan()).double().mean())}
