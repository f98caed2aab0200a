"""A witness: the behaviour that shows a finding, in a file that one command replays."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from plaudit.auditing.report.model import versions
from plaudit.auditing.subject import spec_of
from plaudit.core.consent import noted
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext
    from plaudit.optimize.behaviours import Behaviour

FORMAT = "plaudit.witness.1"


@dataclass(frozen=True, kw_only=True)
class Witness:
    """One episode, as the seed and the actions that lead to it: the environment does the rest.

    A logged episode, of which the seed is unknown, is kept itself: in a file beside the witness.
    """

    title: str
    """What it shows."""
    behaviour: str
    task: Mapping[str, Any]
    """`Task.spec()`."""
    seed: int | None
    """The episode's seed (that of one row); None for a logged episode."""
    actions: list[Any]
    """[T] integers or [T, A] numbers."""
    reward_return: float
    """What the reward under audit paid; NaN where a step is unknown."""
    intent_value: float | None
    """How well the episode did what was wanted."""
    reward: Mapping[str, Any] = field(default_factory=dict)
    """Where the reward comes from, as `Subject.source`; filled in by the audit."""
    intent: str | None = None
    intent_source: Mapping[str, Any] = field(default_factory=dict)
    """`{"target", "path", "sha256"}` where the intent is a function."""
    check: str = ""
    frames: list[int] = field(default_factory=list)
    """Steps worth a picture, in order; empty means evenly spaced."""
    action_dtype: str = ""
    versions: Mapping[str, str] = field(default_factory=versions)
    """What the audit ran with; empty in the witness of a plaudit that did not say."""
    episode: Episodes | None = field(default=None, repr=False)
    """A logged episode."""

    @staticmethod
    def of(context: AuditContext, behaviour: Behaviour, *, title: str, check: str = "", row: int | None = None,
           frames: list[int] | None = None) -> Witness:
        """The witness of one evaluation episode of a behaviour: `row`, or the best-paid one."""
        paid, meant = context.paid(behaviour), context.meant(behaviour)
        best = int(torch.nan_to_num(paid, nan=-torch.inf).argmax()) if row is None else row
        n = int(behaviour.episodes.lengths[best])
        episode = behaviour.episodes[best].steps(0, n)
        value = float(meant[best])
        intent = context.intent
        return Witness(
            title=title, behaviour=behaviour.name, task=spec_of(context.task),
            seed=behaviour.seeds[best] if behaviour.seeds else None, actions=episode.action[0].tolist(),
            action_dtype=str(episode.action.dtype).removeprefix("torch."), reward_return=float(paid[best]),
            intent_value=None if math.isnan(value) else value, intent=intent.text if intent else None,
            intent_source=noted(intent.target) if intent and intent.target else {}, check=check, frames=frames or [],
            episode=None if behaviour.seeds else episode,
        )

    def save(self, path: str | Path) -> Path:
        """Writes JSON, atomically; a logged episode goes into a file beside it, of the same name."""
        from plaudit.core.checkpoint import write_text

        path = Path(path)
        if self.episode is not None:
            self.episode.save(_beside(path))
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "episode"}
        data["reward_return"] = None if math.isnan(self.reward_return) else self.reward_return
        write_text(path, json.dumps({"format": FORMAT, **data}, indent=1, allow_nan=False))
        return path

    @staticmethod
    def load(path: str | Path) -> Witness:
        """Reads what `save` wrote.

        Raises:
            BadInput: when the file is missing, no JSON, or no witness.
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise BadInput("witness", expected="a witness file of an audit", received=f"{path} ({reason})") from error
        form = data.pop("format", None) if isinstance(data, dict) else None
        if form != FORMAT:
            other = isinstance(form, str) and form.startswith(FORMAT.rpartition(".")[0])
            raise BadInput("witness", expected=f"a file of format {FORMAT}",
                           received=f"{path} ({form})" if other else str(path),
                           fix="it was written by another version of plaudit: audit again with this one" if other
                           else "")
        data.setdefault("versions", {})
        try:
            data["reward_return"] = math.nan if data["reward_return"] is None else float(data["reward_return"])
            witness = Witness(**data, episode=Episodes.load(_beside(path)) if data["seed"] is None else None)
            witness.action_tensor()
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput("witness", expected="the fields of a witness", received=f"{path} ({error})") from error
        return witness

    def action_tensor(self) -> torch.Tensor:
        """[T] or [T, A], in the dtype in which the policy acted."""
        dtype: Any = getattr(torch, self.action_dtype) if self.action_dtype else None
        return torch.tensor(self.actions, dtype=dtype)


def _beside(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def differences(a: Episodes, b: Episodes) -> list[str]:
    """The fields in which two batches differ (a replay must give an empty list)."""
    x, y = dict(a.tensors()), dict(b.tensors())
    return sorted({n.split("/")[0] for n in x.keys() | y.keys()
                   if n not in x or n not in y or not torch.equal(torch.nan_to_num(x[n].double()),
                                                                  torch.nan_to_num(y[n].double()))})
