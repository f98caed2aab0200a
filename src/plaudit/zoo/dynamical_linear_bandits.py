"""07 Dynamical linear bandits (Mussi, Metelli and Restelli, ICML 2023, arXiv 2211.08997): DynLin-UCB.

Two parts. (1) The paper's protocol on its two systems, whose matrices its code gives in full, so nothing was fitted:
three budgets out of (1, 0.5, 0), so six arms; a synthetic system under three levels of noise, and one identified from
an advertising platform. Cumulative pseudo-regret J(u*) - J(u_t) of DynLin-UCB and all baselines, each with the same
rounds. (2) A system that is slow (spectral radius 0.8), and DynLin-UCB that believes in another rho.

Deviations from the authors' code, beside those that `plaudit.optimize.bandits` names: D-LinUCB discounts (theirs has
the bound of D-LinUCB on estimates that are never discounted); "LinUCB" and "D-LinUCB" have DynLin-UCB's own bounds
without the term of the transient, and "LinUCB, blind" the bound of who knows nothing of a state, as in their code. UCB1
stands beside the paper's baselines and takes no part in the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import difference_interval, mean_interval
from plaudit.optimize.bandits import (
    AR2,
    UCB1,
    BatchExp3,
    DLinUCB,
    DynLinBounds,
    DynLinUCB,
    Exp3,
    FixedArm,
    LinUCB,
    RegretMeter,
    batch_of,
    play,
)
from plaudit.optimize.bandits.policies import Policy
from plaudit.tasks.bandits.dynamical import DynamicalLinear, advertising, of_outputs, synthetic
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, PURPLE, band, panels, title
from plaudit.zoo.lab import Lab

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class DynamicalConfig:
    """Options of the experiment."""

    rounds: int = 50_000
    """Rounds of part 1."""
    seeds: int = 10
    """Runs of each arm."""
    sigmas: tuple[float, ...] = (0.001, 0.01, 0.1)
    """Noise of the synthetic system."""
    advertising_sigma: float = 0.01
    """Noise of the advertising system."""
    slow_rounds: int = 50_000
    """Rounds of part 2."""
    believed: tuple[float, ...] = (0.05, 0.2, 0.5, 0.8, 0.9)
    """What DynLin-UCB is told of the spectral radius in part 2; the truth is 0.8."""
    points: int = 80
    """Points of the curves."""


EXPERT = (1641952.0, 259591273.0, 716354611.0)
"""What the platform's experts spent on the three channels, from the authors' configuration."""
DYNLIN, DYNLIN_1 = "DynLin-UCB", "DynLin-UCB, ridge 1"
SCALED, UCB = "DynLin-UCB, a tenth of beta", "UCB1"
EXTRA = (DYNLIN_1, SCALED, UCB)
BASELINES = ("LinUCB", "LinUCB, ridge 1", "LinUCB, blind", "D-LinUCB", "D-LinUCB, ridge 1", "Exp3", "Batch-Exp3", "AR2",
             "Expert")
FINAL, ERROR = "regret, {}", "distance of the estimate from h, {}"
SLOW = "slow system"


def world(name: str, sigma: float) -> DynamicalLinear:
    """A system by name."""
    if name == SLOW:  # the synthetic system with a slow first channel and the same h
        return of_outputs(np.diag([0.8, 0, 0.1]), np.diag([0.1125, 0, 0.1]), np.diag([1.0, 0, 0.1]),
                          np.diag([0.0, 0.5, 0.1]), sigma=sigma, name=SLOW)
    return synthetic(sigma) if name == "synthetic" else advertising(sigma)


def expert_arm() -> np.ndarray:
    """The experts' spending, scaled to a total of 1.5 with at most 1 for each channel, as the authors' code does."""
    share, most = np.array(EXPERT) / sum(EXPERT), 1 / 1.5
    capped = share > most
    share[~capped] *= (1 - most * capped.sum()) / share[~capped].sum()
    return np.where(capped, most, share) * 1.5


def policy(name: str, bandit: DynamicalLinear, rounds: int) -> Policy:
    """An arm of part 1, with the constants of the authors' script."""
    bounds = DynLinBounds.of(bandit)
    own: dict[str, Any] = {"norm": bounds.c1, "sigma": bounds.sigma_bar}
    most = (bounds.theta + bounds.omega * bounds.b / (1 - bounds.rho)) * bounds.u
    span: dict[str, Any] = {"low": -2 * most, "high": 2 * most}
    made: dict[str, Policy] = {
        DYNLIN: DynLinUCB(bounds), DYNLIN_1: DynLinUCB(bounds, lam=1.0), SCALED: DynLinUCB(bounds, scale=0.1),
        "LinUCB": LinUCB(lam="log", **own), "LinUCB, ridge 1": LinUCB(lam=1.0, **own),
        "LinUCB, blind": LinUCB(lam=1.0, norm=bounds.theta, sigma=1.0, longest=1.5),
        "D-LinUCB": DLinUCB(discount=0.999999, lam="log", **own),
        "D-LinUCB, ridge 1": DLinUCB(discount=0.999999999, lam=1.0, **own),
        "Exp3": Exp3(**span), "Batch-Exp3": BatchExp3(batch=batch_of(rounds, bounds.rho), **span),
        "AR2": AR2(alpha=bounds.rho, sigma=bandit.state_noise), UCB: UCB1(), "Expert": FixedArm(0)}
    return made[name]


def one_arm(config: DynamicalConfig, seeds: Seeds, *, system: str, sigma: float, arm: str) -> dict[str, Any]:
    """All runs of one arm on one system."""
    bandit = world(system, sigma)
    best = bandit.best
    if arm == "Expert":
        bandit = DynamicalLinear(bandit.A, bandit.B, omega=bandit.omega, theta=bandit.theta, arms=[expert_arm()],
                                 state_noise=sigma, output_noise=bandit.output_noise)
        bandit.best = best
    chosen = policy(arm, bandit, config.rounds)
    history = play(bandit, chosen, rounds=config.rounds, runs=config.seeds,
                   seed=seeds.child(system, str(sigma)).integer())
    return _read(history, chosen, bandit, config.points)


def misspecified(config: DynamicalConfig, seeds: Seeds, *, believed: float) -> dict[str, Any]:
    """DynLin-UCB that is told another spectral radius than 0.8."""
    bandit = world(SLOW, 0.01)
    bounds = replace(DynLinBounds.of(bandit), rho=believed)
    chosen = DynLinUCB(bounds)
    history = play(bandit, chosen, rounds=config.slow_rounds, runs=config.seeds, seed=seeds.child(SLOW).integer())
    return _read(history, chosen, bandit, config.points)


def _read(history: Any, chosen: Policy, bandit: DynamicalLinear, points: int) -> dict[str, Any]:
    meter = RegretMeter.of(history, points=points)
    tail = bandit.best - history.mean_RT[:, -max(1, history.T // 10):]
    out: dict[str, Any] = {"final": meter.final_R.tolist(), "curve": meter.to_json(),
                           "best share": float((tail < 1e-9).mean())}
    if (meter.final_R > 0).all() and history.T >= 1000:
        slope = meter.slope()
        out["slope"] = [slope.mean, slope.low, slope.high, slope.n]
    ridge = getattr(chosen, "ridge", None)
    if ridge is not None:
        out["error"] = np.linalg.norm(ridge.h_RD - bandit.h_D, axis=1).tolist()
    return out


def run(config: DynamicalConfig, lab: Lab) -> Outcome:
    """Both parts."""
    systems = [("synthetic", s) for s in config.sigmas] + [("advertising", config.advertising_sigma)]
    jobs: dict[str, dict[str, Any]] = {}
    for system, sigma in systems:
        for arm in (DYNLIN, *EXTRA, *BASELINES):
            if arm != "Expert" or system == "advertising":
                jobs[f"{arm}, {_label(system, sigma)}"] = {"system": system, "sigma": sigma, "arm": arm}
    slow = {f"rho {b:g}, {SLOW}": {"believed": b} for b in config.believed}
    lab.plan(len(jobs) + len(slow))
    found = dict(zip(jobs, lab.units(one_arm, jobs), strict=True))
    believed = dict(zip(config.believed, lab.units(misspecified, slow), strict=True))
    arms, criteria, curves = [], [], {}
    for system, sigma in systems:
        label = _label(system, sigma)
        here = {j["arm"]: found[name] for name, j in jobs.items() if (j["system"], j["sigma"]) == (system, sigma)}
        arms += _arms(here, label)
        criteria += _criteria(here, label)
        curves[label] = {name: value["curve"] for name, value in here.items()}
    for b, value in believed.items():
        name = f"DynLin-UCB, told rho = {b:g}"
        arms += [Arm(name=name, metric=FINAL.format(SLOW), value=_same(value["final"]), note="the truth is 0.8"),
                 Arm(name=name, metric=ERROR.format(SLOW), value=_same(value["error"]), note="the truth is 0.8")]
    curves[SLOW] = {f"told rho = {b:g}": value["curve"] for b, value in believed.items()}
    shares = {name: value["best share"] for name, value in found.items()}
    return Outcome(arms=arms, criteria=criteria, data={"curves": curves, "share of best arm in the last tenth": shares})


def _label(system: str, sigma: float) -> str:
    return f"{system}, sigma {sigma:g}"


def _same(values: list[float]) -> Interval:
    return mean_interval(values)


def _arms(here: Mapping[str, Any], label: str) -> list[Arm]:
    out = [Arm(name=name, metric=FINAL.format(label), value=_same(value["final"]), baseline=name in (*BASELINES, UCB))
           for name, value in here.items()]
    return out + [Arm(name=name, metric=ERROR.format(label), value=_same(value["error"]), baseline=name in BASELINES)
                  for name, value in here.items() if "error" in value]


def _criteria(here: Mapping[str, Any], label: str) -> list[Criterion]:
    """DynLin-UCB against each baseline would repeat itself: the best one is the one to beat."""
    best = min((name for name in here if name in BASELINES), key=lambda name: float(np.mean(here[name]["final"])))
    out = [Criterion(says=f"{label}: regret of DynLin-UCB less that of the best baseline ({best})",
                     value=difference_interval(here[DYNLIN]["final"], here[best]["final"]), below=0.0)]
    if "slope" in here[DYNLIN]:
        out.append(Criterion(says=f"{label}: DynLin-UCB's slope on log-log axes over the last nine tenths",
                             value=Interval(*here[DYNLIN]["slope"]), below=1.0))
    return out


# --- the figure ----------------------------------------------------------------------------------------------

SHOWN = {DYNLIN: (BLUE, "-"), DYNLIN_1: (BLUE, "--"), SCALED: (BLUE, ":"), "LinUCB": (ORANGE, "-"),
         "LinUCB, ridge 1": (ORANGE, "--"), "LinUCB, blind": (ORANGE, ":"), "D-LinUCB": (PURPLE, "-"),
         "D-LinUCB, ridge 1": (PURPLE, "--"), "Exp3": (GREY, "-"), "Batch-Exp3": (GREY, "--"), "AR2": (GREEN, "-"),
         UCB: (INK, ":"), "Expert": (GREEN, "--")}


def draw(result: ZooResult) -> Figure:
    """Regret over rounds on each system, and under a wrong rho."""
    curves = result.data["curves"]
    figure, places = panels(14.5, 8.6, rows=2, columns=(len(curves) + 2) // 2, grid="both")
    for axes, (label, by_name) in zip(places, curves.items(), strict=False):
        top = 3 * by_name[DYNLIN]["mean"][-1] if DYNLIN in by_name else None
        for i, (name, curve) in enumerate(by_name.items()):
            colour, style = SHOWN.get(name, (f"C{i}", "-"))
            band(axes, curve["round"], curve["mean"], curve["low"], curve["high"], colour=colour, ls=style, label=name)
        title(axes, label)
        axes.set_xlabel("rounds")
        axes.set_ylabel("cumulative pseudo-regret")
        axes.set_ylim(0, top)
        if label == SLOW:
            axes.legend(**LEGEND, title="the truth is 0.8", title_fontsize=8)
    for axes in places[len(curves):]:
        axes.axis("off")
    handles, names = places[len(curves) - 2].get_legend_handles_labels()
    places[-1].legend(handles, names, frameon=False, fontsize=9, loc="center")
    places[-1].text(0.5, 0.02, f"mean over {result.seeds} runs, 95% band", ha="center", fontsize=8.5,
                    transform=places[-1].transAxes)
    return figure


SYSTEM = System(
    number=7, name="dynamical-linear-bandits", title="Dynamical linear bandits: DynLin-UCB", room="optimize",
    claim="Where the reward depends on a hidden state that past choices drive, a learner that holds each choice until "
          "the state has settled and is optimistic about what it then sees (DynLin-UCB) has less cumulative regret "
          "than LinUCB, D-LinUCB, Exp3, Batch-Exp3, AR2 and a fixed expert, on a synthetic system and on one "
          "identified from advertising data; its regret grows slower than the rounds.",
    scales={
        "smoke": DynamicalConfig(rounds=60, seeds=2, slow_rounds=60, sigmas=(0.01,), believed=(0.2, 0.8), points=10),
        "small": DynamicalConfig(),
        "paper": DynamicalConfig(rounds=1_000_000, slow_rounds=1_000_000),
    },
    run=run, draw=draw)
