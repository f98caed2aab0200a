"""Plays a witness again, with consent where code would run that the audit did not see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from plaudit.auditing.intent import Intent, parse_intent, split_intent, target_intent
from plaudit.auditing.report.model import versions
from plaudit.auditing.subject import kind_of
from plaudit.auditing.witness import Witness
from plaudit.core.algebra import as_reward
from plaudit.core.consent import ASK, load_with_consent
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.functions import EnvReward
from plaudit.core.reward import Reward
from plaudit.core.saving import load_reward, reward_from_spec
from plaudit.core.score import Score
from plaudit.core.targets import file_hash
from plaudit.tasks.base import Task
from plaudit.tasks.making import from_spec, task_of
from plaudit.tasks.rollouts import replay

MOST_ROWS = 40


@dataclass(frozen=True)
class Replay:
    """A witness that was played again."""

    witness: Witness
    task: Task | None
    """None for a logged episode."""
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
        """Whether the numbers of the audit came out again: as many steps, and reward and intent to a millionth."""
        whole = self.steps == len(self.witness.actions)
        meant = self.aim is None or _close(self.intent, self.witness.intent_value)
        return whole and meant and _close(self.paid, self.witness.reward_return)

    @property
    def other_versions(self) -> list[str]:
        """The packages that have changed since the audit, as `gymnasium 1.1 then, 1.4 now`."""
        now = versions()
        return [f"{name} {then} then, {now.get(name, 'none')} now" for name, then in self.witness.versions.items()
                if now.get(name) != then]

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

        film = None
        if self.task is not None and self.witness.seed is not None:
            film = shoot(self.task, self.witness.action_tensor(), self.witness.seed)
        if film is None:
            return f"{self.task.name if self.task else 'a logged episode'} draws no pictures, so there is no GIF"
        write_gif(film, path)
        return f"wrote {path}"


def play(path: str | Path, *, trust: bool = False, task: Task | None = None, reward: Reward | None = None) -> Replay:
    """Plays the witness in a file.

    Args:
        path: A witness file.
        trust: Whether code may run that has changed since the audit, or that lies outside the working folder.
        task: The environment, instead of the one that the witness names.
        reward: The reward, instead of the one that the witness names.

    Raises:
        BadInput: when the file is no witness, or code would have to run without consent.
    """
    witness = Witness.load(path)
    paying = reward or _reward(witness.reward, trust=trust)
    aim = _intent(witness, trust=trust)
    if witness.seed is None:
        assert witness.episode is not None  # `Witness.load` has read it
        return Replay(witness, None, paying, aim, witness.episode)
    world = task or _task(witness.task, trust=trust)
    episodes = replay(world, witness.action_tensor().unsqueeze(0), [witness.seed])
    return Replay(witness, world, paying, aim, episodes)


def _close(a: float | None, b: float | None) -> bool:
    """Unknown is like unknown."""
    x, y = (math.nan if v is None else v for v in (a, b))
    return (math.isnan(x) and math.isnan(y)) or abs(x - y) <= 1e-6 * max(1.0, abs(y))


def _task(spec: Mapping[str, Any], *, trust: bool) -> Task:
    kind = spec.get("kind")
    if kind == "object":
        raise BadInput("witness", expected="an environment that can be made by its name",
                       received=f"{spec.get('name')}, an object of a Python session",
                       fix="in Python, pass play(witness, task=...)")
    if kind == "gym" and ":" in str(spec.get("id")) and not trust:
        raise BadInput("witness", expected="your consent to import a module", received=str(spec["id"]), fix=ASK)
    if kind != "target":
        return from_spec(spec)
    thing = load_with_consent(spec, trust=trust).thing
    kwargs = {**spec.get("kwargs", {}), **({"horizon": spec["horizon"]} if spec.get("horizon") else {})}
    if not trust and kwargs and kind_of(thing) == "environment" and not isinstance(thing, type):
        raise BadInput("witness", expected="your consent to call a function with arguments",
                       received=f"{spec['target']} with {sorted(kwargs)}", fix=ASK)
    if kind_of(thing) != "environment":
        raise BadInput("witness", expected="an environment class or a factory", received=str(spec["target"]))
    return task_of(thing, kwargs)


def _reward(source: Mapping[str, Any], *, trust: bool) -> Reward:
    if source.get("env"):
        return EnvReward()
    if "spec" in source:
        return reward_from_spec(source["spec"], trust=trust)
    if "saved" in source:
        return _saved(Path(str(source["saved"])), source, trust=trust)
    if "target" not in source:
        raise BadInput("witness", expected="a reward that can be made by its name",
                       received=f"{source.get('object', 'nothing')}, an object of a Python session",
                       fix="in Python, pass play(witness, reward=...)")
    thing = load_with_consent(source, trust=trust).thing
    if not isinstance(thing, Reward) and (not callable(thing) or isinstance(thing, type)):
        raise BadInput("witness", expected="a reward function", received=str(source["target"]))
    return as_reward(thing)


def _saved(path: Path, source: Mapping[str, Any], *, trust: bool) -> Reward:
    if not path.is_file():
        raise BadInput("witness", expected="the saved reward of the audit", received=f"{path}, which is missing")
    if not trust and file_hash(path) != source.get("sha256"):
        raise BadInput("witness", expected="the saved reward as it was at the audit",
                       received=f"{path}, which has changed", fix="pass --trust to run it as it is now")
    return load_reward(path, trust=trust)


def _intent(witness: Witness, *, trust: bool) -> Intent | None:
    text = witness.intent or ""
    if text == "env" or text.startswith("info:"):
        return parse_intent(text)
    if not witness.intent_source:
        return None  # an object of a Python session, or none
    target = load_with_consent(witness.intent_source, trust=trust)
    return target_intent(target, reduce=split_intent(text)[1], text=text)
