"""Policies that choose arms, what they earn and what they lose: learners for bandits, their histories, their regret.

Example:
    >>> from plaudit.optimize.bandits import RegretMeter, UCB1, play
    >>> from plaudit.tasks.bandits import Bernoulli
    >>> RegretMeter.of(play(Bernoulli([0.2, 0.9]), UCB1(), rounds=100, runs=4, seed=0)).final_R.shape
    (4,)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.core.lazy import attribute_of

if TYPE_CHECKING:
    from plaudit.optimize.bandits.ar2 import AR2 as AR2
    from plaudit.optimize.bandits.causal import CSLUCB as CSLUCB
    from plaudit.optimize.bandits.causal import CSLOptions as CSLOptions
    from plaudit.optimize.bandits.causal_baselines import GolemGreedy as GolemGreedy
    from plaudit.optimize.bandits.causal_baselines import LinSEMThompson as LinSEMThompson
    from plaudit.optimize.bandits.causal_baselines import RecentUCB as RecentUCB
    from plaudit.optimize.bandits.dynamical import DynLinBounds as DynLinBounds
    from plaudit.optimize.bandits.dynamical import DynLinUCB as DynLinUCB
    from plaudit.optimize.bandits.dynamical import epoch_ends as epoch_ends
    from plaudit.optimize.bandits.exp3 import BatchExp3 as BatchExp3
    from plaudit.optimize.bandits.exp3 import Exp3 as Exp3
    from plaudit.optimize.bandits.exp3 import batch_of as batch_of
    from plaudit.optimize.bandits.history import BanditHistory as BanditHistory
    from plaudit.optimize.bandits.linear import DLinUCB as DLinUCB
    from plaudit.optimize.bandits.linear import LinearThompson as LinearThompson
    from plaudit.optimize.bandits.linear import LinUCB as LinUCB
    from plaudit.optimize.bandits.policies import FixedArm as FixedArm
    from plaudit.optimize.bandits.policies import Policy as Policy
    from plaudit.optimize.bandits.policies import RandomArm as RandomArm
    from plaudit.optimize.bandits.regret import RegretMeter as RegretMeter
    from plaudit.optimize.bandits.regret import plot_regret as plot_regret
    from plaudit.optimize.bandits.run import play as play
    from plaudit.optimize.bandits.switching import SingleCycle as SingleCycle
    from plaudit.optimize.bandits.switching import SwitchingGreedy as SwitchingGreedy
    from plaudit.optimize.bandits.switching import SwitchingPlan as SwitchingPlan
    from plaudit.optimize.bandits.switching_learning import BlockUCB as BlockUCB
    from plaudit.optimize.bandits.switching_learning import SwitchingCommit as SwitchingCommit
    from plaudit.optimize.bandits.switching_learning import SwitchingOptimist as SwitchingOptimist
    from plaudit.optimize.bandits.thompson import BetaThompson as BetaThompson
    from plaudit.optimize.bandits.thompson import GaussianThompson as GaussianThompson
    from plaudit.optimize.bandits.ucb import UCB1 as UCB1
    from plaudit.optimize.bandits.ucb import SlidingUCB as SlidingUCB

_HOME = {"AR2": "ar2", "BanditHistory": "history", "BatchExp3": "exp3", "BetaThompson": "thompson",
         "BlockUCB": "switching_learning", "CSLOptions": "causal", "CSLUCB": "causal",
         "DLinUCB": "linear", "DynLinBounds": "dynamical", "DynLinUCB": "dynamical", "Exp3": "exp3",
         "FixedArm": "policies", "GaussianThompson": "thompson", "GolemGreedy": "causal_baselines",
         "LinSEMThompson": "causal_baselines", "LinUCB": "linear", "LinearThompson": "linear",
         "Policy": "policies", "RandomArm": "policies", "RecentUCB": "causal_baselines",
         "RegretMeter": "regret", "SingleCycle": "switching",
         "SlidingUCB": "ucb",
         "SwitchingCommit": "switching_learning", "SwitchingGreedy": "switching",
         "SwitchingOptimist": "switching_learning", "SwitchingPlan": "switching", "UCB1": "ucb",
         "batch_of": "exp3", "epoch_ends": "dynamical", "play": "run", "plot_regret": "regret"}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = attribute_of(__name__, _HOME)
