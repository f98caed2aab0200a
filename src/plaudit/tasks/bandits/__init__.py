"""Bandits, with memory and without, batched over runs; logged decisions, and what another policy would have earned.

Example:
    >>> from plaudit.tasks.bandits import synthetic
    >>> synthetic().K
    6
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.core.lazy import attribute_of

if TYPE_CHECKING:
    from plaudit.tasks.bandits.causal import LinearSEM as LinearSEM
    from plaudit.tasks.bandits.causal import random_sem as random_sem
    from plaudit.tasks.bandits.causal import with_change as with_change
    from plaudit.tasks.bandits.delayed import Aggregated as Aggregated
    from plaudit.tasks.bandits.delayed import Delayed as Delayed
    from plaudit.tasks.bandits.dynamical import DynamicalLinear as DynamicalLinear
    from plaudit.tasks.bandits.dynamical import advertising as advertising
    from plaudit.tasks.bandits.dynamical import synthetic as synthetic
    from plaudit.tasks.bandits.linear import Contextual as Contextual
    from plaudit.tasks.bandits.linear import Linear as Linear
    from plaudit.tasks.bandits.logs import Log as Log
    from plaudit.tasks.bandits.offpolicy import compare as compare
    from plaudit.tasks.bandits.offpolicy import effective_rows as effective_rows
    from plaudit.tasks.bandits.offpolicy import evaluate as evaluate
    from plaudit.tasks.bandits.protocol import Bandit as Bandit
    from plaudit.tasks.bandits.protocol import Heard as Heard
    from plaudit.tasks.bandits.protocol import Pull as Pull
    from plaudit.tasks.bandits.replay import Replay as Replay
    from plaudit.tasks.bandits.stochastic import Bernoulli as Bernoulli
    from plaudit.tasks.bandits.stochastic import Changing as Changing
    from plaudit.tasks.bandits.stochastic import Gaussian as Gaussian
    from plaudit.tasks.bandits.switching import LastSwitch as LastSwitch

_HOME = {"Aggregated": "delayed", "Bandit": "protocol", "Bernoulli": "stochastic", "Changing": "stochastic",
         "Contextual": "linear", "Delayed": "delayed", "DynamicalLinear": "dynamical", "Gaussian": "stochastic",
         "Heard": "protocol", "LastSwitch": "switching", "Linear": "linear", "LinearSEM": "causal",
         "Log": "logs", "Pull": "protocol", "Replay": "replay",
         "advertising": "dynamical", "compare": "offpolicy", "effective_rows": "offpolicy", "evaluate": "offpolicy",
         "random_sem": "causal", "synthetic": "dynamical", "with_change": "causal"}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = attribute_of(__name__, _HOME)
