"""What HelpSteer2-Preference's reward model is for: a small writer aligned by RLOO, PPO and three forms of DPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plaudit.core.seeds import Seeds
from plaudit.optimize.align.align import align, measure
from plaudit.optimize.align.config import AlignConfig
from plaudit.optimize.align.dpo import Form, Pairs, pairs_of_texts
from plaudit.optimize.align.policy import Policy
from plaudit.zoo.helpsteer2_models import Trainer, cleaned, graded, inputs, pairs_of, train_all
from plaudit.zoo.letters import ALPHABET, FEATURES, GOLD, PROMPTS, OfFeatures, helpfulness, replies, writer

if TYPE_CHECKING:
    from plaudit.zoo.helpsteer2_preference import HelpsteerConfig

START = "before"
METHODS: dict[str, Form] = {"RLOO": "regular", "PPO": "regular", "DPO regular": "regular", "DPO margin": "margin",
                            "DPO scaled": "scaled"}


class Judge(OfFeatures):
    """The reward model of one seed, in units of its spread over the writer's texts."""

    def __init__(self, config: HelpsteerConfig, seeds: Seeds, texts: tuple[list[str], list[str]], *,
                 device: str = "cpu") -> None:
        alone = replace(config, seeds=1)
        data = pairs_of(alone, seeds.child("data"), config.align_pairs, noise=config.noises[0], prompts=PROMPTS)
        data = data.to(device)
        self.weights = train_all(alone, data, seeds.child("train"), losses=())["regression, then scaled"]
        self.net, self.spread, self.name = Trainer(alone, data, seeds.child("train")).net(1), 1.0, "reward model"
        with torch.no_grad():
            self.spread = float(self.values(*texts).std())

    def values(self, prompts: list[str], said: list[str]) -> Tensor:
        return self.net(inputs(prompts, said).to(self.weights.device).unsqueeze(0), self.weights)[0, :, 0] / self.spread


def given_pairs(config: HelpsteerConfig, seeds: Seeds, policy: Policy) -> Pairs:
    """Graded pairs of replies for DPO: as many, and graded, as those that the reward model learnt from."""
    rng = seeds.numpy()
    asked = [PROMPTS[i] for i in rng.integers(len(PROMPTS), size=config.align_pairs).repeat(2)]
    said = replies(asked, seeds.child("replies"))
    h = helpfulness(inputs(asked, said)[:, :len(FEATURES)]).view(-1, 2)
    rows: list[tuple[str, list[int], list[int], float]] = []
    for i, gap in enumerate((h[:, 1] - h[:, 0]).tolist()):
        grade = cleaned([graded(gap, rng, config.noises[0][1], config.grade_steps) for _ in range(config.graders)])
        if grade == grade:
            one, two = ([*map(ALPHABET.index, t), len(ALPHABET)] for t in said[2 * i:2 * i + 2])
            rows.append((asked[2 * i], two if grade > 0 else one, one if grade > 0 else two, abs(grade)))
    prompts, better, worse, strength = zip(*rows, strict=True)
    return pairs_of_texts(policy, prompts, better, worse, strength=strength)


def aligned(config: HelpsteerConfig, seeds: Seeds, *, seed: int | str,
            rates: Mapping[str, Sequence[float]], device: str = "cpu") -> dict[str, Any]:
    """Every method at some step sizes, from one writer and one set of grades.

    Returns:
        By method and step size: gold (helpfulness), what the reward model says, the KL and the length at the end.
    """
    seeds = seeds.child("align", seed)
    policy = writer(seeds, hidden=config.writer_hidden, updates=config.pretrain, device=device)
    start = {k: v.clone() for k, v in policy.state_dict().items()}
    drawn = policy.sample(PROMPTS, n=10, seed=seeds.child("reference"))
    judge = Judge(config, seeds, (list(drawn.columns["prompt"]), list(drawn.columns["completion"])), device=device)
    pairs = given_pairs(config, seeds.child("pairs"), policy)
    out: dict[str, Any] = {START: [_ends(policy, policy.reference(), judge, seeds) | {"lr": 0.0}]}
    for method, form in METHODS.items():
        algo = method.lower().split()[0]
        out[method] = []
        for lr in rates[method]:
            policy.load_state_dict(start)
            options = AlignConfig(
                prompts=64 if algo == "dpo" else 16, samples=4, lr=lr, form=form, normalise=True,
                beta=config.dpo_beta if algo == "dpo" else config.kl_price, measure_every=config.align_steps, epochs=2)
            result = align(policy, judge, PROMPTS, algo=algo, pairs=pairs if algo == "dpo" else None, config=options,
                           steps=config.align_steps, progress=False, seed=seeds.integer() % 2**31)
            out[method].append(_ends(policy, result.reference, judge, seeds) | {"lr": lr})
    return out


def _ends(policy: Policy, reference: Policy, judge: Judge, seeds: Seeds) -> dict[str, float]:
    found = measure(policy, reference, PROMPTS, [judge, GOLD], n=8, seed=seeds.child("end"))
    return {"gold": found["helpfulness"], "proxy": found["reward model"], "kl": found["kl"], "length": found["length"]}
