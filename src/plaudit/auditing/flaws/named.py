"""The members of the collection as attributes, so that a target can name any of them.

`plaudit.auditing.flaws.named:paid_survival_Walker2d_v5_0_02.flawed` is the flawed reward of
`paid_survival/Walker2d-v5/0.02`; `.healthy` is its twin, `.make` its task, `.intended` what is wanted.
`plaudit audit flaw:paid_survival/Walker2d-v5/0.02` says the same in short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plaudit.auditing.flaws.flaw import Flaw
    from plaudit.auditing.flaws.healthy_set import Healthy


def __getattr__(name: str) -> Flaw | Healthy:
    from plaudit.auditing.flaws.collection import by_slug
    from plaudit.auditing.flaws.healthy_set import healthy_by_slug

    found = by_slug(name) or healthy_by_slug(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no member of the collection called {name!r}")
    return found
