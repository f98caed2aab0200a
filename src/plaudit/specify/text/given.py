"""Functions as users have them, as rewards: with arguments of our own, of TRL or of verl, and within limits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.specify.text.calling import parts_of
from plaudit.specify.text.engine import Reference
from plaudit.specify.text.functions import TextFunction, is_async, text_reward
from plaudit.specify.text.pool import Pool
from plaudit.specify.text.verifiers import Verifier

VERL = {"solution_str": "completion_text"}
"""What verl's `compute_score` calls a completion."""
SILENT: Mapping[str, Any] = {"data_source": "unknown", "extra_info": None}
"""What it is told where the data say nothing of it."""


def as_reward(thing: Callable[..., Any], *, time_limit_s: float | None = None) -> Reward:
    """A Reward as it is; a function as the reward that its arguments ask for.

    Args:
        thing: A Reward, or a function as `text_reward` takes it or as verl calls `compute_score`.
        time_limit_s: Limit on a call of a function, which native code does not heed; `within_limits` has a hard one.

    Example:
        >>> from plaudit.core.tokens import of_texts
        >>> def compute_score(data_source, solution_str, ground_truth, extra_info=None):
        ...     return float(solution_str == ground_truth)
        >>> as_reward(compute_score)(of_texts(["2 + 2?"] * 2, ["4", "5"], ground_truth=["4", "4"])).flatten().tolist()
        [1.0, 0.0]
    """
    if isinstance(thing, Reward):
        return thing
    try:
        parameters = inspect.signature(thing).parameters
    except (TypeError, ValueError):
        parameters = {}
    if not VERL.keys() <= parameters.keys():
        return text_reward(thing, time_limit_s=time_limit_s)
    silent = {n: v for n, v in SILENT.items() if n in parameters and parameters[n].default is inspect.Parameter.empty}
    return text_reward(functools.partial(thing, **silent) if silent else thing, time_limit_s=time_limit_s, columns=VERL)


def within_limits(reward: Reward, time_limit_s: float, *, workers: int = 2) -> Reward:
    """The reward, with its functions that have no limit yet in worker processes that are killed when they are late.

    An asynchronous function stays in this process, where many calls wait side by side, and so does one that another
    process cannot find, such as a lambda; both get a limit that native code does not heed. Verifiers that come with
    plaudit have their own.
    """
    pool: Pool | None = None
    for part in parts_of(reward):
        if not isinstance(part, TextFunction) or isinstance(part, Verifier) or part.pool or part.time_limit_s:
            continue
        try:
            Reference.to(part.fn)
            if is_async(part.fn):
                raise Unsupported("many calls of an asynchronous function wait in one process")
            pool = pool or Pool(workers=workers, time_limit_s=time_limit_s)
        except (BadInput, Unsupported):
            part.time_limit_s = time_limit_s
            continue
        part.pool = pool
        part.warm_up()
    return reward
