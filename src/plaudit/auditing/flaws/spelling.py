"""`flaw:NAME` and `healthy:NAME`: a member of the collection, named in one word on the command line."""

from __future__ import annotations

from plaudit.auditing.flaws.collection import flaw
from plaudit.auditing.flaws.healthy_set import healthy_reward


def spelt_out(text: str) -> tuple[str, str | None, str]:
    """The target, the environment and the intent that `flaw:NAME` or `healthy:NAME` stands for.

    The environment is None where the target is an environment with its own reward.

    Raises:
        BadInput: when there is none of that name, with close matches.

    Example:
        >>> spelt_out("flaw:boat_race")[0]
        'plaudit.auditing.flaws.boat_race:reward'
        >>> spelt_out("flaw:escape/0.8")[0]
        'plaudit.auditing.flaws.named:escape_0_8.flawed'
    """
    prefix, _, name = text.partition(":")
    if prefix == "flaw":
        one = flaw(name)
        assert one.target and one.env and one.wanted  # members of the collection have names
        return one.target, one.env, one.wanted
    sound = healthy_reward(name)
    return (sound.env, None, sound.wanted) if sound.target is None else (sound.target, sound.env, sound.wanted)
