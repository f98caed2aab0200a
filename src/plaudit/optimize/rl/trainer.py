"""The run around a learner: progress, callbacks, log, checkpoints, resume."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.core.checkpoint import left_over, load_state, save_state
from plaudit.core.controlled import controllers_of
from plaudit.core.errors import BadInput
from plaudit.core.going_on import marks_of, refuse_other_rewards
from plaudit.core.misspelt import Options
from plaudit.core.reward import Reward
from plaudit.core.schedules import of_member, warn_of_unseen
from plaudit.core.seeds import Seeds
from plaudit.optimize.rl.algorithms import algorithm
from plaudit.optimize.rl.callbacks import Callback, ProgressBar, ProgressLog
from plaudit.optimize.rl.collect import Collector, Rollout
from plaudit.optimize.rl.interrupting import Interruptible
from plaudit.optimize.rl.learner import Learner
from plaudit.optimize.rl.logging import RunLog
from plaudit.optimize.rl.scoring import OnUnknown, Scorer
from plaudit.optimize.rl.trained import Trained, spec_of
from plaudit.tasks.base import Task

log = logging.getLogger(__name__)

_FORMAT = "plaudit.run.1"
_FILE = "checkpoint.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Where a run writes and how it is kept safe."""

    log_dir: Path | None = None
    """TensorBoard curves and `log.jsonl`."""
    out: Path | None = None
    """Checkpoint, policies and `log.jsonl`."""
    resume: bool = False
    """Go on from the checkpoint in `out`, if there is one."""
    checkpoint_every: int | None = None
    """Updates between two checkpoints (None: 20 in the run)."""
    progress: bool = True
    """Show a progress bar on a terminal; elsewhere log a line now and then."""


class Trainer:
    """One run. Callbacks see it: `steps`, `updates`, `progress`, `learner`, `task`, `reward`, `trained()`."""

    def __init__(self, algo: str, task: Task, *, reward: Reward, others: Sequence[Reward], members: Sequence[int],
                 steps: int, seed: int, device: str, config: Any, callbacks: Sequence[Callback], on_unknown: OnUnknown,
                 options: RunOptions, learner_options: Mapping[str, Any]) -> None:
        self.algo, self.task, self.reward, self.members = algo, task, reward, list(members)
        self.seed, self.config, self.options = seed, config, options
        kind, _ = algorithm(algo)
        seeds = [Seeds(seed).child("member", m) for m in members]
        self.learner: Learner = kind(config, task, seeds=seeds, device=device, **learner_options)
        per_update = self.learner.steps_per_iteration
        self.planned_updates = steps // per_update
        self.planned_steps = self.planned_updates * per_update
        if self.planned_updates < 1:
            raise BadInput("steps", expected=f"at least one update of {per_update} steps", received=steps,
                           fix="raise steps, or lower num_envs or the length of a rollout in the config")
        scorer = Scorer(reward, others, population=len(members), rows=len(members) * self.learner.N,
                        on_unknown=on_unknown, device=device, member_ids=members)
        self.learner.prepare(scorer, planned_steps=self.planned_steps)
        self._marks = marks_of(scorer.rewards)
        self._checkpoint_before = self._read_checkpoint()
        self.collector = Collector(task, seeds=seeds, rows=self.learner.N, scorer=scorer, member_ids=members,
                                   device=device)
        self.collector.on_rollout.append(self._show_rollout)
        bar = [ProgressBar() if sys.stderr.isatty() else ProgressLog()] if options.progress else []
        self.callbacks, self._bar = [*callbacks, *bar], bar
        self.updates = 0
        self._stop, self._warned, self._told = False, False, False

    @property
    def steps(self) -> int:
        """The steps that each member has made."""
        return self.updates * self.learner.steps_per_iteration

    @property
    def progress(self) -> float:
        """How much of the run is done, in [0, 1]."""
        return min(1.0, self.updates / self.planned_updates)

    def trained(self) -> Trained:
        """The policies as they are now (they share their parameters with the run)."""
        return Trained(algo=self.algo, config=self.config, task=self.task, members=self.members, seed=self.seed,
                       steps=self.steps, learner=self.learner)

    def run(self) -> Trained:
        """Trains until the planned steps are made or a callback stops it.

        With `out`, Ctrl-C waits for the end of an update and leaves a checkpoint, from which the run goes on to the
        same numbers; a second one does not wait.
        """
        if self._checkpoint_before is not None:
            self._restore(self._checkpoint_before)
        else:
            self.reward.advance(0.0, {})
        options = self.options
        folders = list({f.resolve(): f for f in (options.out, options.log_dir) if f is not None}.values())
        record = RunLog(folders, tensorboard=options.log_dir, members=self.members, update=self.updates,
                        steps=self.steps)
        every = options.checkpoint_every or max(1, self.planned_updates // 20)
        try:
            self._call("on_start", self)
            with Interruptible(hold=options.out is not None) as stop:
                while self.updates < self.planned_updates and not self._stop and not stop.asked:
                    self._update(record)
                    if options.out is not None and self.updates % every == 0:
                        self._checkpoint(options.out)
                if options.out is not None and stop.asked:
                    self._checkpoint(options.out)
            self._call("on_end", self)
            if options.out is not None:
                self._checkpoint(options.out)
                self.trained().save(options.out)
        finally:
            record.close()
            for callback in self.callbacks:
                callback.close()
            self.collector.close()
        return self.trained()

    def _update(self, record: RunLog) -> None:
        learnt = self.learner.iterate(self.collector, progress=self.progress)
        self.updates += 1
        scorer = self.collector.scorer
        costs = scorer.measured.flush()
        metrics = {**costs, **scorer.meter.flush(), **learnt}
        if scorer.ending_pays and not self._warned:
            self._warned = True
            log.warning("no step has paid more than 0 so far and episodes can terminate: with %s, a true terminal is "
                        "the best state there is, so the agents learn to end episodes. That is right if ending is the "
                        "goal; otherwise pay for staying, or truncate instead of terminating", self.reward.name)
        self._call("on_update", metrics, self)
        means = {name: float(v.double().nanmean()) for name, v in metrics.items()}
        own = {of_member(name, m): float(v) for name in costs for m, v in zip(self.members, metrics[name], strict=True)}
        self.reward.advance(self.progress, {**means, **own})
        if learnt and not self._told:  # before an off-policy learner learns, its own numbers are missing
            self._told = True
            warn_of_unseen(controllers_of(self.reward), means)
        record.write(metrics, update=self.updates, steps=self.steps)

    def _show_rollout(self, rollout: Rollout) -> None:
        self._call("on_rollout", rollout, self)

    def _call(self, name: str, *args: Any) -> None:
        for callback in self.callbacks:
            if getattr(callback, name)(*args):
                self._stop = True

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        config = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self.config).items()}
        config.pop("engine", None)  # the learner's own state says which it has, and refuses another
        rewards = [f"{r.role}:{r.name}" for r in self.collector_rewards]
        return {"algo": self.algo, "task": spec_of(self.task) or self.task.name, "members": self.members,
                "seed": self.seed, "config": config, "rewards": rewards,
                "auxiliaries": [a.name for a in getattr(self.learner, "auxiliaries", ())] or None}

    @property
    def collector_rewards(self) -> list[Reward]:
        """The train reward and the others."""
        return self.collector.scorer.rewards

    def _checkpoint(self, out: Path) -> None:
        save_state(out / _FILE, {
            "format": _FORMAT, "identity": self._identity(), "marks": self._marks,
            "updates": self.updates, "warned": self._warned,
            "learner": self.learner.state_dict(), "collector": self.collector.state_dict(),
            "callbacks": [c.state_dict() for c in self.callbacks if c not in self._bar]})

    def _read_checkpoint(self) -> dict[str, Any] | None:
        out = self.options.out
        if out is None:
            if self.options.resume:
                raise BadInput("out", expected="the folder of the run to go on with", received=None)
            return None
        file = out / _FILE
        if file.exists() and self.options.resume:
            state = load_state(file)
            if state.get("format") != _FORMAT:
                raise BadInput("out", expected="a checkpoint of a run", received=str(file))
            return state
        if out.exists() and not (out.is_dir() and all(p.name == "log.jsonl" or left_over(p) for p in out.iterdir())):
            raise BadInput("out", expected="a new or empty folder", received=str(out),
                           fix="pass resume=True to go on with the run in it" if file.exists() else "choose another")
        return None

    def _restore(self, state: Mapping[str, Any]) -> None:
        mine, saved = self._identity(), state["identity"]
        for name in mine:
            if mine[name] != saved.get(name):
                raise BadInput(name, expected=f"what the interrupted run had: {saved.get(name)}", received=mine[name],
                               fix="resume with the same arguments (only steps may differ), or choose another folder")
        refuse_other_rewards(self._marks, state.get("marks"))
        self.updates, self._warned = state["updates"], state["warned"]
        self.learner.load_state_dict(state["learner"])
        self.collector.load_state_dict(state["collector"])
        if self.collector.began_anew:
            self.learner.forget_episodes()
        own = [c for c in self.callbacks if c not in self._bar]
        if len(own) != len(state["callbacks"]):
            raise BadInput("callbacks", expected=f"the {len(state['callbacks'])} of the interrupted run",
                           received=len(own))
        for callback, saved_state in zip(own, state["callbacks"], strict=True):
            callback.load_state_dict(saved_state)
        log.info("resumed at update %d of %d", self.updates, self.planned_updates)


