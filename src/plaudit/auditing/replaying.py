"""Plays a witness again, with consent where code would run that the audit did not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from plaudit.auditing.intent import Intent, parse_intent
from plaudit.auditing.witness import Witness
from plaudit.core.algebra import as_reward
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.functions import EnvReward
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.targets import Target, file_hash, load_target
from plaudit.tasks.base import Task
from plaudit.tasks.make import from_spec, make
from plaudit.tasks.rollout import replay

MOST_ROWS = 40


@dataclass(frozen=True)
class Replay:
    """A witness that was played again."""

    witness: Witness
    task: Task
    reward: Reward
    aim: Intent | None
    episodes: Episodes

    @property
    def steps(self) -> int:
        return int(self.episodes.lengths[0])

    @cached_property
    def score(self) -> Score:
        """What the reward says of each step."""
        return self.reward.score(self.episodes)

    @property
    def terms(self) -> list[str]:
        """The names of the terms, where there are several."""
        return list(self.score.terms) if len(self.score.terms) > 1 else []

    @property
    def paid(self) -> float:
        """The return of the episode; NaN where a step is unknown."""
        return float(self.score.returns()[0])

    @property
    def intent(self) -> float | None:
        """How well it did what was wanted."""
        return None if self.aim is None else float(self.aim.of(self.episodes))

    @property
    def same(self) -> bool:
        """Whether the numbers of the audit came out again (to a millionth)."""
        close = abs(self.paid - self.witness.reward_return) <= 1e-6 * max(1.0, abs(self.witness.reward_return))
        both_unknown = self.paid != self.paid and self.witness.reward_return != self.witness.reward_return
        return close or both_unknown

    def telling_steps(self) -> list[int]:
        """The steps at which the reward changes, at most a screenful, with the first and the last."""
        value = torch.nan_to_num(self.score.value[0, : self.steps])
        moved = [0, *(t for t in range(1, self.steps) if value[t] != value[t - 1]), self.steps - 1]
        steps = sorted(set(moved))
        return steps if len(steps) <= MOST_ROWS else [*steps[: MOST_ROWS - 1], steps[-1]]

    def row(self, t: int) -> list[str]:
        """One line of the table: step, action, reward, terms, and the totals so far."""
        action = self.episodes.action[0, t]
        shown = str(int(action)) if action.ndim == 0 else "[" + " ".join(f"{a:.2f}" for a in action.tolist()) + "]"
        value = self.score.value[0]
        cells = [str(t), shown, f"{float(value[t]):.4g}"]
        cells += [f"{float(self.score.contribution(n)[0, t]):.4g}" for n in self.terms]
        cells.append(f"{float(value[: t + 1].sum()):.4g}")
        if self.aim is not None:
            cells.append(f"{float(self.aim.of(self.episodes.steps(0, t + 1))[0]):.4g}")
        return cells

    def film(self, path: Path) -> str:
        """Writes a GIF and says where; or says why there is none."""
        from plaudit.auditing.report.film import shoot, write_gif

        film = shoot(self.task, self.witness.action_tensor(), self.witness.seed)
        if film is None:
            return f"{self.task.name} draws no pictures, so there is no GIF"
        write_gif(film, path)
        return f"wrote {path}"


def play(path: str | Path, *, trust: bool = False) -> Replay:
    """Plays the witness in a file.

    Args:
        path: A witness file.
        trust: Whether code may run that has changed since the audit, or that lies outside the working folder.

    Raises:
        BadInput: when the file is no witness, or code would have to run without consent.
    """
    witness = Witness.load(path)
    task = _task(witness.task, trust=trust)
    reward = _reward(witness.reward, trust=trust)
    aim = None if witness.intent is None else _intent(witness, trust=trust)
    episodes = replay(task, witness.action_tensor().unsqueeze(0), [witness.seed])
    return Replay(witness, task, reward, aim, episodes)


def _task(spec: Mapping[str, Any], *, trust: bool) -> Task:
    if spec.get("kind") != "target":
        return from_spec(spec)
    source = spec["target"] if isinstance(spec.get("target"), Mapping) else spec
    thing = _load(source, trust=trust).thing
    kwargs = {**spec.get("kwargs", {}), **({"horizon": spec["horizon"]} if spec.get("horizon") else {})}
    return make(thing, **kwargs)


def _reward(source: Mapping[str, Any], *, trust: bool) -> Reward:
    if not source or source.get("env"):
        return EnvReward()
    thing = _load(source, trust=trust).thing
    if not isinstance(thing, Reward) and not callable(thing):
        raise BadInput("witness", expected="a reward function", received=str(source.get("target")))
    from plaudit.auditing.subject import _kind

    return EnvReward() if _kind(thing) == "environment" else as_reward(thing)


def _intent(witness: Witness, *, trust: bool) -> Intent | None:
    text = witness.intent or ""
    if text == "env" or text.startswith("info:"):
        return parse_intent(text)
    if ":" not in text:
        return None
    head = text.rpartition(":")[0] if text.rpartition(":")[2] in ("sum", "last", "max", "any") else text
    _consent({"target": head, "path": None, "sha256": None}, trust=trust)
    return parse_intent(text)


def _load(source: Mapping[str, Any], *, trust: bool) -> Target:
    _consent(source, trust=trust)
    return load_target(str(source["target"]))


def _consent(source: Mapping[str, Any], *, trust: bool) -> None:
    """Code of plaudit itself, and unchanged code below the working folder, runs; anything else is asked for."""
    target = str(source.get("target", ""))
    head = target.rpartition(":")[0]
    if trust or head == "plaudit" or head.startswith("plaudit."):
        return
    if not head.endswith(".py"):
        raise BadInput("witness", expected="your consent to import a module", received=target,
                       fix="pass --trust if you trust it")
    path = Path(head).resolve()
    if not path.is_relative_to(Path.cwd().resolve()):
        raise BadInput("witness", expected="reward code below this folder", received=str(path),
                       fix="pass --trust if you trust it")
    if source.get("sha256") and path.is_file() and file_hash(path) != source["sha256"]:
        raise BadInput("witness", expected="the file as it was at the audit", received=f"{head}, which has changed",
                       fix="pass --trust to run it as it is now")
