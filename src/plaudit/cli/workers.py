"""The option `--ray [ADDRESS]` that several commands share."""

from __future__ import annotations

from typing import Annotated

import tyro

from plaudit.core.errors import BadInput

RayOption = Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[ADDRESS]", help_behavior_hint="")]
"""None: not given; empty: this machine; one word: an address or a number of workers."""


def where(option: tuple[str, ...] | None) -> str | bool | None:
    """The option as `run_jobs` takes it.

    Example:
        >>> where(None), where(()), where(("head:6379",))
        (None, True, 'head:6379')
    """
    if option is None:
        return None
    if len(option) > 1:
        raise BadInput("--ray", expected="at most one address", received=" ".join(option),
                       fix="put --ray after the other arguments")
    return option[0] if option else True
