"""A witness: the behaviour that shows a finding, in a file that one command replays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext
    from plaudit.optimize.behaviours import Behaviour

FORMAT = "plaudit.witness.1"


@dataclass(frozen=True, kw_only=True)
class Witness:
    """One episode, as the seed and the actions that lead to it: the environment does the rest.

    A logged episode whose environment is unknown keeps its transitions instead (`logged`).
    """

    title: str
    """What it shows."""
    behaviour: str
    task: Mapping[str, Any]
    """`Task.spec()`."""
    seed: int
    """The episode's seed (that of one row)."""
    actions: list[Any]
    """[T] integers or [T, A] numbers."""
    reward_return: float
    """What the reward under audit paid."""
    intent_value: float | None
    """How well the episode did what was wanted."""
    reward: Mapping[str, Any] = field(default_factory=dict)
    """Where the reward comes from: `{"target", "path", "sha256"}`; filled in by the audit."""
    intent: str | None = None
    check: str = ""
    frames: list[int] = field(default_factory=list)
    """Steps worth a picture, in order; empty means evenly spaced."""

    @staticmethod
    def of(context: AuditContext, behaviour: Behaviour, *, title: str, check: str = "", row: int | None = None,
           frames: list[int] | None = None) -> Witness:
        """The witness of one evaluation episode of a behaviour: `row`, or the best-paid one."""
        paid, meant = context.paid(behaviour), context.meant(behaviour)
        best = int(torch.nan_to_num(paid, nan=-torch.inf).argmax()) if row is None else row
        episode = behaviour.episodes[best]
        n = int(episode.lengths[0])
        value = float(meant[best])
        return Witness(
            title=title, behaviour=behaviour.name, task=context.task.spec(), seed=behaviour.seeds[best],
            actions=episode.action[0, :n].tolist(), reward_return=float(paid[best]),
            intent_value=None if value != value else value, intent=context.intent.text if context.intent else None,
            check=check, frames=frames or [],
        )

    def save(self, path: str | Path) -> Path:
        """Writes JSON, atomically."""
        from plaudit.core.checkpoint import write_text

        path = Path(path)
        write_text(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1))
        return path

    @staticmethod
    def load(path: str | Path) -> Witness:
        """Reads what `save` wrote.

        Raises:
            BadInput: when the file is missing, no JSON, or no witness.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput("witness", expected="a witness file of an audit", received=f"{path} ({error})") from error
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise BadInput("witness", expected=f"a file of format {FORMAT}", received=str(path))
        try:
            return Witness(**data)
        except TypeError as error:
            raise BadInput("witness", expected="the fields of a witness", received=str(error)) from error

    def action_tensor(self) -> torch.Tensor:
        """[T] int64 or [T, A] float32."""
        if self.actions and isinstance(self.actions[0], int):
            return torch.tensor(self.actions, dtype=torch.int64)
        return torch.tensor(self.actions, dtype=torch.float32)


def differences(a: Episodes, b: Episodes) -> list[str]:
    """The fields in which two batches differ (a replay must give an empty list)."""
    x, y = dict(a.tensors()), dict(b.tensors())
    return sorted({n.split("/")[0] for n in x.keys() | y.keys()
                   if n not in x or n not in y or not torch.equal(torch.nan_to_num(x[n].double()),
                                                                  torch.nan_to_num(y[n].double()))})


