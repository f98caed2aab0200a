"""Reward-robust RLHF on texts: noisy proxies with Gaussian heads, best-of-n and RLOO against them, gold beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.reward import Reward
from plaudit.core.schedules import TargetController
from plaudit.core.seeds import Seeds
from plaudit.learn.text.ensembles import mean, robust_mix, uwo, worst
from plaudit.learn.text.heads import Head, HeadSpec
from plaudit.learn.text.losses import bradley_terry, gaussian_nll, gaussian_square
from plaudit.optimize.align.align import align, measure
from plaudit.optimize.align.best_of import best_of_curve
from plaudit.optimize.align.config import AlignConfig
from plaudit.optimize.align.small import SmallPolicy
from plaudit.zoo.letters import FEATURES, GOLD, PROMPTS, OfFeatures, features, helpfulness, writer

if TYPE_CHECKING:
    from plaudit.zoo.reward_robust_rlhf import RobustConfig

ARMS = ("single", "nominal", "mean", "min", "UWO", "robust mix")
"""`nominal` is the head that is surest of a text, alone: what two stages give without the worst case."""


class Proxies:
    """A frozen backbone (random features) with the heads of both stages, fitted to few pairs with flipped labels.

    All live where the policy does; features, which are read off texts, come from the host.
    """

    def __init__(self, config: RobustConfig, seeds: Seeds, policy: SmallPolicy) -> None:
        generator, device = seeds.child("backbone").torch(), policy.device
        self.weight = torch.randn(len(FEATURES), config.width, generator=generator).to(device)
        self.bias = torch.randn(config.width, generator=generator).to(device)
        n = config.text_pairs
        asked = [PROMPTS[i % len(PROMPTS)] for i in range(n)]
        said = [policy.sample(asked, seed=seeds.child("reply", i)).columns["completion"] for i in range(2)]
        z = torch.stack([features(asked, s) for s in said], 1)
        rng = seeds.child("labels").torch()
        label = (helpfulness(z)[:, 0] > helpfulness(z)[:, 1]).float()
        label = torch.where(torch.rand(n, generator=rng) < config.flips, 1 - label, label).to(device)
        often = torch.zeros(n, config.heads).scatter_add_(0, torch.randint(n, (n, config.heads), generator=rng),
                                                          torch.ones(n, config.heads)).to(device)
        h = self.states(z)
        self.single = self._stage_one(config, h, label, torch.ones(n, 1, device=device), seeds.child("single"))
        shards = self._stage_one(config, h, label, often, seeds.child("shards"))
        with torch.no_grad():
            target = shards.members(_raw(shards, h)) if config.targets == "own" else \
                self.single.members(_raw(self.single, h)).expand(-1, -1, config.heads)
        self.heads = self._stage_two(config, h, target, seeds.child("heads"))
        reference = self.states(features(*self._texts(policy, seeds)))
        with torch.no_grad():
            for head in (self.single, self.heads):
                head.calibrate(head.members(_raw(head, reference)))

    def states(self, z: Float[Tensor, "... D"]) -> Float[Tensor, "... W"]:
        """What the backbone makes of features, and a constant."""
        h = torch.tanh(z.to(self.weight.device) @ self.weight + self.bias)
        return torch.cat([h, torch.ones_like(h[..., :1])], -1)

    def reward(self, config: RobustConfig, arm: str) -> Reward:
        """What an arm optimises."""
        single = OfFeatures(lambda z: self._members(self.single, z)[0], "single")
        heads = OfFeatures(lambda z: self._members(self.heads, z), "heads")
        sigma = OfFeatures(self._sigma, "sigma")
        return {"single": single, "mean": mean(heads), "min": worst(heads),
                "nominal": robust_mix(heads, robust_weight=0.0, spread=sigma),
                "UWO": uwo(heads, weight=config.text_penalty),
                "robust mix": robust_mix(heads, robust_weight=1 - config.text_mix, spread=sigma)}[arm]

    def _members(self, head: Head, z: Float[Tensor, "B D"]) -> Float[Tensor, "H B"]:
        return head.members(head(self.states(z))).T

    def _sigma(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "H B"]:
        std = self.heads.std(self.heads(self.states(z)))
        assert std is not None
        return std.T

    def _texts(self, policy: SmallPolicy, seeds: Seeds) -> tuple[list[str], list[str]]:
        tokens = policy.sample(PROMPTS, n=10, seed=seeds.child("reference"))
        return list(tokens.columns["prompt"]), list(tokens.columns["completion"])

    def _stage_one(self, config: RobustConfig, h: Tensor, label: Tensor, often: Tensor, seeds: Seeds) -> Head:
        head = Head(h.shape[-1], HeadSpec(members=often.shape[1]), seed=seeds.integer()).to(h.device)
        adam = torch.optim.Adam(head.parameters(), lr=config.head_lr)
        for _ in range(config.head_updates):
            value = head.members(_raw(head, h))
            gap = value[:, 0] - value[:, 1]
            loss = (often * bradley_terry(gap, label.unsqueeze(-1).expand_as(gap))).sum(-1).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return head

    def _stage_two(self, config: RobustConfig, h: Tensor, target: Tensor, seeds: Seeds) -> Head:
        head = Head(h.shape[-1], HeadSpec(kind="gaussian", members=config.heads), seed=seeds.integer()).to(h.device)
        loss_of = gaussian_nll if config.stage_two == "nll" else gaussian_square
        adam = torch.optim.Adam(head.parameters(), lr=config.head_lr)
        for _ in range(config.head_updates):
            raw = _raw(head, h)
            std = head.std(raw)
            assert std is not None
            loss = loss_of(head.members(raw), std, target).sum(-1).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return head


def _raw(head: Head, h: Float[Tensor, "... D"]) -> Float[Tensor, "... C"]:
    return head(h.flatten(0, -2)).unflatten(0, h.shape[:-1])


def text(config: RobustConfig, seeds: Seeds, *, seed: int, device: str = "cpu") -> dict[str, Any]:
    """Best-of-n and RLOO against every arm's reward, from one policy and one set of preferences, all on the device.

    Returns:
        By arm: gains over the reference in units of its spread there, gold and proxy, at every n, and at the end of
        RLOO (with the KL and the length).
    """
    seeds = seeds.child("text", seed)
    policy = writer(seeds, hidden=config.hidden, updates=config.pretrain, device=device)
    start = {k: v.clone() for k, v in policy.state_dict().items()}
    proxies = Proxies(config, seeds, policy)
    pool = policy.sample(PROMPTS, n=config.pool, seed=seeds.child("pool"))
    z = features(pool.columns["prompt"], pool.columns["completion"])
    gold = helpfulness(z)
    scale = float(gold.std())
    out: dict[str, Any] = {}
    for arm in ARMS:
        reward = proxies.reward(config, arm)
        said = reward.score(pool).returns()[0].cpu()
        spread = float(said.std())
        curve = best_of_curve(said.view(len(PROMPTS), -1), gold.view(len(PROMPTS), -1))
        policy.load_state_dict(start)
        paid = (reward / spread).named("proxy")
        result = align(policy, paid, PROMPTS, algo=config.algo, gold=GOLD, steps=config.rl_steps, progress=False,
                       seed=seeds.integer() % 2**31, config=AlignConfig(
                           prompts=16, samples=4, lr=config.rl_lr, measure_every=config.rl_steps,
                           beta=TargetController("kl", config.rl_kl, initial=0.1, rate=0.1)))
        ends = measure(policy, result.reference, PROMPTS, [paid, GOLD], n=8, seed=seeds.child("end"))
        out[arm] = {
            "n": list(curve.n), "best of n, gold": ((curve.gold_PN.mean(0) - float(gold.mean())) / scale).tolist(),
            "best of n, proxy": ((curve.proxy_PN.mean(0) - float(said.mean())) / spread).tolist(),
            "rl gold": (ends["helpfulness"] - float(gold.mean())) / scale,
            "rl proxy": ends["proxy"] - float(said.mean()) / spread, "kl": ends["kl"], "length": ends["length"]}
    return out
