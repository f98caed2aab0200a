"""plaudit: the library for rewards that no trainer owns.

A reward reads a batch of episodes and returns one number per step. Everything here loads when it is
first used, so that `import plaudit` costs next to nothing.

Example:
    >>> import plaudit, torch
    >>> def progress(obs, next_obs):
    ...     return next_obs[..., 0] - obs[..., 0]
    >>> episode = plaudit.Episodes.of_steps(obs=torch.zeros(3, 2), action=torch.zeros(3), next_obs=torch.ones(3, 2))
    >>> (2.0 * plaudit.reward(progress))(episode).tolist()
    [[2.0, 2.0, 2.0]]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.core.lazy import attribute_of

if TYPE_CHECKING:
    from plaudit.auditing.audit import audit as audit
    from plaudit.auditing.report.model import AuditReport as AuditReport
    from plaudit.core.algebra import Ensemble as Ensemble
    from plaudit.core.algebra import lexicographic as lexicographic
    from plaudit.core.algebra import maximum as maximum
    from plaudit.core.algebra import mean as mean
    from plaudit.core.algebra import minimum as minimum
    from plaudit.core.algebra import std as std
    from plaudit.core.algebra import total as total
    from plaudit.core.algebra import worst as worst
    from plaudit.core.check import check as check
    from plaudit.core.episodes import Episodes as Episodes
    from plaudit.core.errors import BadInput as BadInput
    from plaudit.core.errors import MissingExtra as MissingExtra
    from plaudit.core.errors import PlauditError as PlauditError
    from plaudit.core.errors import UnknownReward as UnknownReward
    from plaudit.core.errors import Unsupported as Unsupported
    from plaudit.core.functions import EnvReward as EnvReward
    from plaudit.core.functions import reward as reward
    from plaudit.core.needs import Needs as Needs
    from plaudit.core.reward import Reward as Reward
    from plaudit.core.saving import load_reward as load_reward
    from plaudit.core.saving import save_reward as save_reward
    from plaudit.core.score import Score as Score
    from plaudit.core.seeds import Seeds as Seeds
    from plaudit.optimize.maximise import maximise as maximise
    from plaudit.tasks.making import make as make
    from plaudit.tasks.rollouts import rollout as rollout

__version__ = "0.1.0"

_HOME = {
    "AuditReport": "auditing.report.model",
    "BadInput": "core.errors",
    "Ensemble": "core.algebra",
    "EnvReward": "core.functions",
    "Episodes": "core.episodes",
    "MissingExtra": "core.errors",
    "Needs": "core.needs",
    "PlauditError": "core.errors",
    "Reward": "core.reward",
    "Score": "core.score",
    "Seeds": "core.seeds",
    "UnknownReward": "core.errors",
    "Unsupported": "core.errors",
    "audit": "auditing.audit",
    "check": "core.check",
    "lexicographic": "core.algebra",
    "load_reward": "core.saving",
    "make": "tasks.making",
    "maximise": "optimize.maximise",
    "maximum": "core.algebra",
    "mean": "core.algebra",
    "minimum": "core.algebra",
    "reward": "core.functions",
    "rollout": "tasks.rollouts",
    "save_reward": "core.saving",
    "std": "core.algebra",
    "total": "core.algebra",
    "worst": "core.algebra",
}

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = attribute_of(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
