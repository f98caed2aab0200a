"""59 Contrast Instructions (Shen et al. 2024, arXiv 2309.16155): do reward models read the instruction?

Instructions that differ in one word, answers whose worth is known. Reward models (bags of words, multiplied) are
trained on ordinary pairs, whose rejected answers are mostly bad under any instruction. (a) The audit: pairs of
instructions that a sentence encoder finds near are held against them (C_res, C_ins). Repairs at equal numbers of
updates: ConvexDA, RewardFusion, both, random augmentation of the size of ConvexDA, contrast fine-tuning, and as many
more ordinary pairs as contrast fine-tuning adds. (b) The trickle-down: best-of-n and the KL-regularised optimum over a
policy's samples, for models made by pairs of several degrees of hardness: does consistency foretell the worth of what
is selected, and does it better than accuracy on held-out ordinary pairs?

Choices: instructions of the tests are never trained on; contrasts that mean the same (the verb alone differs) are left
out by what is known, an arm shows what they cost; MiniLM stands for SimCSE (at `small` hashed pieces of words embed
whole answers, which would take minutes a seed otherwise); a policy is optimised by selecting among its samples, which
is where PPO with a KL penalty tends to, and not by training one. In the paper's code ConvexDA appends the same record
several times; here each is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import mean_interval
from plaudit.core.tokens import plain_text
from plaudit.feedback.records import Preference
from plaudit.learn.text.contrast import BAND, Contrast, consistency, contrast_records
from plaudit.learn.text.convex import convex_augmented, misspelt, reworded
from plaudit.learn.text.embedding import Encoder, HashedEncoder, SentenceEncoder
from plaudit.learn.text.fusion import fuse
from plaudit.optimize.align.best_of import best_of_curve, best_of_kl
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.contrast_drawing import draw_ladder, draw_policies, draw_repairs
from plaudit.zoo.contrast_models import Readers, Row, fit, sides
from plaudit.zoo.contrast_world import SYNONYMS, Ask, answer, draw, mined, pairs, policy_samples, split, worth
from plaudit.zoo.drawing import panels
from plaudit.zoo.ranks import correlation, correlation_gap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plaudit.zoo.lab import Lab

PLAIN, MORE, RANDOM = "plain", "more ordinary pairs", "random augmentation"
CONVEX, CONVEX_IN, SPELLING = "ConvexDA", "ConvexDA, in place", "ConvexDA, spelling"
FUSION, BOTH = "RewardFusion", "ConvexDA + RewardFusion"
CONTRAST, CONTRAST_R, CONTRAST_I = "contrast fine-tuning", "contrast, responses", "contrast, instructions"
CONTRAST_CONVEX, SINGLE = "contrast + ConvexDA", "single task"
REPAIRS = (PLAIN, MORE, RANDOM, CONVEX, CONVEX_IN, SPELLING, FUSION, BOTH, CONTRAST_R, CONTRAST_I, CONTRAST,
           CONTRAST_CONVEX)
TASK = "foods"
C_RES, C_INS, ORDINARY, HARD = "C_res", "C_ins", "accuracy, ordinary pairs", "accuracy, hard pairs"
TILTED = "KL-regularised"


@dataclass(frozen=True, kw_only=True)
class ContrastConfig:
    """Options of the experiment."""

    seeds: int = 5
    """Independent data, splits of the instructions, and models."""
    encoder: Literal["minilm", "hashed"] = "minilm"
    """What says that instructions are near: MiniLM, or hashed pieces of words."""
    text_encoder: Literal["minilm", "hashed"] = "hashed"
    """What ConvexDA and RewardFusion embed answers with: MiniLM takes minutes a seed on a core."""
    band: tuple[float, float] = BAND
    """Cosines of contrast instructions."""
    other_bands: tuple[tuple[float, float], ...] = ((0.6, 0.75), (0.9, 0.97))
    """Further bands that are measured."""
    pairs: int = 400
    """Ordinary pairs that each model is trained on."""
    hardness: float = 0.05
    """The share of ordinary pairs whose rejected answer is wrong in one thing instead of bad under any instruction."""
    ladder: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
    """Shares of the models of part (b)."""
    many: int = 1200
    """Pairs of its second half."""
    contrasts: int = 200
    """Contrasts that fine-tuning adds, four pairs each; and as many are tested on."""
    held_out: float = 0.25
    """The share of instructions that are never trained on."""
    variants: int = 5
    """Rewritings of an answer."""
    share: float = 0.2
    """How many of the words with synonyms are replaced."""
    top: int = 5
    """Neighbours of RewardFusion."""
    least: float = 0.9
    """Their least cosine."""
    prompts: int = 48
    """Instructions that policies are judged on."""
    pool: int = 64
    """The largest n of best-of-n."""
    kl: float = 1.0
    """How far the KL-regularised policy moves, in nats (at most the log of the pool)."""
    test_pairs: int = 200
    """Held-out pairs."""
    steps: int = 250
    """Updates of each model."""
    batch: int = 64
    """Pairs in an update."""
    lr: float = 0.01
    """Step size, which falls to 0."""
    decay: float = 1e-4
    """Weight of the squared parameters in the loss."""
    dim: int = 16
    """Numbers to a word."""
    hidden: int = 32
    """Hidden units."""


# --- one seed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Exam:
    """What every model of a seed is asked: rows, and where in them each part stands."""

    rows: list[Row]
    contrasts: dict[str, list[Contrast]]
    held: dict[str, list[Preference]]
    gold_PN: Float[Tensor, "P N"]
    pool: list[Row]

    def results(self, value: Float[Tensor, "N"], config: ContrastConfig) -> dict[str, Any]:
        """All measures of one model from its rewards of all rows."""
        said = {row: float(v) for row, v in zip(self.rows, value.tolist(), strict=True)}
        out: dict[str, Any] = {}
        for name, some in self.contrasts.items():
            if some:
                found = consistency(lambda p, a: [said[row] for row in zip(p, a, strict=True)], some)
                out |= {f"{C_RES}{name}": found.c_res, f"{C_INS}{name}": found.c_ins}
        for name, records in self.held.items():
            out[name] = float(np.mean([said[a] > said[b] for a, b in map(sides, records)]))
        proxy_PN = torch.tensor([said[row] for row in self.pool], dtype=torch.float64).view_as(self.gold_PN)
        curve = best_of_curve(proxy_PN, self.gold_PN)
        return out | {"n": list(curve.n), "gold": curve.gold_PN.mean(0).tolist(),
                      TILTED: tilted(proxy_PN, self.gold_PN, kl=config.kl)}


def tilted(proxy_PN: Float[Tensor, "P N"], gold_PN: Float[Tensor, "P N"], *, kl: float) -> float:
    """Gold under p(y) ~ exp(proxy / beta) over each prompt's samples, with the beta whose mean KL is as given.

    This is where maximising E[proxy] - beta * KL(policy || samples) ends.

    Example:
        >>> tilted(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]), kl=0.6) > 0.9
        True
    """
    N = proxy_PN.shape[1]
    low, high = -12.0, 12.0
    for _ in range(50):
        middle = (low + high) / 2
        log_w = torch.log_softmax(proxy_PN.double() * np.exp(middle), 1)
        moved = float((log_w.exp() * (log_w + np.log(N))).sum(1).mean())
        low, high = (middle, high) if moved < kl else (low, middle)
    return float((torch.softmax(proxy_PN.double() * np.exp(low), 1) * gold_PN).sum(1).mean())


@lru_cache(maxsize=2)
def encoder_of(name: str, device: str = "cpu") -> Encoder:
    """The encoder of a name; what it has encoded stays known to the seeds that follow."""
    return SentenceEncoder(device=device) if name == "minilm" else HashedEncoder()


def make_exam(config: ContrastConfig, encode: Encoder, test: Sequence[Ask], train: Sequence[Ask], seeds: Seeds) -> Exam:
    """Contrasts, held-out pairs and a policy's samples, all under instructions that are never trained on."""
    rng = seeds.numpy()
    asks = [draw(rng, test) for _ in range(2 * config.contrasts)]
    prompts, said = [a.text for a in asks], [answer(a, rng) for a in asks]
    some = {"": mined(prompts, said, encode, band=config.band)[:config.contrasts],
            ", twins left in": mined(prompts, said, encode, band=(config.band[0], 1.0), twins=True)[:config.contrasts]}
    for band in config.other_bands:
        some[f", cosine {band[0]:g} to {band[1]:g}"] = mined(prompts, said, encode, band=band)[:config.contrasts]
    one = [draw(rng, [a for a in (*test, *train) if a.kind == TASK]) for _ in range(config.contrasts)]
    some[f", {TASK}"] = mined([a.text for a in one], [answer(a, rng) for a in one], encode, band=config.band)
    held = {name: pairs(config.test_pairs, h, test, rng) for name, h in ((ORDINARY, config.hardness), (HARD, 1.0))}
    asked = [draw(rng, test) for _ in range(config.prompts)]
    samples = [policy_samples(a, config.pool, rng) for a in asked]
    pool = [(a.text, text) for a, texts in zip(asked, samples, strict=True) for text in texts]
    rows = [row for cs in some.values() for c in cs for row in (
        (c.prompt, c.preferred), (c.prompt, c.other_preferred), (c.other_prompt, c.preferred),
        (c.other_prompt, c.other_preferred))]
    rows += [row for rs in held.values() for r in rs for row in sides(r)] + pool
    gold = torch.tensor([worth(a, text) for a, texts in zip(asked, samples, strict=True) for text in texts])
    return Exam(rows=list(dict.fromkeys(rows)), contrasts=some, held=held, pool=pool,
                gold_PN=gold.double().view(config.prompts, config.pool))


def train_sets(config: ContrastConfig, near: Encoder, encode: Encoder, train: Sequence[Ask], seeds: Seeds
               ) -> dict[str, list[Preference]]:
    """What each model is trained on."""
    rng = seeds.child("pairs").numpy()
    base = pairs(config.pairs, config.hardness, train, rng)
    found = mined([plain_text(r.context) for r in base], [plain_text(r.options[0]) for r in base], near,
                  band=config.band, each=4)
    found = [found[int(i)] for i in rng.permutation(len(found))[:config.contrasts]]
    added = contrast_records(found)
    words, letters = reworded(SYNONYMS, share=config.share), misspelt()
    own = {"n": config.variants, "seed": seeds.child("augment")}
    convex = convex_augmented(base, encode, words, **own)
    out = {PLAIN: base, MORE: base + pairs(len(added), config.hardness, train, rng),
           RANDOM: convex_augmented(base, encode, words, pick="random", **own), CONVEX: convex,
           CONVEX_IN: convex_augmented(base, encode, words, mode="replace", **own),
           SPELLING: convex_augmented(base, encode, letters, **own), CONTRAST: base + added,
           CONTRAST_R: base + contrast_records(found, sides=("response",)),
           CONTRAST_I: base + contrast_records(found, sides=("instruction",)), CONTRAST_CONVEX: convex + added,
           SINGLE: pairs(config.pairs, config.hardness, [a for a in train if a.kind == TASK], rng)}
    for h in config.ladder:
        for n in (config.pairs, config.many):
            out[f"hardness {h:g}, {n} pairs"] = pairs(n, h, train, seeds.child("ladder", f"{h} {n}").numpy())
    return out


def measure(config: ContrastConfig, seeds: Seeds, *, seed: int, device: str = "cpu") -> dict[str, Any]:
    """All models of one seed, and what each of them says."""
    own = seeds.child("seed", seed)
    near, encode = encoder_of(config.encoder, device), encoder_of(config.text_encoder, device)
    train, test = split(config.held_out, own.child("split").numpy())
    exam = make_exam(config, near, test, train, own.child("exam"))
    data = train_sets(config, near, encode, train, own.child("data"))
    model = fit(config, list(data.values()), own.child("fit"), device=device)
    value = dict(zip(data, model.score(exam.rows), strict=True))
    for name, source in ((FUSION, PLAIN), (BOTH, CONVEX)):
        at = list(data).index(source)
        value[name] = fused(config, encode, model, at, data[PLAIN], exam, value[source])
    return {"models": {name: exam.results(v, config) for name, v in value.items()},
            "policy": float(exam.gold_PN.mean()), "best": float(exam.gold_PN.amax(1).mean()),
            "contrasts": {name or "in the band": len(c) for name, c in exam.contrasts.items()},
            "neighbours": float((value[FUSION] != value[PLAIN]).double().mean())}


def fused(config: ContrastConfig, encode: Encoder, model: Readers, at: int, records: Sequence[Preference], exam: Exam,
          value: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """RewardFusion with the texts that the plain model was trained on, preferred and not."""
    index = list(dict.fromkeys(row for r in records for row in sides(r)))
    text = lambda row: f"Question: {row[0]}\n\nAnswer: {row[1]}"  # noqa: E731
    own = {row: i for i, row in enumerate(index)}
    same = torch.zeros(len(exam.rows), len(index), dtype=torch.bool)
    for n, row in enumerate(exam.rows):
        if row in own:
            same[n, own[row]] = True
    return fuse(value, encode(list(map(text, exam.rows))), model.score(index)[at], encode(list(map(text, index))),
                top=config.top, least=config.least, leave_out_NM=same)


# --- what the seeds say together --------------------------------------------------------------------------------


def run(config: ContrastConfig, lab: Lab) -> Outcome:
    """All seeds, the repairs, and the correlations."""
    lab.plan(config.seeds)
    found = lab.units(measure, {f"seed {s}": {"seed": s} for s in range(config.seeds)})

    def of(name: str, metric: str) -> list[float]:
        return [f["models"][name]["gold"][-1] if metric == "gold" else f["models"][name][metric] for f in found]

    def less(a: str, b: str, metric: str) -> Interval:
        return mean_interval(np.subtract(of(a, metric), of(b, metric)))

    chosen = f"worth of best-of-{config.pool}"
    metrics = {C_RES: C_RES, C_INS: C_INS, ORDINARY: ORDINARY, HARD: HARD, "gold": chosen,
               TILTED: f"worth at KL {config.kl:g}"}
    steps = [f"hardness {h:g}, {n} pairs" for h in config.ladder for n in (config.pairs, config.many)]
    arms = [Arm(name=name, metric=label, value=mean_interval(of(name, metric)), baseline=name in (PLAIN, MORE, RANDOM))
            for name in (*REPAIRS, *steps) for metric, label in metrics.items()]
    arms += _variant_arms(found, of)
    table = {m: np.array([of(name, m) for name in steps]) for m in metrics}
    foretold = {m: correlation(table[m], table["gold"]) for m in (C_RES, C_INS, ORDINARY, HARD)}
    arms += [Arm(name=m, metric=f"Spearman with {chosen}", value=v, baseline=m in (ORDINARY, HARD))
             for m, v in foretold.items()]
    arms += [Arm(name=name, metric=metric, value=mean_interval([f[key] for f in found]), baseline=name == "policy")
             for name, metric, key in (("policy", "worth of one sample", "policy"),
                                       ("policy", f"worth of the best of {config.pool}", "best"),
                                       (FUSION, "share of texts with a neighbour", "neighbours"))]
    criteria = [
        Criterion(says="accuracy of the plain model on held-out ordinary pairs", above=0.85,
                  value=mean_interval(of(PLAIN, ORDINARY))),
        Criterion(says="its C_res", value=mean_interval(of(PLAIN, C_RES)), below=0.65),
        Criterion(says="its C_ins", value=mean_interval(of(PLAIN, C_INS)), below=0.65),
        Criterion(says="C_res, ConvexDA less plain", value=less(CONVEX, PLAIN, C_RES), above=0.0),
        Criterion(says="C_res, RewardFusion less plain", value=less(FUSION, PLAIN, C_RES), above=0.0),
        Criterion(says="C_res, contrast fine-tuning less as many more ordinary pairs", above=0.05,
                  value=less(CONTRAST, MORE, C_RES)),
        Criterion(says="C_ins, the same", value=less(CONTRAST, MORE, C_INS), above=0.05),
        Criterion(says=f"{chosen}, contrast fine-tuning less plain", value=less(CONTRAST, PLAIN, "gold"), above=0.0),
        Criterion(says=f"Spearman of C_res with {chosen}, over models", value=foretold[C_RES], above=0.0),
        Criterion(says="that of C_res less that of accuracy on ordinary pairs",
                  value=correlation_gap(table[C_RES], table[ORDINARY], table["gold"]), above=0.0)]
    return Outcome(arms=arms, criteria=criteria, data={
        "steps": steps, **{m: [round(float(v), 4) for v in t.mean(1)] for m, t in table.items()},
        "contrasts": [f["contrasts"] for f in found],
        "curves": {name: {"kl": list(map(best_of_kl, found[0]["models"][name]["n"])),
                          "gold": [f["models"][name]["gold"] for f in found]} for name in (
                              PLAIN, MORE, CONVEX, FUSION, CONTRAST)}})


def _variant_arms(found: Sequence[dict[str, Any]], of: Any) -> list[Arm]:
    """Other bands, twins, and one task alone, where contrasts were found."""
    out = list[Arm]()
    for name in (PLAIN, CONTRAST, SINGLE):
        kinds = [k for k in found[0]["models"][name] if k.startswith((f"{C_RES},", f"{C_INS},"))]
        for kind in kinds:
            if (name == SINGLE) <= kind.endswith(TASK) and all(kind in f["models"][name] for f in found):
                out.append(Arm(name=name, metric=kind, value=mean_interval(of(name, kind)), baseline=name == PLAIN))
    return out


def draw_all(result: ZooResult) -> Figure:
    """Consistency of the repairs, the ladder of hardness, and what policies are worth."""
    figure, (left, middle, right) = panels(13.5, 4.4, columns=3, widths=[1.2, 1, 1])
    draw_repairs(left, result, REPAIRS)
    draw_ladder(middle, result, C_RES, ORDINARY)
    draw_policies(right, result)
    return figure


SYSTEM = System(
    number=59, name="contrast-instructions", title="Contrast Instructions: the trickle-down of inconsistent rewards",
    room="learn",
    claim="Reward models that rank ordinary pairs well are near chance when the instruction changes in a word; "
          "ConvexDA and RewardFusion make them a little more consistent, contrast fine-tuning much; policies "
          "selected by a more consistent model are better, and consistency foretells this better than accuracy does.",
    scales={"smoke": ContrastConfig(seeds=2, encoder="hashed", band=(0.55, 0.9), other_bands=(), pairs=40, many=60,
                                    ladder=(0.0, 0.4, 1.0), contrasts=20, prompts=3, pool=8, test_pairs=20, steps=15,
                                    batch=16),
            "small": ContrastConfig(),
            "paper": ContrastConfig(seeds=10, text_encoder="minilm", pairs=20_000, many=100_000, contrasts=1188,
                                    prompts=200, pool=256, test_pairs=2000, steps=4000, dim=64, hidden=128)},
    run=run, draw=draw_all, any_device=True)
