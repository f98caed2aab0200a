"""The toy of reward-robust RLHF: tables of prompts and responses, reward models that saw only some of them.

All is exact: a reward table has one best policy under a KL penalty, and its gold return is a sum. Preferences compare
covered responses alone, so what a reward model says of the others is what it happened to begin with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from plaudit.core.seeds import Seeds
from plaudit.core.stacked_adam import MemberNoise
from plaudit.learn.text.losses import bradley_terry, gaussian_nll, gaussian_square
from plaudit.optimize.align.tables import tilted

if TYPE_CHECKING:
    from plaudit.zoo.reward_robust_rlhf import RobustConfig

GAPS, WILD, BAD, NONE = "gaps", "wild extrapolation", "uncovered are bad", "no gap"
SCENARIOS = (GAPS, WILD, BAD, NONE)
SINGLE, MEAN, WORST, UWO = "single", "mean", "min", "UWO"


class World:
    """S worlds of X prompts and Y responses: gold, coverage, and the reward models fitted there, on one device."""

    def __init__(self, config: RobustConfig, seeds: Seeds, scenario: str, *, device: str = "cpu") -> None:
        S, X, Y, H = config.worlds, config.prompts, config.responses, config.heads
        noise = MemberNoise([seeds.child("world", s) for s in range(S)], device=device)
        hidden = 0 if scenario == NONE else config.uncovered
        self.covered: Bool[Tensor, "S X Y"] = torch.arange(Y, device=device).expand(S, X, Y) < Y - hidden
        self.gold: Float[Tensor, "S X Y"] = noise.normal(X, Y)
        if scenario == BAD:
            self.gold = torch.where(self.covered, self.gold, self.gold - config.bad)
        wild = config.wild if scenario == WILD else config.initial
        pairs = self._pairs(config, noise, Y - hidden)
        one = torch.ones(S, H, config.pairs * X, device=device)
        every = self._stage_one(config, pairs, wild * noise.normal(1, X, Y), one[:, :1])
        draw = noise.uniform(H, config.pairs * X).mul(config.pairs * X).long()
        often = torch.zeros_like(one).scatter_add_(2, draw, one)
        shards = self._stage_one(config, pairs, wild * noise.normal(H, X, Y), often)
        mean, std = self._stage_two(config, shards if config.targets == "own" else every.expand(-1, H, -1, -1),
                                    wild * noise.normal(H, X, Y), noise.normal(H, X, Y))
        self.single = self._calibrated(config, every, every)[0][:, 0]
        self.members, scale = self._calibrated(config, mean, mean)
        self.std = std / scale

    def _pairs(self, config: RobustConfig, noise: MemberNoise, shown: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Comparisons of covered responses by a Bradley-Terry judge: prompt, better, worse."""
        S, N = len(self.gold), config.pairs * config.prompts
        x = torch.arange(N, device=self.gold.device).remainder(config.prompts).expand(S, N)
        a = noise.uniform(N).mul(shown).long()
        b = (a + 1 + noise.uniform(N).mul(shown - 1).long()) % shown
        s = torch.arange(S, device=self.gold.device).unsqueeze(1)
        chance = torch.sigmoid(config.sharpness * (self.gold[s, x, a] - self.gold[s, x, b]))
        first = noise.uniform(N) < chance
        return x, torch.where(first, a, b), torch.where(first, b, a), s

    def _stage_one(self, config: RobustConfig, pairs: tuple[Tensor, ...], start: Tensor, often: Tensor) -> Tensor:
        """Reward tables [S, H, X, Y] by Bradley-Terry, each from its own beginning and on its own bootstrap."""
        x, won, lost, s = (p.unsqueeze(1) for p in pairs)
        table = start.clone().requires_grad_()
        h = torch.arange(table.shape[1], device=table.device).view(1, -1, 1)
        adam = torch.optim.Adam([table], lr=config.reward_lr)
        for _ in range(config.reward_updates):
            gap = table[s, h, x, won] - table[s, h, x, lost]
            loss = (often * bradley_terry(gap, torch.ones_like(gap))).sum() / config.prompts
            adam.zero_grad()
            loss.backward()
            adam.step()
        return table.detach()

    def _stage_two(self, config: RobustConfig, target: Tensor, start: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussian heads that copy the stage-one rewards of covered responses."""
        mean, free = start.clone().requires_grad_(), raw.clone().requires_grad_()
        loss_of = gaussian_nll if config.stage_two == "nll" else gaussian_square
        adam = torch.optim.Adam([mean, free], lr=config.reward_lr)
        for _ in range(config.reward_updates):
            loss = (loss_of(mean, softplus(free) + 1e-3, target) * self.covered.unsqueeze(1)).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return mean.detach(), (softplus(free) + 1e-3).detach()

    def _calibrated(self, config: RobustConfig, table: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Tables [S, H, X, Y] on one scale: the offset of a Bradley-Terry reward is arbitrary for each prompt."""
        seen = self.covered.unsqueeze(1).expand_as(reference)
        count = seen.sum((-1,), keepdim=True)
        by_prompt = (reference * seen).sum(-1, keepdim=True) / count
        overall = (reference * seen).sum((-1, -2), keepdim=True) / seen.sum((-1, -2), keepdim=True)
        centre = {"prompt": by_prompt, "global": overall, "none": torch.zeros_like(overall)}[config.centre]
        off = ((reference - (by_prompt if config.centre == "prompt" else overall)) * seen).square()
        scale = (off.sum((-1, -2), keepdim=True) / seen.sum((-1, -2), keepdim=True)).sqrt().clamp(min=1e-6)
        return (table - centre) / scale, scale

    # --- what is optimised ------------------------------------------------------------------------------

    def nominal(self) -> Float[Tensor, "S X Y"]:
        """The mean of the head that is surest of each response."""
        return self.members.gather(1, self.std.argmin(1, keepdim=True))[:, 0]

    def usage(self) -> float:
        """The share of the head that is used most, over covered responses; 1 / H if all are used alike."""
        chosen = torch.nn.functional.one_hot(self.std.argmin(1), self.members.shape[1]).double()
        share = (chosen * self.covered.unsqueeze(-1)).sum((1, 2)) / self.covered.sum((1, 2)).unsqueeze(-1)
        return float(share.amax(-1).mean())

    def reward(self, arm: str, setting: float) -> Float[Tensor, "S X Y"]:
        """The table that an arm optimises; `setting` is lambda of the mix, and c of UWO."""
        if arm == SINGLE:
            return self.single
        if arm == MEAN:
            return self.members.mean(1)
        if arm == WORST:
            return self.members.amin(1)
        if arm == UWO:
            return self.members.mean(1) - setting * self.members.var(1)
        return setting * self.nominal() + (1 - setting) * self.members.amin(1)

    def policy(self, reward: Float[Tensor, "S X Y"], beta: float) -> Float[Tensor, "S X Y"]:
        """The best policy under the penalty, from a uniform reference."""
        S, X, Y = reward.shape
        uniform = torch.full((S * X, Y), -float(torch.tensor(float(Y)).log()), device=reward.device)
        return tilted(uniform, reward.reshape(S * X, Y), beta).view(S, X, Y).exp()

    def worst_of_means(self, setting: float, beta: float, *, updates: int) -> Float[Tensor, "S X Y"]:
        """The paper's objective as written: the minimum over heads stands outside the expectation."""
        nominal = self.nominal()
        logits = torch.zeros_like(nominal, requires_grad=True)
        adam = torch.optim.Adam([logits], lr=0.1)
        for _ in range(updates):
            log_p = torch.log_softmax(logits, -1)
            p = log_p.exp()
            lowest = (p.unsqueeze(1) * self.members).sum(-1).mean(-1).amin(1)
            kl = (p * (log_p + float(torch.tensor(float(p.shape[-1])).log()))).sum(-1).mean(-1)
            gain = setting * (p * nominal).sum(-1).mean(-1) + (1 - setting) * lowest - beta * kl
            adam.zero_grad()
            (-gain.sum()).backward()
            adam.step()
        return torch.softmax(logits.detach(), -1)

    def earned(self, policy: Float[Tensor, "S X Y"]) -> Float[Tensor, "S"]:
        """The gold return, as a share of the way from the reference (0) to the best response (1)."""
        start, best = self.gold.mean(-1).mean(-1), self.gold.amax(-1).mean(-1)
        return ((policy * self.gold).sum(-1).mean(-1) - start) / (best - start)

    def kl(self, policy: Float[Tensor, "S X Y"]) -> Float[Tensor, "S"]:
        """Nats from the reference."""
        return (policy * (policy.clamp(min=1e-30) * policy.shape[-1]).log()).sum(-1).mean(-1)


def settings(config: RobustConfig) -> Mapping[str, list[tuple[float, float]]]:
    """(setting, beta) that each arm may choose from: six of each, for everybody has the same number of tries."""
    fixed = [(0.0, beta) for beta in config.betas]
    return {SINGLE: fixed, MEAN: fixed, WORST: fixed, UWO: [(c, config.beta) for c in config.penalties],
            "robust mix": [(v, config.beta) for v in config.mixes]}


def toy(config: RobustConfig, seeds: Seeds, *, scenario: str, device: str = "cpu") -> dict[str, Any]:
    """Every arm at the setting that was best on other worlds, and the whole sweep at one beta and at one KL."""
    tuning, world = (World(config, seeds.child(name, scenario), scenario, device=device)
                     for name in ("tuning", "worlds"))
    tuned: dict[str, Any] = {}
    for arm, options in settings(config).items():
        scores = [float(tuning.earned(tuning.policy(tuning.reward(arm, a), b)).mean()) for a, b in options]
        setting, beta = options[scores.index(max(scores))]
        policy = world.policy(world.reward(arm, setting), beta)
        tuned[arm] = {"earned": world.earned(policy).tolist(), "kl": float(world.kl(policy).mean()),
                      "setting": setting, "beta": beta}
    arms = {arm: world.reward(arm, config.penalties[2]) for arm in (SINGLE, MEAN, WORST, UWO)}
    arms |= {f"mix {v:g}": world.reward("robust mix", v) for v in config.mixes}
    return {"tuned": tuned, "usage": world.usage(),
            "one beta": {arm: world.earned(world.policy(r, config.beta)).tolist() for arm, r in arms.items()},
            "one kl": {arm: world.earned(_at_kl(world, r, config.kl)).tolist() for arm, r in arms.items()},
            "min of means": {f"{v:g}": world.earned(world.worst_of_means(
                v, config.beta, updates=config.exact_updates)).tolist() for v in config.mixes[:-1:2]}}


def _at_kl(world: World, reward: Float[Tensor, "S X Y"], nats: float) -> Float[Tensor, "S X Y"]:
    """The policy of each world at the beta that brings it to one KL (bisection on log beta)."""
    low, high = (torch.full((len(reward),), end, device=reward.device) for end in (-8.0, 5.0))
    for _ in range(30):
        middle = (low + high) / 2
        far = world.kl(world.policy(reward / middle.exp().view(-1, 1, 1), 1.0)) > nats
        low, high = torch.where(far, middle, low), torch.where(far, high, middle)
    return world.policy(reward / ((low + high) / 2).exp().view(-1, 1, 1), 1.0)
