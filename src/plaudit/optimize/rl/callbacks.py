"""Hooks into a run: look at every update and rollout, add numbers to the log, stop the run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.optimize.rl.collect import Rollout

if TYPE_CHECKING:
    from plaudit.optimize.rl.trainer import Trainer

log = logging.getLogger(__name__)


class Callback:
    """Override what you need; every method may return True to stop the run after the present update.

    Example:
        >>> class StopAt(Callback):
        ...     def on_update(self, metrics, trainer):
        ...         return trainer.steps >= 10_000
    """

    def on_start(self, trainer: Trainer) -> bool | None:
        """Before the first update, also of a resumed run."""

    def on_rollout(self, rollout: Rollout, trainer: Trainer) -> bool | None:
        """After every piece of experience; `rollout.episodes` is [B, T], rows grouped by member."""

    def on_update(self, metrics: dict[str, Tensor], trainer: Trainer) -> bool | None:
        """After every update, before `metrics` (each [P]) are logged; what is added to them is logged too."""

    def on_end(self, trainer: Trainer) -> bool | None:
        """After the last update."""

    def close(self) -> None:
        """When the run is over, also where an error ended it: frees what `on_start` took."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption, as JSON values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""


class EvalCallback(Callback):
    """Plays evaluation episodes every so many updates; may stop the run when all members are good enough.

    Logs `eval/return` (the environment's own reward) and `eval/<name>` for every further reward, which may be one
    of whole episodes.

    Args:
        every: Updates between two evaluations.
        episodes: Episodes for each member.
        seed: Their seed, the same each time.
        rewards: What else to score them with.
        stop_at: The mean `eval/return` that every member must reach for the run to stop.

    Raises:
        BadInput: when `every` or `episodes` is not positive.
    """

    def __init__(self, *, every: int = 10, episodes: int = 10, seed: int = 0, rewards: Sequence[Reward] = (),
                 stop_at: float | None = None) -> None:
        if every < 1 or episodes < 1:
            raise BadInput("every, episodes", expected="integers >= 1", received=(every, episodes))
        self.every, self.episodes, self.seed, self.rewards, self.stop_at = every, episodes, seed, rewards, stop_at
        self.history: list[dict[str, Any]] = []
        """One entry for each evaluation: `steps`, and the mean return of each member by name."""

    def on_update(self, metrics: dict[str, Tensor], trainer: Trainer) -> bool | None:
        if trainer.updates % self.every:
            return False
        trained = trainer.trained()
        episodes = trained.play(episodes=self.episodes, seed=self.seed)
        fold = lambda x: x.reshape(len(trained.members), -1).mean(-1)  # noqa: E731
        assert episodes.env_reward is not None
        found = {"eval/return": fold(episodes.returns(episodes.env_reward))}
        for reward in self.rewards:
            found[f"eval/{reward.name}"] = fold(reward.score(episodes).returns()[0])
        metrics.update(found)
        self.history.append({"steps": trainer.steps, **{k: v.tolist() for k, v in found.items()}})
        return self.stop_at is not None and bool((found["eval/return"] >= self.stop_at).all())

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history = list(state["history"])


class ProgressBar(Callback):
    """A line that shows how far the run is, how fast it goes, and what the agents earn."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_start(self, trainer: Trainer) -> bool | None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} steps"),
                             TimeRemainingColumn(), TextColumn("{task.fields[earned]}"), transient=True)
        self._bar.start()
        self._bar.add_task(f"{trainer.algo} on {trainer.task.name}", total=trainer.planned_steps,
                           completed=trainer.steps, earned="")

    def on_update(self, metrics: dict[str, Tensor], trainer: Trainer) -> bool | None:
        mean = _earned(metrics, trainer)
        self._bar.update(0, completed=trainer.steps, earned="" if mean != mean else f"return {mean:.1f}")

    def on_end(self, trainer: Trainer) -> bool | None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class ProgressLog(Callback):
    """The same as lines in the log (level INFO) where there is no terminal.

    Args:
        every_s: Seconds from one line to the next.
    """

    def __init__(self, *, every_s: float = 30.0) -> None:
        self.every_s = every_s
        self._last = time.monotonic()

    def on_update(self, metrics: dict[str, Tensor], trainer: Trainer) -> bool | None:
        now = time.monotonic()
        if now - self._last < self.every_s:
            return
        self._last = now
        mean = _earned(metrics, trainer)
        log.info("%s on %s: %s of %s steps%s", trainer.algo, trainer.task.name, f"{trainer.steps:,}",
                 f"{trainer.planned_steps:,}", "" if mean != mean else f", return {mean:.1f}")


def _earned(metrics: Mapping[str, Tensor], trainer: Trainer) -> float:
    earned = metrics.get(f"episode/train/{trainer.reward.name}")
    return math.nan if earned is None else float(earned.nanmean())
