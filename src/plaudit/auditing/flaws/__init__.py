"""The flaw collection: planted flaws, each with its healthy twin on the same task and a statement of intent.

What a check is worth is measured here: which flaws it finds, and how often it cries wolf on a twin. Each module
holds one template; its `reward`, `healthy` and `intended` are plain functions, so that
`plaudit audit plaudit.auditing.flaws.boat_race:reward --env plaudit.auditing.flaws.boat_race:task
--intent plaudit.auditing.flaws.boat_race:intended:any` audits it like a reward of one's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from plaudit.auditing.flaws.batch_norm import normalised_over_batch
from plaudit.auditing.flaws.boat_race import farmed_checkpoints
from plaudit.auditing.flaws.dirt import refillable_dirt
from plaudit.auditing.flaws.drowned import drowning_effort
from plaudit.auditing.flaws.escape import escape_by_death
from plaudit.auditing.flaws.flaw import Flaw
from plaudit.auditing.flaws.lingering import paid_closeness
from plaudit.auditing.flaws.nan_corner import undefined_corner
from plaudit.auditing.flaws.near_exit import discounted_away
from plaudit.auditing.flaws.noisy import noisy_sensor
from plaudit.auditing.flaws.oscillation import one_way_progress
from plaudit.auditing.flaws.paid_survival import paid_survival
from plaudit.auditing.flaws.saturated import saturated_distance
from plaudit.auditing.flaws.swapped import unreachable_prize
from plaudit.auditing.flaws.wrong_frame import goal_in_the_wrong_frame
from plaudit.auditing.flaws.wrong_sign import wrong_sign
from plaudit.auditing.flaws.wrong_unit import speed_in_degrees
from plaudit.core.errors import BadInput

__all__ = ["TEMPLATES", "Flaw", "flaw", "flaws"]

TEMPLATES: tuple[Callable[..., Flaw], ...] = (
    farmed_checkpoints, refillable_dirt, escape_by_death, paid_closeness, unreachable_prize, discounted_away,
    one_way_progress, goal_in_the_wrong_frame, speed_in_degrees, normalised_over_batch, undefined_corner,
    paid_survival, drowning_effort, wrong_sign, saturated_distance, noisy_sensor,
)
"""Each makes a Flaw of a given strength, and some on a given environment: grid worlds, classic control, MuJoCo."""


def flaws() -> list[Flaw]:
    """The collection: every template at its usual strength.

    Example:
        >>> len(flaws()), flaws()[0].name
        (16, 'boat_race')
    """
    return [template() for template in TEMPLATES]


def flaw(name: str) -> Flaw:
    """The flaw of that name.

    Raises:
        BadInput: when there is none, with close matches.

    Example:
        >>> flaw("boat_race").kind
        'farmed bonus'
    """
    by_name = {f.name: f for f in flaws()}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, 3)
        raise BadInput("flaw", expected=f"one of {', '.join(by_name)}", received=name,
                       fix=f"did you mean {', '.join(near)}?" if near else "")
    return by_name[name]
