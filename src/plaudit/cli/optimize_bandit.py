"""`plaudit optimize bandit`: plays a bandit with a policy, or reads a log and says which arm to take."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Generator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from plaudit.cli.given import json_object
from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval, each_of

if TYPE_CHECKING:
    from plaudit.optimize.bandits.policies import Policy
    from plaudit.optimize.bandits.regret import RegretMeter
    from plaudit.tasks.bandits.logs import Log
    from plaudit.tasks.bandits.offpolicy import Estimator

_MOST_ARMS = 20
_PLAYING = ("algo", "rounds", "runs", "seed", "config", "task_kwargs")
_READING = ("arm", "reward", "propensity", "context", "estimator", "hold", "on_nan", "vanished")


@dataclass(frozen=True, kw_only=True)
class BanditArgs:
    """Plays a bandit with a policy, or reads a log of decisions and says which arm pays.

    Intervals hold at 95% for all policies, arms or pairs of arms at once (Bonferroni's correction), so also for those
    that stand out by the same numbers.

    Example: plaudit optimize bandit --algo dynlin-ucb --task advertising --rounds 50000 --config '{"scale": 0.1}'
    """

    algo: str = "ucb1"
    """dynlin-ucb, ucb1, sliding-ucb, linucb, d-linucb, beta-thompson, gaussian-thompson, linear-thompson, exp3,
    batch-exp3, ar2, csl-ucb, linsem-ts, golem-greedy, recent-ucb, switching-plan, switching-greedy, single-cycle,
    switching-commit, switching-optimist, block-ucb, fixed or random; several with commas between them."""
    task: str = "synthetic"
    """synthetic, advertising, bernoulli, gaussian, linear, contextual, changing, dynamical, causal, switching, delayed,
    aggregated, a file *.json or *.toml with `task` and its arguments, file.py:name of a bandit, or a log of decisions
    *.csv or *.parquet."""
    rounds: int = 10_000
    """Pulls in each run."""
    runs: int = 20
    """Runs, each with random numbers of its own."""
    seed: int = 0
    """The root of all randomness."""
    config: str = "{}"
    """Options of the policy, as JSON, such as '{"scale": 0.1}'; of several by name: '{"ucb1": {"scale": 2}}'."""
    task_kwargs: str = "{}"
    """Options of the bandit, as JSON, such as '{"means": [0.1, 0.3]}'."""
    out: Path | None = None
    """A folder for result.json and regret.png."""
    arm: str = "arm"
    """Log: the column of what was taken."""
    reward: str = "reward"
    """Log: the column of what it paid."""
    propensity: str = "propensity"
    """Log: the column of how likely that was; uniform where all arms were equally likely, none where nobody knows."""
    context: tuple[str, ...] = ()
    """Log: columns of numbers that were known before the choice."""
    estimator: Literal["ips", "snips", "dr", "dm"] = "dr"
    """Log: how an arm that is always taken is valued."""
    hold: int = 0
    """Log: leave out the first rows of each spell of one arm, so many, because effects come late."""
    on_nan: Literal["raise", "drop"] = "raise"
    """Log: what to do at a reward that is no number."""
    vanished: Literal["raise", "keep"] = "raise"
    """Log: what to do at an arm that vanishes in mid-log."""


def optimize_bandit(args: BanditArgs) -> int:
    """Runs the command; returns the exit code."""
    from plaudit.optimize.bandits.making import is_log, make_bandit

    if args.rounds < 1 or args.runs < 1 or args.hold < 0:
        raise BadInput("--rounds, --runs, --hold", expected="at least 1, 1 and 0",
                       received=(args.rounds, args.runs, args.hold))
    of_log = is_log(args.task)
    _refuse_options_of_the_other_mode(args, of_log=of_log)
    if of_log:
        if not Path(args.task).is_file():
            raise BadInput("--task", expected="a file that exists", received=args.task, fix="check the path")
        with _named_as_options():
            return _decide(args)
    bandit = make_bandit(args.task, options=json_object("--task-kwargs", args.task_kwargs))
    meters = _played(args, bandit, json_object("--config", args.config))
    confidence = each_of(len(meters))
    _save(args, {m.name: {"regret": m.final(confidence=confidence).to_json(), "curve": m.to_json()} for m in meters},
          meters)
    return 0


def _refuse_options_of_the_other_mode(args: BanditArgs, *, of_log: bool) -> None:
    others = _PLAYING if of_log else _READING
    given = [f"--{f.name.replace('_', '-')}" for f in fields(args)
             if f.name in others and getattr(args, f.name) != f.default]
    if given:
        raise BadInput(", ".join(given), expected=f"not set with --task {args.task}", received="set",
                       fix="a log is read, not played; Replay in Python plays a policy on it" if of_log else
                       "they are for logs of decisions (*.csv or *.parquet)")


def _played(args: BanditArgs, bandit: Any, options: dict[str, Any]) -> list[RegretMeter]:
    """Plays each policy and prints a line for it."""
    from plaudit.core.statistics import mean_interval
    from plaudit.optimize.bandits.making import make_policy
    from plaudit.optimize.bandits.regret import RegretMeter
    from plaudit.optimize.bandits.run import play

    names = [name.strip() for name in args.algo.split(",")]
    by_name = bool(options) and set(options) <= set(names)
    policies: list[Policy] = [make_policy(n, bandit, rounds=args.rounds, options=options.get(n) if by_name else options)
                              for n in names]
    console, meters, confidence = Console(highlight=False), [], each_of(len(names))
    table = Table(box=None, pad_edge=False)
    for title in ("policy", "reward a round", f"regret of {args.rounds:,} rounds", "slope", "most pulled at the end"):
        table.add_column(title)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for name, policy in zip(names, policies, strict=True):
            line = bar.add_task(name, total=1.0)
            history = play(bandit, policy, rounds=args.rounds, runs=args.runs, seed=args.seed,
                           progress=lambda done, text, line=line: bar.update(line, completed=done))
            meter = RegretMeter.of(history, name=name)
            meters.append(meter)
            late = np.bincount(history.arm_RT[:, -max(1, args.rounds // 10):].ravel(), minlength=history.K)
            arm = int(late.argmax())
            told = "" if bandit.arms_KD is None else f" {bandit.arms_KD[arm].round(3).tolist()}"
            paid = mean_interval(np.nanmean(history.reward_RT, 1), confidence=confidence)
            table.add_row(name, str(paid), str(meter.final(confidence=confidence)), _slope(meter),
                          f"arm {arm}{told} ({late[arm] / late.sum():.0%})")
    console.print(table)
    console.print(f"{args.runs} runs of {bandit.name}; regret against {bandit.comparator}; 95% intervals over runs"
                  f"{_at_once(len(names), 'policies')}")
    for note in dict.fromkeys(note for note in (bandit.note, *(p.note for p in policies)) if note):
        console.print(f"note: {note}")
    return meters


def _slope(meter: RegretMeter) -> str:
    try:
        return f"{meter.slope().mean:.2f}"
    except BadInput:
        return "none"


# --- logs -----------------------------------------------------------------------------------------------------


def _at_once(n: int, what: str) -> str:
    return "" if n == 1 else f" that hold for all {n} {what} at once (Bonferroni), so also for the best"


def _decide(args: BanditArgs) -> int:
    """Values every arm of a log, and says whether the best is ahead of every other."""
    log = _log(args)
    clusters = log.spell_N if args.hold else None
    settled = log
    if args.hold:
        settled = log.settled(args.hold)
        first = np.searchsorted(log.spell_N, log.spell_N)
        clusters = log.spell_N[np.arange(log.N) - first >= args.hold]
    pulled = np.bincount(settled.arm_N, minlength=log.K)
    values, ahead = valued(settled, estimator=args.estimator, clusters=clusters)
    order = list(values)
    table = Table(box=None, pad_edge=False)
    for title in ("arm", "rows", f"value if always taken ({args.estimator})"):
        table.add_column(title)
    for name in order[:_MOST_ARMS]:
        table.add_row(name, str(pulled[log.arms.index(name)]), str(values[name]))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{settled.N:,} of {log.N + log.dropped:,} rows; {log.dropped} left out for want of a reward; "
                  f"95% intervals{_at_once(len(order), 'arms')}")
    result: dict[str, Any] = {"values": {name: v.to_json() for name, v in values.items()}, "best": order[0]}
    if not ahead and math.isinf(values[order[0]].low):
        result["says"] = f"cannot tell what {order[0]} is worth: {_too_little(settled, [order[0]], clusters)}"
        console.print(result["says"])
    if ahead:
        other, least = next(iter(ahead.items()))
        sure = least.exceeds(0.0) is True
        says = f"take {order[0]}" if sure else "too close to tell; log more, or take either" \
            if math.isfinite(least.low) else f"cannot tell: {_too_little(settled, [order[0], other], clusters)}"
        pairs = math.comb(len(order), 2)
        result |= {"ahead": least.to_json(), "ahead_of": other, "sure": sure, "says": says,
                   "confidence": {"values": each_of(len(order)), "ahead": each_of(pairs)}}
        console.print(f"{order[0]} less {other}: {least}"
                      f"{f', an interval for all {pairs} pairs at once' if pairs > 1 else ''}: {says}")
    _save(args, result, [])
    return 0


def valued(log: Log, *, estimator: Estimator, clusters: Any = None) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """The value of each arm of a log, the best first, and that of the best less that of each other.

    Of the others the first is the one that the best is least surely ahead of: the lowest lower bound. Arms are chosen
    by the numbers that the intervals are made of, so those of all arms hold at once, and those of all pairs.
    """
    from plaudit.tasks.bandits.offpolicy import compare, evaluate

    taken = [name for k, name in enumerate(log.arms) if (log.arm_N == k).any()]
    found = {name: evaluate(log, name, estimator=estimator, clusters=clusters, confidence=each_of(len(taken)))
             for name in taken}
    best, *others = sorted(found, key=lambda name: -found[name].mean)
    ahead = {name: compare(log, best, name, estimator=estimator, clusters=clusters,
                           confidence=each_of(math.comb(len(taken), 2))) for name in others}
    return ({name: found[name] for name in (best, *others)},
            {name: ahead[name] for name in sorted(others, key=lambda name: ahead[name].low)})


@contextlib.contextmanager
def _named_as_options() -> Generator[None]:
    """Lets errors about a log name the options of the command instead of Python's arguments."""
    try:
        yield
    except BadInput as error:
        fix = error.fix.replace("propensity=None", "--propensity none").replace("None where", "none where")
        fix = re.sub(r"\b(propensity|on_nan|vanished)='(\w+)'",
                     lambda m: f"--{m[1].replace('_', '-')} {m[2]}", fix)
        raise BadInput(error.name, expected=error.expected, received=error.received, fix=fix) from error


def _too_little(log: Log, arms: list[str], clusters: Any) -> str:
    """Why these rows say nothing of an arm, or of the difference between two."""
    if not log.reward_N.any():
        return "all rewards are 0, so nothing says how far apart they may be"
    label_N = np.arange(log.N) if clusters is None else clusters
    times = {arm: len(set(label_N[log.arm_N == log.arms.index(arm)])) for arm in arms}
    arm = min(arms, key=lambda arm: times[arm])
    if times[arm] > 1:
        return f"the rows of {' or '.join(arms)} are too few for this estimator; log more"
    return f"{arm} was chosen once, and it takes twice at least to see how far its rewards lie apart; log more"


def _log(args: BanditArgs) -> Log:
    from plaudit.tasks.bandits.logs import Log

    return Log.read(args.task, arm=args.arm, reward=args.reward, context=args.context, on_nan=args.on_nan,
                    propensity=None if args.propensity == "none" else args.propensity, vanished=args.vanished)


def _save(args: BanditArgs, result: dict[str, Any], meters: list[RegretMeter]) -> None:
    if args.out is None:
        return
    from plaudit.core.checkpoint import replacing, write_text

    args.out.mkdir(parents=True, exist_ok=True)
    told = {"task": args.task, "algo": args.algo, "seed": args.seed, "rounds": args.rounds, "runs": args.runs}
    write_text(args.out / "result.json", json.dumps({**told, **result}, indent=1) + "\n")
    if meters:
        from matplotlib.figure import Figure

        from plaudit.optimize.bandits.regret import plot_regret

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        plot_regret(meters, figure.subplots())
        with replacing(args.out / "regret.png") as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    print(f"saved in {args.out}")
