"""56 Secrets of RLHF II (Wang et al. 2024, arXiv 2401.06080): noisy preferences, and a policy that moves away.

(a) Noise audit. Replies of people about whom gold is known are compared; a quarter of the labels is turned round, on
top of what judges doubt anyway. An ensemble says how strong each pair is. Reward models (perceptrons on the states of a
frozen tiny language model, which over-fit) are trained for a long time on labels that are dropped, flipped, softened,
given margins, or all of these, beside baselines: plain training, early stopping by pairs with the same noise, and the
mean of several models; two ways that no user has are shown for reference: known flips undone, and strengths by models
that learnt the pairs for long. Contrast (SimCSE, SwAV, with and without -diff) is added to plain training.
(b) MetaRM. A policy is tilted by best-of-n in three rounds by a reward model that is trained anew each round on the
same pairs; MetaRM sees unlabelled samples of the policy besides.

Choices: every arm has the same number of updates and six settings to choose from on worlds of their own, by clean
accuracy. One of the settings is weight decay, which the paper does not use; so all arms are compared once more without,
there with one setting each, which nothing has chosen.
Strengths are cross-fitted; the audit shows the paper's way beside it. Early stopping takes its validation pairs out of
the same 400. MetaRM's step is Adam's with the gradient at theta'; its second-order form is an arm; `plain, twice the
updates` has the computing time of MetaRM, `random direction` moves as far as it does, `descent` has the wrong sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.core.statistics import curve_band, mean_interval
from plaudit.zoo import secrets_rlhf_meta as meta
from plaudit.zoo import secrets_rlhf_noise as noise
from plaudit.zoo.contract import Arm, Criterion, Outcome, System
from plaudit.zoo.secrets_rlhf_drawing import draw

if TYPE_CHECKING:
    from plaudit.zoo.lab import Lab

ACCURACY, SHIFTED, RANKS = "accuracy on clean pairs", "accuracy, better writers", "Spearman of reward and gold"
BARE = "accuracy, no weight decay"


@dataclass(frozen=True, kw_only=True)
class SecretsConfig:
    """Options of the experiment."""

    seeds: int = 10
    """Worlds of the noise audit: a language model, pairs and labels each."""
    meta_seeds: int = 5
    """Worlds of MetaRM."""
    tuning: int = 2
    """Further worlds on which settings are chosen, in either part."""
    hidden: int = 48
    """Units of the tiny language model."""
    pretrain: int = 150
    """Updates by which it learns to write."""
    pairs: int = 400
    """Preferences that reward models are trained on."""
    many: int = 3000
    """Preferences of the audit by linear heads, and of the strength groups."""
    test: int = 2000
    """Clean pairs."""
    temperature: float = 0.3
    """Of the judges: how much better a reply has to be for a judge not to doubt."""
    flips: float = 0.25
    """The share of labels that is turned round."""
    noises: tuple[float, ...] = (0.0, 0.25, 0.4)
    """All shares at which arms are compared; `flips` is one of them."""
    members: int = 10
    """M of the ensembles."""
    folds: int = 5
    """Parts of cross-fitting."""
    averaged: int = 5
    """Reward models in the mean of several."""
    short: int = 25
    """Updates of models that measure strength."""
    steps: int = 400
    """Updates of reward models."""
    batch: int = 32
    """Pairs in an update."""
    lr: float = 3e-3
    """Step size, which falls to 0."""
    width: int = 64
    """Hidden units of reward models."""
    decays: tuple[float, ...] = (0.0, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1)
    """Weights of the squared parameters that arms choose from; those with a further setting from 0 and the fifth, in
    the second part from 0 and the second."""
    validation: float = 0.2
    """The share of the pairs that early stopping holds out."""
    every: int = 20
    """Updates between two looks at them."""
    rounds: int = 3
    """Rounds of policy optimisation."""
    best_of: int = 4
    """n of each round."""
    pool: int = 128
    """Replies to each prompt that policies choose from; as many are measured on."""
    samples: int = 8
    """k of MetaRM."""
    groups: int = 8
    """Prompts in a meta-step."""
    etas: tuple[float, ...] = (0.3, 1.0, 3.0)
    """Steps of MetaRM that are chosen from."""
    sweep: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Those of the figure."""

    def __post_init__(self) -> None:
        if self.flips not in self.noises or 0.0 not in self.noises:
            raise BadInput("config.noises", expected=f"shares with 0 and {self.flips:g} among them",
                           received=self.noises)
        if len(self.decays) != 6 or len(self.etas) != 3:
            raise BadInput("config.decays, config.etas", expected="six and three numbers, so that all arms have six "
                           "settings", received=(self.decays, self.etas))


def run(config: SecretsConfig, lab: Lab) -> Outcome:
    """Both parts."""
    lab.plan(2 + config.seeds + config.meta_seeds)
    chosen, steered = (lab.units(part.tune, {name: {}})[0] for part, name in (
        (noise, "settings, noise"), (meta, "settings, MetaRM")))
    audits = lab.units(noise.measure, {f"noise, seed {s}": {"seed": s, "chosen": chosen} for s in range(config.seeds)})
    rounds = lab.units(meta.measure, {f"MetaRM, seed {s}": {"seed": s, "chosen": steered}
                                      for s in range(config.meta_seeds)})
    arms, criteria, data = of_noise(config, audits, chosen)
    more, judged, extra = of_meta(config, rounds, steered)
    return Outcome(arms=[*arms, *more], criteria=[*criteria, *judged], data=data | extra)


# --- (a) ----------------------------------------------------------------------------------------------------------


def of_noise(config: SecretsConfig, found: Sequence[Mapping[str, Any]],
             chosen: Mapping[str, Mapping[str, int]]) -> tuple[list[Arm], list[Criterion], dict[str, Any]]:
    """Arms, criteria and curves of the noise audit."""
    main, clean = config.noises.index(config.flips), config.noises.index(0.0)

    def of(arm: str, metric: str = "ordinary", level: int = main) -> list[float]:
        if arm in noise.CONTRASTS:
            return [f["contrast"][arm][metric] for f in found]
        return [f["models"][arm][level][metric] for f in found]

    def less(a: str, b: str, level: int = main) -> Interval:
        return mean_interval(np.subtract(of(a, level=level), of(b, level=level)))

    def without(a: str, b: str) -> Interval:
        return mean_interval([f["no decay"][a]["ordinary"] - f["no decay"][b]["ordinary"] for f in found])

    names = [*found[0]["models"], *noise.CONTRASTS]
    arms = [Arm(name=name, metric=label, value=mean_interval(of(name, metric)), baseline=name in noise.BASELINES,
                note=said(noise.settings(config)[name][chosen["tuned"][name]]))
            for metric, label in (("ordinary", ACCURACY), ("better writers", SHIFTED), ("spearman", RANKS))
            for name in names]
    arms += [Arm(name=name, metric=f"{ACCURACY}, no flips", value=mean_interval(of(name, level=clean)),
                 baseline=name in noise.BASELINES) for name in found[0]["models"]]
    arms += [Arm(name=name, metric=BARE, value=mean_interval([f["no decay"][name]["ordinary"] for f in found]),
                 baseline=name in noise.BASELINES, note=said(noise.settings(config)[name][chosen["no decay"][name]]))
             for name in names]
    for name in noise.audit(config):
        for metric, label in (("flips", "area under ROC, flips"), ("wrong", "area under ROC, wrong labels"),
                              ("wrong in the lowest fifth", "wrong labels in the lowest fifth"),
                              ("against", "strengths below 0")):
            arms.append(Arm(name=f"strength, {name}", metric=label, baseline=name.startswith("seen"),
                            value=mean_interval([f["audit"][name][metric] for f in found])))
    many = mean_interval([f["many"]["flips"] for f in found])
    arms.append(Arm(name=f"strength, {config.many} pairs", metric="area under ROC, flips", value=many))
    seen = [f["audit"]["unseen, long"]["flips"] - f["audit"]["seen"]["flips"] for f in found]
    fifth = mean_interval([f["audit"]["unseen"]["wrong in the lowest fifth"] for f in found])
    criteria = [
        Criterion(says=f"area under ROC of finding flips by strength, {config.many} pairs", value=many, above=0.85),
        Criterion(says="share of wrong labels in the fifth of lowest strength", value=fifth, above=0.5),
        Criterion(says="area under ROC, models that did not see the pairs less such that did", above=0.0,
                  value=mean_interval(seen)),
        *(Criterion(says=f"{BARE}: {noise.ALL} less {other}", value=without(noise.ALL, other), above=0.0)
          for other in (noise.PLAIN, noise.DROP, noise.EARLY)),
        *(Criterion(says=f"{ACCURACY}: {noise.ALL} less {other}", value=less(noise.ALL, other), above=0.0)
          for other in (noise.PLAIN, noise.DROP, noise.EARLY)),
        Criterion(says=f"{ACCURACY}, no flips: {noise.ALL} less plain (the price)", above=-0.02,
                  value=less(noise.ALL, noise.PLAIN, clean))]
    data = {"noises": list(config.noises), "names": names,
            "by noise": {a: [_numbers(mean_interval(of(a, level=k))) for k in range(len(config.noises))]
                         for a in (noise.PLAIN, noise.EARLY, noise.ENSEMBLE, noise.DROP, noise.ALL)},
            "steps": found[0]["many"]["steps"], "lessons": np.mean([f["many"]["lessons"] for f in found], 0).tolist(),
            "wrong by group": [_numbers(mean_interval([f["many"]["groups"][g]["wrong"] for f in found]))
                               for g in range(10)],
            "mu by group": np.mean([[g["mu"] for g in f["many"]["groups"]] for f in found], 0).tolist(),
            "wrong labels": float(np.mean([f["audit"]["wrong labels"] for f in found]))}
    return arms, criteria, data


def said(setting: noise.Setting) -> str:
    """A setting in a few words."""
    how = setting.denoise
    parts = [f"{name} {getattr(how, name):g}" for name in ("drop", "flip", "smooth", "margin") if getattr(how, name)]
    parts += [f"beta {setting.beta:g}"] if setting.beta else []
    return ", ".join([*parts, f"decay {setting.decay:g}"])


# --- (b) ----------------------------------------------------------------------------------------------------------


def of_meta(config: SecretsConfig, found: Sequence[Mapping[str, Any]],
            chosen: Mapping[str, int]) -> tuple[list[Arm], list[Criterion], dict[str, Any]]:
    """Arms, criteria and curves of MetaRM."""

    def of(arm: str, metric: str, at: int = -1) -> list[float]:
        return [f["arms"][arm][metric][at] for f in found]

    def less(a: str, b: str, metric: str) -> Interval:
        return mean_interval(np.subtract(of(a, metric), of(b, metric)))

    base = (meta.PLAIN, meta.LONGER, meta.RANDOM, meta.DESCENT)
    labelled = {"own": "accuracy on the last policy's own samples", "common": "accuracy on those of the plain policy",
                "gold": "worth of the last policy", "scale": "spread of the rewards"}
    arms = list[Arm]()
    for metric, label in labelled.items():
        for arm in meta.ARMS:
            way = meta.ways(config)[arm][chosen[arm]]
            note = f"eta {way.eta:g}, decay {way.decay:g}" if way.eta else f"decay {way.decay:g}"
            arms.append(Arm(name=f"MetaRM: {arm}" if arm != meta.META else "MetaRM", metric=label,
                            value=mean_interval(of(arm, metric)), baseline=arm in base, note=note))
    decay = [np.subtract(of(a, "own", 0), of(a, "own")) for a in (meta.PLAIN, meta.META)]
    criteria = [
        Criterion(says="accuracy that the plain model loses over three rounds", value=mean_interval(decay[0]),
                  above=0.0),
        Criterion(says="of this, what MetaRM does not lose", value=mean_interval(decay[0] - decay[1]), above=0.0),
        *(Criterion(says=f"{labelled['own']}: MetaRM less {other}", value=less(meta.META, other, "own"), above=0.0)
          for other in (meta.LONGER, meta.RANDOM)),
        Criterion(says=f"{labelled['common']}: MetaRM less plain", value=less(meta.META, meta.PLAIN, "common"),
                  above=0.0),
        Criterion(says=f"{labelled['gold']}: MetaRM less plain", value=less(meta.META, meta.PLAIN, "gold"), above=0.0)]
    curves = {metric: {arm: _band([f["arms"][arm][metric] for f in found]) for arm in meta.ARMS}
              for metric in ("own", "gold")}
    sweep = {eta: {metric: _numbers(mean_interval([f["sweep"][eta][metric][-1] for f in found]))
                   for metric in ("own", "gold", "scale")} for eta in found[0]["sweep"]}
    return arms, criteria, {"rounds": curves, "sweep": sweep}


def _band(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    middle, low, high = curve_band(np.array(rows))
    return [np.round(x, 5).tolist() for x in (middle, low, high)]


def _numbers(value: Interval) -> list[float]:
    return [round(float(x), 5) for x in (value.mean, value.low, value.high)]


SYSTEM = System(
    number=56, name="secrets-rlhf-rm", title="Secrets of RLHF II: noisy preferences, and MetaRM", room="learn",
    claim="The vote of an ensemble finds wrong preferences, mostly in the fifth of lowest strength; reward models "
          "that are trained with these flipped, with soft labels and margins are more accurate than plain ones and "
          "than leaving them out; and MetaRM goes on telling samples apart as the policy moves away.",
    scales={"smoke": SecretsConfig(seeds=2, meta_seeds=2, tuning=1, hidden=8, pretrain=2, pairs=40, many=60, test=40,
                                   noises=(0.0, 0.25), members=2, averaged=2, folds=2, short=3, steps=6, every=3,
                                   rounds=2, pool=8, samples=3, groups=2, width=8, batch=8, sweep=(1.0,)),
            "small": SecretsConfig(),
            "paper": SecretsConfig(seeds=30, meta_seeds=30, tuning=10, hidden=256, pretrain=3000, pairs=4000,
                                   many=100_000, test=20_000, steps=4000, short=400, width=256, rounds=5, pool=1024)},
    run=run, draw=draw, any_device=True)
