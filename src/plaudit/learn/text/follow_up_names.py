"""How a follow-up reward is named on a command line: `follow-up:MODEL`, or a folder that one was saved in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.learn.text.loading import FOLLOW_UP

if TYPE_CHECKING:
    from plaudit.learn.text.followup import FollowUpReward

PREFIX = "follow-up:"


def names(text: str) -> bool:
    """Whether a text names one.

    Example:
        >>> names("follow-up:smollm2"), names("runs/rm")
        (True, False)
    """
    return text.startswith(PREFIX) or (Path(text) / FOLLOW_UP).is_file()


def load(text: str, *, dtype: str = "auto", **options: Any) -> FollowUpReward:
    """The reward; `follow-up:smollm2` is the packaged model, untuned.

    Args:
        text: What `names` says yes to.
        dtype: In which precision; auto is that of `FollowUpReward.load`.
        options: Its other options; None is the default.

    Raises:
        BadInput: when there is no such model.
    """
    import torch

    from plaudit.learn.text.followup import FollowUpReward
    from plaudit.learn.text.models import smollm2

    name = text.removeprefix(PREFIX)
    model = smollm2() if name == "smollm2" and not Path(name).exists() else name
    given = {k: v for k, v in options.items() if v is not None}
    return FollowUpReward.load(model, dtype=None if dtype == "auto" else getattr(torch, dtype), **given)
