"""The log of a run: one JSON line for each update, and TensorBoard curves for each member."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from plaudit.core.checkpoint import write_text


class RunLog:
    """Writes the numbers of every update.

    `log.jsonl` has a row for each update: `{"update", "steps", NAME: [one number for each member], ...}`, null
    where there is none (no episode ended, or nothing was known). A resumed run drops the rows that the interrupted
    one wrote after its last checkpoint, and goes on.

    Args:
        folders: Where to write `log.jsonl`.
        tensorboard: The folder for TensorBoard, one run `member_<id>` for each member; None for none.
        members: Their ids.
        update: The last update that counts; later rows are dropped.
        steps: The steps each member had made by then.
    """

    def __init__(self, folders: Sequence[Path], *, tensorboard: Path | None = None, members: Sequence[int] = (0,),
                 update: int = 0, steps: int = 0) -> None:
        self.files = [folder / "log.jsonl" for folder in folders]
        for file in self.files:
            kept = [line for line in _lines(file) if _update_of(line) <= update] if update else []
            write_text(file, "".join(f"{line}\n" for line in kept))
        self._writers: list[Any] = []
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writers = [SummaryWriter(str(tensorboard / f"member_{m}"), purge_step=steps + 1 if update else None)
                             for m in members]

    def write(self, metrics: Mapping[str, Tensor], *, update: int, steps: int) -> None:
        """Adds the numbers of one update, each [P]."""
        rows = {name: [None if math.isnan(v) else v for v in values.double().tolist()]
                for name, values in sorted(metrics.items())}
        line = json.dumps({"update": update, "steps": steps, **rows})
        for file in self.files:
            with file.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        for p, writer in enumerate(self._writers):
            for name, values in rows.items():
                value = values[p]
                if value is not None and not name.startswith("unknown_reason/"):
                    writer.add_scalar(name, value, global_step=steps)

    def close(self) -> None:
        """Flushes the curves."""
        for writer in self._writers:
            writer.close()


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's `log.jsonl`, in order; a last line that a kill cut short is left out."""
    return [json.loads(line) for line in _lines(Path(folder) / "log.jsonl") if _update_of(line) < math.inf]


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _update_of(line: str) -> float:
    try:
        return json.loads(line)["update"]
    except (ValueError, KeyError):  # the line at which a kill struck
        return math.inf
