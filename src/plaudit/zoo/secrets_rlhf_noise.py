"""The noise audit of Secrets of RLHF II: which pairs are wrong, and what it is worth to treat them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.learn.text.denoising import Denoise, treat
from plaudit.learn.text.losses import bradley_terry
from plaudit.learn.text.pair_heads import HeadOptions, Lessons, fit_heads, gaps
from plaudit.learn.text.strengths import CrossFit, Strengths, cross_fit_tensors, lessons_of_groups
from plaudit.zoo.secrets_rlhf_world import Pairs, World, labels, people

if TYPE_CHECKING:
    from plaudit.zoo.secrets_rlhf_rm import SecretsConfig

PLAIN, EARLY, ENSEMBLE, DROP = "plain", "early stopping", "mean of several", "drop"
FLIP, SMOOTH, SOFT_ENDS, MARGIN = "flip", "smooth", "smooth, ends", "margin"
FLIP_MARGIN, ALL, ALL_EARLY = "flip + margin", "flip + smooth + margin", "all three, stopped early"
SEEN, KNOWN = "flip by seen pairs", "true flips undone"
CONTRASTS: dict[str, tuple[Literal["simcse", "swav"], Literal["texts", "differences"]]] = {
    "SimCSE": ("simcse", "texts"), "SimCSE-diff": ("simcse", "differences"), "SwAV": ("swav", "texts"),
    "SwAV-diff": ("swav", "differences")}
BASELINES = (PLAIN, EARLY, ENSEMBLE, DROP)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to train a reward model."""

    decay: float = 0.0
    denoise: Denoise = Denoise()
    by: Literal["unseen", "seen", "known"] = "unseen"
    early: bool = False
    members: int = 1
    beta: float = 0.0


def settings(config: SecretsConfig) -> dict[str, list[Setting]]:
    """What each arm chooses from: six settings for all."""
    both, shares, soft = (0.0, config.decays[4]), (0.1, 0.2, 0.3), (0.1, 0.2, 0.3)
    grid = lambda values, make: [replace(make(v), decay=d) for v in values for d in both]  # noqa: E731
    treated = lambda values, **of: grid(values, lambda v: Setting(  # noqa: E731
        denoise=Denoise(**{k: v if w is None else w for k, w in of.items()})))
    whole = treated(shares, flip=None, smooth=0.1, margin=1.0)
    out = {PLAIN: [Setting(decay=d) for d in config.decays],
           EARLY: [Setting(decay=d, early=True) for d in config.decays],
           ENSEMBLE: [Setting(decay=d, members=config.averaged) for d in config.decays],
           DROP: treated(shares, drop=None), FLIP: treated(shares, flip=None), SMOOTH: treated(soft, smooth=None),
           SOFT_ENDS: treated(soft, smooth=None, smooth_where="both"), MARGIN: treated((0.5, 1.0, 2.0), margin=None),
           FLIP_MARGIN: treated(shares, flip=None, margin=1.0), ALL: whole,
           ALL_EARLY: [replace(s, early=True) for s in whole],
           SEEN: [replace(s, by="seen") for s in treated(shares, flip=None)],
           KNOWN: [Setting(decay=d, by="known") for d in config.decays]}
    return out | {name: grid((0.03, 0.1, 0.3), lambda v: Setting(beta=v)) for name in CONTRASTS}


# --- data -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Noisy:
    """One world's pairs, with labels at S levels of noise, and what they are judged by."""

    pairs: Pairs
    label_SN: Float[Tensor, "S N"]
    flipped_SN: Bool[Tensor, "S N"]
    tests: Mapping[str, Pairs]
    unseen: Strengths
    seen: Strengths

    @staticmethod
    def make(config: SecretsConfig, world: World, seeds: Seeds, noises: Sequence[float]) -> Noisy:
        """Pairs, labels, and strengths by models that did not see the pairs, and by such that did."""
        pairs = people(world, config.pairs, seeds.child("pairs"))
        said = [labels(pairs.gap_N, seeds.child("labels"), temperature=config.temperature, flips=f) for f in noises]
        label_SN, flipped_SN = torch.stack([s[0] for s in said]), torch.stack([s[1] for s in said])
        unseen, seen = (strengths(config, pairs, label_SN, seeds.child(name), how) for name, how in (
            ("unseen", audit(config)["unseen"]), ("seen", audit(config)["seen"])))
        tests = {"ordinary": people(world, config.test, seeds.child("test")),
                 "better writers": people(world, config.test, seeds.child("careful"), care=0.95)}
        return Noisy(pairs, label_SN, flipped_SN, tests, unseen, seen)


def audit(config: SecretsConfig) -> dict[str, CrossFit]:
    """Ways to measure strength by the same heads.

    By models that did not see the pairs, taught for a short time, as long as a reward model, or one epoch; and by
    models that did, as long or for one epoch (the paper's way).
    """
    M, one = config.members, max(1, config.pairs // config.batch)
    base = CrossFit(folds=config.folds, members=M, hidden=(config.width,), steps=config.short, batch=config.batch,
                    lr=config.lr)
    few = max(2, M // 2)
    return {"unseen": base, "unseen, long": replace(base, members=few, steps=config.steps),
            "unseen, one epoch": replace(base, steps=one),
            "seen": replace(base, folds=1, members=few, steps=config.steps, bootstrap=False),
            "seen, one epoch": replace(base, folds=1, steps=one, bootstrap=False)}


def strengths(config: SecretsConfig, pairs: Pairs, label_SN: Tensor, seeds: Seeds, how: CrossFit) -> Strengths:
    """Of the same pairs under S sets of labels."""
    S = len(label_SN)
    return cross_fit_tensors(pairs.x_N2D.expand(S, -1, -1, -1), label_SN, [seeds] * S, how=how)


def area(mu_N: Float[Tensor, "N"], wrong_N: Bool[Tensor, "N"]) -> float:
    """Under the ROC curve of finding wrong labels by their low strength.

    Example:
        >>> area(torch.tensor([-1.0, 2.0, 1.0]), torch.tensor([True, False, False]))
        1.0
    """
    from scipy.stats import rankdata

    ranks = rankdata(mu_N.double().cpu().numpy())
    wrong = wrong_N.cpu().numpy()
    low, high = int(wrong.sum()), int((~wrong).sum())
    return float("nan") if not low or not high else float(1 - (ranks[wrong].sum() - low * (low + 1) / 2) / (low * high))


# --- training ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model: which world and noise, and how it is trained."""

    world: int
    noise: int
    setting: Setting


def train(config: SecretsConfig, data: Sequence[Noisy], cases: Sequence[Case], seeds: Seeds, *,
          contrast: str | None = None) -> list[dict[str, float]]:
    """All cases side by side, each for the same number of updates; what they are worth on clean pairs."""
    device = data[0].label_SN.device
    owner = [i for i, case in enumerate(cases) for _ in range(case.setting.members)]
    held = np.zeros(config.pairs, dtype=bool)
    held[seeds.child("held").numpy().permutation(config.pairs)[:round(config.validation * config.pairs)]] = True
    check = torch.from_numpy(held).to(device)
    rows = [_taught(data[c.world], c, check) for c in cases]
    drawn = [torch.from_numpy(seeds.child("bootstrap", k).numpy().poisson(1.0, config.pairs)).float().to(device)
             for k in range(config.averaged)]
    nth = [sum(o == owner[j] for o in owner[:j]) for j in range(len(owner))]
    weight = torch.stack([rows[o][1] * (drawn[k] if cases[o].setting.members > 1 else 1.0)
                          for o, k in zip(owner, nth, strict=True)])
    lessons = Lessons(x_SN2D=torch.stack([d.pairs.x_N2D for d in data]), weight_PN=weight,
                      label_PN=torch.stack([rows[o][0] for o in owner]),
                      margin_PN=torch.stack([rows[o][2] for o in owner]),
                      set_P=torch.tensor([cases[o].world for o in owner], device=device))
    kind, of = CONTRASTS[contrast] if contrast else ("none", "texts")
    how = HeadOptions(hidden=(config.width,), steps=config.steps, batch=config.batch, lr=config.lr,
                      decay=[cases[o].setting.decay for o in owner], contrast=kind, contrast_of=of,
                      contrast_weight=[cases[o].setting.beta for o in owner])
    stop = _Stop(data, cases, owner, check)
    net = fit_heads(lessons, how, seeds=[seeds.child("world", cases[o].world).child("member", k)
                                         for o, k in zip(owner, nth, strict=True)], watch=stop, every=config.every)
    flat = stop.chosen(net)
    return [_judged(data[c.world], net, flat, [j for j, o in enumerate(owner) if o == i]) for i, c in enumerate(cases)]


def _taught(data: Noisy, case: Case, check: Bool[Tensor, "N"]) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, weights and margins."""
    how, s = case.setting, case.noise
    label = data.label_SN[s]
    if how.by == "known":
        label = torch.where(data.flipped_SN[s], 1 - label, label)
    found = data.seen if how.by == "seen" else data.unseen
    done = treat(label, Strengths(found.mu[s], found.sigma[s], found.folds), how.denoise)
    kept = done.kept & ~check if how.early else done.kept
    return done.label, kept.float(), done.margin


class _Stop:
    """Early stopping by the log loss of pairs that were held out, with the labels that they have."""

    def __init__(self, data: Sequence[Noisy], cases: Sequence[Case], owner: Sequence[int], check: Tensor) -> None:
        self.at = [j for j, o in enumerate(owner) if cases[o].setting.early]
        mine = [cases[owner[j]] for j in self.at]
        self.x = torch.stack([d.pairs.x_N2D[check] for d in data])
        self.sets = torch.tensor([c.world for c in mine], device=check.device)
        self.label = torch.stack([data[c.world].label_SN[c.noise][check] for c in mine]) if mine else None
        self.best = torch.full((len(mine),), torch.inf, device=check.device)
        self.flat: Tensor | None = None

    def __call__(self, step: int, net: PopulationMLP) -> None:
        if self.label is None:
            return
        flat = net.flat.detach()[self.at]
        small = net.select(self.at)
        gap = gaps(small, self.x, self.sets)
        loss = bradley_terry(gap, self.label).mean(1)
        better = loss < self.best
        self.best = torch.where(better, loss, self.best)
        self.flat = flat.clone() if self.flat is None else torch.where(better[:, None], flat, self.flat)

    def chosen(self, net: PopulationMLP) -> Tensor:
        """The weights of all, those of the best moment for who stops early."""
        flat = net.flat.detach().clone()
        if self.flat is not None:
            flat[self.at] = self.flat
        return flat


@torch.no_grad()
def _judged(data: Noisy, net: PopulationMLP, flat: Tensor, members: Sequence[int]) -> dict[str, float]:
    from scipy.stats import spearmanr

    some, out = net.select(list(members)), dict[str, float]()
    for name, test in data.tests.items():
        x = test.x_N2D.flatten(0, 1).unsqueeze(0).expand(len(members), -1, -1)
        reward = some(x, flat[list(members)])[..., 0].mean(0).view(-1, 2)
        gap = reward[:, 0] - reward[:, 1]
        out[name] = float(((gap > 0) == test.truth_N).double().mean())
        if name == "ordinary":
            said: Any = spearmanr(reward.flatten().cpu().numpy(), test.gold_N2.flatten().cpu().numpy())
            out["spearman"] = float(said.statistic)
    return out


# --- units ------------------------------------------------------------------------------------------------------


def tune(config: SecretsConfig, seeds: Seeds, *, device: str = "cpu") -> dict[str, dict[str, int]]:
    """Which of its six settings each arm takes: the best on clean pairs of worlds of their own.

    Returns:
        `tuned` {arm: setting}, and `no decay`, which nothing chooses: the middle one of those that do not decay the
        weights (a fifth of the pairs, as in the paper; margins of |mu|), as some arms have only one of them.
    """
    data = [Noisy.make(config, World.make(config, own, device=device), own, [config.flips])
            for own in (seeds.child("tuning", k) for k in range(config.tuning))]
    out: dict[str, dict[str, int]] = {"tuned": {}, "no decay": {}}
    for contrast in (None, *CONTRASTS):
        arms = {a: s for a, s in settings(config).items() if (a == contrast if contrast else a not in CONTRASTS)}
        cases = [Case(world=w, noise=0, setting=s) for some in arms.values() for s in some for w in range(len(data))]
        found = np.array([f["ordinary"] for f in train(config, data, cases, seeds.child("tune"), contrast=contrast)])
        table = found.reshape(len(arms), 6, len(data)).mean(2)
        for (arm, some), row in zip(arms.items(), table, strict=True):
            out["tuned"][arm] = int(row.argmax())
            bare = [i for i, s in enumerate(some) if s.decay == 0]
            out["no decay"][arm] = bare[len(bare) // 2]
    return out


def measure(config: SecretsConfig, seeds: Seeds, *, seed: int,
            chosen: Mapping[str, Mapping[str, int]], device: str = "cpu") -> dict[str, Any]:
    """One world: the audit of its labels, and every arm at every level of noise."""
    own = seeds.child("noise", seed)
    world = World.make(config, own, device=device)
    data = Noisy.make(config, world, own, config.noises)
    main = config.noises.index(config.flips)
    take, bare = ({arm: some[chosen[which][arm]] for arm, some in settings(config).items()}
                  for which in ("tuned", "no decay"))
    arms = [a for a in take if a not in CONTRASTS]
    cases = [Case(world=0, noise=s, setting=take[a]) for a in arms for s in range(len(config.noises))]
    cases += [Case(world=0, noise=main, setting=bare[a]) for a in arms]
    found = train(config, [data], cases, own.child("train"))
    S = len(config.noises)
    models = {a: found[i * S:(i + 1) * S] for i, a in enumerate(arms)}
    without = dict(zip(arms, found[len(arms) * S:], strict=True))
    other: dict[str, dict[str, float]] = {}
    for c in CONTRASTS:
        two = [Case(world=0, noise=main, setting=s[c]) for s in (take, bare)]
        other[c], without[c] = train(config, [data], two, own.child("train"), contrast=c)
    return {"models": models, "contrast": other, "no decay": without,
            "audit": _audited(config, data, main, own), "many": _many(config, world, own.child("many"))}


def _audited(config: SecretsConfig, data: Noisy, main: int, seeds: Seeds) -> dict[str, Any]:
    """How well each way finds the flips, and wrong labels of any origin."""
    flipped, label = data.flipped_SN[main], data.label_SN[main]
    wrong = (label > 0.5) != data.pairs.truth_N
    out: dict[str, Any] = {}
    for name, how in audit(config).items():
        known = {"unseen": data.unseen, "seen": data.seen}.get(name)
        mu = known.mu[main] if known else strengths(config, data.pairs, label[None], seeds.child(name), how).mu[0]
        lowest = torch.argsort(mu)[:len(mu) // 5]
        out[name] = {"flips": area(mu, flipped), "wrong": area(mu, wrong), "against": float((mu < 0).double().mean()),
                     "wrong in the lowest fifth": float(wrong[lowest].double().mean())}
    return out | {"wrong labels": float(wrong.double().mean())}


def _many(config: SecretsConfig, world: World, seeds: Seeds) -> dict[str, Any]:
    """The same with more pairs and linear heads, strength group by strength group."""
    pairs = people(world, config.many, seeds.child("pairs"))
    label, flipped = labels(pairs.gap_N, seeds.child("labels"), temperature=config.temperature, flips=config.flips)
    found = cross_fit_tensors(pairs.x_N2D[None], label[None], [seeds.child("fit")],
                              how=CrossFit(folds=config.folds, members=4, steps=100))
    one = Strengths(found.mu[0], found.sigma[0], found.folds)
    wrong = (label > 0.5) != pairs.truth_N
    clean = people(world, config.test, seeds.child("test"))
    turned = torch.where(clean.truth_N[:, None, None], clean.x_N2D, clean.x_N2D.flip(1))
    steps, accuracy = lessons_of_groups(
        pairs.x_N2D, label, one, turned, members=2, every=config.every, seed=seeds.child("groups"),
        options=HeadOptions(hidden=(config.width,), steps=config.steps, batch=config.batch, lr=config.lr))
    return {"flips": area(one.mu, flipped), "wrong": area(one.mu, wrong), "steps": steps,
            "groups": [vars(g) for g in one.reading(10, wrong=wrong)], "lessons": accuracy.tolist()}
