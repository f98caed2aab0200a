"""`plaudit audit TARGET`: from a reward to a verdict with a witness."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from plaudit.auditing.report.files import check_folder, next_folder
from plaudit.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class AuditArgs:
    """Is a reward safe to optimise? Optimises it, compares with what is wanted, and shows how it is exploited.

    Example: plaudit audit rewards.py:speed --env Hopper-v5 --intent info:x_position
    """

    target: tyro.conf.Positional[str]
    """What to audit: file.py:name or module:name (a reward function of obs, action, next_obs, ..., an environment
    class, or a factory), or an environment id (audits its own reward)."""
    env: str | None = None
    """The environment of a reward: a Gymnasium id, or file.py:name of a class or factory."""
    env_kwargs: str = "{}"
    """Arguments for the environment, as JSON."""
    intent: str | None = None
    """What is wanted: file.py:name[:sum|last|max|any], info:KEY[:...], or env. Found in info where it can be."""
    reference: str | None = None
    """A reward to measure the distance to: file.py:name, or env."""
    episodes: Path | None = None
    """Logged episodes to look at as well (a file that Episodes.save wrote)."""
    policy: Path | None = None
    """A trained policy to look at as well: a folder of plaudit optimize, or a stable-baselines3 zip (needs --trust)."""
    budget: float = 60.0
    """About how many seconds to search; turned into steps once, and recorded."""
    steps: int | None = None
    """Environment steps to search, instead of --budget: the same steps and seed give the same report."""
    seed: int = 0
    """The root of all randomness."""
    discount: float = 0.99
    """The discount of whoever will optimise the reward."""
    out: Path | None = None
    """Where the report goes; a new numbered folder under audits/ by default."""
    fail_on: Literal["low", "medium", "high", "never"] = "high"
    """The severity from which the exit code is 1."""
    only: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="CHECK")] = None
    """The checks to run; all by default."""
    time_limit: float = 10.0
    """Seconds that one call of the reward function may take."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Read files that can run code (a stable-baselines3 zip)."""


def audit(args: AuditArgs) -> int:
    """Runs the audit and writes the report; returns the exit code."""
    folder = args.out or next_folder()
    check_folder(folder)
    from plaudit.auditing.audit import audit as run
    from plaudit.cli.screen import Screen, Watchdog

    screen = Screen()
    with screen, Watchdog(screen):
        report = run(args.target, env=args.env, env_kwargs=_json(args.env_kwargs), intent=args.intent,
                     reference=args.reference, episodes=args.episodes, policy=args.policy, seconds=args.budget,
                     steps=args.steps, seed=args.seed, discount=args.discount, trust=args.trust, only=args.only,
                     time_limit_s=args.time_limit, listen=screen)
    report.save(folder)
    screen.verdict(report, folder)
    if report.interrupted:
        return 130
    return int(report.fails(args.fail_on))


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput("--env-kwargs", expected="JSON such as '{\"g\": 9.81}'", received=text,
                       fix=str(error)) from error
    if not isinstance(value, dict):
        raise BadInput("--env-kwargs", expected="a JSON object", received=text)
    return value
