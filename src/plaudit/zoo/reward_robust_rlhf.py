"""Reward-robust RLHF: optimise a mix of a nominal reward and the worst of an ensemble (Yan et al. 2024).

r = lambda r_nom + (1 - lambda) r_rob: five Gaussian heads copy reward models that were each fitted to a shard of the
preferences; r_nom is the mean of the head that is surest of a response, r_rob the lowest mean. Two experiments:
(1) tables of 8 prompts and 8 responses of which 3 are never compared, where the best policy under the KL penalty is a
closed form, so nothing but the reward differs; (2) short texts with 200 preferences of which a quarter are wrong,
best-of-n and RLOO with gold beside.

Choices where the paper leaves them open, or is not followed: heads are centred on the covered responses of each prompt
and scaled (`centre`), because the offset of a Bradley-Terry reward is arbitrary and a minimum over heads would pick
the lowest one; sigma is fitted by the Gaussian likelihood (`stage_two="nll"`), as under the paper's squared error it
falls to 0; every arm of the tables has six settings to choose from, on worlds of their own (baselines: the price of
KL; UWO: its penalty; the mix: lambda); the minimum stands inside the expectation, and `min of means` shows it outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.core.statistics import mean_interval, paired_test
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, PURPLE, Series, interval_rows, panels, title
from plaudit.zoo.reward_robust_text import ARMS, text
from plaudit.zoo.reward_robust_toy import BAD, GAPS, NONE, SCENARIOS, SINGLE, WILD, toy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from plaudit.zoo.lab import Lab

MIX = "robust mix"


@dataclass(frozen=True, kw_only=True)
class RobustConfig:
    """How large the experiment is, and the method's switches."""

    seeds: int = 8
    """Policies with their preferences in the text experiment."""
    worlds: int = 30
    """Tables in each scenario; as many again for choosing settings."""
    prompts: int = 8
    """Prompts of a table."""
    responses: int = 8
    """Responses to each."""
    uncovered: int = 3
    """How many of them are never compared."""
    bad: float = 2.0
    """How much worse they are than the others, where they are bad."""
    pairs: int = 40
    """Comparisons for each prompt."""
    sharpness: float = 2.0
    """How much the judge minds a difference of gold."""
    initial: float = 2.0
    """The spread of an untrained reward table: about that of a trained one."""
    wild: float = 6.0
    """The same under wild extrapolation."""
    heads: int = 5
    """H; 1 has no worst case to speak of."""
    targets: Literal["own", "shared"] = "own"
    """What each head copies: a reward model on its own shard, or one model for all (as one reading of the paper)."""
    stage_two: Literal["nll", "mse"] = "nll"
    """How the Gaussian heads are fitted; `mse` is the paper's."""
    centre: Literal["prompt", "global", "none"] = "prompt"
    """Where each head of a table has the mean 0."""
    reward_lr: float = 0.1
    """Step size of the tables."""
    reward_updates: int = 200
    """Updates of each stage."""
    beta: float = 0.05
    """The price of KL."""
    betas: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    """What the arms without a setting choose from."""
    penalties: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
    """What UWO chooses from: mean less this times the variance."""
    mixes: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Lambdas: 1 is the nominal reward alone, 0 the worst case alone."""
    kl: float = 1.0
    """Nats at which the whole sweep is compared once more."""
    exact_updates: int = 300
    """Gradient steps where the best policy has no closed form (the minimum outside the expectation)."""
    hidden: int = 48
    """Units of the writers."""
    pretrain: int = 250
    """Updates by which they learn to write."""
    width: int = 64
    """Random features of the frozen backbone."""
    text_pairs: int = 200
    """Preferences between texts."""
    flips: float = 0.25
    """The share of them that is wrong."""
    head_lr: float = 0.02
    """Step size of the heads."""
    head_updates: int = 300
    """Updates of each stage."""
    text_mix: float = 0.4
    """Lambda for texts, not tuned there."""
    text_penalty: float = 0.5
    """UWO's penalty for texts, not tuned there."""
    pool: int = 128
    """Texts of each prompt for best-of-n."""
    algo: Literal["rloo", "ppo"] = "rloo"
    """What optimises the texts."""
    rl_steps: int = 80
    """Its steps of 64 texts."""
    rl_lr: float = 0.005
    """Its step size."""
    rl_kl: float = 6.0
    """The KL in nats at which the penalty holds every arm."""

    def __post_init__(self) -> None:
        if not all(0 <= v <= 1 for v in self.mixes) or not 0 <= self.text_mix <= 1:
            raise BadInput("config.mixes", expected="numbers in [0, 1]", received=(*self.mixes, self.text_mix))
        if self.heads < 1 or not 0 <= self.uncovered <= self.responses - 2:
            raise BadInput("config.heads, config.uncovered", expected="1 or more heads, 2 or more covered responses",
                           received=(self.heads, self.uncovered))


# --- the experiment ----------------------------------------------------------------------------------------


def run(config: RobustConfig, lab: Lab) -> Outcome:
    """Both experiments."""
    tables = {f"tables, {s}": {"scenario": s} for s in SCENARIOS}
    texts = {f"texts, seed {i}": {"seed": i} for i in range(config.seeds)}
    lab.plan(len(tables) + len(texts))
    found: dict[str, Any] = dict(zip(SCENARIOS, lab.units(toy, tables), strict=True))
    wrote = lab.units(text, texts)
    arms, criteria = _of_tables(found)
    more, judged = _of_texts(wrote)
    data = {"sweep": {s: {kind: {k: float(np.mean(v)) for k, v in found[s][kind].items()}
                          for kind in ("one beta", "one kl", "min of means")} for s in SCENARIOS},
            "usage": {s: found[s]["usage"] for s in SCENARIOS}, "n": wrote[0]["single"]["n"],
            "chosen": {s: {a: [v["setting"], v["beta"], v["kl"]] for a, v in found[s]["tuned"].items()}
                       for s in SCENARIOS},
            "best of n": {arm: {kind: np.mean([w[arm][f"best of n, {kind}"] for w in wrote], 0).tolist()
                                for kind in ("gold", "proxy")} for arm in ARMS}}
    return Outcome(arms=[*arms, *more], criteria=[*criteria, *judged], data=data)


def _of_tables(found: Mapping[str, Any]) -> tuple[list[Arm], list[Criterion]]:
    arms, criteria = list[Arm](), list[Criterion]()
    earned = {s: {arm: np.array(v["earned"]) for arm, v in found[s]["tuned"].items()} for s in SCENARIOS}
    for scenario in SCENARIOS:
        for arm, values in earned[scenario].items():
            tuned = found[scenario]["tuned"][arm]
            note = f"lambda {tuned['setting']:g}" if arm == MIX else f"beta {tuned['beta']:g}"
            arms.append(Arm(name=arm, metric=f"Tables, {scenario}: gold return", value=mean_interval(values),
                            baseline=arm != MIX, note=note))
    less = lambda s, other: paired_test(earned[s][MIX], earned[s][other]).difference  # noqa: E731
    for scenario in (GAPS, WILD, BAD):
        criteria.append(Criterion(says=f"Tables, {scenario}: gold return, robust mix less a single reward model",
                                  value=less(scenario, SINGLE), above=0.0))
    criteria.append(Criterion(says="Tables, no gap: robust mix less a single reward model (the price)",
                              value=less(NONE, SINGLE), above=-0.1))
    pooled = np.mean([earned[s][MIX] - earned[s]["mean"] for s in (GAPS, WILD, BAD)], 0)
    criteria.append(Criterion(says="Tables, mean of the three with gaps: robust mix less the mean of the heads",
                              value=mean_interval(pooled), above=0.0))
    return arms, criteria


def _of_texts(wrote: Sequence[Mapping[str, Any]]) -> tuple[list[Arm], list[Criterion]]:
    arms, criteria = list[Arm](), list[Criterion]()
    table = {arm: {"best of n, gold": [w[arm]["best of n, gold"][-1] for w in wrote],
                   "best of n, gap": [w[arm]["best of n, proxy"][-1] - w[arm]["best of n, gold"][-1] for w in wrote],
                   "RL, gold": [w[arm]["rl gold"] for w in wrote],
                   "RL, gap": [w[arm]["rl proxy"] - w[arm]["rl gold"] for w in wrote],
                   "RL, KL": [w[arm]["kl"] for w in wrote], "RL, length": [w[arm]["length"] for w in wrote]}
             for arm in ARMS}
    for metric in table[MIX]:
        arms += [Arm(name=arm, metric=f"Texts: {metric}", value=mean_interval(table[arm][metric]),
                     baseline=arm != MIX) for arm in ARMS]
    less = lambda metric, a, b: paired_test(table[a][metric], table[b][metric]).difference  # noqa: E731
    for name, what in (("best of n", "best of n"), ("RL", "RL")):
        criteria.append(Criterion(says=f"Texts, {what}: gap between proxy and gold, a single reward model less the "
                                       "robust mix", value=less(f"{name}, gap", SINGLE, MIX), above=0.0))
        criteria.append(Criterion(says=f"Texts, {what}: gold, robust mix less a single reward model",
                                  value=less(f"{name}, gold", MIX, SINGLE), above=0.0))
    return arms, criteria


# --- the figure --------------------------------------------------------------------------------------------

COLOURS = {MIX: BLUE, SINGLE: ORANGE, "mean": INK, "min": GREEN, "UWO": PURPLE, "nominal": GREY}


def draw(result: ZooResult) -> Figure:
    """Tables with their intervals, the sweep of lambda, best-of-n on texts, RL on texts."""
    figure, (tables, sweep, best_of, texts) = panels(13.5, 7.4, rows=2, columns=2, grid="both")
    _draw_tables(tables, result)
    _draw_sweep(sweep, result)
    _draw_best_of(best_of, result)
    _draw_texts(texts, result)
    return figure


def _draw_tables(axes: Axes, result: ZooResult) -> None:
    names = [a.name for a in result.arms if a.metric == f"Tables, {GAPS}: gold return"]
    interval_rows(axes, SCENARIOS, *(
        Series(values=[result.arm(name, f"Tables, {scenario}: gold return").value for scenario in SCENARIOS],
               colour=COLOURS[name], label=name) for name in names), apart=0.13)
    axes.set_xlabel("gold return, 0 = reference, 1 = best response")
    axes.legend(**LEGEND, loc="lower left")
    title(axes, "Tables: each arm at its best of six settings")


def _draw_sweep(axes: Axes, result: ZooResult) -> None:
    mixes = result.config["mixes"]
    for scenario, colour in zip(SCENARIOS, (BLUE, ORANGE, GREEN, INK), strict=True):
        sweep = result.data["sweep"][scenario]["one beta"]
        axes.plot(mixes, [sweep[f"mix {v:g}"] for v in mixes], "o-", color=colour, ms=4, label=scenario)
        axes.axhline(sweep[SINGLE], color=colour, lw=1, ls=":")
    axes.set_xlabel("lambda: 0 the worst head, 1 the surest head (dotted: a single reward model)")
    axes.legend(**LEGEND)
    title(axes, "Tables: the mix, at one price of KL")


def _draw_best_of(axes: Axes, result: ZooResult) -> None:
    for arm, curves in result.data["best of n"].items():
        axes.plot(result.data["n"], curves["gold"], "o-", color=COLOURS[arm], ms=4, label=arm)
        axes.plot(result.data["n"], curves["proxy"], color=COLOURS[arm], lw=1, ls=":")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("n of best-of-n (dotted: what the proxy says)")
    axes.set_ylabel("gain, in spreads of the reference")
    axes.legend(**LEGEND)
    title(axes, "Texts: gold and proxy over n")


def _draw_texts(axes: Axes, result: ZooResult) -> None:
    interval_rows(axes, ARMS, *(
        Series(values=[result.arm(arm, f"Texts: {metric}").value for arm in ARMS], hollow=metric == "RL, gap",
               colour=[COLOURS[arm] for arm in ARMS]) for metric in ("RL, gold", "RL, gap")))
    axes.set_xlabel("filled: gold; hollow: proxy less gold (spreads of the reference)")
    title(axes, f"Texts: after {result.config['algo'].upper()}")


SYSTEM = System(
    number=66, name="reward-robust-rlhf", title="Reward-robust RLHF: a mix of nominal and worst-case reward",
    room="learn",
    claim="Optimising a mix of the surest head's reward and the worst head's of a Gaussian ensemble earns more gold "
          "than a single reward model where that model extrapolates wrongly, costs little where it does not, and "
          "narrows the gap between proxy and gold.",
    scales={
        "smoke": RobustConfig(seeds=2, worlds=3, pairs=8, reward_updates=10, exact_updates=5, hidden=8, pretrain=2,
                              width=16, text_pairs=30, head_updates=10, pool=8, rl_steps=1),
        "small": RobustConfig(),
        "paper": RobustConfig(seeds=20, worlds=200, hidden=256, pretrain=3000, text_pairs=2000, pool=256,
                              rl_steps=800),
    },
    run=run, draw=draw, any_device=True)
