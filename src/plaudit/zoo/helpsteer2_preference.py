"""HelpSteer2-Preference: ratings, graded preferences, and one after the other on the same head (Wang et al. 2024).

Two experiments in a world of short texts where helpfulness is known. (1) One network under regression on ratings,
Bradley-Terry on grades (regular, margin, scaled by strength), regression and then each of these on the same head, and
the extrapolation of weights beyond the last step (ExPO), for two sizes of data and three balances of noise between
raters and graders. (2) A small writer aligned with the two-stage model by REINFORCE with a leave-one-out baseline and
by PPO, and on grades alone by DPO in its three forms.

Choices where the paper leaves them open, or is not followed: every recipe has the same number of updates and tries the
same number of step sizes, chosen on validation grades; strengths are divided by their mean, so that the scaled loss
does not win by a larger step (`normalise`); margins are in units of grades; the alpha of ExPO is searched from 1.0,
where it changes nothing; "similar noise" means that ratings and grades point the right way about equally often; each
way of aligning has its step size chosen out of three on a writer that does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.core.statistics import mean_interval, paired_test
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, Series, interval_rows, panels, title
from plaudit.zoo.helpsteer2_alignment import METHODS, START, aligned
from plaudit.zoo.helpsteer2_models import compare

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from plaudit.zoo.lab import Lab

NOISES = ("similar noise", "raters noisier", "graders noisier")
TWO, EXPO = "regression, then scaled", "regression, then scaled, ExPO"
METRICS = ("all", "hard", "unseen topics")


@dataclass(frozen=True, kw_only=True)
class HelpsteerConfig:
    """How large the experiment is, and the method's switches."""

    seeds: int = 10
    """Data sets with their networks."""
    sizes: tuple[int, ...] = (600, 3000)
    """Pairs of replies; other balances of noise than the first have the first size alone."""
    noises: tuple[tuple[float, float], ...] = ((0.8, 1.9), (1.4, 1.2), (0.4, 2.6))
    """Errors of raters and of graders, for each balance."""
    bias: float = 0.4
    """The spread of raters' own levels."""
    graders: int = 5
    """Grades of each pair, of which the three nearest count."""
    grade_steps: tuple[float, ...] = (0.25, 0.75, 1.5)
    """From which difference on a reply is slightly better, better, much better."""
    validation: float = 0.15
    """The share of pairs by which step sizes and alpha are chosen."""
    test: int = 500
    """Pairs of each test set."""
    hidden: tuple[int, ...] = (32,)
    """Hidden layers of the reward models."""
    batch: int = 64
    """Pairs in an update."""
    steps: int = 400
    """Updates of every recipe; two stages have half of them each."""
    rates: tuple[float, ...] = (3e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
    """Step sizes that a recipe of one stage tries."""
    first_rates: tuple[float, ...] = (1e-3, 4e-3, 1.6e-2)
    """Those of a first stage."""
    second_rates: tuple[float, ...] = (3e-4, 2e-3, 8e-3)
    """Those of a second stage."""
    alphas: tuple[float, ...] = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0)
    """ExPO's search."""
    normalise: bool = True
    """Strengths divided by their mean in the scaled losses."""
    align_seeds: int = 5
    """Writers in the second experiment; one more chooses step sizes."""
    align_pairs: int = 600
    """Pairs for the reward model, and for DPO."""
    align_steps: int = 60
    """Updates of each method: 64 texts, or 64 pairs."""
    align_rates: tuple[tuple[float, ...], tuple[float, ...]] = ((2e-3, 5e-3, 1e-2), (1e-3, 3e-3, 1e-2))
    """Step sizes to choose from: of RLOO and PPO, of DPO."""
    kl_price: float = 0.05
    """The KL penalty of RLOO and PPO, in spreads of the reward model a nat."""
    dpo_beta: float = 0.1
    """DPO's beta."""
    writer_hidden: int = 48
    """Units of the writers."""
    pretrain: int = 250
    """Updates by which they learn to write."""

    def __post_init__(self) -> None:
        if len(self.noises) != len(NOISES):
            raise BadInput("config.noises", expected=f"one for each of {', '.join(NOISES)}", received=self.noises)
        if self.alphas[0] != 1.0:
            raise BadInput("config.alphas", expected="a search from 1.0", received=self.alphas)


# --- the experiment ----------------------------------------------------------------------------------------


def run(config: HelpsteerConfig, lab: Lab) -> Outcome:
    """Both experiments."""
    models = {f"models, {n} pairs, {NOISES[i]}": {"n": n, "noise": list(config.noises[i])}
              for n in config.sizes for i in range(len(NOISES)) if i == 0 or n == config.sizes[0]}
    lab.plan(len(models) + 1 + config.align_seeds)
    found: dict[str, Any] = dict(zip(models, lab.units(compare, models), strict=True))
    tries = {m: list(config.align_rates[m.startswith("DPO")]) for m in METHODS}
    tuning, = lab.units(aligned, {"writer for step sizes": {"seed": "tuning", "rates": tries}})
    chosen = {m: tries[m][int(np.argmax([one["gold"] for one in tuning[m]]))] for m in METHODS}
    wrote = lab.units(aligned, {f"writer {i}": {"seed": i, "rates": {m: [lr] for m, lr in chosen.items()}}
                                for i in range(config.align_seeds)})
    arms, criteria = _of_models(config, found)
    more, judged = _of_writers(chosen, wrote)
    data = {"right": {k: {w: v[w] for w in ("ratings right", "grades right", "kept")} for k, v in found.items()},
            "models": {k: {r: {m: float(np.mean(x)) for m, x in by.items()} for r, by in v["accuracy"].items()}
                       for k, v in found.items()}, "chosen": chosen,
            "points": {m: [[w[m][0]["kl"], w[m][0]["gold"]] for w in wrote] for m in (START, *METHODS)}}
    return Outcome(arms=[*arms, *more], criteria=[*criteria, *judged], data=data)


def _of_models(config: HelpsteerConfig, found: Mapping[str, Any]) -> tuple[list[Arm], list[Criterion]]:
    arms, criteria = list[Arm](), list[Criterion]()
    for where, unit in found.items():
        for recipe, by in unit["accuracy"].items():
            arms += [Arm(name=recipe, metric=f"{where.removeprefix('models, ')}: {m}", value=mean_interval(by[m]),
                         baseline="then" not in recipe) for m in METRICS]
    # sizes are averaged seed by seed: the same seed has the same test pairs
    similar = [found[f"models, {n} pairs, {NOISES[0]}"]["accuracy"] for n in config.sizes]
    of = lambda recipe: np.mean([a[recipe]["all"] for a in similar], 0)  # noqa: E731
    claims = [("scaled less regular", "scaled", "regular"), ("scaled less margin", "scaled", "margin"),
              ("regression, then scaled, less regression alone", TWO, "regression"),
              ("regression, then scaled, less scaled alone", TWO, "scaled"),
              ("regression, then scaled, less regression, then regular", TWO, "regression, then regular"),
              ("ExPO less none", EXPO, TWO)]
    for says, a, b in claims:
        criteria.append(Criterion(says=f"Accuracy, similar noise: {says}",
                                  value=paired_test(of(a), of(b)).difference, above=0.0))
    return arms, criteria


def _of_writers(chosen: Mapping[str, float],
                wrote: Sequence[Mapping[str, Any]]) -> tuple[list[Arm], list[Criterion]]:
    table = {m: {k: [w[m][0][k] for w in wrote] for k in ("gold", "proxy", "kl", "length")}
             for m in (START, *METHODS)}
    arms = [Arm(name=m, metric=f"Writer: {k}", value=mean_interval(table[m][k]), baseline=m != "RLOO",
                note=f"step size {chosen[m]:g}" if m in chosen else "")
            for k in ("gold", "proxy", "kl", "length") for m in table]
    criteria = [Criterion(says=f"Writer, helpfulness: RLOO less {m}",
                          value=paired_test(table["RLOO"]["gold"], table[m]["gold"]).difference, above=0.0)
                for m in METHODS if m != "RLOO"]
    return arms, criteria


# --- the figure --------------------------------------------------------------------------------------------

SHORT = {"regression": "regression", "regression, all attributes": "regression, all attributes",
         "regular, rating differences": "BT on rating differences", "regular": "BT regular", "margin": "BT margin",
         "scaled": "BT scaled", "regression, then regular": "regression, BT regular",
         "regression, then margin": "regression, BT margin", TWO: "regression, BT scaled",
         EXPO: "regression, BT scaled, ExPO", "regression, then scaled, alpha 1.5": "the same, alpha 1.5"}
COLOURS = {"RLOO": BLUE, "PPO": INK, "DPO regular": GREY, "DPO margin": GREEN, "DPO scaled": ORANGE,
           START: "#c0c6ca"}


def draw(result: ZooResult) -> Figure:
    """The recipes at both sizes, the balances of noise, and the writers."""
    figure, (left, middle, right) = panels(14.5, 5.2, columns=3, widths=(1.25, 1, 0.9), grid="both")
    _draw_recipes(left, result)
    _draw_noises(middle, result)
    _draw_writers(right, result)
    return figure


def _draw_recipes(axes: Axes, result: ZooResult) -> None:
    interval_rows(axes, list(SHORT.values()), *(
        Series(values=[result.arm(recipe, f"{n} pairs, {NOISES[0]}: all").value for recipe in SHORT], colour=colour,
               label=f"{n} pairs") for n, colour in zip(result.config["sizes"], (GREY, BLUE), strict=False)))
    axes.set_xlabel(f"accuracy on held-out pairs, {result.seeds} seeds, 95% interval")
    axes.legend(**LEGEND)
    title(axes, "Reward models, similar noise")


def _draw_noises(axes: Axes, result: ZooResult) -> None:
    n = result.config["sizes"][0]
    for recipe, colour in (("regression", GREY), ("regular", INK), ("scaled", ORANGE), (TWO, BLUE)):
        means = [result.arm(recipe, f"{n} pairs, {noise}: all").value.mean for noise in NOISES]
        axes.plot(range(len(NOISES)), means, "o-", color=colour, ms=5, label=SHORT[recipe])
    axes.set_xticks(range(len(NOISES)), NOISES)
    axes.set_ylabel(f"accuracy, {n} pairs")
    axes.legend(**LEGEND)
    title(axes, "Who is noisier decides")


def _draw_writers(axes: Axes, result: ZooResult) -> None:
    for method, points in result.data["points"].items():
        axes.plot(*zip(*points, strict=True), "o", color=COLOURS[method], ms=5.5, label=method)
    axes.set_xlabel("KL to the writer before, nats")
    axes.set_ylabel("helpfulness (gold)")
    axes.legend(**LEGEND)
    title(axes, "Aligned writers, one dot a seed")


SYSTEM = System(
    number=61, name="helpsteer2-preference", title="HelpSteer2-Preference: ratings, then graded preferences",
    room="learn",
    claim="Bradley-Terry scaled by strength beats the regular and the margin loss; regression on ratings and then "
          "scaled Bradley-Terry on the same head beats either alone; extrapolating the weights adds to that; and "
          "REINFORCE with a leave-one-out baseline aligns a policy better with the model than PPO, or than DPO.",
    scales={
        "smoke": HelpsteerConfig(seeds=2, sizes=(60,), hidden=(8,), steps=4, rates=(1e-3, 4e-3), first_rates=(1e-3,),
                                 second_rates=(1e-3,), test=40, align_seeds=2, align_pairs=60, align_steps=1,
                                 align_rates=((2e-3,), (2e-3,)), writer_hidden=8, pretrain=2),
        "small": HelpsteerConfig(),
        "paper": HelpsteerConfig(seeds=30, sizes=(600, 7000), hidden=(256, 256), steps=4000, align_seeds=10,
                                 align_pairs=7000, align_steps=1000, writer_hidden=256, pretrain=3000),
    },
    run=run, draw=draw, any_device=True)
