"""Policies and bandits by name, as the command line gives them."""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from plaudit.core.errors import BadInput, Unsupported
from plaudit.optimize.bandits.ar2 import AR2
from plaudit.optimize.bandits.causal import CSLUCB, CSLOptions
from plaudit.optimize.bandits.causal_baselines import GolemGreedy, LinSEMThompson, RecentUCB
from plaudit.optimize.bandits.dynamical import DynLinBounds, DynLinUCB
from plaudit.optimize.bandits.exp3 import BatchExp3, Exp3, batch_of
from plaudit.optimize.bandits.linear import DLinUCB, LinearThompson, LinUCB
from plaudit.optimize.bandits.policies import FixedArm, Policy, RandomArm
from plaudit.optimize.bandits.switching import SingleCycle, SwitchingGreedy, SwitchingPlan
from plaudit.optimize.bandits.switching_learning import BlockUCB, SwitchingCommit, SwitchingOptimist
from plaudit.optimize.bandits.thompson import BetaThompson, GaussianThompson
from plaudit.optimize.bandits.ucb import UCB1, SlidingUCB
from plaudit.tasks.bandits.causal import LinearSEM, random_sem, with_change
from plaudit.tasks.bandits.delayed import Aggregated, Delayed
from plaudit.tasks.bandits.dynamical import DynamicalLinear, advertising, synthetic
from plaudit.tasks.bandits.linear import Contextual, Linear
from plaudit.tasks.bandits.protocol import Bandit
from plaudit.tasks.bandits.stochastic import Bernoulli, Changing, Gaussian
from plaudit.tasks.bandits.switching import LastSwitch, trap


def _dynlin(bandit: Bandit, rounds: int, *, rho: float | None = None, **options: Any) -> Policy:
    return DynLinUCB(DynLinBounds.of(_dynamical(bandit, "dynlin-ucb"), rho=rho), **options)


def _batch(bandit: Bandit, rounds: int, *, batch: int | None = None, **options: Any) -> Policy:
    if batch is None:
        batch = batch_of(rounds, DynLinBounds.of(_dynamical(bandit, "batch-exp3 without a batch")).rho)
    return BatchExp3(batch=batch, **options)


def _ar2(bandit: Bandit, rounds: int, **options: Any) -> Policy:
    if isinstance(bandit, DynamicalLinear):
        options = {"alpha": DynLinBounds.of(bandit).rho, "sigma": bandit.state_noise, **options}
    return AR2(**options)


def _dynamical(bandit: Bandit, who: str) -> DynamicalLinear:
    if not isinstance(bandit, DynamicalLinear):
        raise Unsupported(f"{who} reads its constants off a dynamical linear bandit, and {bandit.name} is none")
    return bandit


def _csl(bandit: Bandit, rounds: int, **options: Any) -> Policy:
    return CSLUCB(CSLOptions(**options))


def _of(kind: Callable[..., Policy]) -> Callable[..., Policy]:
    return lambda bandit, rounds, **options: kind(**options)


def _causal(*, B: Any = None, B_prime: Any = None, change_at: int | None = None, change_columns: int = 1,
            seed: int = 0, **options: Any) -> Bandit:
    """A system that is given, or a random one (`nodes`, `family`, `seed`), which may change at a round."""
    if (B is None) != (B_prime is None):
        raise BadInput("B, B_prime", expected="both, or neither for a random system",
                       received=f"no {'B' if B is None else 'B_prime'}")
    system = random_sem(seed=seed, **options) if B is None else LinearSEM(B, B_prime, **options)
    return system if change_at is None else with_change(system, columns=change_columns, at=change_at, seed=seed)


def _switching(*, payoffs: Any = None, **options: Any) -> Bandit:
    """Payoffs [A, 2D] in the order -D, ..., -1, 1, ..., D; greed's trap where none are given."""
    return LastSwitch(trap() if payoffs is None else payoffs, **options)


def _around(kind: Callable[..., Bandit]) -> Callable[..., Bandit]:
    def made(*, of: Any, **options: Any) -> Bandit:  # whatever a file says
        return kind(described(of, "of"), **options)

    return made


POLICIES: dict[str, Callable[..., Policy]] = {
    "dynlin-ucb": _dynlin, "ucb1": _of(UCB1), "sliding-ucb": _of(SlidingUCB), "linucb": _of(LinUCB),
    "d-linucb": _of(DLinUCB), "beta-thompson": _of(BetaThompson), "gaussian-thompson": _of(GaussianThompson),
    "linear-thompson": _of(LinearThompson), "exp3": _of(Exp3), "batch-exp3": _batch, "ar2": _ar2,
    "csl-ucb": _csl, "linsem-ts": _of(LinSEMThompson), "golem-greedy": _of(GolemGreedy), "recent-ucb": _of(RecentUCB),
    "switching-plan": _of(SwitchingPlan), "switching-greedy": _of(SwitchingGreedy), "single-cycle": _of(SingleCycle),
    "switching-commit": _of(SwitchingCommit), "switching-optimist": _of(SwitchingOptimist), "block-ucb": _of(BlockUCB),
    "fixed": _of(FixedArm), "random": _of(RandomArm)}
BANDITS: dict[str, Callable[..., Bandit]] = {
    "synthetic": synthetic, "advertising": advertising, "bernoulli": Bernoulli, "gaussian": Gaussian,
    "linear": Linear, "contextual": Contextual, "changing": Changing, "dynamical": DynamicalLinear,
    "causal": _causal, "switching": _switching, "delayed": _around(Delayed), "aggregated": _around(Aggregated)}
EXAMPLES: dict[str, dict[str, Any]] = {
    "bernoulli": {"means": [0.1, 0.3]}, "gaussian": {"means": [0.0, 1.0]},
    "linear": {"arms": [[1, 0], [0, 1]], "weights": [0.2, 0.5]},
    "contextual": {"arms": 3, "weights": [0.2, 0.5]},
    "changing": {"means": [[0.1, 0.9], [0.9, 0.1]], "changes": [500]},
    "dynamical": {"A": [[0.5]], "B": [[1.0, 0.0]], "omega": [1.0], "theta": [0.0, 0.1], "arms": [[1, 0], [0, 1]]},
    "delayed": {"of": {"task": "bernoulli", "means": [0.1, 0.3]}, "chances": [0.5, 0.5]},
    "aggregated": {"of": {"task": "bernoulli", "means": [0.1, 0.3]}, "shares": [0.5, 0.5]}}
"""Arguments of the bandits that need some, for a message."""
_TAKES = {"causal": (LinearSEM, random_sem, _causal), "switching": (LastSwitch, _switching), "delayed": (Delayed,),
          "aggregated": (Aggregated,)}


def make_policy(name: str, bandit: Bandit, *, rounds: int, options: Mapping[str, Any] | None = None) -> Policy:
    """A policy by its name; `dynlin-ucb` and `ar2` read their constants off a dynamical bandit.

    Args:
        name: one of `POLICIES`.
        bandit: what will be played.
        rounds: how long.
        options: arguments of the policy.

    Raises:
        BadInput: for an unknown name or option, or one that is missing.
        Unsupported: where the constants cannot be read off this bandit.

    Example:
        >>> make_policy("dynlin-ucb", synthetic(), rounds=100, options={"scale": 0.1}).name
        'dynlin-ucb'
    """
    if name not in POLICIES:
        raise BadInput("algo", expected=f"one of {', '.join(POLICIES)}", received=name)
    return _called(POLICIES[name], name, (bandit, rounds), options)


def make_bandit(name: str, *, options: Mapping[str, Any] | None = None) -> Bandit:
    """A bandit by its name, from a file that describes one, or what `file.py:name` holds.

    Args:
        name: one of `BANDITS`; a file *.json or *.toml with `task` and its arguments; or `file.py:name` of a bandit or
            a function that makes one.
        options: arguments, which go before those of a file.

    Raises:
        BadInput: for an unknown name or option, a file that is no description, or a thing that is no bandit.

    Example:
        >>> make_bandit("bernoulli", options={"means": [0.1, 0.9]}).K
        2
    """
    from plaudit.core.targets import load_target, looks_like_target

    if name in BANDITS:
        return described({"task": name, **dict(options or {})}, name)
    if Path(name).suffix.lower() in _READERS:
        return described({**_read(Path(name)), **dict(options or {})}, name)
    if not looks_like_target(name):
        raise BadInput("task", expected=f"one of {', '.join(BANDITS)}, a log *.csv or *.parquet, a description *.json "
                       "or *.toml, or file.py:name", received=name)
    thing = load_target(name).thing
    bandit = thing if isinstance(thing, Bandit) else _called(thing, name, (), options) if callable(thing) else thing
    if not isinstance(bandit, Bandit):
        raise BadInput("task", expected="a Bandit, or a function that makes one", received=type(bandit).__name__)
    return bandit


def described(what: Any, where: str) -> Bandit:
    """The bandit of a description: its `task`, and the arguments of that.

    Args:
        what: a mapping, as JSON or TOML makes it.
        where: it stands, for messages.

    Raises:
        BadInput: for a task that is unknown, or arguments that it does not take.

    Example:
        >>> described({"task": "delayed", "of": {"task": "bernoulli", "means": [0.1, 0.9]}, "chances": [0, 1]}, "it").K
        2
    """
    task = what.get("task") if isinstance(what, Mapping) else None
    if not isinstance(task, str) or task not in BANDITS:
        raise BadInput(f"{where}: task", expected=f"one of {', '.join(BANDITS)}", received=task)
    options = {name: value for name, value in what.items() if name != "task"}
    known = {name for kind in _TAKES.get(task, (BANDITS[task],)) for name, given in
             inspect.signature(cast(Any, kind)).parameters.items() if given.kind is not given.VAR_KEYWORD}
    known = known - {"bandit"} | ({"of"} if task in ("delayed", "aggregated") else set())
    strange = [name for name in options if name not in known]
    if strange:
        raise BadInput(f"{where}: {strange[0]}", expected=f"an argument of {task}: {', '.join(sorted(known))}",
                       received=strange[0])
    last: Any = _TAKES.get(task, (BANDITS[task],))[-1]
    needed = ["of" if name == "bandit" else name for name, given in inspect.signature(last).parameters.items()
              if given.default is given.empty and given.kind is not given.VAR_KEYWORD]
    lacking = [name for name in needed if name not in options]
    if lacking:
        raise BadInput(f"{where}: {lacking[0]}", expected=f"the arguments of {task}: {', '.join(needed)}",
                       received="none", fix=f"pass --task-kwargs '{json.dumps(EXAMPLES[task])}' (in Python: options=)")
    return _called(BANDITS[task], task, (), options)


_READERS = {".json": json.loads, ".toml": tomllib.loads}


def _read(path: Path) -> dict[str, Any]:
    wrong = "a JSON or TOML object with `task` and its arguments"
    try:
        raw = _READERS[path.suffix.lower()](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput("task", expected="a file that can be read", received=f"{path} ({error.strerror})") from None
    except ValueError as error:  # of either format
        raise BadInput(str(path), expected=wrong, received=str(error)) from None
    if not isinstance(raw, dict):
        raise BadInput(str(path), expected=wrong, received=type(raw).__name__)
    return raw


def is_log(task: str) -> bool:
    """Whether a task is named by a file of logged decisions."""
    return Path(task).suffix.lower() in (".csv", ".parquet", ".pq")


def _called(make: Callable[..., Any], name: str, given: tuple[Any, ...], options: Mapping[str, Any] | None) -> Any:
    try:
        return make(*given, **dict(options or {}))
    except TypeError as error:
        raise BadInput(f"options of {name}", expected="arguments that it takes", received=str(error)) from None
