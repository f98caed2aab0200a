"""MetaRM over policy rounds: does a reward model go on telling apart what a moving policy writes?

A policy is a weighting of replies that the tiny language model sampled; best-of-n under a reward makes the next one, in
closed form. One half of the replies gives the samples that MetaRM sees, the other is what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.learn.text.pair_heads import HeadOptions, Lessons, MetaStep, fit_heads
from plaudit.zoo.secrets_rlhf_world import Pairs, Pool, World, labels, pool

if TYPE_CHECKING:
    from plaudit.zoo.secrets_rlhf_rm import SecretsConfig

PLAIN, LONGER, META, HESSIAN = "plain", "plain, twice the updates", "MetaRM", "MetaRM, second order"
DESCENT, RANDOM, FRESH = "descent", "random direction", "fresh labels"
ARMS = (PLAIN, LONGER, META, HESSIAN, DESCENT, RANDOM, FRESH)
TUNED = tuple(a for a in ARMS if a != HESSIAN)
"""The second order takes the settings of the first."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train on."""

    arm: str
    decay: float
    eta: float = 0.0


def ways(config: SecretsConfig) -> dict[str, list[Way]]:
    """What each arm chooses from: six settings for all."""
    both = config.decays[:2]
    out = {arm: [Way(arm=arm, decay=d) for d in config.decays] for arm in (PLAIN, LONGER, FRESH)}
    out |= {arm: [Way(arm=arm, decay=d, eta=-e if arm == DESCENT else e) for e in config.etas for d in both]
            for arm in (META, HESSIAN, DESCENT, RANDOM)}
    return {arm: out[arm] for arm in ARMS}


def best_of(weight: Float[Tensor, "*P N"], score: Float[Tensor, "*P N"], n: int) -> Float[Tensor, "*P N"]:
    """The probabilities of the best of n draws: (mass up to it)^n - (mass below it)^n.

    Example:
        >>> best_of(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0]), 2)
        tensor([0.2500, 0.7500])
    """
    order = score.argsort(dim=-1)
    mass = weight.gather(-1, order)
    upto = mass.cumsum(-1).clamp(max=1.0)
    below = (upto - mass).clamp(min=0.0)
    return torch.zeros_like(weight).scatter(-1, order, upto**n - below**n)


def agreement(weight_PGN: Float[Tensor, "P G N"], score_PGN: Float[Tensor, "P G N"],
              gold_GN: Float[Tensor, "G N"]) -> Float[Tensor, "P"]:
    """How often a reward orders two samples of a policy as gold does, over all pairs with their probabilities."""
    out: list[Tensor] = []
    better = gold_GN.unsqueeze(2) > gold_GN.unsqueeze(1)
    for weight, score in zip(weight_PGN, score_PGN, strict=True):
        both = weight.unsqueeze(2) * weight.unsqueeze(1) * better
        gap = score.unsqueeze(2) - score.unsqueeze(1)
        right = (both * ((gap > 0).to(both.dtype) + 0.5 * (gap == 0))).sum((1, 2))
        out.append((right / both.sum((1, 2)).clamp(min=1e-30)).mean())
    return torch.stack(out)


# --- one world, all ways side by side -----------------------------------------------------------------------------


class Rounds:
    """Reward models, each with a policy of its own, round after round."""

    def __init__(self, config: SecretsConfig, seeds: Seeds, some: Sequence[Way], *, device: str = "cpu") -> None:
        self.config, self.seeds, self.ways, self.device = config, seeds, list(some), device
        world = World.make(config, seeds, device=device)
        whole = pool(world, 2 * config.pool, seeds.child("pool"))
        self.seen, self.judged = (Pool(whole.x_GND[:, part], whole.gold_GN[:, part])
                                  for part in (slice(0, config.pool), slice(config.pool, None)))
        self.G, self.N, self.D = self.seen.x_GND.shape
        self.P = len(self.ways)
        uniform = torch.full((self.P, self.G, self.N), 1 / self.N, dtype=torch.float64, device=device)
        self.pairs = self._pairs(uniform[0], config.pairs, seeds.child("pairs"))
        self.label, _ = labels(self.pairs.gap_N, seeds.child("labels"), temperature=config.temperature, flips=0.0)
        self.weight = {"seen": uniform, "judged": uniform.clone()}

    def _pairs(self, weight_GN: Tensor, n: int, seeds: Seeds) -> Pairs:
        """Pairs of a policy's samples, from the half that is not judged."""
        g = seeds.torch()
        prompt = torch.randint(self.G, (n,), generator=g)
        two = torch.multinomial(weight_GN.cpu()[prompt].float(), 2, replacement=True, generator=g)
        return Pairs(self.seen.x_GND[prompt.unsqueeze(1), two], self.seen.gold_GN[prompt.unsqueeze(1), two])

    def samples(self, round: int) -> Float[Tensor, "P G K D"]:
        """k samples of each prompt of each policy."""
        g = self.seeds.child("samples", round).torch()
        k = self.config.samples
        at = torch.multinomial(self.weight["seen"].cpu().float().flatten(0, 1), k, replacement=True, generator=g)
        return self.seen.x_GND[torch.arange(self.G)[None, :, None], at.view(self.P, self.G, k)]

    def fit(self, round: int) -> list[PopulationMLP]:
        """The reward models of a round, from scratch: those with as many updates together."""
        config, own = self.config, self.seeds.child("round", round)
        out: list[PopulationMLP] = []
        x = self.samples(round) if round else None
        for part in self._parts():
            some = [self.ways[p] for p in part]
            order = 2 if some[0].arm == HESSIAN else 1
            meta = None if x is None or not any(w.eta for w in some) else MetaStep(
                x_SGKD=x[part], step_P=torch.tensor([w.eta for w in some], device=self.device), batch=config.groups,
                random_P=torch.tensor([w.arm == RANDOM for w in some], device=self.device), order=order,
                set_P=torch.arange(len(part), device=self.device))
            how = HeadOptions(hidden=(config.width,), steps=config.steps * (2 if some[0].arm == LONGER else 1),
                              batch=config.batch, lr=config.lr, decay=[w.decay for w in some])
            out.append(fit_heads(self._lessons(round, part), how, seeds=[own] * len(part), meta=meta))
        return out

    def _parts(self) -> list[list[int]]:
        """Members that are fitted in one go."""
        kinds = [(LONGER,), (HESSIAN,), (FRESH,), tuple(a for a in ARMS if a not in (LONGER, HESSIAN, FRESH))]
        found = ([p for p, w in enumerate(self.ways) if w.arm in kind] for kind in kinds)
        return [part for part in found if part]

    def _lessons(self, round: int, part: list[int]) -> Lessons:
        """The first pairs for all; with fresh labels, half of the draws come from the present policy's."""
        n, P = self.config.pairs, len(part)
        if self.ways[part[0]].arm != FRESH or not round:
            return Lessons(x_SN2D=self.pairs.x_N2D[None], label_PN=self.label.expand(P, -1))
        sets, said = list[Tensor](), list[Tensor]()
        for p in part:
            more = self._pairs(self.weight["seen"][p], n, self.seeds.child("fresh", round))
            label, _ = labels(more.gap_N, self.seeds.child("fresh labels", round),
                              temperature=self.config.temperature, flips=0.0)
            sets.append(torch.cat([self.pairs.x_N2D, more.x_N2D]))
            said.append(torch.cat([self.label, label]))
        return Lessons(x_SN2D=torch.stack(sets), label_PN=torch.stack(said),
                       set_P=torch.arange(P, device=self.device))

    @torch.no_grad()
    def rewards(self, nets: Sequence[PopulationMLP], of: Pool) -> Float[Tensor, "P G N"]:
        """What the models of all members say of all replies."""
        out = torch.zeros(self.P, self.G, self.N, device=self.device)
        for part, net in zip(self._parts(), nets, strict=True):
            x = of.x_GND.reshape(1, -1, self.D).expand(len(part), -1, -1)
            out[part] = net(x, net.flat.detach())[..., 0].view(len(part), self.G, self.N)
        return out

    def run(self) -> list[dict[str, list[float]]]:
        """All rounds; by way: accuracy on its own policy and on that of the first way, worth, and scale."""
        out: list[dict[str, list[float]]] = [{"own": [], "common": [], "gold": [], "scale": []} for _ in self.ways]
        for round in range(self.config.rounds + 1):
            nets = self.fit(round)
            judged, w = self.rewards(nets, self.judged), self.weight["judged"]
            found = {"own": agreement(w, judged, self.judged.gold_GN),
                     "common": agreement(w[:1].expand_as(w), judged, self.judged.gold_GN),
                     "gold": (w * self.judged.gold_GN).sum(-1).mean(-1), "scale": judged.std(-1).mean(-1)}
            for p, row in enumerate(out):
                for name, value in found.items():
                    row[name].append(float(value[p]))
            for name, of in (("seen", self.seen), ("judged", self.judged)):
                self.weight[name] = best_of(self.weight[name], self.rewards(nets, of).double(), self.config.best_of)
        last = (self.weight["judged"] * self.judged.gold_GN).sum(-1).mean(-1)
        for p, row in enumerate(out):
            row["gold"].append(float(last[p]))
        return out


# --- units ------------------------------------------------------------------------------------------------------


def tune(config: SecretsConfig, seeds: Seeds, *, device: str = "cpu") -> dict[str, int]:
    """Which of its six settings each arm takes: the most accurate over all rounds, on worlds of their own."""
    some = [w for arm in TUNED for w in ways(config)[arm]]
    found = [Rounds(config, seeds.child("meta tuning", k), some, device=device).run() for k in range(config.tuning)]
    table = np.array([[np.mean(row["own"][1:]) for row in one] for one in found]).mean(0).reshape(-1, 6)
    chosen = {arm: int(row.argmax()) for arm, row in zip(TUNED, table, strict=True)}
    return chosen | {HESSIAN: chosen[META]}


def measure(config: SecretsConfig, seeds: Seeds, *, seed: int, chosen: Mapping[str, int],
            device: str = "cpu") -> dict[str, Any]:
    """One world, every arm at its setting, and MetaRM at each eta."""
    take = [ways(config)[arm][chosen[arm]] for arm in ARMS]
    sweep = [Way(arm=META, decay=take[ARMS.index(META)].decay, eta=e) for e in config.sweep]
    found = Rounds(config, seeds.child("meta", seed), [*take, *sweep], device=device).run()
    return {"arms": dict(zip(ARMS, found[:len(ARMS)], strict=True)),
            "sweep": {f"{w.eta:g}": row for w, row in zip(sweep, found[len(ARMS):], strict=True)}}
