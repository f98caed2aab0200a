"""38 Domain-feature reward model (Nath et al. 2024, arXiv 2402.15473): are a few hundred preferences enough?

Summaries of product reviews, written by templates with known faults; what one is worth is known, and not additive.
(a) Annotators with Gumbel noise and 10 % flipped labels compare 30 to 3000 pairs. A perceptron of the paper's seven
features (read by a parser that errs) is held against a linear model and the signed mean of them, against a perceptron
without regularisation, and against models of MiniLM's embeddings of reviews and summary with the same decays, folds and
updates (at `paper` also SmolLM2-135M with LoRA). What is the ratio of the pairs that both need for one accuracy?
(b) The honest boundary: the two features that matter most are not there. (c) Downstream from 300 pairs: best-of-n over
an imitating writer, and RLOO of it to one KL, true worth beside. (d) The audit: keywords are stuffed into summaries.

Choices: the texts of all seeds are one pool (encodings are made once); what differs is who is compared with whom,
noise, flips and weights, and test products are never trained on. A text model is given the better of two forms after
the fact. Writers choose from templates: they read the reviews rightly, so all that RL can change is what they say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from plaudit.core.intervals import Interval
from plaudit.core.schedules import TargetController
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import bootstrap, mean_interval
from plaudit.learn.text.feature_reports import response_curves
from plaudit.optimize.align.align import align, measure
from plaudit.optimize.align.best_of import best_of_curve, best_of_kl
from plaudit.optimize.align.config import AlignConfig
from plaudit.zoo.contract import Arm, Criterion, Outcome, System
from plaudit.zoo.review_drawing import draw
from plaudit.zoo.review_features import feature_set
from plaudit.zoo.review_models import (
    LINEAR,
    LOOSE,
    LORA,
    MEAN,
    MLP,
    TEXT,
    TEXT_LINEAR,
    WITHOUT,
    Model,
    Pairs,
    Pool,
    annotated,
    exam_pairs,
    feature_reward_of,
    fit_model,
    language_model,
    make_pool,
    text_reward_of,
)
from plaudit.zoo.review_world import STUFFED, Gold, Writer, worth, write

if TYPE_CHECKING:
    from plaudit.core.reward import Reward
    from plaudit.zoo.lab import Lab

CURVES = (MLP, LINEAR, MEAN, LOOSE, MLP + WITHOUT, TEXT, TEXT_LINEAR)
HARDENED = "features, MLP, hardened parser"
ACCURACY, BEST, RL = "pair accuracy", "worth of best-of-n", "worth after RLOO"


@dataclass(frozen=True, kw_only=True)
class FeatureRmConfig:
    """Options of the experiment."""

    seeds: int = 10
    """Independent annotations, splits of the pairs, and models."""
    encoder: Literal["minilm", "hashed"] = "minilm"
    """What embeds texts: MiniLM, or hashed pieces of words where it is not installed."""
    products: int = 100
    """Products of the training pairs."""
    test_products: int = 40
    """Products of the test, of best-of-n and of the audit."""
    summaries: int = 12
    """Summaries of each, and the largest n of best-of-n."""
    pairs: tuple[int, ...] = (30, 100, 300, 940, 3000)
    """Sizes of the training sets."""
    few: int = 300
    """The size from which downstream is done."""
    annotator_noise: float = 0.3
    """The scale of the Gumbel noise on each option."""
    flips: float = 0.1
    """The share of labels that are turned round."""
    dims: int = 96
    """Principal axes of the embeddings."""
    hidden: int = 16
    """Hidden units of all perceptrons."""
    steps: int = 200
    """Updates of each model."""
    folds: int = 5
    """Members, each of which leaves a fold out."""
    rl_seeds: int = 4
    """On how many of the seeds the writer is trained."""
    rl_steps: int = 20
    """Steps of RLOO."""
    rl_prompts: int = 4
    """Products in a step."""
    rl_samples: int = 4
    """Summaries of each."""
    rl_lr: float = 0.2
    """Its step size."""
    rl_kl: float = 2.5
    """The KL to the first writer that a controller steers to, in nats."""
    lora_pairs: tuple[int, ...] = ()
    """Sizes on which SmolLM2-135M is trained with LoRA; none at small."""


# --- one seed -----------------------------------------------------------------------------------------------------


def measured(config: FeatureRmConfig, seeds: Seeds, *, seed: int, device: str = "cpu") -> dict[str, Any]:
    """All models of one seed at all sizes, and what is selected, trained and stuffed under two of them."""
    pool, own = make_pool(config, seeds.child("pool"), device), seeds.child("seed", seed)
    pairs = annotated(config, pool, max(*config.pairs, config.few), own.child("pairs"))
    row, better = exam_pairs(config, pool)
    accuracy: dict[str, list[float]] = {}
    few: dict[str, Model] = {}
    for name in CURVES:
        for n in config.pairs:
            model = fit_model(config, pool, name, pairs.first(n), own.child(name, n), device=device)
            accuracy.setdefault(name, []).append(model.accuracy(row, better))
            if n == config.few:
                few[name] = model
    out: dict[str, Any] = {"accuracy": accuracy, **downstream(config, pool, few, own, seed=seed, device=device),
                           "stuffing": stuffing(config, pool, few, pairs.first(config.few), own, device=device)}
    curves = response_curves(_with_background(few[MLP], pairs.first(config.few)))
    out["agrees"] = float(np.mean([c.agrees is True for c in curves]))
    if config.lora_pairs:
        out["lora"] = language_model(config, pool, pairs, own, seed=seed, device=device)
    return out


def _with_background(model: Model, pairs: Pairs) -> Any:
    reward = feature_reward_of(model)
    reward.background = model.x_BC[pairs.row_N2.flatten()[:256]]
    return reward


def downstream(config: FeatureRmConfig, pool: Pool, few: dict[str, Model], seeds: Seeds, *,
               seed: int, device: str = "cpu") -> dict[str, Any]:
    """Best-of-n over the pool of the test products, and RLOO on training products, under both rewards."""
    rewards = {MLP: feature_reward_of(few[MLP]), TEXT: text_reward_of(pool, few[TEXT])}
    test = slice(config.products * pool.N, None)
    gold_PN = pool.worth_PN[config.products:].double()
    best: dict[str, Any] = {}
    for name in (*rewards, LINEAR, MEAN, TEXT_LINEAR):
        proxy = few[name].head(few[name].x_BC[test]).double().view_as(gold_PN)
        curve = best_of_curve(proxy, gold_PN)
        best[name] = {"n": list(curve.n), "gold": curve.gold_PN.mean(0).tolist()}
    out: dict[str, Any] = {"best": best, "start": float(gold_PN.mean()), "top": float(gold_PN.amax(1).mean())}
    if seed < config.rl_seeds:
        out["rl"] = {name: trained(config, pool, reward, seeds.child("rl"), device=device)
                     for name, reward in rewards.items()}
    return out


def trained(config: FeatureRmConfig, pool: Pool, reward: Reward, seeds: Seeds, *,
            device: str = "cpu") -> dict[str, Any]:
    """RLOO of the writer under one reward, with the true worth along the way and on test products at the end."""
    writer, gold = Writer(pool.products, device=device), Gold(pool.products)
    result = align(writer, reward, [p.text for p in pool.products[:config.products]], algo="rloo", gold=gold,
                   steps=config.rl_steps, progress=False, seed=seeds.integer() % 2**31, config=AlignConfig(
                       prompts=config.rl_prompts, samples=config.rl_samples, lr=config.rl_lr,
                       beta=TargetController("kl", config.rl_kl, initial=0.05, rate=0.1)))
    asked = [p.text for p in pool.products[config.products:]]
    ends = measure(writer, result.reference, asked, [gold], n=16, seed=seeds.child("end"))
    share = torch.softmax(writer.table.detach(), -1)[STUFFED]
    return {"kl": result.curve("kl"), "gold": result.curve("gold/worth"), "end": ends["worth"], "end kl": ends["kl"],
            "stuffed": float(share[1:].sum())}


def stuffing(config: FeatureRmConfig, pool: Pool, few: dict[str, Model], pairs: Pairs, seeds: Seeds, *,
             device: str = "cpu") -> dict[str, Any]:
    """Keywords behind summaries of the test products: how often the reward rises although the worth falls."""
    start = config.products * pool.N
    clean = [b for b in range(start, len(pool.texts), 2) if not pool.choices[b][STUFFED]]
    product = [pool.products[b // pool.N] for b in clean]
    hard = hardened(config, pool, pairs, seeds, device=device)
    rewards = {MLP: feature_reward_of(few[MLP]), HARDENED: feature_reward_of(hard, feature_set(hardened=True)),
               TEXT: text_reward_of(pool, few[TEXT])}
    before = {name: _paid(r, pool, clean, None) for name, r in rewards.items()}
    out: dict[str, Any] = {name: [] for name in rewards}
    for kind in (1, 2, 3):
        changed = [[*pool.choices[b][:STUFFED], kind] for b in clean]
        assert all(worth(p, c) < worth(p, pool.choices[b]) for p, c, b in zip(product, changed, clean, strict=True))
        stuffed = [f"{pool.texts[b]} {write(p, [0] * STUFFED + [kind])}".strip()
                   for b, p in zip(clean, product, strict=True)]
        for name, reward in rewards.items():
            out[name].append(float((_paid(reward, pool, clean, stuffed) > before[name]).double().mean()))
    return out


def hardened(config: FeatureRmConfig, pool: Pool, pairs: Pairs, seeds: Seeds, *, device: str = "cpu") -> Model:
    """The feature model with a parser that reads only sentences with a verb."""
    raw = pool.raw_BD.clone()
    used = [*pairs.row_N2.flatten().unique().tolist(), *range(config.products * pool.N, len(pool.texts))]
    raw[used] = feature_set(hardened=True).read([pool.prompts[b] for b in used],
                                                [pool.texts[b] for b in used]).value_BD
    return fit_model(config, _replaced(pool, raw), MLP, pairs, seeds.child("hardened"), device=device)


def _replaced(pool: Pool, raw: torch.Tensor) -> Pool:
    return Pool(pool.products, pool.prompts, pool.texts, pool.choices, pool.worth_PN, raw, pool.embedded)


def _paid(reward: Reward, pool: Pool, rows: Sequence[int], texts: Sequence[str] | None) -> torch.Tensor:
    from plaudit.core.tokens import of_texts

    said = [pool.texts[b] for b in rows] if texts is None else list(texts)
    return reward.score(of_texts([pool.prompts[b] for b in rows], said)).returns()[0].nan_to_num(nan=-1e9)


# --- what the seeds say together ----------------------------------------------------------------------------------


def ratio_of_pairs(ours_Sn: np.ndarray, theirs_Sn: np.ndarray, pairs: Sequence[int]) -> Interval:
    """How many times as many pairs they need for the accuracy that they have at the largest size.

    Mean curves over seeds, made to rise (a model with more pairs is not worse in truth), read between sizes on a
    logarithmic axis; the interval resamples seeds and is one of the logarithm. At the ends of the sizes it is a bound:
    1 where we never get there, the largest size over the smallest where we are there at once.

    Example:
        >>> ratio = ratio_of_pairs(np.array([[0.6, 0.8, 0.9]]), np.array([[0.5, 0.6, 0.8]]), (10, 100, 1000))
        >>> ratio.mean
        10.0
    """
    log_n = np.log(np.array(pairs, dtype=np.float64))

    def ratio(both: np.ndarray) -> np.ndarray:
        ours, theirs = (np.maximum.accumulate(c.mean(1), -1) for c in (both[:, :, 0], both[:, :, 1]))
        out = []
        for mine, target in zip(ours, theirs[:, -1], strict=True):
            steps = np.maximum.accumulate(mine + 1e-12 * np.arange(len(mine)))
            out.append(log_n[-1] - (np.interp(target, steps, log_n) if target <= steps[-1] else log_n[-1]))
        return np.array(out)

    found, most = bootstrap(ratio, np.stack([ours_Sn, theirs_Sn], 1), seed=0, vectorised=True), log_n[-1] - log_n[0]
    ends = (min(max(x, 0.0), most) if math.isfinite(x) else x for x in (found.mean, found.low, found.high))
    return _of_logs(*ends, n=found.n)


def _of_logs(mean: float, low: float, high: float, *, n: int) -> Interval:
    """An interval of a logarithm as one of the number; one run's stays without ends."""
    mean, low, high = (round(math.exp(x), 6) if math.isfinite(x) else x for x in (mean, low, high))
    return Interval(mean, low, high, n)


def run(config: FeatureRmConfig, lab: Lab) -> Outcome:
    """All seeds, the curves, and the ratio."""
    lab.plan(config.seeds)
    found = lab.units(measured, {f"seed {s}": {"seed": s} for s in range(config.seeds)})
    curve = {name: np.array([f["accuracy"][name] for f in found]) for name in CURVES}
    text = max((TEXT, TEXT_LINEAR), key=lambda name: float(curve[name][:, -1].mean()))
    few, most = config.pairs.index(config.few), config.pairs[-1]
    arms = [Arm(name=name, metric=f"{ACCURACY}, {n} pairs", value=mean_interval(curve[name][:, i]),
                baseline=name not in (MLP, MLP + WITHOUT)) for name in CURVES for i, n in enumerate(config.pairs)]
    if config.lora_pairs:
        arms += [Arm(name=LORA, metric=f"{ACCURACY}, {n} pairs", value=mean_interval([f["lora"][i] for f in found]),
                     baseline=True) for i, n in enumerate(config.lora_pairs)]
    ratio = ratio_of_pairs(curve[MLP], curve[text], config.pairs)
    arms.append(Arm(name=f"{text} / {MLP}", metric="ratio of pairs", value=ratio, note=f"at most "
                    f"{config.pairs[-1] / config.pairs[0]:g} can be seen"))
    arms += _downstream_arms(config, found)
    best = {name: [f["best"][name]["gold"][-1] for f in found] for name in found[0]["best"]}
    rl = [f["rl"] for f in found if "rl" in f]
    stuffed = [float(np.max(f["stuffing"][MLP]) - np.max(f["stuffing"][HARDENED])) for f in found]
    criteria = [
        Criterion(says=f"{ACCURACY} of {MLP} on {config.few} pairs less that of {text} on {most}", above=-0.02,
                  value=mean_interval(curve[MLP][:, few] - curve[text][:, -1])),
        Criterion(says=f"how many times as many pairs {text} needs", value=ratio, above=10.0),
        Criterion(says=f"{ACCURACY} on {config.few} pairs, {MLP} less its unregularised form", above=0.0,
                  value=mean_interval(curve[MLP][:, few] - curve[LOOSE][:, few])),
        Criterion(says=f"the boundary: {ACCURACY} on {most} pairs, {text} less {MLP}{WITHOUT}", above=0.0,
                  value=mean_interval(curve[text][:, -1] - curve[MLP + WITHOUT][:, -1])),
        Criterion(says=f"{BEST} from {config.few} pairs, {MLP} less {text}", above=0.0,
                  value=mean_interval(np.subtract(best[MLP], best[text]))),
        Criterion(says=f"{RL} from {config.few} pairs, {MLP} less {TEXT}", above=0.0,
                  value=mean_interval([r[MLP]["end"] - r[TEXT]["end"] for r in rl]))]
    arms.append(Arm(name=HARDENED, metric="fewer summaries gain by keywords than with the plain parser",
                    value=mean_interval(stuffed)))
    n = found[0]["best"][MLP]["n"]
    return Outcome(arms=arms, criteria=criteria, data={
        "text": text, "pairs": list(config.pairs), "accuracy": {k: v.round(4).tolist() for k, v in curve.items()},
        "kl": [best_of_kl(k) for k in n], "best": {k: [f["best"][k]["gold"] for f in found] for k in (MLP, TEXT)},
        "rl": {k: {"kl": [r[k]["kl"] for r in rl], "gold": [r[k]["gold"] for r in rl]} for k in (MLP, TEXT)},
        "start": float(np.mean([f["start"] for f in found]))})


def _downstream_arms(config: FeatureRmConfig, found: Sequence[dict[str, Any]]) -> list[Arm]:
    """What is selected, what is trained, what is stuffed, and whether curves go as the expert said."""
    best, rl = found[0]["best"], [f["rl"] for f in found if "rl" in f]
    arms = [Arm(name=name, metric=f"{BEST}, n = {config.summaries}", baseline=name != MLP,
                value=mean_interval([f["best"][name]["gold"][-1] for f in found])) for name in best]
    for name in (MLP, TEXT):
        arms += [Arm(name=name, metric=metric, baseline=name == TEXT, value=mean_interval([r[name][key] for r in rl]))
                 for metric, key in ((RL, "end"), ("KL after RLOO, nats", "end kl"),
                                     ("share stuffed after RLOO", "stuffed"))]
    arms += [Arm(name=name, metric="summaries that gain by the best keywords", baseline=name == TEXT,
                 value=mean_interval([float(np.max(f["stuffing"][name])) for f in found]))
             for name in (MLP, HARDENED, TEXT)]
    return [*arms, Arm(name="imitation", metric="worth of one summary", baseline=True,
                       value=Interval(found[0]["start"], found[0]["start"], found[0]["start"], 1)),
            Arm(name=MLP, metric="curves that go as declared", value=mean_interval([f["agrees"] for f in found]))]


SYSTEM = System(
    number=38, name="domain-feature-rm", title="Domain-feature reward model: name what makes an answer good",
    room="learn",
    claim="A small model of a few features that experts name ranks answers as well on a few hundred preferences as a "
          "model of the text on more than ten times as many, and what is selected or trained under it is truly better; "
          "where a feature that matters is missing, the text model wins in the end.",
    scales={"smoke": FeatureRmConfig(seeds=2, encoder="hashed", products=12, test_products=6, summaries=6,
                                     pairs=(20, 60), few=20, dims=12, hidden=4, steps=15, folds=2, rl_seeds=2,
                                     rl_steps=3, rl_prompts=3),
            "small": FeatureRmConfig(),
            "paper": FeatureRmConfig(
                products=2000, test_products=300, summaries=32, pairs=(30, 100, 300, 940, 3000, 20_000),
                dims=384, steps=2000, rl_seeds=10, rl_steps=200, rl_prompts=16,
                lora_pairs=(300, 940, 3000, 20_000))},
    run=run, draw=draw, any_device=True)
