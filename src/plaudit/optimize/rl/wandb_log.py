"""Curves on Weights & Biases, only where they are asked for."""

from __future__ import annotations

import dataclasses
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.optimize.rl.callbacks import Callback

if TYPE_CHECKING:
    from plaudit.optimize.rl.trainer import Trainer


class WandbLog(Callback):
    """Logs every number of every update to Weights & Biases, one run for each member, all in one group.

    What WANDB_MODE, WANDB_DIR and the like say holds; with `WANDB_MODE=offline` nothing leaves the machine. A resumed
    run goes on under the same ids. Put it last, so that it sees what other callbacks add. `train(wandb="project")`
    does that.

    Args:
        project: Where the runs appear.
        group: What they are grouped under; the algorithm, the task and the seed by default.
        folder: Where W&B keeps its files (None: its own choice, `./wandb`).
        **options: Further arguments of `wandb.init`, such as `entity` or `tags`.

    Raises:
        BadInput: when the project has no name.
        MissingExtra: when W&B is not installed.

    Example:
        >>> WandbLog("rewards", tags=["baseline"]).project  # doctest: +SKIP
        'rewards'
    """

    def __init__(self, project: str, *, group: str | None = None, folder: str | Path | None = None,
                 **options: Any) -> None:
        if not project or not isinstance(project, str):
            raise BadInput("wandb", expected="the name of a project", received=project)
        require("wandb", extra="wandb")
        self.project, self.group, self.options = project, group, options
        self.folder = None if folder is None else Path(folder)
        self.ids: list[str] = []
        """The runs' ids on W&B, one for each member."""
        self._runs: list[Any] = []

    def on_start(self, trainer: Trainer) -> bool | None:
        wandb = require("wandb", extra="wandb")
        self.ids = self.ids or [uuid.uuid4().hex[:12] for _ in trainer.members]
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        shared = {"algo": trainer.algo, "task": trainer.task.name, "reward": trainer.reward.name, "seed": trainer.seed,
                  "steps": trainer.planned_steps, **dataclasses.asdict(trainer.config)}
        group = self.group or f"{trainer.algo} {trainer.task.name} {trainer.seed}"
        for member, name in zip(trainer.members, self.ids, strict=True):
            self._runs.append(wandb.init(
                project=self.project, group=group, name=f"{group} member {member}", id=name, resume="allow",
                config={**shared, "member": member}, dir=None if self.folder is None else str(self.folder),
                reinit="create_new", settings=wandb.Settings(console="off"), **self.options))

    def on_update(self, metrics: dict[str, Tensor], trainer: Trainer) -> bool | None:
        rows = {name: values.double().tolist() for name, values in sorted(metrics.items())
                if not name.startswith("unknown_reason/")}
        for p, run in enumerate(self._runs):
            known = {name: values[p] for name, values in rows.items() if not math.isnan(values[p])}
            run.log(known, step=trainer.steps)

    def close(self) -> None:
        for run in self._runs:
            run.finish()
        self._runs = []

    def state_dict(self) -> dict[str, Any]:
        return {"ids": self.ids}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.ids = list(state["ids"])
