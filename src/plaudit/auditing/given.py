"""What the user brings to an audit: logged episodes and trained policies, as behaviours beside those we find."""

from __future__ import annotations

import logging
from pathlib import Path

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.seeds import Seeds
from plaudit.optimize.behaviours import Behaviour
from plaudit.tasks.base import Task
from plaudit.tasks.policy import Policy
from plaudit.tasks.rollouts import rollout

EPISODES_EACH = 8
log = logging.getLogger(__name__)


def load_given(task: Task, *, episodes: str | Path | None, policy: str | Path | None, seed: int,
               trust: bool, like: Episodes | None = None, horizon: int | None = None) -> list[Behaviour]:
    """Reads what was named and plays the policy.

    Args:
        task: Where the policy is played.
        episodes: A file of `Episodes.save`, or the id of a Minari data set on this machine.
        policy: A folder of `plaudit optimize`, or a zip of stable-baselines3.
        seed: The root of the policy's episodes.
        trust: Whether a file that can run code may be loaded.
        like: Episodes of the task, which the logged ones have to resemble.
        horizon: After how many steps episodes are cut; None leaves them whole.

    Raises:
        BadInput: when a file is missing, is nothing of the kind, or may run code and `trust` is False.
    """
    out: list[Behaviour] = []
    if episodes is not None:
        logged = load_episodes(str(episodes))
        if like is not None:
            logged = _fitted(logged, like)
        logged = logged.steps(0, horizon)
        out.append(Behaviour(name=f"logged in {Path(episodes).name}", origin="logged", policy=None, episodes=logged))
    if policy is not None:
        actor = load_policy(Path(policy), trust=trust, task=task)
        seeds = Seeds(seed).child("given").integers(EPISODES_EACH)
        out.append(Behaviour(name=f"your policy {Path(policy).name}", origin="given", policy=actor, seeds=seeds,
                             episodes=_played(task, actor, seeds, Path(policy), horizon)))
    return out


def load_episodes(name: str) -> Episodes:
    """A file of episodes, or a Minari data set.

    Raises:
        BadInput: when it is neither.
    """
    if Path(name).exists() or Path(name).suffix:
        try:
            return Episodes.load(name)
        except BadInput as error:
            raise BadInput("episodes", expected="a file that Episodes.save wrote, or the id of a Minari data set",
                           received=error.received if isinstance(error.received, str) else name,
                           fix=error.fix) from error
    from plaudit.core.minari_io import from_minari

    return from_minari(name)


def _fitted(logged: Episodes, like: Episodes) -> Episodes:
    """The logged episodes, if they can stand beside those of the task; entries of `info` that it lacks are left out."""
    def form(e: Episodes) -> dict[str, list[int]]:
        return {n: list(x.shape[2:]) for n, x in e.tensors() if n.split("/")[0] in ("obs", "action", "next_obs")}

    if form(logged) != form(like):
        raise BadInput("episodes", expected=f"the observations and actions of the environment, {form(like)}",
                       received=str(form(logged)))
    logged = logged.replace(info={k: v for k, v in logged.info.items() if k in like.info}, group=None, agent=None,
                            member=None, action=logged.action.to(like.action.dtype))
    present = {n for n, _ in logged.tensors()}
    missing = [n for n, _ in like.tensors() if n not in present]
    if missing:
        log.warning("the logged episodes lack %s; rewards that read it are unknown there", ", ".join(missing))
    return logged


def _played(task: Task, actor: Policy, seeds: list[int], path: Path, horizon: int | None) -> Episodes:
    try:
        return rollout(task, actor, seeds=seeds, max_steps=horizon)
    except Exception as error:  # the border to a policy that was made elsewhere
        reason = " ".join(str(error).split())[:200]
        raise BadInput("policy", expected=f"a policy for {task.name}", received=f"{path}: {reason}") from error


def load_policy(path: Path, *, trust: bool, task: Task | None = None) -> Policy:
    """A policy that `plaudit optimize` saved, or a zip of stable-baselines3 (which unpickles, hence `trust`).

    Args:
        path: The folder or the zip.
        trust: Whether a zip may run code.
        task: Stands in for the task of a folder that cannot be made again from a file, such as the user's own code.

    Raises:
        BadInput: when it is neither, or was trained on something else than `task`.
    """
    if not path.exists():
        raise BadInput("policy", expected="a file or folder that exists", received=str(path))
    if path.suffix == ".zip":
        from plaudit.adapters.sb3.policy import load_sb3

        return load_sb3(path, trust=trust)
    from plaudit.optimize.rl.trained import Trained

    try:
        return Trained.load(path).policy(0)
    except (BadInput, Unsupported) as error:
        if task is None or (isinstance(error, BadInput) and error.name != "task"):
            raise
    try:
        return Trained.load(path, task=task).policy(0)
    except (BadInput, Unsupported) as error:
        raise BadInput("policy", expected=f"a policy for {task.name}", received=f"{path}: {error}") from error
